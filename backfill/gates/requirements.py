"""Requirements: which conditions each change of the chain asks; the changes and ``backfill gates`` share them."""

from backfill.gates import conditions, dependents
from backfill.gates.gate import Condition, Gate
from backfill.plan import Discard, DroppingJob, IntoJob, LinkJob


def discard(gate: Gate, part: Discard) -> list[Condition]:
    """Before a column goes that is kept in no form."""
    return [
        conditions.restore_point(gate),
        *dependents.free(gate, part),
        conditions.unwritten(gate, part, part.time),
    ]


def coverage(gate: Gate, job: DroppingJob) -> list[Condition]:
    """Before a guard, and again before the drop."""
    return [
        *dependents.free(gate, job),
        conditions.no_copy_left(gate, job),
        conditions.settled(gate, job),  # before the proof: what waits is what a run alone would leave
        *([conditions.settled(gate, gate.plan.addresses)] if isinstance(job, LinkJob) else []),
        conditions.proved(gate, job),
        conditions.unwritten(gate, job, job.time_column),
        *([conditions.links(gate, job)] if isinstance(job, LinkJob) else []),
        *([conditions.pairs(gate, job)] if isinstance(job, IntoJob) else []),
    ]


def guard(gate: Gate, job: DroppingJob) -> list[Condition]:
    """Before the database itself is to keep a table covered."""
    return [*coverage(gate, job), conditions.countable(gate)]


def replaced(gate: Gate, job: DroppingJob) -> list[Condition]:
    """Where a shadow copy took the table's place, and the raw column with it: the same proof."""
    return [
        conditions.no_copy_left(gate, job),
        conditions.settled(gate, job),
        conditions.proved(gate, job),
    ]


def validation(gate: Gate, job: DroppingJob) -> list[Condition]:
    """Before PostgreSQL checks every row."""
    return [conditions.guarded(gate, job), conditions.checked(job), conditions.covered(job)]


def drop(gate: Gate, job: DroppingJob) -> list[Condition]:
    """Before a raw column goes."""
    return [
        conditions.restore_point(gate),
        *coverage(gate, job),
        conditions.guarded(gate, job),
        conditions.validated(job),
        conditions.none_let_in(gate, job),
    ]


def under_lock(gate: Gate, job: DroppingJob) -> list[Condition]:
    """What is asked again under the lock: a look at the catalog and the ledger, no scan."""
    return [
        conditions.proved(gate, job),
        conditions.settled(gate, job),
        conditions.guarded(gate, job),
        conditions.validated(job),
        conditions.none_let_in(gate, job),
    ]


def address_optional(gate: Gate) -> list[Condition]:
    """Before addresses may be written by their hash alone.

    What becomes of other columns was calibrated by the hashes of this table, which is not possible without its addresses.
    """
    part = gate.plan.addresses
    return [
        conditions.restore_point(gate),
        *dependents.free(gate, part),
        conditions.raw_columns_gone(gate),
        *(conditions.proved(gate, job) for job in gate.plan.in_place_jobs),
        conditions.settled(gate, part),
        conditions.proved(gate, part),
    ]


def hash_required(gate: Gate) -> list[Condition]:
    """Before every row of the address table has to carry a hash."""
    return [conditions.proved(gate, gate.plan.addresses)]


def address_drop(gate: Gate) -> list[Condition]:
    """Before the address itself goes."""
    part = gate.plan.addresses
    return [
        *address_optional(gate),
        conditions.unwritten(gate, part, None),
        conditions.hashes(gate),
    ]
