"""``backfill migrate``: the chain of revisions, from a checkout or an installed package."""

import sys

import click

from backfill.cli import context as sessions
from backfill.cli import output
from backfill.database import revisions
from backfill.engine import signals


@click.command("migrate")
@click.argument("revision", required=False)
@click.option(
    "--sql",
    "as_script",
    is_flag=True,
    help="Print an SQL script instead of running it; REVISION may be FROM:TO.",
)
@click.option(
    "--down",
    is_flag=True,
    help="Downgrade to REVISION. Dropped data does not come back: a restored column is empty.",
)
@click.option(
    "--restore-point",
    metavar="NAME",
    help="Name of the backup that you could go back to; overrides BACKFILL_RESTORE_POINT.",
)
@click.pass_context
def migrate_command(
    context: click.Context, revision: str | None, as_script: bool, down: bool, restore_point: str | None
) -> None:
    """Run the revisions up to REVISION, or to the last one, each in its own transaction; go back with --down.

    A revision whose gate refuses changes nothing; the revisions before it stay. REVISION is a name that
    `backfill gates` shows, or `+1` for the next one. Exit 1 when a gate refuses.
    """
    if down and revision is None:
        raise click.UsageError("--down needs the REVISION to go back to; `backfill gates` shows their names.")
    session = sessions.session_of(context)
    settings, goal = session.settings, revision or "head"
    if as_script:
        output.exactly(revisions.script(settings, goal, down=down, restore_point=restore_point))
        return
    with signals.leaves(revisions.LEFT):
        before = revisions.current_revision(settings, session.engine)
        after = revisions.migrate(
            settings, session.engine, goal, down=down, restore_point=restore_point, stdout=sys.stdout
        )
    if after == before:
        click.echo(f"Nothing to do: the chain is at {after or 'its beginning'} already. {_next(after)}")
    else:
        click.echo(
            f"The chain went from {before or 'its beginning'} to {after or 'its beginning'}. {_next(after)}"
        )


def _next(after: str | None) -> str:
    return "Next: `backfill run`." if after is None else "Next: `backfill gates`."
