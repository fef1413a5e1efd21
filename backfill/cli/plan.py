"""``backfill plan``: what a run would do and cost here, and what is in the way."""

from collections.abc import Callable
from typing import Any

import click
from sqlalchemy import Connection

from backfill.cli import complete, consent, output, preflight
from backfill.cli import context as sessions
from backfill.cli.answer import Answer, answers
from backfill.cli.context import Session, weak_salt_option
from backfill.cli.dropped_columns import AFTER_ALL, NOTHING_LEFT, calibrates, gone, still_there
from backfill.cli.preflight import accept_option
from backfill.cli.sampler import sampler_of
from backfill.database.blocks import heap_of
from backfill.database.columns import has_column
from backfill.database.preflight.target import Purpose
from backfill.engine.estimate.forecast import of_tables, size_of
from backfill.errors import BackfillError
from backfill.plan import Discard, InPlaceJob, Job
from backfill.report import forecast as forecasts
from backfill.report.document import table


@click.command()
@click.argument("jobs", nargs=-1, metavar="[JOB]...", shell_complete=complete.jobs)
@click.option("--no-sample", is_flag=True, help="Take no sample: no prediction of time, WAL and disk.")
@accept_option
@weak_salt_option
@answers
@click.pass_context
def plan(
    context: click.Context,
    jobs: tuple[str, ...],
    no_sample: bool,
    accept: tuple[str, ...],
    allow_weak_salt: bool,
) -> Answer:
    """Show what a run would do and cost, and what is in the way. Changes nothing. Exit 2 when something is in the way.

    docs/preflight.md describes every finding. One that "will change" must be accepted by name first.

    For the costs, some blocks of each table are copied into temporary tables and linked there.
    """
    session = sessions.session_of(context)
    session.allow_weak_salt = allow_weak_salt
    chosen = still_there(session, session.plan.choose(jobs))
    if chosen is None:
        return Answer(NOTHING_LEFT, AFTER_ALL)
    parts = preflight.parts_of(session, chosen)
    report = preflight.inspect(
        session, parts if jobs else (*parts, *_discards(session)), Purpose.PLAN, accept
    )
    problems: list[str] = []
    with session.engine.connect() as connection:
        with_raw = {job.identity: _has_raw(connection, job) for job in chosen}
        body = [_planned(connection, session, job) for job in chosen if with_raw[job.identity]]
    click.echo(
        f"Plan {session.plan.name}, hash {session.plan.hash.scheme}, key id {session.settings.key_id}."
    )
    header = ["table", "rows (estimated)", "distinct texts (estimated)", "MB", "batches", "passes each"]
    output.show(table(header, body))
    names = ("table", "rows", "texts", "mb", "batches", "passes")
    facts: dict[str, Any] = {
        "tables": [dict(zip(names, line, strict=True)) for line in body],
        "findings": preflight.as_facts(report),
        "missing": problems,
        "costs": [],
    }
    opened: list[Callable[[], object]] = []
    if session.plan.needs_salt:
        opened.append(lambda: session.salt)
    if session.plan.needs_geo:
        opened.append(lambda: session.geo)
    for open_part in opened:
        try:
            open_part()
        except BackfillError as error:
            problems.append(str(error))
    found = preflight.as_text(report)
    if found:
        click.echo("\n" + found)
    if problems:
        click.echo("\nMissing:\n" + "\n".join(f"- {problem}" for problem in problems))
    if problems or not report.fit:
        click.echo()
        return Answer(preflight.in_the_way(report, len(problems)), facts=facts, code=2)
    if session.plan.needs_geo:
        click.echo(
            f"Geo database: {session.geo.provenance.database_type} of {session.geo.provenance.build:%Y-%m-%d}."
        )
    ahead = [job for job in chosen if with_raw[job.identity]]
    if not no_sample and ahead:
        costs = of_tables(sampler_of(session, ahead), session.settings, ahead)
        click.echo()
        output.show(*forecasts.blocks(costs, session.settings.workers))
        facts["costs"] = forecasts.as_facts(costs)
    words = [word for name in accept for word in ("--accept", name)]
    words += ["--allow-weak-salt"] if allow_weak_salt else []
    consent.tell(session, ahead, words)
    click.echo()
    due = bool(ahead) and all(isinstance(job, InPlaceJob) and job.after for job in ahead)
    following = preflight.then_run(
        report, jobs, accept, allow_weak_salt, calibrates=calibrates(session), due=due
    )
    return Answer(preflight.nothing_in_the_way(report), following, facts)


def _discards(session: Session) -> list[Discard]:
    """Columns that are to be discarded, and were not dropped by a revision."""
    done = gone(session, session.plan.discard)
    return [discard for discard in session.plan.discard if discard not in done]


def _has_raw(connection: Connection, job: Job) -> bool:
    found = has_column(connection, job, job.raw)
    connection.rollback()
    return found


def _planned(connection: Connection, session: Session, job: Job) -> list[str | int | None]:
    heap = heap_of(connection, job)
    distinct = size_of(connection, job).texts
    analyzed = heap.rows > 0 or heap.blocks == 0  # before the first ANALYZE the planner knows nothing
    connection.rollback()
    size = session.settings.batch_blocks
    return [
        job.label,
        heap.rows if analyzed else None,
        distinct if analyzed else None,
        round(heap.blocks * 8 / 1024),
        -(-heap.blocks // size),
        session.settings.passes,
    ]
