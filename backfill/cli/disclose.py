"""``backfill disclose``: what a data request about one person would return."""

import json
from pathlib import Path
from typing import Any

import click

from backfill import escaping
from backfill.cli import context as sessions
from backfill.cli import output as streams
from backfill.cli.answer import JSON, Answer, answers, envelope
from backfill.errors import DisclosureUnreadable, SettingInvalid
from backfill.files import read_text, require_suffix, require_writable, write_whole
from backfill.pypi.disclosure import RAW, Disclosure, as_json, disclose, raw_addresses
from backfill.pypi.disclosure_difference import Difference, compare, disclosed
from backfill.report.document import Tone, table


@click.command("disclose")
@click.argument("username", required=False)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Also write the JSON to this file (.json); the file is never left incomplete.",
)
@click.option(
    "--show-data",
    type=click.Path(path_type=Path),
    help="Write the rows themselves to this new file, readable by you only (mode 0600).",
)
@click.option(
    "--compare",
    "pair",
    nargs=2,
    metavar="BEFORE.json AFTER.json",
    type=click.Path(path_type=Path),
    help="Compare two JSON files: show what the second no longer returns. Needs no database.",
)
@answers
@click.pass_context
def disclose_command(
    context: click.Context,
    username: str | None,
    form: str,
    output: Path | None,
    show_data: Path | None,
    pair: tuple[Path, Path] | None,
) -> Answer:
    """Show what a data request about USERNAME would return: tables, columns and counts, no data. Exit 1: unknown user.

    Nine items: names; addresses; journal entries and events; session times and network addresses; length of
    service; numbers; payment; packages; download logs.
    """
    if pair:
        return _compare(_read(pair[0]), _read(pair[1]), form)
    if username is None:
        raise SettingInvalid(setting="USERNAME", problem="say whom the request is about, or give --compare")
    if output is not None:
        require_suffix(output, [".json"])
        require_writable(output)
    if show_data is not None:
        require_writable(show_data, new=True, what="--show-data")
    session = sessions.session_of(context)
    with session.engine.connect() as connection:
        found = disclose(
            connection,
            session.plan,
            username,
            session.settings.ledger_schema,
            with_data=show_data is not None,
        )
        connection.rollback()
    if show_data:
        content = json.dumps(as_json(username, found, with_data=True), indent=2, default=str)
        write_whole(show_data, content + "\n", private=True, what="--show-data")
    raw = ", ".join(f"{number:,} in {name}" for name, number in raw_addresses(found).items())
    answer = Answer(
        f"Raw addresses: {raw or f'none in the {len(found.asked)} tables asked'}.",
        facts=as_json(username, found),
        tone=Tone.ALARM if raw else Tone.DONE,
    )
    if output:
        write_whole(output, json.dumps(envelope(answer), indent=2) + "\n")
    if form != JSON:
        _show(found)
    if show_data:
        click.echo(f"The rows are in {show_data}, which only you can read.", err=True)
    return answer


def _show(disclosure: Disclosure) -> None:
    body: list[list[Any]] = []
    for one in disclosure.items:
        first = f"{one.number} {one.title}"
        for held in one.holdings:
            named = ", ".join(
                name + (f" ({held.holds[name]})" if name in held.holds else "")
                for name, number in held.columns.items()
                if number
            )
            body.append([first, held.table + (f" via {held.via}" if held.via else ""), held.rows, named])
        if one.remark:
            body.append([first, one.remark, None, ""])
    streams.show(table(["item", "table", "rows", "columns that hold something"], body))
    parts = [""]
    asked = ", ".join(map(escaping.name, disclosure.asked))
    parts.append(f"Asked: {asked}. Other columns than these, and text that nobody declared: `backfill scan`.")
    left = [f"- {escaping.name(one.table)}: {escaping.name(one.why)}" for one in disclosure.not_asked]
    if left:
        parts.append("Not asked, so that nothing is known of the person there:\n" + "\n".join(left))
    click.echo("\n\n".join(parts)[1:] + "\n")


def _compare(before: dict[str, Any], after: dict[str, Any], form: str) -> Answer:
    if before["username"] != after["username"]:
        click.echo("The two requests are about different people.", err=True)
    found = compare(before, after)
    if form != JSON:
        _show_differences(found)
    if form != JSON and (before["asked"] or after["asked"]):
        for only, other, when in ((before, after, "before"), (after, before, "after")):
            alone = [name for name in only["asked"] if name not in other["asked"]]
            if alone:
                click.echo(f"Asked {when} alone: {', '.join(map(escaping.name, alone))}.")
    return Answer(_verdict(found), facts={"differences": [vars(one) for one in found]}, tone=Tone.PLAIN)


def _show_differences(found: list[Difference]) -> None:
    if not found:
        return
    body = [[one.item, one.column, one.kind, _said(one.before), _said(one.after)] for one in found]
    streams.show(table(["item", "column", "holds", "before", "after"], body, right=["before", "after"]))
    click.echo()


def _verdict(found: list[Difference]) -> str:
    if not found:
        return "Both requests return the same."
    raw = [one for one in found if one.kind == RAW]
    still = {one.column for one in raw if one.after}
    gone = sorted({one.column for one in raw if one.before and not one.after} - still)
    if gone:
        return f"No longer returned: the raw addresses in {', '.join(gone)}."
    return f"{escaping.counted(len(found), 'answer differs', 'answers differ')}; no raw address less is returned."


def _said(number: int | None) -> str:
    return "no such column" if number is None else f"{number:,}"


def _read(path: Path) -> dict[str, Any]:
    try:
        return disclosed(json.loads(read_text(path)))
    except (ValueError, RecursionError) as error:
        raise DisclosureUnreadable(path=path) from error
