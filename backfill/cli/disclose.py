"""``backfill disclose``: what a data request about one person would return."""

import json
from pathlib import Path
from typing import Any

import click

from backfill import escaping
from backfill.cli import context as sessions
from backfill.errors import DisclosureUnreadable, SettingInvalid
from backfill.files import read_text, require_suffix, require_writable, write_whole
from backfill.pypi.disclosure import (
    RAW,
    Difference,
    Disclosure,
    as_json,
    compare,
    disclose,
    disclosed,
    raw_addresses,
)


@click.command("disclose")
@click.argument("username", required=False)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
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
@click.pass_context
def disclose_command(
    context: click.Context,
    username: str | None,
    form: str,
    output: Path | None,
    show_data: Path | None,
    pair: tuple[Path, Path] | None,
) -> None:
    """Show what a data request about USERNAME would return: tables, columns and counts, no data. Exit 1: unknown user.

    Nine items: names; addresses; journal entries and events; session times and network addresses; length of
    service; numbers; payment; packages; download logs.
    """
    if pair:
        _compare(_read(pair[0]), _read(pair[1]), form)
        return
    if username is None:
        raise SettingInvalid(setting="USERNAME", problem="say whom the request is about, or give --compare")
    if output is not None:
        require_suffix(output, [".json"])
        require_writable(output)
    if show_data is not None:
        require_writable(show_data, new=True, what="--show-data")
    session = sessions.session_of(context)
    with session.engine.connect() as connection:
        answers = disclose(
            connection,
            session.plan,
            username,
            session.settings.ledger_schema,
            with_data=show_data is not None,
        )
        connection.rollback()
    plain = as_json(username, answers)
    if show_data:
        content = json.dumps(as_json(username, answers, with_data=True), indent=2, default=str)
        write_whole(show_data, content + "\n", private=True, what="--show-data")
    if output:
        write_whole(output, json.dumps(plain, indent=2) + "\n")
    click.echo(json.dumps(plain, indent=2) if form == "json" else _as_text(answers))
    if show_data:
        click.echo(f"The rows are in {show_data}, which only you can read.", err=True)


def _as_text(disclosure: Disclosure) -> str:
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
            first = ""
        if one.remark:
            body.append([first, one.remark, "", ""])
    header = ["item", "table", "rows", "columns that hold something"]
    parts = [escaping.table(body, header, maxcolwidths=[34, 34, None, 60])]
    raw = ", ".join(
        f"{number:,} in {escaping.name(name)}" for name, number in raw_addresses(disclosure).items()
    )
    asked = ", ".join(map(escaping.name, disclosure.asked))
    parts.append(f"Raw addresses: {raw or f'none in the {len(disclosure.asked)} tables asked'}.")
    parts.append(f"Asked: {asked}. Other columns than these, and text that nobody declared: `backfill scan`.")
    left = [f"- {escaping.name(one.table)}: {escaping.name(one.why)}" for one in disclosure.not_asked]
    if left:
        parts.append("Not asked, so that nothing is known of the person there:\n" + "\n".join(left))
    return "\n\n".join(parts)


def _compare(before: dict[str, Any], after: dict[str, Any], form: str) -> None:
    if before["username"] != after["username"]:
        click.echo("The two requests are about different people.", err=True)
    _show_differences(compare(before, after), form)
    if form == "text" and (before["asked"] or after["asked"]):
        for only, other, when in ((before, after, "before"), (after, before, "after")):
            alone = [name for name in only["asked"] if name not in other["asked"]]
            if alone:
                click.echo(f"Asked {when} alone: {', '.join(map(escaping.name, alone))}.")


def _show_differences(found: list[Difference], form: str) -> None:
    if form == "json":
        click.echo(json.dumps([vars(one) for one in found], indent=2))
        return
    if not found:
        click.echo("Both requests return the same.")
        return
    body = [[one.item, one.column, one.kind, _said(one.before), _said(one.after)] for one in found]
    click.echo(escaping.table(body, ["item", "column", "holds", "before", "after"], intfmt=","))
    raw = [one for one in found if one.kind == RAW]
    still = {one.column for one in raw if one.after}
    gone = sorted({one.column for one in raw if one.before and not one.after} - still)
    if gone:
        click.echo(f"\nNo longer returned: the raw addresses in {', '.join(map(escaping.name, gone))}.")


def _said(number: int | None) -> str:
    return "no such column" if number is None else f"{number:,}"


def _read(path: Path) -> dict[str, Any]:
    try:
        return disclosed(json.loads(read_text(path)))
    except (ValueError, RecursionError) as error:
        raise DisclosureUnreadable(path=path) from error
