"""``backfill verify`` and ``backfill report``."""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from backfill import escaping
from backfill.cli import context as sessions
from backfill.cli import preflight
from backfill.cli.context import weak_salt_option
from backfill.database.preflight.target import Purpose
from backfill.files import require_suffix, require_writable, write_whole
from backfill.gates.gate import Gate
from backfill.ledger import keys
from backfill.ledger.coverage_record import CoverageRecord
from backfill.report import check, coverage, text
from backfill.report.collect import collect, decided
from backfill.report.document import Note
from backfill.report.formats import BY_NAME, BY_SUFFIX
from backfill.report.sections import document
from backfill.settings import Settings
from backfill.verify import canaries
from backfill.verify.verifier import Verifier, verify_lock


@click.command("verify")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
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
@click.pass_context
def verify_command(
    context: click.Context, form: str, percent: float | None, workers: int | None, allow_weak_salt: bool
) -> None:
    """Recompute coverage from the data and record it. Exit 0 only when everything is covered.

    After an interruption the same command continues where it stopped, unless something that it depends
    on has changed (docs/verify.md).
    """
    session = sessions.session_of(context)
    session.allow_weak_salt = allow_weak_salt
    preflight.require(session, preflight.all_parts(session), Purpose.READ)
    geo, salt = session.geo, session.salt
    session.expand()
    with session.engine.begin() as connection:
        keys.check_key(connection, session.settings.key_id, salt)
    verifier = Verifier(
        engine=session.engine,
        schema=session.settings.ledger_schema,
        plan=session.plan,
        fingerprint=session.fingerprint,
        hasher=salt.hasher(session.plan.hash.scheme),
        geo=geo,
        tell=(lambda line: None) if form == "json" else (lambda line: click.echo(line, err=True)),
        workers=Settings.load(workers=workers).workers,
        percent=percent,
        key_id=session.settings.key_id,
    )
    with verify_lock(session.engine, session.settings.ledger_schema):
        records = verifier.verify()
    canaries.take_canaries(session.engine, session.plan, session.settings.key_id, salt)
    _show(records, form)
    if not all(record.covered for record in records):
        context.exit(1)
    if form == "text" and percent is None:
        click.echo("Next: `backfill gates`.")


def _show(records: Sequence[CoverageRecord], form: str) -> None:
    if form == "json":
        click.echo(json.dumps(coverage.as_json(records), indent=2))
    else:
        found = [*coverage.blocks(records), *coverage.remarks(records), Note(coverage.verdict(records))]
        click.echo(text.blocks(found))


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
@click.pass_context
def report(context: click.Context, form: str | None, output: Path | None, checked: Path | None) -> None:
    """Write the last verification, the run, the gates and what is left as a document. It holds no address."""
    if checked is not None:
        if output is not None or form is not None:
            raise click.UsageError("--check takes neither --output nor --format")
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
        made = document(collect(connection, Gate.of(session.settings, session.plan, connection)))
    by_suffix = BY_SUFFIX.get(output.suffix if output else "", BY_NAME["text"])
    rendered = (BY_NAME[form] if form else by_suffix).render(made)
    if output is None:
        click.echo(rendered)
    else:
        write_whole(output, rendered + "\n")
        click.echo(f"Written to {output}.")


def _check(context: click.Context, path: Path) -> None:
    content = check.read(path)
    session = sessions.session_of(context)
    session.require_ledger()
    with session.engine.connect() as connection:
        recorded = decided(connection, session.plan)
        answers = list(check.compare(connection, session.plan, content, recorded))
    body = [[answer.what, "yes" if answer.holds else "NO", answer.found] for answer in answers]
    click.echo(escaping.table(body, ["compared", "same", "found"]))
    click.echo(check.UNCHECKED)
    if all(answer.holds for answer in answers):
        click.echo(f"What was compared of report {content['document'].get('id')} is as the ledger has it.")
    else:
        click.echo("The report is NOT as the ledger has it.")
        context.exit(1)
