"""Survey: every change of the chain, done or not, with each of its conditions; touches nothing."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

from sqlalchemy import Connection

from backfill.database import verbatim
from backfill.database.columns import columns, has_column
from backfill.gates import conditions, requirements
from backfill.gates.gate import Condition, Gate, ask
from backfill.gates.offline_script import literal
from backfill.ledger import raw_columns
from backfill.plan import PYPI, RawColumn

FIRST = "0001_expand"  # of our chain: the ledger


@dataclass(frozen=True)
class Answer:
    """A condition, asked."""

    name: str
    holds: bool
    evidence: str
    fix: str
    by_chain: bool  # an earlier step brings it


class State(StrEnum):
    """Where a step stands."""

    DONE = "done"
    NEXT = "next"  # all its conditions hold, and nothing comes before it
    LATER = "later"  # it waits only for what an earlier step brings
    BLOCKED = "blocked"


@dataclass(frozen=True)
class Step:
    """A change, before it is asked: what it is called, and what it stands on."""

    change: str
    call: str  # of ``backfill.gates``, for a chain of the application's own
    revisions: tuple[str, ...]  # of our own chain
    done: bool
    needs: Callable[[], list[Condition]]


@dataclass(frozen=True)
class Stage:
    """One change and how it stands."""

    change: str
    revision: str | None  # of our own chain; none for a plan that has its drops elsewhere
    call: str
    state: State
    answers: tuple[Answer, ...] = field(default=())
    lost: str = ""  # where the chain has passed it and its effect is gone: what helps

    @property
    def unmet(self) -> list[Answer]:
        """What keeps it from happening, and no earlier step brings."""
        return [answer for answer in self.answers if not answer.holds and not answer.by_chain]


def survey(connection: Connection, gate: Gate) -> list[Stage]:
    """All stages in the order of the chain."""
    ours = gate.plan == PYPI
    stages: list[Stage] = []
    steps = list(_steps(connection, gate))
    passed = _passed(connection, gate, steps) if ours else frozenset[str]()
    before = FIRST
    for step in steps:
        answers = () if step.done else tuple(_answer(connection, one) for one in step.needs())
        lost = ""
        if not step.done and step.revisions[-1] in passed:
            lost = f"`backfill migrate {before} --down`, then `backfill migrate {step.revisions[-1]}`"
        # Our chain is one line; in another the order is the application's.
        waits = ours and any(stage.state is not State.DONE for stage in stages)
        state = State.DONE if step.done else _state(answers, lost, waits)
        revision = ", ".join(step.revisions) if ours else None
        stages.append(Stage(step.change, revision, step.call, state, answers, lost))
        before = step.revisions[-1]
    return stages


def _state(answers: tuple[Answer, ...], lost: str, waits: bool) -> State:
    failing = [answer for answer in answers if not answer.holds]
    if lost or any(not answer.by_chain for answer in failing):
        return State.BLOCKED
    return State.LATER if failing or waits else State.NEXT


def _passed(connection: Connection, gate: Gate, steps: list[Step]) -> frozenset[str]:
    """The revisions of our chain that have run here, as far as steps have them."""
    ((exists,),) = verbatim.fetch(
        connection, f"select to_regclass({literal(gate.ledger('alembic_version'))}) is not null"
    )
    if not exists:
        return frozenset()
    at = {
        name
        for (name,) in verbatim.fetch(connection, f"select version_num from {gate.ledger('alembic_version')}")
    }
    chain = [revision for step in steps for revision in step.revisions]
    last = max((chain.index(name) for name in at if name in chain), default=-1)
    return frozenset(chain[: last + 1])


def _answer(connection: Connection, condition: Condition) -> Answer:
    holds, evidence = ask(connection, condition)
    connection.rollback()  # each scan is a snapshot of its own
    return Answer(condition.name, holds, evidence, "" if holds else condition.fix, condition.by_chain)


def _steps(connection: Connection, gate: Gate) -> Iterator[Step]:
    plan = gate.plan
    for part in plan.parts:
        raw_columns.require_dropped(connection, gate.schema, part)

    def gone(part: RawColumn) -> bool:
        return not has_column(connection, part, part.raw_column)

    for discard in plan.discard:
        yield Step(
            f"drop {discard.name}.{discard.column}",
            f"drop_discarded_column({discard.label!r})",
            (f"0002_{discard.name}",),
            gone(discard),
            partial(requirements.discard, gate, discard),
        )
    for job in plan.jobs:
        yield Step(
            f"guard {job.label}",
            f"guard_links({job.label!r})",
            (f"0003a_{job.name}",),
            gone(job) or _holds(connection, conditions.guarded(gate, job)),
            partial(requirements.guard, gate, job),
        )
    for job in plan.jobs:
        yield Step(
            f"validate {job.label}",
            f"validate_links({job.label!r})",
            (f"0003b_{job.name}",),
            gone(job) or _holds(connection, conditions.validated(job)),
            partial(requirements.validation, gate, job),
        )
    for job in plan.jobs:
        yield Step(
            f"drop {job.name}.{job.raw}",
            f"drop_raw_column({job.label!r})",
            (f"0004_{job.name}",),
            gone(job),
            partial(requirements.drop, gate, job),
        )
    yield from _address_steps(connection, gate)


def _address_steps(connection: Connection, gate: Gate) -> Iterator[Step]:
    part = gate.plan.addresses
    found = columns(connection, part)
    known = {} if isinstance(found, str) else found
    address, hashed = known.get(part.address), known.get(part.hash)
    yield Step(
        f"make {part.name}.{part.address} optional",
        "make_address_optional()",
        ("0005a_ip_address_optional",),
        address is None or not address.not_null,
        partial(requirements.address_optional, gate),
    )
    yield Step(
        f"require {part.name}.{part.hash}",
        "propose_hash_required(), then make_hash_required()",
        ("0005b_propose_hash_required", "0005c_hash_required"),
        hashed is not None and hashed.not_null and hashed.validated,
        partial(requirements.hash_required, gate),
    )
    yield Step(
        f"drop {part.name}.{part.address}",
        "drop_address_column()",
        ("0005d_drop_ip_address",),
        address is None,
        partial(requirements.address_drop, gate),
    )


def _holds(connection: Connection, condition: Condition) -> bool:
    return bool(verbatim.fetch(connection, f"select {condition.holds}")[0][0])
