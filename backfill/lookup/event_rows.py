"""Event rows: those of one table that are linked to a row that was found, or whose raw text spells an address asked.

The server chooses by a condition that lets through every spelling of the address and few others; what a text
really spells, the client decides, as a run does. A table that has its raw column is read as a whole, a range of
blocks a statement, in the snapshot of the transaction.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Any

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.addresses import Address, Reason, canonicalise
from backfill.database.blocks import heap_of, ranges
from backfill.database.columns import column_type
from backfill.database.connection import copy_in, driver, execute, value
from backfill.database.quoting import regclass, table
from backfill.jobs.row_needs import may_be_address, short, text_of
from backfill.lookup.hash_keys import mapped_spelling
from backfill.raw_column import Table

BLOCK_BYTES = 8192  # of all builds but those with a size of their own
BLOCKS = 60_000  # of a statement; half a gigabyte, seconds rather than minutes
MOST_FRAGMENTS = 40  # with more, comparing each text with each takes longer than sending it
AT_ONCE = 5_000  # groups that come to the client together

STAGE = sql.SQL("""
    create temporary table if not exists backfill_asked_texts (spelling text collate "C", fragment text collate "C")
        on commit delete rows;
    create temporary table if not exists backfill_asked_links (link text) on commit delete rows;
    truncate pg_temp.backfill_asked_texts, pg_temp.backfill_asked_links
""")
LINKED = sql.SQL("""
    event.{link} in (select found.link::{type} from pg_temp.backfill_asked_links as found)
""")
# "in", whose list becomes a hash table; the list of "= any" would be gone through for each row.
# Numbers and dots alone, or with a full mask (each IPv4 in an inet column), are an address only as they stand; all else
# is compared by what every spelling holds.
SPELLED = sql.SQL("""(
    case when event.{raw} is null or not {short} then false
         when {text} in (select asked.spelling from pg_temp.backfill_asked_texts as asked
                          where asked.spelling is not null) then true
         when not {may_be_address} then false  -- what follows may fail for bytes that are no text
         when {text} ~ '^[0-9.]*(/32)?$' then false
         else {holds} end
)""")
HOLDS = sql.SQL("""
    exists (select from pg_temp.backfill_asked_texts as asked
             where position(asked.fragment in lower({text})) > 0)
""")
GROUPS = sql.SQL("""
    select {link}, {raw}, count(*), {first}, {last}, {people}
      from {table} as event
     where {in_range} and ({condition})
     group by 1, 2
""")
INDEX = sql.SQL("""
    select exists (select from pg_index as i join pg_attribute as a on a.attrelid = i.indrelid and a.attname = %s
                    where i.indrelid = {table} and i.indisvalid and i.indpred is null and i.indkey[0] = a.attnum)
