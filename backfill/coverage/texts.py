"""Texts: the verifier's own reading of every distinct text, in a temporary table of its session.

Nothing of the writer's is used but the pure canonicaliser: not the address map, not the ledger.
"""

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.addresses import MAX_LENGTH, Reason, canonicalise
from backfill.database.engine import copy_in, execute, rows
from backfill.database.heap import Range
from backfill.database.names import table
from backfill.geo import GeoDatabase
from backfill.plan import Job

TABLE = sql.Identifier("backfill_proof_texts")

# ANALYZE would write values into pg_statistic, which is logged and outlives the session.
CREATE = sql.SQL("""
    create temporary table {texts} (raw text primary key, address text, reason text, resolves boolean not null);
    alter table {texts} alter raw set statistics 0, alter address set statistics 0
""")

UNREAD = sql.SQL("""
    select text.raw
      from (select distinct event.{raw} as raw from {table} as event
             where {in_range} and event.{raw} is not null and length(event.{raw}) <= {max_length}) as text
     where not exists (select from {texts} as known where known.raw = text.raw)
""")


def create(connection: Connection) -> None:
    """An empty table of texts."""
    execute(connection, CREATE.format(texts=TABLE))


def read(connection: Connection, job: Job, span: Range, geo: GeoDatabase) -> int:
    """Take in the texts of that range that are new; returns their number."""
    statement = UNREAD.format(
        raw=sql.Identifier(job.raw),
        table=table(job),
        in_range=span.holds("event"),
        max_length=sql.Literal(MAX_LENGTH),
        texts=TABLE,
    )

    def judged(raw: str) -> tuple[str, str | None, str | None, bool]:
        address = canonicalise(raw)
        if isinstance(address, Reason):
            return raw, None, address.value, False
        return raw, str(address), None, geo.lookup(address) is not None

    found = [text for (text,) in rows(connection, statement)]
    return copy_in(connection, TABLE, ["raw", "address", "reason", "resolves"], map(judged, found))
