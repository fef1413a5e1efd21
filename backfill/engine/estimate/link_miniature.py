"""The miniature of a table that is linked: with the addresses that it refers to, and a copy without its raw column."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.columns import column_type, key_type
from backfill.database.connection import execute
from backfill.database.quoting import table
from backfill.engine.estimate.miniature import TEMPORARY, Copied, Miniature
from backfill.jobs import address_rows, link
from backfill.jobs.passes import Pass
from backfill.jobs.resolve import Entry
from backfill.jobs.resolver import Resolved, Resolver
from backfill.ledger import address_map
from backfill.ledger.batches import Batch
from backfill.plan import Addresses, LinkJob
from backfill.raw_column import Table
from backfill.shadow import compare, expected_rows, names
from backfill.shadow.refusals import has_fit_key
from backfill.shadow.rows import insert, known
from backfill.shadow.table_definition import TableDefinition


class LinkMiniature(Miniature):
    """Resolve, copy, compare, link."""

    _real: LinkJob
    _job: LinkJob

    def __init__(
        self,
        connection: Connection,
        addresses: Addresses,
        job: LinkJob,
        resolver: Resolver,
        *,
        passes: int,
        most_blocks: int,
        seconds: float,
    ) -> None:
        super().__init__(connection, job, resolver, passes=passes, most_blocks=most_blocks, seconds=seconds)
        self._links = resolver
        self._real_addresses = addresses
        self._addresses = addresses.model_copy(update={"schema_": TEMPORARY})
        with connection.begin():
            self._can_copy = has_fit_key(connection, job)

    def _index(self, definition: TableDefinition) -> None:
        self._index_as(self._job, definition)

    def _index_as(self, part: Table, definition: TableDefinition) -> None:
        for index in definition.indexes:
            self._run(
                "create {unique}index on {mine} {rest}",
                unique=sql.SQL(index.unique),
                mine=table(part),
                rest=sql.SQL(index.rest),
            )

    def _ledger(self) -> None:
        self._make(self._real_addresses, self._addresses, indexes=True)
        self._run(
            "insert into {mine} ({columns}) overriding system value select {columns} from {known} as known"
            " where known.{key} in (select {link} from {events})",
            mine=table(self._addresses),
            columns=sql.SQL(", ").join(map(sql.Identifier, self._columns(self._real_addresses))),
            known=table(self._real_addresses),
            key=sql.Identifier(self._addresses.key),
            link=sql.Identifier(self._job.link),
            events=table(self._job),
        )
        self._run(
            "alter table {mine} add foreign key ({link}) references {known} ({key})",
            mine=table(self._job),
            link=sql.Identifier(self._job.link),
            known=table(self._addresses),
            key=sql.Identifier(self._addresses.key),
        )
        self._run(
            """
            create temporary table address_map (raw text collate "C" primary key, address_id {id}, geo jsonb, reason text);
            alter table {map} alter raw set statistics 0, alter address_id set statistics 0, alter geo set statistics 0;
            create temporary table lost_fields (job text, row_key text, field text, primary key (job, row_key, field));
            create temporary table geo_lookups (address_key text, source text, build timestamptz, found boolean, primary key (address_key, source, build))
            """,
            map=address_map.name(TEMPORARY),
            id=sql.SQL(key_type(self._connection, self._real_addresses)),
        )

    def _enter(self, resolved: Sequence[Entry]) -> None:
        entries = cast(list[Resolved], resolved)
        address_rows.enter(self._connection, TEMPORARY, self._addresses, self._links, entries)

    def _copied(self, definition: TableDefinition) -> Copied | None:
        if not self._can_copy:
            return None
        shadow = names.shadow(self._job)
        self._make(self._real, shadow)
        self._run(
            "create temporary table {log} (key {key}); create temporary table {flaws} (key {key}, kind text)",
            log=sql.Identifier(names.log_name(self._job)),
            flaws=sql.Identifier(names.blockers_name(self._job)),
            key=sql.SQL(column_type(self._connection, self._real, names.key(self._real)).name),
        )
        self._run(
            "alter table {mine} drop column {raw}", mine=table(shadow), raw=sql.Identifier(self._job.raw)
        )
        everything = sql.SQL("true")
        self._connection.commit()
        with self._timed() as copying:
            places = known(self._connection, self._real_addresses, self._links.geo.keys)
            places = replace(places, addresses=self._addresses)
            execute(self._connection, insert(TEMPORARY, self._job, definition, everything, places))
        with self._timed() as indexing:
            self._index_as(shadow, definition)
        with self._timed() as comparing:
            compare.compare_rows(
                self._connection,
                TEMPORARY,
                self._addresses,
                self._job,
                definition,
                self._links,
                everything,
            )
        expected_rows.drop_temporary(self._connection)
        self._connection.commit()
        return Copied(copying.seconds, indexing.seconds, comparing.seconds, *self._sizes(shadow))

    def _write(self, whole: Batch, now: Pass) -> int:
        return link.link_rows(self._connection, TEMPORARY, self._job, whole, now)
