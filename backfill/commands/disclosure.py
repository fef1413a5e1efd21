"""``backfill disclose``: what a data request about one person would return."""

import json
from pathlib import Path
from typing import Any

import click
from tabulate import tabulate

from backfill.commands import session as sessions
from backfill.disclosure import Answered, Difference, as_json, compare, disclose, disclosed
from backfill.errors import DisclosureUnreadable, SettingInvalid
from backfill.files import read_text, require_suffix, require_writable, write_whole


@click.command("disclose")
@click.argument("username", required=False)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Write the JSON to this file (.json) as well, whole or not at all.",
)
@click.option(
    "--show-data",
    type=click.Path(path_type=Path),
    help="Write the rows themselves to this new file, which only you can read (0600).",
)
@click.option(
    "--compare",
    "pair",
    nargs=2,
    metavar="BEFORE.json AFTER.json",
    type=click.Path(path_type=Path),
    help="Show what the second request no longer returns; asks no database.",
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
    """What a data request about USERNAME would return: tables, columns and counts, no data. Exit 1: unknown.

    Nine items: names; addresses; journal entries and events; session times and network addresses; length of
    service; numbers; payment; packages; download logs.
    """
    if pair:
        _show_differences(compare(_read(pair[0]), _read(pair[1])), form)
        return
    if username is None:
        raise SettingInvalid(setting="USERNAME", problem="say whom the request is about, or give --compare")
    if output is not None:
        require_suffix(output, [".json"])
        require_writable(output)
    if show_data is not None:
        require_writable(show_data, new=True, what="--show-data")
    session = sessions.of(context)
    with session.engine.connect() as connection:
        answers = disclose(connection, session.plan, username, with_data=show_data is not None)
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


def _as_text(answers: list[Answered]) -> str:
    body: list[list[Any]] = []
    for one in answers:
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
    raw = {
        f"{held.table}.{name}": number
        for one in answers
        for held in one.holdings
        for name, number in held.columns.items()
        if held.holds.get(name) == "raw address" and number
    }
    verdict = (
        "Raw addresses: "
        + (", ".join(f"{number:,} in {name}" for name, number in raw.items()) or "none")
        + "."
    )
    return tabulate(body, header, tablefmt="simple", maxcolwidths=[34, 34, None, 60]) + f"\n\n{verdict}"


def _show_differences(found: list[Difference], form: str) -> None:
    if form == "json":
        click.echo(json.dumps([vars(one) for one in found], indent=2))
        return
    if not found:
        click.echo("Both requests return the same.")
        return
    body = [[one.item, one.column, one.kind, _said(one.before), _said(one.after)] for one in found]
    click.echo(tabulate(body, ["item", "column", "holds", "before", "after"], tablefmt="simple", intfmt=","))
    gone = sorted({one.column for one in found if one.kind == "raw address" and one.before and not one.after})
    if gone:
        click.echo(f"\nNo longer returned: the raw addresses in {', '.join(gone)}.")


def _said(number: int | None) -> str:
    return "no such column" if number is None else f"{number:,}"


def _read(path: Path) -> dict[str, Any]:
    try:
        return disclosed(json.loads(read_text(path)))
    except (ValueError, RecursionError) as error:
        raise DisclosureUnreadable(path=path) from error
