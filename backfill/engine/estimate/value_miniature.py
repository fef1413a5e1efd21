"""The miniature of a table whose values are rewritten in place, or whose hashes go into another column.

Its indexes are those of the table, the raw column's among them, and none is unique: whether values collide ``plan`` says,
and what keeps rows apart needs the ledger. A run with ``on_duplicate`` takes longer by that.
"""

from collections.abc import Sequence
from typing import cast

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import execute, rows, value
from backfill.database.quoting import regclass, table
from backfill.engine.estimate.miniature import TEMPORARY, Miniature
from backfill.jobs import values
from backfill.jobs.kinds import writer_of
from backfill.jobs.passes import Pass
from backfill.jobs.resolve import Entry
from backfill.jobs.values import Value, ValueResolver
from backfill.ledger import address_map
from backfill.ledger.batches import Batch
from backfill.plan import InPlaceJob, IntoJob
from backfill.shadow.table_definition import TableDefinition

PREFIX = 0xFF  # of pseudonyms, where none is allotted yet: nobody but this session sees one

INDEXES = sql.SQL("""
    select substring(pg_get_indexdef(indexrelid) from ' USING .*') from pg_index
     where indrelid = {} and indisvalid order by indexrelid
""")
LEDGER = sql.SQL("""
    create temporary table address_map (raw text collate "C" primary key, address_id text, geo jsonb, reason text,
        address inet, hash text, pseudonym text, foreign_prefix boolean, lost text);
    create index on {map} (raw) where reason is not null;
    create index on {map} (raw) where foreign_prefix;
    alter table {map} alter raw set statistics 0, alter address set statistics 0, alter geo set statistics 0,
        alter hash set statistics 0, alter pseudonym set statistics 0;
    create temporary table pseudonym_prefixes as select {prefix}::int as prefix;
    create temporary table batches as
        select 0::bigint as id, 0::bigint as placed, 0::bigint as own_places, 0::bigint as placed_alone;
    create temporary table lost_fields (job text, row_key text, field text, rows bigint, primary key (job, row_key, field));
""")


class ValueMiniature(Miniature):
    """Resolve and rewrite."""

    def __init__(
        self,
        connection: Connection,
        job: InPlaceJob | IntoJob,
        resolver: ValueResolver,
        *,
        passes: int,
        most_blocks: int,
        seconds: float,
    ) -> None:
        # The writers count places in the ledger's tables, which are this session's own.
        own = connection.execution_options(schema_translate_map={None: TEMPORARY})
        with own.begin():
            moment = value(own, sql.SQL("select now()"))
        job = job.at(moment) if isinstance(job, InPlaceJob) else job
        super().__init__(own, job, resolver, passes=passes, most_blocks=most_blocks, seconds=seconds)
        self._prefix = resolver.pseudonyms.prefix if resolver.pseudonyms else PREFIX

    def _index(self, definition: TableDefinition) -> None:
        for (rest,) in rows(self._connection, INDEXES.format(regclass(self._real))):
            self._run("create index on {mine}{rest}", mine=table(self._job), rest=sql.SQL(rest))

    def _ledger(self) -> None:
        execute(
            self._connection,
            LEDGER.format(map=address_map.name(TEMPORARY), prefix=sql.Literal(self._prefix)),
        )

    def _enter(self, resolved: Sequence[Entry]) -> None:
        values.enter(TEMPORARY, self._connection, cast(list[Value], resolved))

    def _write(self, whole: Batch, now: Pass) -> int:
        return writer_of(self._job, TEMPORARY).write(self._connection, None, whole, now)
