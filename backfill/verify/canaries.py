"""Canaries: salted hashes out of columns that go without being kept, taken while they still stand.

An event's address lives on as a hash in the address table, by which its bytes are recognised later.
A discarded column's does not, so a sample of it is kept the same way: hashes, and nothing else.
"""

from ipaddress import IPv4Address, IPv6Address

from psycopg2 import sql
from sqlalchemy import Engine

from backfill.addresses import MAX_LENGTH, canonical_text, canonicalise
from backfill.database.columns import has_column
from backfill.database.connection import rows
from backfill.database.decodable import decodable
from backfill.database.quoting import table
from backfill.hashing.salt import Salt
from backfill.ledger import canaries
from backfill.plan import Plan

SAMPLE = 10_000  # distinct values a column: a copy of the column is recognised by far fewer

VALUES = sql.SQL("""
    select distinct {column}::text from {table}
     where {column} is not null and octet_length({column}::text) <= {longest} and {decodable} limit {sample}
""")


def take_canaries(engine: Engine, plan: Plan, key_id: str, salt: Salt) -> int:
    """Take a sample of every column to be discarded; returns the hashes kept."""
    hasher, kept = salt.hasher(plan.hash.scheme), 0
    for discard in plan.discard:
        with engine.begin() as connection:
            if not has_column(connection, discard, discard.column):
                continue
            statement = VALUES.format(
                column=sql.Identifier(discard.column),
                table=table(discard),
                longest=sql.Literal(MAX_LENGTH),
                decodable=decodable(sql.Identifier(discard.column)),
                sample=sql.Literal(SAMPLE),
            )
            found = (canonicalise(text) for (text,) in rows(connection, statement))
            addresses = {canonical_text(one) for one in found if isinstance(one, IPv4Address | IPv6Address)}
            kept += canaries.keep(connection, key_id, map(hasher, addresses))
    return kept
