"""``backfill status``, ``pause``, ``resume`` and ``cancel``: from any shell that reaches the database."""

import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

import click

from backfill import escaping
from backfill.cli import context as sessions
from backfill.cli import output
from backfill.cli.answer import JSON, Answer, answers, failures_told, format_option, tell
from backfill.cli.context import Session
from backfill.cli.due import grace_option
from backfill.cli.due import show as show_due
from backfill.engine import signals
from backfill.errors import NoDriver, TransitionRefused
from backfill.ledger import address_map, runs
from backfill.ledger.run_lock import is_driven, run_lock
from backfill.ledger.run_state import UNFINISHED, RunState
from backfill.ledger.run_status import RunStatus, run_status
from backfill.ledger.runs import Run
from backfill.report import status as report
from backfill.report import text
from backfill.report.document import Note, Tone
from backfill.shadow.cutover import discard

HOME, CLEAR_LINE, CLEAR_BELOW, CLEAR = "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[2J"


def _standing(session: Session) -> RunStatus:
    with session.engine.begin() as connection:
        return run_status(connection, session.settings.ledger_schema, session.plan)


def _newest(session: Session) -> tuple[Run, bool]:
    """The newest run, and whether a process drives it."""
    session.require_ledger()
    with session.engine.begin() as connection:
        return runs.latest(connection), is_driven(connection, session.settings.ledger_schema)


def _move(session: Session, run: Run, status: RunState, reason: str | None = None) -> None:
    with session.engine.begin() as connection:
        runs.move(connection, run.id, status, reason=reason)


@click.command()
@click.option("--watch", is_flag=True, help="Repeat until the run ends or Ctrl-C.")
@click.option(
    "--every", type=click.FloatRange(0.1), default=2.0, show_default=True, help="Seconds between two updates."
)
@format_option
@click.option(
    "--due", is_flag=True, help="Show whether a raw value is older than its job allows. Exit 1 when one is."
)
@grace_option("With --due: late only when older by this much, as between two runs: '1 day'.")
@click.option(
    "--metrics-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --due: write the numbers to this file for Prometheus as well.",
)
@click.pass_context
def status(
    context: click.Context,
    watch: bool,
    every: float,
    form: str,
    due: bool,
    grace: timedelta | None,
    metrics_file: Path | None,
) -> None:
    """Show the newest run: rows, rate, what each worker does, and why the run is not moving.

    With --watch and --format json, each update is one line of JSON. With --due, every table of a job with
    `after` is read, and a run is not needed.
    """
    session = sessions.session_of(context)
    with failures_told(form):
        session.require_ledger()
    if metrics_file is not None and not due:
        raise click.UsageError("--metrics-file is for --due; a run writes its own: BACKFILL_METRICS_FILE")
    if due:
        with failures_told(form):
            show_due(context, session, form, grace or timedelta(), metrics_file)
        return
    try:
        _show_again_and_again(session, every if watch else None, form)
    except (Exception, signals.Ended):
        # Ctrl-C is how a watch ends, whatever the look at hand became of.
        if not (watch and signals.heard() and signals.exit_code() == 128 + signal.SIGINT):
            raise


def _show_again_and_again(session: Session, every: float | None, form: str) -> None:
    drawn = every is not None and form != JSON and sys.stdout.isatty()
    if drawn:
        escaping.unfiltered(sys.stdout).write(CLEAR)
    while True:
        now = _standing(session)
        answer = Answer(report.verdict(now), report.following(now), now.as_dict(), tone=report.tone(now))
        if form == JSON:
            tell(answer, form, one_line=True)
        else:
            screen = output.screen_of(sys.stdout)
            shown = f"{report.as_text(now, screen)}\n\n{text.blocks([Note(answer.line, report.tone(now))], screen)}"
            (_redraw if drawn else output.draw)(shown)
        over = now.run.status in {RunState.SUCCEEDED, RunState.CANCELLED, RunState.FAILED}
        if every is None or over or output.gone():
            return
        time.sleep(every)