""")


@dataclass(frozen=True)
class Reading:
    """What of a table is asked, by which of its columns; as they are today."""

    part: Table
    label: str
    link: str | None
    raw: str | None
    time: str | None
    people: tuple[str, ...] = ()  # columns that refer to a person


@dataclass
class Count:
    """Rows of one table about one question."""

    linked: int = 0
    spelled: int = 0  # by their raw text, and not linked to a row that was found
    first: str | None = None
    last: str | None = None
    people: set[tuple[str, str]] = field(default_factory=set)  # column, value

    @property
    def rows(self) -> int:
        """All of them."""
        return self.linked + self.spelled


def stage(connection: Connection, addresses: Sequence[Address], links: Iterable[str]) -> None:
    """Put the spellings of the *addresses*, and the keys of the rows found, where statements can read them."""
    execute(connection, STAGE)
    records: set[tuple[str | None, str | None]] = set()
    for address in addresses:
        spelled = [one for one in (str(address), mapped_spelling(address)) if one]
        spelled += [f"{one}/{128 if ':' in one else 32}" for one in spelled]  # an inet is cast so
        records |= {(one, None) for one in spelled}
        if len(addresses) <= MOST_FRAGMENTS:
            records |= {(None, one) for one in fragments(address)}
    texts = sql.SQL("pg_temp.backfill_asked_texts")
    copy_in(connection, texts, ["spelling", "fragment"], sorted(records, key=str))
    copy_in(connection, sql.SQL("pg_temp.backfill_asked_links"), ["link"], ([one] for one in links))


def fragments(address: Address) -> Iterator[str]:
    """Texts of which every spelling of *address* holds one, in lower case."""
    if not isinstance(address, IPv6Address):
        yield str(address)
        yield "ffff:"  # mapped, with the address in hexadecimal digits
        return
    # The last two groups may be written as numbers and dots.
    groups = [f"{int(group, 16):x}" for group in address.exploded.split(":")[:6]]
    telling = [group for group in groups if group != "0"]
    yield max(telling, key=len) if telling else ":"


def read(
    connection: Connection,
    reading: Reading,
    by_address: Mapping[Address, Sequence[int]],
    by_link: Mapping[str, Sequence[int]],
) -> tuple[dict[int, Count], int | None]:
    """Rows by question, of what is staged; and how many blocks were read, none where its index led to them."""
    found: dict[int, Count] = {}
    spans: Sequence[sql.Composable] = [sql.SQL("true")]
    blocks = None
    # The lock first: what is committed before it, and no rewrite after it, is in the ranges.
    execute(connection, sql.SQL("select from {} limit 0").format(table(reading.part))).close()
    if reading.raw or not _indexed(connection, reading):
        blocks = heap_of(connection, reading.part).blocks
        spans = [span.holds("event") for span in ranges(blocks, BLOCKS)]
    for span in spans:
        for link, raw, number, first, last, *people in _groups(connection, reading, span, len(by_address)):
            linked = by_link.get(link, ()) if link is not None else ()
            address = Reason.EMPTY if raw is None else canonicalise(raw)
            spelled = () if isinstance(address, Reason) else by_address.get(address, ())
            for question in {*linked, *spelled}:
                count = found.setdefault(question, Count())
                if question in linked:
                    count.linked += number
                else:
                    count.spelled += number
                count.first = min(filter(None, (count.first, first)), default=None)
                count.last = max(filter(None, (count.last, last)), default=None)
                for column, values in zip(reading.people, people, strict=True):
                    count.people |= {(column, one) for one in values or ()}
    return found, blocks


def _groups(
    connection: Connection, reading: Reading, span: sql.Composable, asked: int
) -> Iterator[tuple[Any, ...]]:
    conditions: list[sql.Composable] = []
    link: sql.Composable = sql.SQL("null")
    raw: sql.Composable = sql.SQL("null")
    if reading.link:
        kind = column_type(connection, reading.part, reading.link)
        conditions.append(LINKED.format(link=sql.Identifier(reading.link), type=sql.SQL(kind.name)))
        link = sql.SQL("event.{}::text").format(sql.Identifier(reading.link))
    if reading.raw:
        text = text_of(sql.Identifier("event", reading.raw))
        holds = HOLDS.format(text=text) if asked <= MOST_FRAGMENTS else sql.SQL("true")
        spelled = SPELLED.format(
            raw=sql.Identifier(reading.raw),
            text=text,
            short=short(text),
            may_be_address=may_be_address(text),
            holds=holds,
        )
        conditions.append(spelled)
        raw = sql.SQL("case when {} then {} end").format(spelled, text)
    time = sql.Identifier("event", reading.time) if reading.time else sql.SQL("null::timestamptz")
    people = [
        sql.SQL("array_agg(distinct event.{0}::text) filter (where event.{0} is not null)").format(
            sql.Identifier(name)
        )
        for name in reading.people
    ]
    statement = GROUPS.format(
        link=link,
        raw=raw,
        first=sql.SQL("min({})::text").format(time),
        last=sql.SQL("max({})::text").format(time),
        people=sql.SQL(", ").join(people) if people else sql.SQL("null"),
        table=table(reading.part),
        in_range=span,
        condition=sql.SQL(" or ").join(conditions),
    )
    with driver(connection).cursor("backfill_lookup") as cursor:
        cursor.itersize = AT_ONCE
        cursor.execute(statement)
        for row in cursor:
            yield row[: 5 + len(people)]


def _indexed(connection: Connection, reading: Reading) -> bool:
    return bool(value(connection, INDEX.format(table=regclass(reading.part)), (reading.link,)))
