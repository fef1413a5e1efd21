"""``backfill demo``: a database to try everything on, and the tour through it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
from psycopg2 import sql

from backfill.cli import context as sessions
from backfill.cli import output
from backfill.cli.context import SALT_FILE, Session
from backfill.database.columns import has_column
from backfill.database.connection import rows, value
from backfill.database.quoting import table
from backfill.embedded import EmbeddedServer
from backfill.engine import signals
from backfill.errors import DemoGeoMissing, SettingInvalid
from backfill.files import make_home
from backfill.geo.city import bundled_geo_path
from backfill.hashing.salt import make_salt_file
from backfill.plan import PYPI
from backfill.pypi.demo import create_demo
from backfill.report.document import Tone
from backfill.report.document import table as table_of
from backfill.settings import Settings

REPORT = "report.html"  # under BACKFILL_HOME
RESTORE_POINT = "demo: none was made, the data is made up"


@click.command()
@click.option(
    "--events",
    type=click.IntRange(1),
    default=200_000,
    show_default=True,
    help="Number of events, over five tables.",
)
@click.option(
    "--seed",
    type=int,
    default=1,
    show_default=True,
    help="Random seed; the same seed makes the same database.",
)
@click.option(
    "--addresses",
    type=click.IntRange(50),
    help="Approximate number of distinct addresses; at most half the events.  [default: 5-10 % of the events]",
)
@click.option(
    "--tour",
    is_flag=True,
    help="Then run every step: plan, calibrate, run, verify, settle, migrate, erase, prove.",
)
@click.pass_context
def demo(context: click.Context, events: int, seed: int, addresses: int | None, tour: bool) -> None:
    """Create a demo database in PyPI's schema with difficult data. The embedded one is recreated; yours must be empty."""
    session = sessions.session_of(context)
    if session.plan != PYPI:
        raise SettingInvalid(
            setting="BACKFILL_PLAN", problem="the demo is made for the built-in plan; unset it"
        )
    if addresses is not None and addresses * 2 > events:
        raise SettingInvalid(
            setting="--addresses", problem=f"at most half the events have one of their own: {events // 2}"
        )
    if tour:
        _say("create", "a PyPI-shaped database, its salt in a file of its own, addresses from real networks")
    _create(session, events, seed, addresses)
    if tour:
        session.close()
        code = _tour()
        click.echo(f"Report: {session.settings.home / REPORT}")
        _tell_server(session.settings)
        context.exit(code)
    _tell_server(session.settings)
    click.echo("Next: `backfill plan`.")


def _create(session: Session, events: int, seed: int, addresses: int | None) -> None:
    geo_path = session.settings.geoip_db or bundled_geo_path()
    if geo_path is None:
        raise DemoGeoMissing
    home = session.settings.home
    if session.settings.database_url is None:
        server = EmbeddedServer(home)
        server.ensure()
        server.recreate_database()
    given = session.settings.ip_salt is not None or session.settings.ip_salt_file is not None
    salt = session.salt if given else make_salt_file(home / SALT_FILE)
    url = session.engine.url.render_as_string(hide_password=False)
    with signals.leaves("The database is as it was: it is filled in one transaction."):
        summary = create_demo(
            url,
            events=events,
            seed=seed,
            hash_address=salt.hasher(PYPI.hash.scheme),
            geo_path=geo_path,
            report=lambda line: click.echo(f"  {line}", err=True),
            addresses=addresses,
        )
    click.echo(
        f"Made {summary.events:,} events with {summary.distinct:,} distinct addresses: {summary.linked:,} linked by "
        f"the live application, {summary.no_address:,} without an address, {summary.odd:,} in an odd spelling, "
        f"{summary.malformed:,} whose text is no address."
    )


def _tell_server(settings: Settings) -> None:
    """What the demo leaves running."""
    if settings.database_url is None:
        click.echo(
            "The embedded PostgreSQL keeps running. `backfill server stop` stops it; with --delete its data goes as well."
        )


def _say(step: str, what: str) -> None:
    click.echo()
    output.say(f"── {step}: {what}", Tone.NEXT)


def _call(*words: str, expect: int | None = 0, **variables: str) -> int:
    """Run a command exactly as the operator would type it; ends the tour when it surprises.

    *expect* ``None``: yes and no are both answers; returns which.
    """
    shown = " ".join(f"{name}={json.dumps(value)}" for name, value in variables.items())
    output.say(f"$ {shown} {' '.join(words)}".replace("$  ", "$ "), Tone.LATER)
    executable = Path(sys.executable).parent / words[0]
    done = signals.call([str(executable), *words[1:]], env=os.environ | variables)
    if done.returncode not in ((0, 1) if expect is None else (expect,)):
        raise click.exceptions.Exit(done.returncode or 1)
    return done.returncode