def _redraw(shown: str) -> None:
    """Over what is there, line by line: a screen that is cleared first flickers."""
    raw = escaping.unfiltered(sys.stdout)
    raw.write(HOME)
    for line in shown.splitlines():
        raw.write(f"{line}{CLEAR_LINE}\n")
    raw.write(CLEAR_BELOW)
    raw.flush()


@click.command()
@answers
@click.pass_context
def pause(context: click.Context) -> Answer:
    """Pause the run after its current transactions. Its process stays; `backfill resume` continues it."""
    session = sessions.session_of(context)
    run, driven = _newest(session)
    if driven:
        _move(session, run, RunState.PAUSING, reason="paused from another shell")
        return _moved(
            run, RunState.PAUSING, f"Run {run.id} pauses at its next checkpoint.", "backfill resume"
        )
    if run.status is RunState.PAUSED:
        said = f"Run {run.id} is paused already, and no process drives it."
    else:
        _move(session, run, RunState.PAUSED, reason="paused while no process drove it")
        said = f"No process drove run {run.id}; it is marked as paused."
    return _moved(run, RunState.PAUSED, said, "backfill run")


@click.command()
@answers
@click.pass_context
def resume(context: click.Context) -> Answer:
    """Continue a paused run. If its process is gone, the command says so: type `backfill run`."""
    session = sessions.session_of(context)
    run, driven = _newest(session)
    if run.status is RunState.RUNNING and driven:
        return _moved(run, RunState.RUNNING, f"Run {run.id} is running.", "backfill status --watch")
    if run.status not in {RunState.PAUSED, RunState.PAUSING, RunState.RUNNING, RunState.FAILED}:
        raise TransitionRefused(run=run.id, state=run.status, wanted=RunState.RUNNING)
    if not driven:
        raise NoDriver(run=run.id, state=run.status)
    _move(session, run, RunState.RUNNING, reason=None)
    return _moved(run, RunState.RUNNING, f"Run {run.id} goes on.", "backfill status --watch")


@click.command()
@answers
@click.pass_context
def cancel(context: click.Context) -> Answer:
    """End the run for good and drop its address map and shadow copies. What it wrote stays."""
    session = sessions.session_of(context)
    run, driven = _newest(session)
    copies = ", removes its copies" if run.identity.strategy == "shadow" else ""
    if driven:
        _move(session, run, RunState.CANCELLING, reason="cancelled from another shell")
        said = f"Run {run.id} ends at its next checkpoint{copies} and drops its address map."
        return _moved(run, RunState.CANCELLING, said, "backfill status")
    schema = session.settings.ledger_schema
    with run_lock(session.engine, schema):
        # Again after a kill between the two, or for a run that is done and whose copies wait: the copies go.
        if run.status in UNFINISHED:
            _move(session, run, RunState.CANCELLED, reason="cancelled while no process drove it")
        elif not _remove_copies(session, run):
            raise TransitionRefused(run=run.id, state=run.status, wanted=RunState.CANCELLED)
        _remove_copies(session, run)
        with session.engine.begin() as connection:
            address_map.drop(connection, schema)
    said = f"Run {run.id} is cancelled, and its address map dropped. What it wrote stays."
    return _moved(run, RunState.CANCELLED, said, "backfill run")


def _moved(run: Run, status: RunState, said: str, following: str) -> Answer:
    """What became of the run."""
    return Answer(said, (following,), {"run": run.id, "status": status.value}, tone=Tone.NEXT)


def _remove_copies(session: Session, run: Run) -> bool:
    """Copies of that run that do not serve yet; whether there were any."""
    removed = False
    for job in session.plan.link_jobs:
        if discard(
            session.engine, session.settings.ledger_schema, job, run.id, session.settings.lock_timeout_ms
        ):
            click.echo(f"The copy of {job.label} is removed, with everything that belonged to it.")
            removed = True
    return removed
