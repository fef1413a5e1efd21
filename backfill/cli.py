"""The ``backfill`` command. Thin: it joins the groups, and turns an error into a line and an exit code."""

import sys

import click

from backfill import __version__
from backfill.commands.control import cancel, pause, resume, status
from backfill.commands.demo import demo
from backfill.commands.disclosure import disclose_command
from backfill.commands.erase import erase_command
from backfill.commands.gates import gates_command, repair_command, seal_command, unseal_command
from backfill.commands.proof import report, verify_command
from backfill.commands.prove import prove_command
from backfill.commands.quarantine import addresses, quarantine
from backfill.commands.run import calibrate_command, plan, run
from backfill.commands.scan import scan_command
from backfill.commands.server import server
from backfill.commands.shadow import cutover
from backfill.database.engine import translated
from backfill.errors import BackfillError


class Ordered(click.Group):
    """Lists its commands in the order of a maintenance window instead of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=Ordered, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="backfill")
def cli() -> None:
    """Takes raw IP addresses out of a PostgreSQL database without losing what they were good for.

    The database is BACKFILL_DATABASE_URL; unset, an embedded one. Exit codes: 0 done, 1 the answer is
    no, 2 something has to be changed first, 3 stopped at a checkpoint.
    """


for command in (
    demo,
    scan_command,
    plan,
    calibrate_command,
    run,
    status,
    cutover,
    pause,
    resume,
    cancel,
    quarantine,
    addresses,
    verify_command,
    repair_command,
    gates_command,
    seal_command,
    unseal_command,
    report,
    erase_command,
    prove_command,
    disclose_command,
    server,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line; the only place where an error becomes a line and an exit code."""
    try:
        with translated():
            sys.exit(cli.main(standalone_mode=False) or 0)
    except BackfillError as error:
        click.echo(f"backfill: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo(
            "backfill: ended at once. What was committed stays; the same command goes on from there.",
            err=True,
        )
        sys.exit(130)
