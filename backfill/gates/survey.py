"""Survey: every change of the chain, done or not, with each of its conditions; touches nothing."""

from dataclasses import dataclass, field
from enum import StrEnum

from sqlalchemy import Connection

from backfill.age.age import age_text
from backfill.database import verbatim
from backfill.escaping import counted
from backfill.gates.gate import Condition, Gate, ask_condition
from backfill.gates.offline_script import literal
from backfill.gates.steps import FIRST, Step, steps
from backfill.ledger import raw_columns
from backfill.plan import PYPI
from backfill.verify import standing
from backfill.verify.standing import KEPT_FIX, LIST, JobAges, Standing


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
class Stage:
    """One change and how it stands."""

    change: str
    revision: str | None  # of our own chain; none for a plan that has its drops elsewhere
    call: str
    state: State
    answers: tuple[Answer, ...] = field(default=())
    lost: str = ""  # where the chain has passed it and its effect is gone: what helps
    standing: bool = False  # no change, and never over: what has to hold from now on
    unknown: bool = False  # of such a one: too many rows lie in the future

    @property
    def unmet(self) -> list[Answer]:
        """What keeps it from happening, and no earlier step brings."""
        return [answer for answer in self.answers if not answer.holds and not answer.by_chain]


def survey(connection: Connection, gate: Gate, ages: Standing | None = None) -> list[Stage]:
    """All stages in the order of the chain, then what has to hold for ever. *ages*: where somebody has looked just now."""
    ours = gate.plan == PYPI
    stages: list[Stage] = []
    for part in gate.plan.parts:
        raw_columns.require_dropped(connection, gate.schema, part)
    known = [(step, step.done(connection)) for step in steps(gate)]
    passed = _passed(connection, gate, [step for step, _ in known]) if ours else frozenset[str]()
    before = FIRST
    for step, done in known:
        answers = () if done else tuple(_answer(connection, one) for one in step.needs())
        lost = ""
        if not done and step.revisions[-1] in passed:
            lost = f"`backfill migrate {before} --down`, then `backfill migrate {step.revisions[-1]}`"
        # Our chain is one line; in another the order is the application's.
        waits = ours and any(stage.state is not State.DONE for stage in stages)
        state = State.DONE if done else _state(answers, lost, waits)
        revision = ", ".join(step.revisions) if ours else None
        stages.append(Stage(step.change, revision, step.call, state, answers, lost))
        before = step.revisions[-1]
    found = standing.look(connection, gate.schema, gate.plan, gate.grace) if ages is None else ages
    return [*stages, *(_standing(job, found) for job in found.jobs)]


def _standing(job: JobAges, found: Standing) -> Stage:
    """No raw value is older than the job allows. It waits for no change and no change waits for it: other columns are
    dropped or kept by what is known of them."""
    limit = age_text(job.after + found.grace)
    seen = job.ages
    told = f"{counted(seen.late, 'row shows', 'rows show')} an older one"
    if seen.kept_late:
        told += f"; {counted(seen.kept_late, 'older text', 'older texts')} that the plan keeps may hold one"
    if seen.without_time:
        told += f"; {counted(seen.without_time, 'raw value has', 'raw values have')} no time"
    if job.unknown:
        told += f"; {counted(seen.ahead, 'row is', 'rows are')} more than a day in the future, and nothing is known of their age"
    # A run stops before rows that are read wrongly.
    runs = bool(seen.late) and not job.unknown
    fixes = (
        [job.ahead_fix] * job.unknown + ["`backfill run --due`"] * runs + [KEPT_FIX] * bool(seen.kept_late)
    )
    if runs and job.waiting:
        fixes.insert(1, f"`{LIST}` for the {counted(job.waiting, 'row that waits', 'rows that wait')}")
    answer = Answer(
        f"age of {job.label}",
        job.holds,
        f"{told}, of {seen.rows:,} at {seen.asked:%Y-%m-%d %H:%M %Z}",
        "; ".join(fixes),
        by_chain=False,
    )
    state = State.DONE if job.holds else State.BLOCKED
    change = f"no raw value of {job.column} older than {limit}"
    return Stage(change, None, "", state, (answer,), standing=True, unknown=job.unknown)


def _state(answers: tuple[Answer, ...], lost: str, waits: bool) -> State:
    failing = [answer for answer in answers if not answer.holds]
    if lost or any(not answer.by_chain for answer in failing):
        return State.BLOCKED
    return State.LATER if failing or waits else State.NEXT


def _passed(connection: Connection, gate: Gate, chain: list[Step]) -> frozenset[str]:
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
    revisions = [revision for step in chain for revision in step.revisions]
    last = max((revisions.index(name) for name in at if name in revisions), default=-1)
    return frozenset(revisions[: last + 1])


def _answer(connection: Connection, condition: Condition) -> Answer:
    holds, evidence = ask_condition(connection, condition)
    connection.rollback()  # each scan is a snapshot of its own
    return Answer(condition.name, holds, evidence, "" if holds else condition.fix, condition.by_chain)
