"""Steps: the chain as one list of changes. Gates, survey, checklist and offline script take theirs from here."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from backfill.database import verbatim
from backfill.database.columns import Column, columns, has_column
from backfill.gates import conditions, requirements
from backfill.gates.gate import Condition, Gate
from backfill.ledger.quarantine import DUPLICATE_RESULT
from backfill.plan import Discard, DroppingJob, InPlaceJob
from backfill.raw_column import RawColumn

FIRST = "0001_expand"  # of our chain: the ledger


@dataclass(frozen=True)
class Step:
    """A change: what it is called, what it asks first, and how one sees that it was made."""

    change: str
    call: str  # of ``backfill.gates``, for a chain of the application's own; empty where nothing is migrated
    revisions: tuple[str, ...]  # of our own chain; one empty name where nothing is migrated
    needs: Callable[[], list[Condition]]
    done: Callable[[Connection], bool]


def steps(gate: Gate) -> list[Step]:
    """Every change of the plan, in order."""
    plan = gate.plan
    return [
        *(rewritten(gate, job) for job in plan.in_place_jobs),
        *(discard(gate, part) for part in plan.discard),
        *(guard(gate, job) for job in plan.dropping_jobs),
        *(validation(gate, job) for job in plan.dropping_jobs),
        *(drop(gate, job) for job in plan.dropping_jobs),
        *((address_optional(gate), hash_required(gate), address_drop(gate)) if plan.address_table else ()),
    ]


def rewritten(gate: Gate, job: InPlaceJob) -> Step:
    """A column stays, and its values go: there is nothing to migrate, and a proof that holds until the next value."""
    needs = [*_settled(gate, job), conditions.proved(gate, job)]
    return Step(
        f"rewrite {job.name}.{job.raw} in place",
        "",
        ("",),
        lambda: needs,
        lambda connection: all(_holds(connection, condition) for condition in needs),
    )


def _settled(gate: Gate, job: InPlaceJob) -> list[Condition]:
    """What waits and what a run alone would leave; before the proof, which it keeps from being one."""
    if job.unreadable == "refuse":
        return [conditions.settled(gate, job)]
    return [conditions.settled(gate, job, DUPLICATE_RESULT)] if job.on_duplicate == "refuse" else []


def discard(gate: Gate, part: Discard) -> Step:
    """A column goes that is kept in no form."""
    return Step(
        f"drop {part.name}.{part.column}",
        f"drop_discarded_column({part.label!r})",
        (f"0002_{part.name}",),
        lambda: requirements.discard(gate, part),
        lambda connection: _is_gone(connection, part),
    )


def guard(gate: Gate, job: DroppingJob) -> Step:
    """The database itself keeps a table covered from now on."""
    return Step(
        f"guard {job.label}",
        f"guard_links({job.label!r})",
        (f"0003a_{job.name}",),
        lambda: requirements.guard(gate, job),
        lambda connection: _is_gone(connection, job) or _holds(connection, conditions.guarded(gate, job)),
    )


def validation(gate: Gate, job: DroppingJob) -> Step:
    """PostgreSQL checks every row."""
    return Step(
        f"validate {job.label}",
        f"validate_links({job.label!r})",
        (f"0003b_{job.name}",),
        lambda: requirements.validation(gate, job),
        lambda connection: _is_gone(connection, job) or _holds(connection, conditions.validated(job)),
    )


def drop(gate: Gate, job: DroppingJob) -> Step:
    """A raw column goes."""
    return Step(
        f"drop {job.name}.{job.raw}",
        f"drop_raw_column({job.label!r})",
        (f"0004_{job.name}",),
        lambda: requirements.drop(gate, job),
        lambda connection: _is_gone(connection, job),
    )


def address_optional(gate: Gate) -> Step:
    """Addresses may be written by their hash alone."""
    part = gate.plan.addresses

    def done(connection: Connection) -> bool:
        address = _address_columns(connection, gate).get(part.address)
        return address is None or not address.not_null

    return Step(
        f"make {part.name}.{part.address} optional",
        "make_address_optional()",
        ("0005a_ip_address_optional",),
        lambda: requirements.address_optional(gate),
        done,
    )


def hash_required(gate: Gate) -> Step:
    """Every row of the address table has to carry a hash."""
    part = gate.plan.addresses

    def done(connection: Connection) -> bool:
        hashed = _address_columns(connection, gate).get(part.hash)
        return hashed is not None and hashed.not_null and hashed.validated

    return Step(
        f"require {part.name}.{part.hash}",
        "propose_hash_required(), then make_hash_required()",
        ("0005b_propose_hash_required", "0005c_hash_required"),
        lambda: requirements.hash_required(gate),
        done,
    )


def address_drop(gate: Gate) -> Step:
    """The address itself goes."""
    part = gate.plan.addresses
    return Step(
        f"drop {part.name}.{part.address}",
        "drop_address_column()",
        ("0005d_drop_ip_address",),
        lambda: requirements.address_drop(gate),
        lambda connection: _address_columns(connection, gate).get(part.address) is None,
    )


def _is_gone(connection: Connection, part: RawColumn) -> bool:
    return not has_column(connection, part, part.raw_column)


def _holds(connection: Connection, condition: Condition) -> bool:
    return bool(verbatim.fetch(connection, f"select {condition.holds}")[0][0])


def _address_columns(connection: Connection, gate: Gate) -> dict[str, Column]:
    found = columns(connection, gate.plan.addresses)
    return {} if isinstance(found, str) else found
