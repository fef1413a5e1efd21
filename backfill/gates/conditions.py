"""Conditions: each a name, a boolean and its evidence as SQL, and the command that mends it.

As SQL because the same text serves twice: asked online before a change, and carried by an offline
script as a ``DO`` block that raises, so that pasting it into psql is no way round.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from alembic.util import CommandError

from alembic import context, op
from backfill.database.demo_mark import is_demo
from backfill.errors import BackfillError
from backfill.gates.script import ask, emit, ident, literal, offline, regclass, table
from backfill.plan import Discard, Job, Plan, Table, load_plan
from backfill.settings import OBSERVE_SECONDS, Settings

NEWER_ROWS = 1_000  # so many newest rows without a value are evidence that nothing writes it any more

CONSTRAINT = "backfill_covered"
GUARD = "zz_backfill_guard"  # triggers fire in the order of their names: after whatever fills the row


class GateClosed(BackfillError, CommandError):
    """Refused: {change}. What does not hold:
    {conditions}. Nothing of this revision was done."""


@dataclass(frozen=True)
class Condition:
    """Holds or not, and why. ``holds`` and ``evidence`` are SQL expressions, boolean and text."""

    name: str
    holds: str
    evidence: str
    mend: str


@dataclass(frozen=True)
class Gate:
    """What conditions need to know: plan, ledger, and what the operator named."""

    plan: Plan
    fingerprint: str
    schema: str
    restore_point: str | None
    observe: float
    lock_timeout_ms: int

    @classmethod
    def open(cls) -> Self:
        """From the environment and alembic's ``-x restore_point=NAME``, in whatever chain we are."""
        named = context.get_x_argument(as_dictionary=True)
        settings = Settings.load(restore_point=named.get("restore_point"))
        plan = load_plan(settings.plan)
        gate = cls(
            plan=plan,
            fingerprint=plan.fingerprint(settings.key_id),
            schema=settings.ledger_schema,
            restore_point=settings.restore_point,
            observe=OBSERVE_SECONDS if settings.observe is None else settings.observe,
            lock_timeout_ms=settings.lock_timeout_ms,
        )
        if settings.observe is None and not offline() and is_demo(op.get_bind()):
            return cls(**{**vars(gate), "observe": 0.0})
        return gate

    def ledger(self, name: str) -> str:
        """A table of the ledger."""
        return ident(self.schema, name)

    def latest(self, name: str, columns: str) -> str:
        """A sub-select of *columns* from the newest full record of that table under this plan."""
        return (
            f"(select {columns} from {self.ledger('coverage')} as proof"
            f" where proof.table_name = {literal(name)} and proof.method = 'full'"
            f" and proof.plan_fingerprint = {literal(self.fingerprint)} order by proof.id desc limit 1)"
        )


def require(gate: Gate, change: str, conditions: Sequence[Condition]) -> None:
    """Refuse *change* unless all hold. Raises ``GateClosed``; offline, the script does."""
    if offline():
        for condition in conditions:
            text = f"backfill refuses: {change}: {condition.name}"
            emit(
                f"do $gate$ begin if not ({condition.holds}) then raise exception using"
                f" message = {literal(text + ': ')} || {condition.evidence}, hint = {literal(condition.mend)};"
                f" end if; end $gate$"
            )
        return
    failing = []
    for condition in conditions:
        ((holds, evidence),) = ask(f"select {condition.holds}, {condition.evidence}")
        if not holds:
            failing.append(f"{condition.name}: {evidence}; mend: {condition.mend}")
    if failing:
        raise GateClosed(change=change, conditions=" · ".join(failing))


def restore_point(gate: Gate) -> Condition:
    """A backup was named. On record, not verifiable: the report says so."""
    return Condition(
        "restore point",
        "true" if gate.restore_point else "false",
        literal(f"named {gate.restore_point}" if gate.restore_point else "none was named"),
        "make a backup that you can go back to and name it: BACKFILL_RESTORE_POINT=NAME,"
        " or alembic -x restore_point=NAME upgrade head",
    )


def proved(gate: Gate, part: Table) -> Condition:
    """A full verification of this table under this plan passed, and no run ended after it."""
    later = f"exists (select from {gate.ledger('runs')} as run where greatest(run.finished, run.heartbeat) > proof.finished)"
    return Condition(
        f"proof of {part.name}",
        f"coalesce({gate.latest(part.name, f'proof.covered and not {later}')}, false)",
        "coalesce("
        + gate.latest(
            part.name,
            f"case when {later} then 'a run is newer than the last verification'"
            " when proof.covered then 'covered'"
            " else 'the last verification says: ' || coalesce(proof.reasons ->> 0, 'not covered') end",
        )
        + ", 'no full verification of it is on record for this plan')",
        "`backfill run`, then `backfill verify`",
    )


