"""Gate: what a condition is, what it needs to know, and how a change is refused.

Conditions are SQL because the same text serves three times: asked before a change, asked by
``backfill gates``, and carried by an offline script as a ``DO`` block that raises, so that pasting
it into psql is no way round.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from types import FrameType
from typing import Any, Self

from alembic.util import CommandError
from sqlalchemy import Column, Connection
from sqlalchemy.exc import DBAPIError

from alembic import context, op
from backfill.database import verbatim
from backfill.database.connection import problem_of, sqlstate_of
from backfill.database.demo_mark import is_demo
from backfill.database.nullable import obstacle
from backfill.database.owners import UNTRUSTED
from backfill.database.quoting import quoted
from backfill.database.server_identity import IDENTITY, identity_expression
from backfill.errors import BackfillError, SchemaUnfit
from backfill.gates import ledger_shape
from backfill.gates.offline_script import dollars, emit, literal, offline
from backfill.gates.transaction import PATH, temporarily
from backfill.job_id import JobId
from backfill.ledger.coverage import digest
from backfill.ledger.coverage_record import Method
from backfill.ledger.tables import coverage
from backfill.plan import Plan, load_plan
from backfill.settings import OBSERVE_SECONDS, Settings


class GateClosed(BackfillError, CommandError):
    """Refused: {change}. What does not hold:
    {conditions}. Nothing of this revision was done."""

    exit_code = 1  # the answer is no; revisions before it may have been done


class ChainUnfit(SchemaUnfit, CommandError):
    """{problem}"""


INSUFFICIENT_PRIVILEGE = "42501"
READABLE = (
    "let the role of this chain read the table and schema and tables of the ledger; where row security would"
    " hide rows from it, run the chain as a role with BYPASSRLS"
)


PROOF = "proof"  # the newest coverage record, in the SQL of ``Gate.latest``


def of_proof(field: Column[Any]) -> str:
    """A field of the newest coverage record, in SQL."""
    return f"{PROOF}.{field.name}"


@dataclass(frozen=True)
class Condition:
    """Holds or not, and why. ``holds`` and ``evidence`` are SQL expressions, boolean and text."""

    name: str
    holds: str
    evidence: str
    fix: str
    held: str = ""  # said instead of the evidence where it holds
    by_chain: bool = False  # an earlier revision of the chain makes it hold


@dataclass(frozen=True)
class Gate:
    """What conditions need to know: plan, ledger, and what the operator named."""

    plan: Plan
    fingerprint: str
    schema: str
    restore_point: str | None
    observe: float
    lock_timeout_ms: int
    identity: str = IDENTITY  # as an SQL expression
    ledger_owner: str | None = None  # who prepared the ledger, by the operator's word
    grace: timedelta = timedelta()  # by which a raw value may be older than its job allows
    never_null: frozenset[JobId] = frozenset()  # raw columns without NULL: nothing is offered that needs one

    @classmethod
    def of(cls, settings: Settings, plan: Plan, connection: Connection | None) -> Self:
        """From settings; *connection* is ``None`` where a script is being written."""
        gate = cls(
            plan=plan,
            fingerprint=plan.fingerprint(settings.key_id),
            schema=settings.ledger_schema,
            restore_point=settings.restore_point,
            observe=OBSERVE_SECONDS if settings.observe is None else settings.observe,
            lock_timeout_ms=settings.lock_timeout_ms,
            ledger_owner=settings.ledger_owner,
        )
        gate = replace(
            gate, never_null=frozenset(known.identity for known in plan.address_tables)
        )  # what it is for
        if connection is None:
            return gate
        parts = (*plan.jobs, *plan.discard)
        never = {part.identity for part in parts if obstacle(connection, part)}
        gate = replace(gate, never_null=gate.never_null | never)
        if settings.observe is None and is_demo(connection):
            gate = replace(gate, observe=0.0)
        return replace(gate, identity=identity_expression(connection))

    @classmethod
    def open(cls) -> Self:
        """From the environment and alembic's ``-x restore_point=NAME``, in whatever chain we are."""
        named = context.get_x_argument(as_dictionary=True)
        settings = Settings.load(restore_point=named.get("restore_point"))
        with temporarily(PATH):
            gate = cls.of(settings, load_plan(settings.plan), None if offline() else op.get_bind())
        if offline() and op.get_context().version_table_schema != settings.ledger_schema:
            _require_predecessor()  # in our own chain env.py sees to it
        require(gate, "this revision", [_ledger_trusted(gate), _ledger(gate), _ledger_fits(gate)])
        return gate

    def ledger(self, name: str) -> str:
        """A table of the ledger."""
        return quoted(self.schema, name)

    def latest(self, job: JobId, columns: str) -> str:
        """A sub-select of *columns* from the newest full record of that job under this plan."""
        return (
            f"(select {columns} from {self.ledger(coverage.name)} as {PROOF}"
            f" where {of_proof(coverage.c.job)} = {literal(job)}"
            f" and {of_proof(coverage.c.method)} = {literal(Method.FULL)}"
            f" and {of_proof(coverage.c.plan_fingerprint)} = {literal(self.fingerprint)}"
            f" order by {of_proof(coverage.c.id)} desc limit 1)"
        )

    @property
    def altered(self) -> str:
        """Whether a record is not as it was entered."""
        return f"({of_proof(coverage.c.digest)} is distinct from {digest(PROOF)})"

    @property
    def foreign(self) -> str:
        """Whether a record is about another database."""
        return f"({of_proof(coverage.c.database)} is distinct from {self.identity})"


