"""``backfill cutover``, and what ``backfill run --strategy shadow`` does after its copies are compared."""

from collections.abc import Sequence

import click

from backfill import escaping
from backfill.cli import complete, preflight
from backfill.cli import context as sessions
from backfill.cli.answer import Answer
from backfill.cli.context import Session, weak_salt_option
from backfill.database.preflight.target import Purpose
from backfill.engine.driver import run_lock
from backfill.errors import CutoverPostponed, ShadowExists
from backfill.jobs.resolver import Resolver
from backfill.ledger import keys
from backfill.plan import LinkJob, links
from backfill.shadow import cutover as swapping
from backfill.shadow import names
from backfill.shadow.cutover import Cutover


@click.command()
@click.argument("tables", nargs=-1, required=True, metavar="TABLE...", shell_complete=complete.jobs)
@click.option("--finish", is_flag=True, help="Drop the old table. This cannot be undone.")
@weak_salt_option
@click.pass_context
def cutover(context: click.Context, tables: tuple[str, ...], finish: bool, allow_weak_salt: bool) -> None:
    """Replace each TABLE with its shadow copy, in one short transaction.

    The old table stays as TABLE_before_backfill, with every raw address in it, until --finish drops it.
    Until then you can go back by renaming both tables, which loses what was written since.
    Exit 1 when a swap was not possible: the original stays in use, and the copy stays in sync.
    """
    session = sessions.session_of(context)
    session.allow_weak_salt = allow_weak_salt
    session.require_ledger("backfill run --strategy shadow")
    chosen = links(session.plan.choose(tables))
    preflight.require(session, preflight.parts_of(session, chosen), Purpose.READ)
    with run_lock(session.engine, session.settings.ledger_schema):
        work = _cutover(session)
        for job in chosen:
            if finish and work.finish(job):
                click.echo(
                    f"The old {job.label} is dropped, and its addresses with it. There is no way back. Next: `backfill verify`."
                )
            elif finish:
                click.echo(f"There is no old {job.label} left to drop. Next: `backfill verify`.")
            elif work.serves(job):  # the same command again, after a kill between two tables
                click.echo(
                    f"{job.label} is the copy already. Next: `backfill cutover --finish {escaping.word(job.label)}`."
                )
            else:
                work.run(job)
                _say_swapped(job)


def are_ready(session: Session, jobs: Sequence[LinkJob]) -> bool:
    """Whether copies of all these tables are compared and wait for their cut-over: nothing is left to run.

    Raises ``ShadowExists`` where only some of them are: a run makes its copies anew, and those serve already
    as what was asked for.
    """
    with session.engine.connect() as connection:
        ready = [job.label for job in jobs if swapping.is_ready(connection, job)]
    if 0 < len(ready) < len(jobs):
        tables = escaping.command(*ready)
        raise ShadowExists(
            table=", ".join(ready),
            state="a copy is ready and waits for the cut-over",
            fix=f"`backfill cutover {tables}` lets it take its place, `backfill run --abandon {tables}` removes it.",
        )
    return bool(ready)


def postpone_or_cut_over(session: Session, jobs: Sequence[LinkJob], *, hold: bool) -> None:
    """What is left to do for copies that are ready."""
    cut_over_or_postpone(session, _cutover(session), jobs, hold=hold)


def cut_over_or_postpone(session: Session, work: Cutover, jobs: Sequence[LinkJob], *, hold: bool) -> None:
    """Swap each table in, or say how it is done later. Raises ``CutoverPostponed`` for the first that could not be."""
    if hold:
        for job in jobs:
            click.echo(
                f"The copy of {job.label} is ready and stays in sync. Next: `backfill cutover {escaping.word(job.label)}`."
            )
        return
    held: list[CutoverPostponed] = []
    with run_lock(session.engine, session.settings.ledger_schema):
        for job in jobs:
            try:
                work.run(job)
            except CutoverPostponed as reason:
                held.append(reason)
                click.echo(str(reason))
            else:
                _say_swapped(job)
    if held:
        raise held[0]


def ending(jobs: Sequence[LinkJob], *, hold: bool) -> Answer:
    """The last line of a run that made copies, where nothing went wrong."""
    tables = [job.label for job in jobs]
    number = escaping.counted(len(tables), "copy is", "copies are")
    if hold:
        return Answer(f"{number} ready and in sync.", (escaping.command("backfill", "cutover", *tables),))
    finish = escaping.command("backfill", "cutover", "--finish", *tables)
    return Answer(f"{number} in use.", (finish, "backfill verify"))


def abandon(session: Session, jobs: Sequence[LinkJob]) -> None:
    """Remove the copies of these tables."""
    session.require_ledger("backfill run --strategy shadow")
    with run_lock(session.engine, session.settings.ledger_schema):
        for job in jobs:
            swapping.abandon(
                session.engine, session.settings.ledger_schema, job, session.settings.lock_timeout_ms
            )
            click.echo(f"The copy of {job.label} is removed, with everything that belonged to it.")


def _say_swapped(job: LinkJob) -> None:
    click.echo(
        f"{job.label} is the copy now, without {job.raw}. The old table is {names.before(job).name}, with every "
        f"address; going back to it loses what is written from now on.\n"
        f"Next: `backfill cutover --finish {escaping.word(job.label)}` drops it; then `backfill verify`."
    )


def _cutover(session: Session) -> Cutover:
    salt = session.salt
    with session.engine.begin() as connection:
        keys.check_key(connection, session.settings.key_id, salt)
    return with_resolver(session, Resolver(salt.hasher(session.plan.hash.scheme), session.geo))


def with_resolver(session: Session, resolver: Resolver) -> Cutover:
    """The cut-over of this session's plan, for a command that has checked the salt."""
    return Cutover(
        session.engine,
        session.settings.ledger_schema,
        session.plan,
        session.fingerprint,
        resolver,
        session.settings.lock_timeout_ms,
        click.echo,
        session.settings.workers,
    )
