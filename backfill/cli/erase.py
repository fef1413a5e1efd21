"""``backfill erase``: rewrite away what the drops left on disk."""

import click

from backfill import escaping
from backfill.cli import complete, output, preflight
from backfill.cli import context as sessions
from backfill.cli.answer import Answer, answers
from backfill.database.preflight.target import Purpose
from backfill.engine.driver import run_lock
from backfill.erase import erase, rewrite
from backfill.erase.erase import Intent
from backfill.erase.rewrite import Method
from backfill.erase.targets import Target
from backfill.ledger import erasures
from backfill.report.document import Tone, table

METHODS = {"vacuum": Method.VACUUM, "repack": Method.REPACK}


@click.command("erase")
@click.argument("tables", nargs=-1, metavar="[TABLE]...", shell_complete=complete.tables)
@click.option(
    "--dry-run", is_flag=True, help="Show what would be locked, and for about how long; change nothing."
)
@click.option(
    "--with",
    "method",
    type=click.Choice(list(METHODS)),
    help="vacuum: VACUUM FULL, under a lock; repack: pg_repack, while the table stays in use. "
    "Default: repack where its extension and program are installed.",
)
@click.option(
    "--keep-wal",
    is_flag=True,
    help="Do not recycle the WAL (by checkpoints and segment switches); it is then reported as left.",
)
@answers
@click.pass_context
def erase_command(
    context: click.Context, tables: tuple[str, ...], dry_run: bool, method: str | None, keep_wal: bool
) -> Answer:
    """Rewrite every table that lost a raw column, its TOAST and indexes, the statistics and the WAL.

    The values of a dropped column stay in the table's pages until these are rewritten. Without TABLE, all tables
    of the plan that are not rewritten yet; after an interruption the same command continues with the next table.
    With TABLE, these tables, whatever the record says. Exit 1 when something could not be rewritten.
    """
    session = sessions.session_of(context)
    session.require_ledger()
    preflight.require(session, (), Purpose.READ)
    schema = session.settings.ledger_schema
    with session.engine.connect() as connection:
        intent = erase.intend(connection, schema, session.plan, tables, METHODS[method] if method else None)
    if method == "repack" and intent.repack is None:
        raise click.UsageError(
            "pg_repack needs its extension in this database and its program on this machine."
        )
    _announce(intent)
    if dry_run:
        facts = {"dry_run": True, "steps": [], "to_rewrite": [target.name for target in intent.rewrite]}
        following = "backfill erase" if intent.rewrite else "backfill gates"
        return Answer("Dry run: nothing was changed.", (following,), facts, tone=Tone.PLAIN)
    left, steps = [], []
    with run_lock(session.engine, schema):
        for step in erase.erase(
            session.engine,
            schema,
            intent,
            session.settings.lock_timeout_ms,
            lambda line: click.echo(f"  {line}"),
            keep_wal=keep_wal,
        ):
            done = step.status == erasures.DONE
            steps.append({"target": step.target, "done": done, "method": step.method, "note": step.note})
            click.echo(
                f"{step.target}: {step.method if done else 'LEFT'}{': ' if step.note else ''}{step.note}"
            )
            if not done:
                left.append(step)
    facts = {"dry_run": False, "steps": steps, "to_rewrite": [target.name for target in intent.rewrite]}
    if left:
        return Answer(
            f"Left as it is: {', '.join(step.target for step in left)}. `backfill prove` says what that means.",
            ("backfill prove",),
            facts,
            code=1,
        )
    rewritten = escaping.counted(len(steps), "place is", "places are")
    return Answer(f"{rewritten} rewritten or emptied.", ("backfill prove",), facts)


def _announce(intent: Intent) -> None:
    """What will be locked and for about how long, before anything is."""
    if intent.rewrite:
        locked = "nobody reads or writes it meanwhile" if intent.repack is None else "two short locks"
        click.echo(f"To be rewritten by {intent.method}, one at a time ({locked}):")
        body = [
            [t.name, f"{t.size / 2**20:,.1f}", f"about {rewrite.seconds(t)} s", _remarks(t)]
            for t in intent.rewrite
        ]
        output.show(table(["table", "MiB", "locked", "remark"], body, right=["MiB"]))
    for skipped in (*intent.done, *intent.skipped):
        click.echo(f"{skipped.name}: {skipped.why}")
    if intent.leftovers:
        click.echo(f"To be dropped: {', '.join(intent.leftovers)}")
    if not intent.room_known:
        needed = max((target.size for target in intent.rewrite), default=0) / 2**20
        click.echo(f"The server's disk cannot be seen from here: see that {needed:,.0f} MiB are free there.")
    click.echo(
        "Then: our scratch tables, pg_statistic (a moment's lock), and the WAL, where this role may cycle it."
    )
    for line in intent.holders.rows:
        click.echo(f"Pins old rows (they are copied, without the dropped column): {line}")
    for line in intent.holders.wal:
        click.echo(f"Pins WAL (it will be left): {line}")


def _remarks(target: Target) -> str:
    remarks = ["unlogged"] if target.persistence == "u" else []
    remarks += ["materialized view"] if target.kind == "m" else []
    return ", ".join([*remarks, "in a tablespace of its own"] if target.tablespace else remarks)
