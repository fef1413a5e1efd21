"""``backfill lookup``: what is known of an address, a stored hash, or a row of the address table."""

import json
import sys
from pathlib import Path

import click

from backfill.cli import context as sessions
from backfill.cli import output
from backfill.cli.answer import JSON, Answer, answers
from backfill.cli.context import weak_salt_option
from backfill.cli.question import WithoutAddresses, salt_files_option, salts_of, typed_or_sent
from backfill.files import require_writable, write_whole
from backfill.lookup import answers as documents
from backfill.lookup.hash_keys import open_keys
from backfill.lookup.lookup import lookup
from backfill.lookup.question import Kind, questions_of_lines, questions_of_options, require_addresses
from backfill.report import text
from backfill.report.document import Tone


@click.command("lookup", cls=WithoutAddresses)
@click.option(
    "--hash",
    "hashes",
    multiple=True,
    metavar="HASH",
    help="Ask about a stored hash instead. May be repeated.",
)
@click.option(
    "--row",
    "keys",
    multiple=True,
    metavar="ID",
    help="Ask about a row of the address table instead. May be repeated.",
)
@click.option(
    "--show-data",
    type=click.Path(path_type=Path),
    help="Write the answers, with names of accounts and the raw addresses that rows still have, to this new file, "
    "readable by you only (mode 0600).",
)
@salt_files_option
@weak_salt_option
@answers
@click.pass_context
def lookup_command(
    context: click.Context,
    hashes: tuple[str, ...],
    keys: tuple[str, ...],
    form: str,
    show_data: Path | None,
    salt_files: tuple[str, ...],
    allow_weak_salt: bool,
) -> Answer:
    """Show what is known of an address: hash, row, ban, place, events and number of accounts. Changes nothing.

    The address is typed when the command asks for it, or sent to its standard input, one a line. On the command line,
    it is refused. Exit 1: a line is no address.
    """
    asked = questions_of_options(hashes, keys) or None
    if show_data is not None:
        require_writable(show_data, new=True, what="--show-data")
    session = sessions.session_of(context)
    session.allow_weak_salt = allow_weak_salt
    if asked is None:
        asked = questions_of_lines(typed_or_sent())
        require_addresses(asked, some=True)
    salts = salts_of(session, salt_files, needed=any(one.kind is Kind.ADDRESS for one in asked))
    plan, schema = session.plan, session.settings.ledger_schema
    with session.engine.connect() as connection:
        known = open_keys(connection, schema, plan.hash.scheme, session.settings.key_id, salts)
        found = lookup(connection, plan, schema, known, asked)
    if show_data:
        content = json.dumps(documents.as_json(found, asked, with_data=True), indent=2)
        write_whole(show_data, content + "\n", private=True, what="--show-data")
    made = documents.document(found, asked, allowed="`--format json` has them all.")
    if form != JSON:
        output.draw(text.body(made, output.screen_of(sys.stdout)) + "\n")
    if show_data:
        click.echo(f"The names are in {show_data}, which only you can read.", err=True)
    return Answer(
        made.verdict,
        facts=documents.as_json(found, asked),
        code=int(any(one.problem is not None for one in asked)),
        tone=Tone.DONE if made.good else Tone.ALARM,
    )
