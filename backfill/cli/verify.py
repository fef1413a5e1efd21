"""``backfill verify`` and ``backfill report``."""

import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import click

from backfill.cli import context as sessions
from backfill.cli import output as streams
from backfill.cli import preflight
from backfill.cli.answer import JSON, Answer, answers, commands_in, tell
from backfill.cli.context import weak_salt_option
from backfill.cli.due import grace_option
from backfill.database.preflight.target import Purpose
from backfill.errors import SaltMissing
from backfill.files import require_suffix, require_writable, write_whole
from backfill.gates.gate import Gate
from backfill.ledger import keys, prefixes
from backfill.report import check, coverage, text
from backfill.report.collect import collect, decided
from backfill.report.document import Cell, Tone, table
from backfill.report.formats import BY_NAME, BY_SUFFIX
from backfill.report.sections import document
from backfill.settings import Settings
from backfill.verify import canaries
from backfill.verify.verifier import Verifier, verify_lock

SHOWN = 3  # remedies that the last line names; all stand above it


@click.command("verify")
@click.option(
    "--sample",
    "percent",
    type=click.FloatRange(0, 100, min_open=True),
    help="Read only this percentage of the event tables' blocks and say what that shows. Opens no gate.",
)
@click.option(
    "--workers", type=click.IntRange(1, 64), help="Number of connections that read in parallel.  [default: 2]"
)
@weak_salt_option
@answers
@click.pass_context
def verify_command(
    context: click.Context, form: str, percent: float | None, workers: int | None, allow_weak_salt: bool
) -> Answer:
    """Recompute coverage from the data and record it. Exit 0 only when everything is covered.

    After an interruption the same command continues where it stopped, unless something that it depends
    on has changed (docs/verify.md).
    """
    session = sessions.session_of(context)
    session.allow_weak_salt = allow_weak_salt
    preflight.require(session, preflight.all_parts(session), Purpose.READ)
    plan, key_id = session.plan, session.settings.key_id
    geo = session.geo if plan.proves_geo else None
    salt = session.salt if plan.needs_salt or plan.discard else None
    session.expand()
    pseudonyms = None
    with session.engine.begin() as connection:
        if salt is not None:
            keys.check_key(connection, key_id, salt)
            pseudonyms = prefixes.pseudonyms(connection, key_id, salt)
    verifier = Verifier(
        engine=session.engine,
        schema=session.settings.ledger_schema,
        plan=plan,
        fingerprint=session.fingerprint,
        hasher=_no_salt if salt is None else salt.hasher(plan.hash.scheme),
        pseudonyms=pseudonyms,
        geo=geo,
        tell=(lambda line: None) if form == "json" else (lambda line: click.echo(line, err=True)),
        workers=Settings.load(workers=workers).workers,
        percent=percent,
        key_id=key_id,
    )
    with verify_lock(session.engine, session.settings.ledger_schema):
        records = verifier.verify()
    if salt is not None:
        canaries.take_canaries(session.engine, plan, key_id, salt)
    if form != JSON:
        streams.show(*coverage.blocks(records), *coverage.remarks(records))
        click.echo()
    following: tuple[str, ...]
    if all(record.covered for record in records):
        following = ("backfill gates",) if percent is None else ("backfill verify",)
    else:
        reasons = (reason for record in records for reason in record.reasons)
        following = (*commands_in(*reasons)[:SHOWN], "backfill verify")
    return Answer(
        coverage.verdict(records),
        following,
        coverage.as_json(records),
        code=int(not all(record.covered for record in records)),
    )


def _no_salt(text: str) -> str:
    """For a plan of which nothing is computed with the salt. Raises ``SaltMissing``."""
    raise SaltMissing


@click.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(list(BY_NAME)),
    help="text, json (docs/report.schema.json), markdown or html.  [default: by the suffix of --output, or text]",
)
@click.option(
    "--output", type=click.Path(path_type=Path), help="Write to this file; it is never left incomplete."
)
@click.option(
    "--check",
    "checked",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Compare a report in JSON with the ledger instead. Exit 1 when something differs.",
)
@grace_option("By how much a raw value may be older than its job allows, as between two due runs: '1 day'.")
@click.pass_context
def report(
    context: click.Context,
    form: str | None,
    output: Path | None,
    checked: Path | None,
    grace: timedelta | None,
) -> None:
    """Write the last verification, the run, the gates and what is left as a document. It holds no address."""
    if checked is not None:
        if output is not None or form is not None or grace is not None:
            raise click.UsageError("--check takes neither --output nor --format nor --grace")
        _check(context, checked)
        return
    if output is not None:
        if form is None:
            require_suffix(output, list(BY_SUFFIX))
        require_writable(output)
    session = sessions.session_of(context)
    session.require_ledger()
    preflight.require(session, preflight.all_parts(session), Purpose.READ)
    with session.engine.connect() as connection:
        gate = replace(Gate.of(session.settings, session.plan, connection), grace=grace or timedelta())
        made = document(collect(connection, gate))
    by_suffix = BY_SUFFIX.get(output.suffix if output else "", BY_NAME["text"])
    following = tuple(made.data["next"])
    face = BY_NAME[form] if form else by_suffix
    if output is None and face.name == "text":
        streams.draw(text.render(made, streams.screen_of(sys.stdout)))
        click.echo(Answer(made.verdict, following).line, err=True)  # the document is not longer for it
        return
    rendered = face.render(made)
    if output is None:
        streams.unwrapped(rendered + "\n")
    else:
        write_whole(output, rendered + "\n")
        tell(Answer(f"{made.verdict} Written to {output}.", following, tone=Tone.PLAIN), "text")


def _check(context: click.Context, path: Path) -> None:
    content = check.read(path)
    session = sessions.session_of(context)
    session.require_ledger()
    with session.engine.connect() as connection:
        recorded = decided(connection, session.plan)
        answers = list(check.compare(connection, session.plan, content, recorded))
    body = [
        [answer.what, Cell("yes", Tone.DONE) if answer.holds else Cell("NO", Tone.ALARM), answer.found]
        for answer in answers
    ]
    streams.show(table(["compared", "same", "found"], body))
    click.echo(check.UNCHECKED)
    if all(answer.holds for answer in answers):
        click.echo(f"What was compared of report {content['document'].get('id')} is as the ledger has it.")
    else:
        click.echo("The report is NOT as the ledger has it.")
        context.exit(1)
