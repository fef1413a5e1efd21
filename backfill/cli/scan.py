"""``backfill scan``: every place of the database where an address hides, whether a plan knows it or not."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from backfill.cli import context as sessions
from backfill.cli import output as streams
from backfill.cli.answer import Answer, envelope, failures_told, tell
from backfill.cli.context import Session
from backfill.engine.throttle.monitor import EVERY_SECONDS, decide
from backfill.engine.throttle.sensors import sensors
from backfill.files import require_suffix, require_writable, write_whole
from backfill.report import scan as faces
from backfill.report import text
from backfill.report.document import Note
from backfill.scan.allowlist import AllowList
from backfill.scan.place import Found
from backfill.scan.proposal import propose
from backfill.scan.scan import scan

SUFFIXES = {".json": "json", ".toml": "toml", ".txt": "text"}
SAMPLE = 10.0  # percent of the blocks of a large table


@click.command("scan")
@click.option("--schema", metavar="S", help="Scan this schema only.")
@click.option("--table", metavar="T", help="Scan this table only; outside public, as schema.table.")
@click.option(
    "--sample",
    "percent",
    type=click.FloatRange(0, 100, min_open=True),
    metavar="P",
    help=f"Read this percentage of each table over 8 MB.  [default: {SAMPLE:.0f}]",
)
@click.option("--full", is_flag=True, help="Read every row.")
@click.option(
    "--allow",
    type=click.Path(path_type=Path),
    help="TOML file of places that may hold addresses, each with a reason.",
)
@click.option(
    "--rest",
    type=click.FloatRange(0, 100),
    default=0.0,
    show_default=True,
    help="Seconds to pause for each second of reading.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "toml"]),
    help="text, json, or toml (a plan for the places that Backfill can work on).  [default: by the suffix of --output, or text]",
)
@click.option(
    "--output", type=click.Path(path_type=Path), help="Write to this file; it is never left incomplete."
)
@click.pass_context
def scan_command(
    context: click.Context,
    schema: str | None,
    table: str | None,
    percent: float | None,
    full: bool,
    allow: Path | None,
    rest: float,
    form: str | None,
    output: Path | None,
) -> None:
    """Look for addresses in every column, JSON path, comment, default, definition and statistic.

    Read-only, in short transactions. Shows counts and places, never a value. Exit 1 when a place that the
    allow-list does not name holds an address or cannot be read, so it can be used in CI.
    """
    if full and percent is not None:
        raise click.UsageError("--full and --sample exclude each other.")
    if output is not None:
        if form is None:
            require_suffix(output, list(SUFFIXES))
        require_writable(output)
    form = form or SUFFIXES.get(output.suffix if output else "", "text")
    session = sessions.session_of(context)
    allowed = AllowList.load(allow)
    with failures_told(form):
        found = list(
            scan(
                session.engine,
                session.plan,
                allowed,
                schema=schema,
                table=table,
                percent=100.0 if full else percent or SAMPLE,
                rest=rest,
                ledger=session.settings.ledger_schema,
                hold=_Holder(session).wait,
                tell=lambda line: click.echo(f"  {line}", err=True) if form == "text" else None,
            )
        )
    alarming = any(one.alarming for one in found)
    following = ("backfill scan --format toml",) if alarming and form != "toml" else ("backfill plan",)
    answer = Answer(faces.verdict(found), following, faces.as_json(found, allowed), code=int(alarming))
    if output is None and form == "text":
        streams.show(*faces.blocks(found, allowed))
        click.echo()
    if output is None and form != "toml":
        tell(answer, form)
    else:
        made = _rendered(session, found, allowed, answer, form) + "\n"
        if output is None:
            streams.unwrapped(made)
        else:
            write_whole(output, made)
            tell(replace(answer, verdict=f"{answer.verdict} Written to {output}."), "text")
    if alarming:
        context.exit(1)


def _rendered(session: Session, found: Sequence[Found], allowed: AllowList, answer: Answer, form: str) -> str:
    """What a scan found, for a file or a program."""
    if form == "json":
        return json.dumps(envelope(answer), indent=2)
    if form == "text":
        return text.blocks([*faces.blocks(found, allowed), Note(answer.verdict)])
    with session.engine.connect() as connection:
        made = faces.as_toml(propose(connection, session.plan, session.settings.ledger_schema, found))
        connection.rollback()
    return made


class _Holder:
    """Asks the sensors of a run before a range is read, once a second at most; waits and says why."""

    def __init__(self, session: Session) -> None:
        self._session, self._sensors, self._asked = session, sensors(session.settings), 0.0

    def wait(self) -> None:
        """Return when no sensor breaches."""
        told = None
        while time.monotonic() - self._asked >= EVERY_SECONDS:
            with self._session.engine.connect() as connection:
                breach = decide(self._sensors, connection)
            if breach is None:
                self._asked = time.monotonic()
                return
            if breach.reason != told:
                told = breach.reason
                click.echo(f"  Held: {told}", err=True)
            time.sleep(EVERY_SECONDS)
