"""Rows: what a row of the original becomes in the copy, as SQL. The load and the replay share it."""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.columns import column_type
from backfill.database.quoting import table
from backfill.jobs.row_needs import lacks_geo, object_of, raw_text, readable_place
from backfill.ledger import address_map
from backfill.plan import Addresses, LinkJob
from backfill.shadow import names
from backfill.shadow.table_definition import TableDefinition

INSERT = sql.SQL("""
    insert into {shadow} ({columns}) overriding system value
    select {values}
      from {table} as event
      left join {map} as map on map.raw OPERATOR(pg_catalog.=) {text}
     where {which}
""")

LINK = sql.SQL("coalesce(event.{link}, map.address_id)")  # the live application wins
EXTRA = sql.SQL("""
    case when map.geo is not null and {lacks_geo}
         then {object} OPERATOR(pg_catalog.||) map.geo
         when event.{raw} is null and event.{link} is not null and {lacks_geo}  -- the place of its address, if any
         then coalesce({object} OPERATOR(pg_catalog.||) (
                  select pg_catalog.jsonb_build_object('geoip_info', known.{geo}) from {addresses} as known
                   where known.{key} {equals} event.{link} and {readable}), event.{extra})
         else event.{extra} end
""")


@dataclass(frozen=True)
class Known:
    """The address table, as a row that was linked without a text is to be given its place from it."""

    addresses: Addresses
    keys: tuple[str, ...]  # that a place may have
    equals: sql.Composable


def known(connection: Connection, addresses: Addresses, keys: Sequence[str]) -> Known:
    """The address table of the plan, and the keys that the plan writes."""
    return Known(addresses, tuple(keys), column_type(connection, addresses, addresses.key).equals)


def insert(
    schema: str, job: LinkJob, definition: TableDefinition, which: sql.Composable, known: Known
) -> sql.Composed:
    """INSERT into the copy those rows of the original (``event``) that *which* names."""
    kept = [column.name for column in definition.columns if not column.generated]
    return INSERT.format(
        shadow=table(names.shadow(job)),
        columns=sql.SQL(", ").join(map(sql.Identifier, kept)),
        values=sql.SQL(", ").join(_value(job, name, known) for name in kept),
        table=table(job),
        map=address_map.name(schema),
        text=raw_text(job),
        which=which,
    )


def _value(job: LinkJob, name: str, known: Known) -> sql.Composable:
    if name == job.link:
        return LINK.format(link=sql.Identifier(name))
    if name == job.extra:
        words = object_of(sql.Identifier("event", name))
        part = known.addresses
        return EXTRA.format(
            extra=sql.Identifier(name),
            lacks_geo=lacks_geo(job),
            object=words,
            raw=sql.Identifier(job.raw),
            link=sql.Identifier(job.link),
            geo=sql.Identifier(part.geo),
            addresses=table(part),
            key=sql.Identifier(part.key),
            equals=known.equals,
            readable=readable_place(sql.Identifier("known", part.geo), known.keys),
        )
    return sql.Identifier("event", name)
