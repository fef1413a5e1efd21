"""The ``backfill`` command. Thin: it joins the groups, and turns an error into a line and an exit code."""

import sys
import threading
from collections.abc import Mapping
from importlib import import_module

import click
from click.shell_completion import CompletionItem

from backfill import __version__
from backfill.cli import failure, output
from backfill.cli.question import refuse_addresses
from backfill.database.connection import translated
from backfill.engine import signals
from backfill.errors import BackfillError

WHOLE = 1_000  # characters of a summary: it is wrapped, and never cut
UNEXPECTED = 70  # EX_SOFTWARE: neither "no" nor anything that the operator has to change
OUTPUT_LOST = 74  # EX_IOERR: what the command did is done

# In the order of a maintenance window. A command's module is imported when it is typed: all of them
# together took a third of a second more, which a settlement of five tables pays six times.
COMMANDS: Mapping[str, str] = {
    "demo": "demo.demo",
    "scan": "scan.scan_command",
    "plan": "plan.plan",
    "calibrate": "calibrate.calibrate_command",
    "run": "run.run",
    "status": "control.status",
    "cutover": "cutover.cutover",
    "pause": "control.pause",
    "resume": "control.resume",
    "cancel": "control.cancel",
    "quarantine": "quarantine.quarantine",
    "addresses": "quarantine.addresses",
    "verify": "verify.verify_command",
    "repair": "repair.repair_command",
    "gates": "gates.gates_command",
    "seal": "gates.seal_command",
    "unseal": "gates.unseal_command",
    "report": "verify.report",
    "migrate": "migrate.migrate_command",
    "erase": "erase.erase_command",
    "prove": "prove.prove_command",
    "disclose": "disclose.disclose_command",
    "lookup": "lookup.lookup_command",
    "ban": "ban.ban_command",
    "unban": "ban.unban_command",
    "logs": "logs.logs_command",
    "server": "server.server",
    "config": "config.config_command",
}

# The same by what they are for, as ``--help`` and docs/commands.md show them.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "See it work": ("demo", "server"),
    "Before the window": ("config", "scan", "plan", "calibrate"),
    "The run": ("run", "status", "pause", "resume", "cancel", "cutover"),
    "After the run": ("quarantine", "addresses", "verify", "repair"),
    "Drop and erase": ("gates", "seal", "unseal", "migrate", "erase", "prove"),
    "On record": ("report", "disclose"),
    "The live application": ("lookup", "ban", "unban", "logs"),
}

# Commands that change nothing in the database.
LOOKS = frozenset({"scan", "plan", "calibrate", "status", "gates", "report", "disclose", "lookup", "config"})


class Window(click.Group):
    """Lists its commands in the order of ``COMMANDS`` and finds them there."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names alone: a summary would import the command."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(name) for name in COMMANDS if name.startswith(incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """By group, each summary whole."""
        for group, names in GROUPS.items():
            found = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(group):
                formatter.write_dl(
                    [
                        (name, command.get_short_help_str(limit=WHOLE))
                        for name, command in found
                        if command is not None
                    ]
                )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = COMMANDS.get(cmd_name)
        if place is None:
            refuse_addresses([cmd_name], "backfill lookup")  # "no such command" would repeat it
            return None
        module, name = place.split(".")
        found: click.Command = getattr(import_module(f"backfill.cli.{module}"), name)
        return found


@click.group(cls=Window, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="backfill")
@click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=lambda _context, _option, given: failure.debug(wanted=given),
    help="When a command fails, show files and lines of the code; never values.",
)
@click.pass_context
def cli(context: click.Context) -> None:
    """Removes raw IP addresses from a PostgreSQL database and keeps what they were used for.

    The database is BACKFILL_DATABASE_URL; if it is unset, an embedded one. Exit codes: 0 done, 1 the
    answer is no or the command failed, 2 something must be changed first, 3 stopped at a checkpoint,
    70 an error in Backfill itself, 129, 130 or 143 ended by SIGHUP, SIGINT or SIGTERM.
    """
    signals.leaves_by_default(_left_by(context.invoked_subcommand))


def _left_by(command: str | None) -> str:
    """What is left of a command that a signal ended, where nothing nearer is known."""
    if command in LOOKS:
        return "Nothing was changed."
    return f"What was committed stays; type `backfill {command}` again, it goes on from there."


def main() -> None:
    """Run the command line; the only place where an error becomes a line and an exit code."""
    output.install()
    threading.excepthook = failure.in_a_thread
    with signals.obeyed():
        code = _run()
    unwritten = output.failure()
    if unwritten is not None:
        click.echo(
            f"backfill: standard output could not be written: {unwritten.strerror}. The command came to its end "
            f"with exit code {code}; what it printed is not whole.",
            err=True,
        )
        code = code or OUTPUT_LOST
    sys.exit(code)


def _run() -> int:
    """The command's exit code."""
    try:
        with translated():
            return int(cli.main(standalone_mode=False) or 0)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):  # typed at a prompt
        click.echo(
            "backfill: ended at once. What was committed stays; the same command goes on from there.",
            err=True,
        )
        return 130
    except Exception as error:
        if signals.heard():
            raise
        known = isinstance(error, BackfillError)
        click.echo(f"backfill: {error if known else failure.line(error)}", err=True)
        failure.trace(error)
        return error.exit_code if isinstance(error, BackfillError) else UNEXPECTED
