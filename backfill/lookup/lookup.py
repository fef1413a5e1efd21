"""Lookup: what the database knows of an address, of a stored hash, or of a row of the address table.

The same questions before, between and after the migrations: which columns a table has is looked up, and the answer
says by which of them it was asked. All of it is read in one snapshot.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.addresses import Address
from backfill.database.columns import Column, columns
from backfill.database.connection import execute, value
from backfill.database.quoting import regclass
from backfill.errors import ColumnMoved, SchemaUnfit
from backfill.ledger import raw_columns
from backfill.lookup import address_rows, event_rows, known_rows, people
from backfill.lookup.event_rows import BLOCK_BYTES, Count, Reading
from backfill.lookup.hash_keys import HashKeys
from backfill.lookup.known_rows import KnownRow, address_of
from backfill.lookup.people import Person, References
from backfill.lookup.question import Question
from backfill.plan import LinkJob, Plan
from backfill.pypi.references import NotAsked, foreign_keys
from backfill.raw_column import RawColumn, Table

READABLE = sql.SQL("select has_table_privilege({}, 'SELECT')")


@dataclass(frozen=True)
class Asked:
    """A table that was asked, by which of its columns, and how it was read."""

    table: str
    by: Mapping[str, str]  # column → raw address, hash, key, link, raw text
    how: str


@dataclass(frozen=True)
class Answer:
    """What is known of one question."""

    question: Question
    hashes: Mapping[str, str]  # key id → hash
    rows: tuple[KnownRow, ...]
    counts: Mapping[str, Count]  # by table, in the order in which they were asked
    accounts: tuple[Person, ...] | None  # none: there is no table of users to ask
    is_sentinel: bool

    @property
    def seen(self) -> bool:
        """Whether anything is known of it."""
        return bool(self.rows or self.counts)


@dataclass(frozen=True)
class Lookup:
    """All answers, and what they rest on."""

    answers: tuple[Answer, ...]
    keys: HashKeys
    asked: tuple[Asked, ...]
    not_asked: tuple[NotAsked, ...]
    lacking: int  # rows of the address table without a hash, which no question by hash finds


@dataclass
class _World:
    """What all questions share."""

    connection: Connection
    plan: Plan
    schema: str
    asked: list[Asked] = field(default_factory=list)
    not_asked: list[NotAsked] = field(default_factory=list)


def lookup(
    connection: Connection, plan: Plan, ledger_schema: str, keys: HashKeys, questions: Sequence[Question]
) -> Lookup:
    """Answer those *questions* that have no problem, in one snapshot. Raises ``SchemaUnfit``."""
    connection.rollback()
    execute(connection, sql.SQL("set transaction isolation level repeatable read"))
    world, part = _World(connection, plan, ledger_schema), plan.addresses
    known = columns(connection, part)
    if isinstance(known, str):
        raise SchemaUnfit(problem=known)
    good = [one for one in questions if one.problem is None]
    rows_of = known_rows.find(connection, part, ledger_schema, known, keys, good)
    world.asked.append(_asked_addresses(plan, known, good))
    by_address: dict[Address, list[int]] = {}
    by_link: dict[str, list[int]] = {}
    for place, question in enumerate(good):
        own = [one for one in rows_of[place] if question.address is None or not one.of_network]
        of_rows = {address for one in own if (address := address_of(one.row)) is not None}
        for address in {question.address} if question.address is not None else of_rows:
            by_address.setdefault(address, []).append(place)
        for one in own:
            by_link.setdefault(one.row.key, []).append(place)
    persons = people.references(connection, ledger_schema)
    counts = _counts(world, persons, by_address, by_link)
    accounts = _accounts(connection, persons, counts)
    answers = [
        Answer(
            question,
            {key.key_id: key.hasher(str(question.address)) for key in keys.asked} if question.address else {},
            tuple(rows_of[place]),
            {label: of[place] for label, (_, of) in counts.items() if place in of},
            tuple(accounts.get(place, ())) if persons else None,
            part.sentinel in {str(question.address), *(one.row.host for one in rows_of[place])},
        )
        for place, question in enumerate(good)
    ]
    lacking = address_rows.without_hash(connection, part)
    connection.rollback()
    return Lookup(tuple(answers), keys, tuple(world.asked), tuple(world.not_asked), lacking)


def _asked_addresses(plan: Plan, known: Mapping[str, Column], questions: Sequence[Question]) -> Asked:
    part = plan.addresses
    ways = {part.hash: "hash"}
    if part.address in known:
        ways = {part.address: "raw address"} | ways
    if any(one.kind == "row" for one in questions):
        ways[part.key] = "key"
    return Asked(part.label, ways, "by index, where its columns are unique")


def _counts(
    world: _World,
    persons: References | None,
    by_address: Mapping[Address, Sequence[int]],
    by_link: Mapping[str, Sequence[int]],
) -> dict[str, tuple[Reading, dict[int, Count]]]:
    event_rows.stage(world.connection, list(by_address), by_link)
    found = {}
    for reading in _readings(world, persons):
        if not (reading.raw and by_address) and not (reading.link and by_link):
            world.asked.append(_asked(reading, "no row that it could be linked to was found: not read"))
            continue
        of, blocks = event_rows.read(world.connection, reading, by_address, by_link)
        how = "by the index on its link" if blocks is None else f"read as a whole, {_size(blocks)}"
        world.asked.append(_asked(reading, how))
        found[reading.label] = reading, of
    return found


def _asked(reading: Reading, how: str) -> Asked:
    ways = {reading.link: "link", reading.raw: "raw text"}
    return Asked(reading.label, {name: way for name, way in ways.items() if name}, how)


def _size(blocks: int) -> str:
    return f"{blocks * BLOCK_BYTES / 1e6:,.1f} MB"


def _readings(world: _World, persons: References | None) -> Iterator[Reading]:
    """Every table that may hold the address or refer to its row, as it stands today."""
    linked: set[tuple[str, str, str]] = set()
    for job in world.plan.jobs:
        if (known := _columns(world, job, job.label)) is None:
            continue
        _say_what_moved(world, job, known)
        link = job.link if isinstance(job, LinkJob) else None
        if link is None:
            why = f"what its values became ({job.becomes}) is no row of {world.plan.addresses.name}"
            world.not_asked.append(NotAsked(job.label, why))
        else:
            linked.add((job.schema_, job.table, link))
            if link not in known:
                world.not_asked.append(NotAsked(job.label, f"it has no column {link}, so no row is linked"))
        yield _reading(job, job.label, known, link, job.raw, job.time_column, persons)
    for part in world.plan.discard:
        if (known := _columns(world, part, part.label)) is None:
            continue
        _say_what_moved(world, part, known)
        if part.column in known:
            yield _reading(part, part.label, known, None, part.column, part.time, persons)
        else:
            why = f"{part.column} is gone, and nothing of it was kept"
            world.not_asked.append(NotAsked(part.label, why))
    for other, readable, own, _ in foreign_keys(world.connection, world.plan.addresses, world.schema):
        if len(own) != 1 or (other.schema_, other.table, own[0]) in linked:
            continue
        label = f"{other.name}.{own[0]}"
        if not readable:
            world.not_asked.append(NotAsked(label, "it may not be read by this role"))
        elif (known := _columns(world, other, label)) is not None:
            yield _reading(other, label, known, own[0], None, None, persons)


def _reading(
    part: Table,
    label: str,
    known: Mapping[str, Column],
    link: str | None,
    raw: str | None,
    time: str | None,
    persons: References | None,
) -> Reading:
    return Reading(
        part,
        label,
        link if link in known else None,
        raw if raw in known else None,
        time if time in known else None,
        persons.columns(part) if persons else (),
    )


def _columns(world: _World, part: Table, label: str) -> Mapping[str, Column] | None:
    """Of a table that can be asked; else it is said why it cannot."""
    known = columns(world.connection, part)
    if isinstance(known, str):
        world.not_asked.append(NotAsked(label, known))
        return None
    if not value(world.connection, READABLE.format(regclass(part))):
        world.not_asked.append(NotAsked(label, "it may not be read by this role"))
        return None
    return known


def _say_what_moved(world: _World, part: RawColumn, known: Mapping[str, Column]) -> None:
    """A raw column that is not there was dropped; renamed, it still has every address, and was not asked."""
    if part.raw_column in known or not address_rows.has_table(world.connection, world.schema, "coverage"):
        return
    try:
        raw_columns.require_dropped(world.connection, world.schema, part)
    except ColumnMoved as error:
        world.not_asked.append(NotAsked(part.label, str(error)))


def _accounts(
    connection: Connection,
    persons: References | None,
    counts: Mapping[str, tuple[Reading, Mapping[int, Count]]],
) -> Mapping[int, list[Person]]:
    """By question, the accounts of its rows, each once."""
    named: dict[int, set[tuple[str, str]]] = {}
    for reading, of in counts.values():
        theirs = persons.known.get((reading.part.schema_, reading.part.table), {}) if persons else {}
        for place, count in of.items():
            named.setdefault(place, set()).update((theirs[column], one) for column, one in count.people)
    found = people.accounts(connection, {one for values in named.values() for one in values})
    return {
        place: sorted({found[one] for one in values if one in found}, key=lambda one: one.key)
        for place, values in named.items()
    }