def ask_condition(connection: Connection, condition: Condition) -> tuple[bool, str]:
    """Whether it holds, and its evidence."""
    ((holds, evidence),) = verbatim.fetch(connection, f"select {condition.holds}, {condition.evidence}")
    return bool(holds), condition.held if holds and condition.held else str(evidence)


def require(gate: Gate, change: str, conditions: Sequence[Condition]) -> None:
    """Refuse *change* unless all hold. Raises ``GateClosed``; offline, the script does."""
    with temporarily(PATH):
        failing = [one for condition in conditions if (one := _require(change, condition))]
    if failing:
        raise GateClosed(change=change, conditions=" · ".join(failing))


def _require(change: str, condition: Condition) -> str | None:
    """What does not hold, in words."""
    if not offline():
        try:
            holds, evidence = ask_condition(op.get_bind(), condition)
        except DBAPIError as error:
            if sqlstate_of(error) != INSUFFICIENT_PRIVILEGE:
                raise
            raise GateClosed(
                change=change, conditions=f"{condition.name}: {problem_of(error)}; fix: {READABLE}"
            ) from None
        return None if holds else f"{condition.name}: {evidence}; fix: {condition.fix}"
    text = f"backfill refuses: {change}: {condition.name}"
    body = (
        f" begin if not ({condition.holds}) then raise exception using"
        f" message = {literal(text + ': ')} || {condition.evidence}, hint = {literal(condition.fix)}; end if; end "
    )
    emit(f"do {dollars(body, 'gate')}")
    return None


def _ledger_trusted(gate: Gate) -> Condition:
    found = UNTRUSTED.format(schema=literal(gate.schema), owner=literal(gate.ledger_owner or ""))
    return Condition(
        "owner of the ledger",
        f"{found} is null",
        found,
        "if that owner prepared the ledger for you, name it in BACKFILL_LEDGER_OWNER; otherwise have it removed",
    )


def _ledger(gate: Gate) -> Condition:
    return Condition(
        "ledger",
        ledger_shape.exists(gate.schema),
        literal(f"there is none in schema {gate.schema} of this database"),
        "`backfill run`, then `backfill verify`, on this database and with this plan",
    )


def _ledger_fits(gate: Gate) -> Condition:
    odd = ledger_shape.odd_table(gate.schema)
    return Condition(
        "version of the ledger",
        f"not ({ledger_shape.exists(gate.schema)}) or {odd} is null",
        f"'table ' || {odd} || ' has not the columns that this version of Backfill knows'",
        "install the version of Backfill that made this ledger, or make it anew with this one: `backfill migrate base --down`"
        " (its records go), `backfill run`, `backfill verify`",
    )


def _require_predecessor() -> None:
    """In a script: the version table stands where this revision begins.

    Alembic looks when it runs a chain; a script is pasted by somebody, twice perhaps, or in parts.
    """
    found = _revision(sys._getframe())
    if found is None:
        return
    begins_at, ours = found
    where = op.get_context()
    names = [name for name in (where.version_table_schema, where.version_table) if name]
    emit(
        f"do $gate$ begin if not exists (select from {quoted(*names)} where version_num = {literal(begins_at)}) then"
        f" raise exception using message = {literal(f'backfill refuses: revision {ours} begins at {begins_at}, and the database stands elsewhere')},"
        f" hint = 'Run the script once, in its order, on the database that it was written for.'; end if; end $gate$"
    )


def _revision(frame: FrameType | None) -> tuple[str, str] | None:
    """Where the revision that called us begins, and its own id; found in its module, in any chain."""
    while frame is not None:
        known: dict[str, Any] = frame.f_globals
        ours, before = known.get("revision"), known.get("down_revision")
        if (
            isinstance(ours, str)
            and isinstance(before, str)
            and frame.f_code.co_name in {"upgrade", "downgrade"}
        ):
            return (before, ours) if frame.f_code.co_name == "upgrade" else (ours, ours)
        frame = frame.f_back
    return None