def _waiting() -> list[dict[str, str]]:
    words = [str(Path(sys.executable).parent / "backfill"), "quarantine", "list", "--format", "json"]
    said = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
    found: list[dict[str, str]] = said["rows"]
    return found


def _tour() -> int:
    """The whole way, each step a command that the operator could have typed."""
    _say("plan", "what a run would do, and whether anything is in the way; changes nothing")
    _call("backfill", "plan")
    _say("calibrate", "our salt and formula are proved on hashes that the live application stored")
    _call("backfill", "calibrate")
    _say("run", "each address hashed and located once, then every event linked, in small batches")
    _call("backfill", "run")
    _say("verify", "recomputed from the data by another road; red, since some texts are no address")
    _call("backfill", "verify", expect=1)
    _say("settle", "the operator decides about them, by exact count, on record")
    by_table: dict[str, int] = {}
    for entry in _waiting():
        by_table[entry["table"]] = by_table.get(entry["table"], 0) + 1
    for name, number in by_table.items():
        if name == PYPI.addresses.name:
            _say("merge", "one address in two spellings: its events and the stricter ban go to one row")
            _call("backfill", "addresses", "merge", "--count", str(number))
        else:
            _call("backfill", "quarantine", "settle", name, "--as", "sentinel", "--count", str(number))
    _say("verify", "green: every row with a raw address has the right link, every hash is right")
    _call("backfill", "verify")
    _say("migrate", "one gated revision after the other; nothing waits here, since nobody writes to a demo")
    _call("backfill", "migrate", BACKFILL_RESTORE_POINT=RESTORE_POINT)
    _say("erase", "a dropped column still lies in the pages: they are written anew, and the WAL is cycled")
    _call("backfill", "erase", expect=None)
    _say(
        "prove", "catalog, pages and files are searched for what was erased; what is left elsewhere is named"
    )
    found = _call("backfill", "prove", expect=None)
    _say("report", "all of it as a page for the privacy officer, with what is left and who must act")
    home = Settings.load().home
    make_home(home)
    _call("backfill", "report", "--output", str(home / REPORT))
    _say("after", "what is left of the raw addresses, and what took their place")
    return _final(found)


def _final(found: int) -> int:
    """The table that has to add up; 1 when a raw column is left, or its bytes on a server that is ours."""
    session = Session(Settings.load())
    ours = session.settings.database_url is None
    body, left = [], 0
    with session.engine.connect() as connection:
        for job in PYPI.jobs:
            raw = has_column(connection, job, job.raw)
            left += raw
            statement = sql.SQL("""
                select count(*), count(event.ip_address_id), count(*) - count(event.ip_address_id),
                       count(event.additional -> 'geoip_info'), count(distinct event.ip_address_id)
                  from {} as event
            """).format(table(job))
            body.append([job.name, *rows(connection, statement)[0], "STILL THERE" if raw else "gone"])
        part = PYPI.addresses
        left += has_column(connection, part, part.address)
        left += has_column(connection, PYPI.discard[0], PYPI.discard[0].column)
        hashes = value(connection, sql.SQL("select count(hashed_ip_address) from {}").format(table(part)))
        located = value(connection, sql.SQL("select count(geoip_info) from {}").format(table(part)))
    session.close()
    body.append(["all", *(sum(row[column] for row in body) for column in range(1, 5)), None, None])
    header = ["table", "rows", "= linked", "+ not linked", "with a place", "distinct addresses", "raw column"]
    output.show(table_of(header, body))
    click.echo("Distinct addresses have no sum: one may be in several tables.")
    click.echo(f"ip_addresses: {hashes:,} hashes, {located:,} with geography, no address.")
    if left:
        output.say(f"{left} raw columns are still there.", Tone.ALARM)
        return 1
    if found and ours:
        output.say("Their bytes are not gone: `backfill prove` says where they are.", Tone.ALARM)
        return 1
    # On a server of the operator's, other databases share the WAL, and the role may not see everything.
    where = "the tables; for the files, see what `backfill prove` said above" if found else "tables and files"
    output.say(f"The raw addresses are gone from {where}.", Tone.DONE)
    return 0
