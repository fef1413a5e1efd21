"""Key values: keys that are addresses, or hold some: they would stand in the quarantine and in messages.

Every row is looked at, where the key is of a type that could hold one. What looks like an address may be a release
number, so it is for somebody who knows the table to say.
"""

from collections.abc import Iterator

from psycopg2 import sql

from backfill.database.connection import value
from backfill.database.decodable import bytes_of
from backfill.database.preflight.finding import Finding, changes
from backfill.database.preflight.target import Purpose, Target
from backfill.database.quoting import table
from backfill.database.row_key import row_key
from backfill.database.shown_key import ADDRESS, AMONG_KEYS, NONE_IN, USUAL
from backfill.plan import Addresses, Job

ADDRESSES = changes(AMONG_KEYS)

MOST = 1_000  # are counted
# Of the bytes, since patterns fail on some texts. One that is not ASCII is escaped with three digits, which are none
# of the address behind it. The first looks cost 0.1 and 4 microseconds, the last one 50.
HOLDS = sql.SQL(r"""
    case when not (bytes like '%.%.%.%'::bytea or bytes like '%:%:%'::bytea) then false
         when not encode(bytes, 'escape') ~ {usual} then false
         else regexp_replace(encode(bytes, 'escape'), E'\\\\\\\\|\\\\[0-7]{{3}}', '~', 'g') ~ {address} end
""")
COUNT = sql.SQL("""
    select count(*)
      from (select from (select {bytes} as bytes from {table} as event) as key where {holds} limit {most}) as found
""")


def check(target: Target) -> Iterator[Finding]:
    """Of each column of the key, whether the plan names it or the catalog has it."""
    part = target.part
    if target.purpose not in (Purpose.WRITE, Purpose.COPY, Purpose.PLAN) or not isinstance(
        part, Addresses | Job
    ):
        return
    chosen = row_key(target.connection, part).columns
    for name in chosen:
        column = target.columns.get(name)
        if column is None or column.base in NONE_IN:
            continue
        holds = HOLDS.format(usual=sql.Literal(USUAL), address=sql.Literal(ADDRESS))
        text = bytes_of(sql.Identifier("event", name))
        statement = COUNT.format(bytes=text, table=table(part), holds=holds, most=sql.Literal(MOST))
        number = value(target.connection, statement)
        if number:
            catalog = (
                f"The plan names no key of {part.name}, and the catalog has " if part.key is None else ""
            )
            yield ADDRESSES(
                target.column(name),
                f"{catalog}{'column' if catalog else 'Column'} {part.name}.{name} (key){', in which' if catalog else ':'} "
                f"{'at least ' if number == MOST else ''}{number:,} {'key holds' if number == 1 else 'keys hold'} what looks like an "
                f"address. {'It' if number == 1 else 'They'} would stand in the quarantine and in messages.",
                f"Name another key in the plan{', or none (key = [])' if isinstance(part, Job) else ''}; "
                "or accept it, where these are none.",
            )
