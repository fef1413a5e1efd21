"""The parts of ``run`` and ``status`` that are for a timer: what is due at an age, and whether anything is late."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import click

from backfill.age.age import parse_age
from backfill.cli import output, preflight
from backfill.cli.answer import JSON, Answer, tell
from backfill.cli.context import Session
from backfill.database.preflight.target import Purpose
from backfill.errors import DueInProgress, NothingAges, OutputUnwritable, RunInProgress, RunUnfinished
from backfill.files import require_writable, write_whole
from backfill.ledger import due_runs
from backfill.plan import InPlaceJob, Job
from backfill.report import ages as report
from backfill.verify import standing

EXIT_LATE = 1
METRICS_FILE = "--metrics-file"


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


def grace_option(told: str) -> Callable[[click.decorators.FC], click.decorators.FC]:
    """``--grace``."""
    return click.option("--grace", type=AgeType(), help=told)


def show(context: click.Context, session: Session, form: str, grace: timedelta, metrics: Path | None) -> None:
    """What is late, in words or as JSON, and for Prometheus; exit 1 when anything is, or may be."""
    jobs = aging(session, session.plan.jobs, named=False)
    if metrics is not None:
        require_writable(metrics, what=METRICS_FILE)
    # A view hides rows, and a column of another type than the plan reads makes them younger: neither may look green.
    preflight.require(session, jobs, Purpose.READ)
    with session.engine.connect() as connection:
        found = standing.look(connection, session.settings.ledger_schema, session.plan, grace)
    if metrics is not None:
        _write_metrics(metrics, found)
    if form != JSON:
        output.show(*report.blocks(found))
        click.echo()
    code = 0 if found.holds else EXIT_LATE
    answer = Answer(report.verdict(found), report.following(found), report.as_dict(found), code)
    tell(answer, form, one_line=True)
    context.exit(code)


def _write_metrics(file: Path, found: standing.Standing) -> None:
    """What cannot be written is told, and changes neither answer nor exit code."""
    from backfill.report import metrics  # its library takes a tenth of a second

    try:
        write_whole(file, metrics.text(found), what=METRICS_FILE)
    except OutputUnwritable as error:
        click.echo(f"{error} What is late is said all the same.", err=True)
