"""Disclosure: what a data request about one person would return from the database as it stands.

Nine items, as the subpoenas that PyPI answered in 2023 put them. The questions are about PyPI's
schema; what a table or column is called today, and whether it is still there, is looked up, so the
same command answers before, between and after the migrations.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.columns import Column, column_type, columns
from backfill.database.connection import rows
from backfill.database.decodable import decodable, legible
from backfill.database.quoting import table
from backfill.errors import SchemaUnfit, UnknownUser
from backfill.plan import Plan
from backfill.pypi.references import NotAsked, references
from backfill.raw_column import Table

RAW, HASHED, GEO = "raw address", "hashed address", "geo"


@dataclass(frozen=True)
class Question:
    """Rows of one table that belong to an item; *of* is their condition, on ``row``."""

    table: str
    of: str
    columns: tuple[str, ...] = ()  # none: all of them
    via: str = ""  # how they are reached, where not by the person directly


@dataclass(frozen=True)
class Item:
    """One item of the request."""

    number: str
    title: str
    questions: tuple[Question, ...] = ()
    remark: str = ""


_USER = "row.id = %(user)s"
_EVENTS = "row.source_id = %(user)s"
_JOURNALS = "row.submitted_by {same_name} %(username)s"
_LINKED = "row.{key} in (select event.{link} from {events} as event where event.source_id = %(user)s)"
_CONNECTIONS = (
    Question("user_events", _EVENTS, ("time", "ip_address_string", "additional", "ip_address_id")),
    Question("journals", _JOURNALS, ("submitted_date", "submitted_from")),
    Question("ip_addresses", _LINKED, via="user_events.ip_address_id"),
)

ITEMS = (
    Item("1", "names", (Question("users", _USER, ("username", "name")),)),
    Item(
        "2",
        "addresses, postal and email",
        (Question("user_emails", "row.user_id = %(user)s", ("email",)),),
        "no table holds postal addresses",
    ),
    Item("3a", "connection records: journal entries", (Question("journals", _JOURNALS),)),
    Item("3b", "connection records: user events", (Question("user_events", _EVENTS),)),
    Item("4", "session times and the network addresses used", _CONNECTIONS),
    Item(
        "5",
        "length of service and type of services",
        (Question("users", _USER, ("date_joined", "last_login")),),
    ),
    Item(
        "6",
        "telephone or instrument numbers, registration address included",
        _CONNECTIONS,
        "no table holds telephone numbers; the rest is a synopsis of the addresses in item 4",
    ),
    Item("7", "means of payment", (), "no table holds any"),
    Item(
        "8",
        "packages uploaded, past and current",
        (
            Question("journals", _JOURNALS, ("name", "version", "action")),
            Question(
                "projects",
                "row.name in (select name from {journals} where submitted_by {same_name} %(username)s)",
                ("name",),
                via="journals.name",
            ),
        ),
    ),
    Item("9", "download logs of those packages, with addresses", (), "none with addresses are kept"),
)


@dataclass(frozen=True)
class Holding:
    """What one table holds for one item: rows, and rows with a value by column."""

    table: str
    rows: int
    columns: dict[str, int]
    holds: dict[str, str]  # column → raw address, hashed address, geo
    via: str = ""
    data: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Answered:
    """One item, answered."""

    number: str
    title: str
    remark: str
    holdings: tuple[Holding, ...]


@dataclass(frozen=True)
class Disclosure:
    """All items, and what they rest on: a "none" is about the tables that were asked."""

    items: tuple[Answered, ...]
    asked: tuple[str, ...]
    not_asked: tuple[NotAsked, ...]


TEXTS = ("text", "character varying", "character", "json", "jsonb", "text[]", "character varying[]")

PEOPLE = Table(table="users")
ELSEWHERE = "elsewhere"
# What the nine items ask already; any other reference to a person is asked under ELSEWHERE.
KNOWN = (
    ("users", "id"),
    ("users", "username"),
    ("user_emails", "user_id"),
    ("user_events", "source_id"),
    ("journals", "submitted_by"),
)


def disclose(
    connection: Connection, plan: Plan, username: str, ledger_schema: str, *, with_data: bool = False
) -> Disclosure:
    """The nine items for that person, and whatever else refers to them. Raises ``SchemaUnfit``, ``UnknownUser``."""
    people = columns(connection, PEOPLE)
    if isinstance(people, str) or not {"id", "username"} <= set(people):
        raise SchemaUnfit(
            problem="There is no table users with an id and a username in this database: `backfill disclose` asks "
            "about a person of PyPI's schema. `backfill scan` finds addresses in any."
        )
    found = rows(
        connection,
        sql.SQL("select id, username::text from {} where username {} %s").format(
            table(PEOPLE), column_type(connection, PEOPLE, "username").equals
        ),
        (username,),
    )
    if not found:
        raise UnknownUser(username=username)
    ((user, exact),) = found
    who = {"user": user, "username": exact}
    answers = [
        Answered(
            item.number,
            item.title,
            item.remark,
            tuple(_holdings(connection, plan, item.questions, who, with_data=with_data)),
        )
        for item in ITEMS
    ]
    others, not_asked = references(connection, plan, PEOPLE, ledger_schema, KNOWN)
    holdings = [
        held
        for one in others
        if (held := _holding(connection, plan, one.part, (), one.of, who, one.via, with_data=with_data))
    ]
    answers.append(Answered(ELSEWHERE, "every other reference to the person", "", tuple(holdings)))
    asked = dict.fromkeys(held.table for answer in answers for held in answer.holdings)
    return Disclosure(tuple(answers), tuple(asked), tuple(not_asked))


def _holdings(
    connection: Connection, plan: Plan, questions: Sequence[Question], who: dict[str, Any], *, with_data: bool
) -> Iterator[Holding]:
    for question in questions:
        part = _part(plan, question.table)
        if isinstance(columns(connection, part), str):
            continue
        where = _where(connection, plan, question)
        held = _holding(
            connection, plan, part, question.columns, where, who, question.via, with_data=with_data
        )
        if held is not None:
            yield held


def _holding(
    connection: Connection,
    plan: Plan,
    part: Table,
    chosen: Sequence[str],
    where: sql.Composable,
    who: dict[str, Any],
    via: str,
    *,
    with_data: bool,
) -> Holding | None:
    """What the rows of *part* hold that *where* is about, in its *chosen* columns or all."""
    known = columns(connection, part)
    if isinstance(known, str):
        return None
    asked = [name for name in known if not chosen or name in chosen]
    counted = [sql.SQL("count(row.{})").format(sql.Identifier(name)) for name in asked]
    holds = {name: RAW for name in asked if known[name].type in ("inet", "cidr")} | _kinds(plan, part.name)
    extra = next((job.extra for job in plan.link_jobs if job.name == part.name), None)
    if extra in asked:  # geo inside the event's own JSON: a column of its own in the answer
        counted.append(sql.SQL("count(row.{} -> 'geoip_info')").format(sql.Identifier(str(extra))))
        asked.append(f"{extra}.geoip_info")
        holds = holds | {f"{extra}.geoip_info": GEO}
    statement = sql.SQL("select {counts} from {table} as row where {where}").format(
        counts=sql.SQL(", ").join([sql.SQL("count(*)"), *counted]), table=table(part), where=where
    )
    ((number, *values),) = rows(connection, statement, who)
    return Holding(
        table=part.name,
        rows=number,
        columns=dict(zip(asked, values, strict=True)),
        holds={name: kind for name, kind in holds.items() if name in asked},
        via=via,
        data=_data(connection, part, known, asked, where, who) if with_data else [],
    )


def _data(
    connection: Connection,
    part: Table,
    known: Mapping[str, Column],
    asked: Sequence[str],
    where: sql.Composable,
    who: dict[str, Any],
) -> list[dict[str, Any]]:
    names = [name for name in asked if "." not in name]
    statement = sql.SQL("select {columns} from {table} as row where {where} order by 1").format(
        columns=sql.SQL(", ").join(_sent(name, known[name].type) for name in names),
        table=table(part),
        where=where,
    )
    return [dict(zip(names, row, strict=True)) for row in rows(connection, statement, who)]


def _sent(name: str, type_: str) -> sql.Composable:
    """The column as it is; of a text that cannot be decoded, a question mark for each byte that is not ASCII."""
    column = sql.Identifier("row", name)
    if type_ not in TEXTS and not type_.endswith("citext"):
        return column
    return sql.SQL("case when {} is false then ({})::{} else {} end").format(
        decodable(column), legible(sql.SQL("{}::text").format(column)), sql.SQL(type_), column
    )


def _part(plan: Plan, name: str) -> Table:
    """The plan's own table of that name, or one of the application's."""
    return next(
        (part for part in (*plan.jobs, plan.addresses, *plan.discard) if part.name == name),
        Table(table=name),
    )


def _where(connection: Connection, plan: Plan, question: Question) -> sql.Composed:
    journals = Table(table="journals")
    # Names compare as the application's type says (citext: whatever the case), also under our search_path.
    same_name = (
        column_type(connection, journals, "submitted_by").equals
        if "{same_name}" in question.of
        else sql.SQL("=")
    )
    events = next((job for job in plan.link_jobs if job.name == "user_events"), None)
    return sql.SQL(question.of).format(
        key=sql.Identifier(plan.addresses.key),
        link=sql.Identifier(events.link if events else "ip_address_id"),
        events=table(events or Table(table="user_events")),
        journals=table(journals),
        same_name=same_name,
    )


def _kinds(plan: Plan, name: str) -> dict[str, str]:
    """Which columns of that table hold an address, in which form."""
    if name == plan.addresses.name:
        part = plan.addresses
        return {part.address: RAW, part.hash: HASHED, part.geo: GEO}
    return {job.raw: RAW for job in plan.jobs if job.name == name} | {
        discard.column: RAW for discard in plan.discard if discard.name == name
    }


def raw_addresses(disclosure: Disclosure) -> dict[str, int]:
    """Columns that would return raw addresses, with the most rows that one item has."""
    found: dict[str, int] = {}
    for answer in disclosure.items:
        for held in answer.holdings:
            for name, number in held.columns.items():
                if held.holds.get(name) == RAW and number:
                    found[f"{held.table}.{name}"] = max(number, found.get(f"{held.table}.{name}", 0))
    return found


def as_json(username: str, disclosure: Disclosure, *, with_data: bool = False) -> dict[str, Any]:
    """Plain data; counts and column names, and the rows themselves only *with_data*."""
    return {
        "version": 1,
        "username": username,
        "asked": list(disclosure.asked),
        "not_asked": [vars(one) for one in disclosure.not_asked],
        "items": [
            {
                "item": one.number,
                "title": one.title,
                "remark": one.remark,
                "holdings": [
                    {
                        "table": held.table,
                        "via": held.via,
                        "rows": held.rows,
                        "columns": held.columns,
                        "holds": held.holds,
                        **({"data": held.data} if with_data else {}),
                    }
                    for held in one.holdings
                ],
            }
            for one in disclosure.items
        ],
    }
