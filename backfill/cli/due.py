"""The parts of ``run`` and ``status`` that are for a timer: what is due at an age, and whether anything is late."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import click

from backfill.age.age import parse_age
from backfill.cli import output
from backfill.cli.answer import JSON, Answer, tell
from backfill.cli.context import Session
from backfill.errors import DueInProgress, NothingAges, RunInProgress, RunUnfinished
from backfill.ledger import due_runs
from backfill.plan import InPlaceJob, Job
from backfill.report import ages as report
from backfill.verify import standing

EXIT_LATE = 1


class AgeType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2
    """``1 day``, ``12 hours``."""

    name = "age"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """As a duration."""
        try:
            return value if isinstance(value, timedelta) else parse_age(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def due_options(command: click.decorators.FC) -> click.decorators.FC:
    """``--due`` and ``--accept-due``."""
    for option in (
        click.option(
            "--accept-due",
            type=click.IntRange(0),
            metavar="N",
            help="With --due: go on although up to N rows are due, or the server's clock has jumped.",
        ),
        click.option(
            "--due",
            is_flag=True,
            help="Only jobs with `after` in the plan, and only rows that are due: for a timer.",
        ),
    ):
        command = option(command)
    return command


def due_workers(given: int | None) -> int:
    """One, unless more are *given*: a process of its own costs more than a few rows."""
    return 1 if given is None else given


def aging(session: Session, jobs: Sequence[Job], *, named: bool) -> tuple[InPlaceJob, ...]:
    """Those of *jobs* that have an age. Raises ``NothingAges`` for one that was *named* and has none, or where none has."""
    found = tuple(job for job in jobs if isinstance(job, InPlaceJob) and job.after is not None)
    without = [job.label for job in jobs if job not in found]
    if named and without:
        raise NothingAges(what=f"The job {without[0]}")
    if not found:
        raise NothingAges(what=f"The plan {session.plan.name}")
    return found


@contextmanager
def as_a_timer() -> Iterator[None]:
    """Two timers at once: the second one says so, under an exit code of its own."""
    try:
        yield
    except RunInProgress as busy:
        raise DueInProgress(**busy.detail) from None


def require_no_other(session: Session, jobs: Sequence[InPlaceJob]) -> None:
    """Raises ``RunUnfinished`` where a run of *jobs* that is no due run was begun and is not done."""
    with session.engine.begin() as connection:
        other = due_runs.other_unfinished(connection, [job.identity for job in jobs])
    if other is not None:
        raise RunUnfinished(run=other)


def show(context: click.Context, session: Session, form: str, grace: timedelta) -> None:
    """What is late, in words or as JSON; exit 1 when anything is."""
    jobs = aging(session, session.plan.jobs, named=False)
    found = standing.look(session.engine, session.settings.ledger_schema, jobs, grace)
    if form != JSON:
        output.show(*report.blocks(found))
        click.echo()
    following = ("backfill run --due",) if found.is_late else ()
    code = EXIT_LATE if found.is_late else 0
    tell(Answer(report.verdict(found), following, report.as_dict(found), code), form, one_line=True)
    context.exit(code)