def settled(gate: Gate, part: Table) -> Condition:
    """Nothing of this table waits in the quarantine."""
    waiting = (
        f"(select count(*) from {gate.ledger('quarantine')} as entry"
        f" where entry.table_name = {literal(part.name)} and entry.decision_id is null)"
    )
    if part == gate.plan.addresses:
        mend = "`backfill addresses merge --count N`"
    else:
        mend = f"`backfill quarantine settle {part.name} --as sentinel|discard --count N`"
    return Condition(
        f"quarantine of {part.name}", f"{waiting} = 0", f"{waiting} || ' rows wait for a decision'", mend
    )


def unwritten(gate: Gate, part: Table, column: str, time: str | None) -> Condition:
    """Nothing fills the column any more: a NULL newest row proves nothing where those are normal."""
    name, raw = table(part), ident(column)
    ways = ["true"] if gate.observe == 0 and isinstance(part, Discard) else []
    newest = f"max({ident(time)}) filter (where {raw} is not null)" if time else "null"
    ways.append(
        "coalesce("
        + gate.latest(
            part.name,
            f"clock_timestamp() - proof.finished >= make_interval(secs => {gate.observe})"
            f" and (select count({raw}) = proof.raw_rows"
            f" and ({newest})::text is not distinct from proof.newest_raw from {name})",
        )
        + ", false)"
    )
    if time:
        ways.append(
            f"(select count(*) = {NEWER_ROWS} and count(newest.{raw}) = 0"
            f" from (select {raw} from {name} order by {ident(time)} desc limit {NEWER_ROWS}) as newest)"
        )
    return Condition(
        f"writes to {part.name}.{column}",
        "(" + " or ".join(ways) + ")",
        "coalesce("
        + gate.latest(
            part.name,
            f"case when (select count({raw}) from {name}) = proof.raw_rows"
            " then 'verified ' || extract(epoch from clock_timestamp() - proof.finished)::bigint || ' s ago'"
            " else 'it changed since the last verification' end",
        )
        + ", 'nobody has looked yet')"
        + f" || {literal(f'; it has to stay unchanged for {gate.observe:.0f} s, or the newest {NEWER_ROWS} rows be without a value')}",
        f"deploy the change that stops writing it, `backfill verify`, wait {gate.observe:.0f} s (BACKFILL_OBSERVE)",
    )


def covered(job: Job) -> Condition:
    """No row holds a raw value without a link; asked first, since a failed VALIDATE says no more than its name."""
    uncovered = f"(select count(*) from {table(job)} where {ident(job.raw)} is not null and {ident(job.link)} is null)"
    return Condition(
        f"rows of {job.name}",
        f"{uncovered} = 0",
        f"{uncovered} || ' rows hold an address and no link'",
        "`backfill run`, then `backfill verify`",
    )


def no_copy_left(gate: Gate, part: Table) -> Condition:
    """No shadow copy of the table is in the making, and no old table waits to be dropped: it holds every address."""
    entry = f"from {gate.ledger('shadows')} as shadow where shadow.table_name = {literal(part.name)}"
    return Condition(
        f"shadow copy of {part.name}",
        f"not exists (select {entry})",
        "coalesce((select case when shadow.stage = 'swapped' then 'the table from before the cut-over is still there,"
        f" with every address in it' else 'a copy is in the making' end {entry}), 'none')",
        f"`backfill cutover {part.name}`, then `backfill cutover --finish {part.name}`"
        f" (or `backfill run --abandon {part.name}` before the cut-over)",
    )


def guarded(part: Table) -> Condition:
    """The guard trigger is in place and enabled."""
    return Condition(
        f"guard of {part.name}",
        f"exists (select from pg_trigger where tgrelid = {regclass(part)} and tgname = {literal(GUARD)}"
        " and tgenabled in ('O', 'A'))",
        literal("the trigger that keeps rows covered is missing or disabled"),
        "alembic downgrade to before its 0003a revision, then upgrade again",
    )


def validated(part: Table) -> Condition:
    """PostgreSQL itself has checked that no row holds an address without a link."""
    return Condition(
        f"constraint of {part.name}",
        f"exists (select from pg_constraint where conrelid = {regclass(part)}"
        f" and conname = {literal(CONSTRAINT)} and convalidated)",
        literal(f"{CONSTRAINT} is missing or not validated"),
        "alembic downgrade to before its 0003a revision, then upgrade again",
    )


def raw_columns_gone(gate: Gate) -> Condition:
    """Every event table has lost its raw column."""
    left = " + ".join(f"({_columns(job, job.raw)})" for job in gate.plan.jobs)
    return Condition(
        "raw columns of the event tables",
        f"({left}) = 0",
        f"({left}) || ' of them are still there'",
        "alembic upgrade, revision by revision",
    )


def _columns(job: Job, name: str) -> str:
    return (
        f"select count(*) from pg_attribute where attrelid = {regclass(job)}"
        f" and attname = {literal(name)} and not attisdropped"
    )
