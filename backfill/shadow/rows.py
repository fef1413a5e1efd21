"""Rows: what a row of the original becomes in the copy, as SQL. The load and the replay share it."""

from psycopg2 import sql

from backfill.database.names import table
from backfill.jobs.conditions import lacks_geo, object_of, raw_text
from backfill.ledger import address_map
from backfill.plan import Job
from backfill.shadow import names
from backfill.shadow.catalog import Blueprint

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
         else event.{extra} end
""")


def insert(schema: str, job: Job, blueprint: Blueprint, which: sql.Composable) -> sql.Composed:
    """INSERT into the copy those rows of the original (``event``) that *which* names."""
    kept = [column.name for column in blueprint.columns if not column.generated]
    return INSERT.format(
        shadow=table(names.shadow(job)),
        columns=sql.SQL(", ").join(map(sql.Identifier, kept)),
        values=sql.SQL(", ").join(_value(job, name) for name in kept),
        table=table(job),
        map=address_map.name(schema),
        text=raw_text(job),
        which=which,
    )


def _value(job: Job, name: str) -> sql.Composable:
    if name == job.link:
        return LINK.format(link=sql.Identifier(name))
    if name == job.extra:
        words = object_of(sql.Identifier("event", name))
        return EXTRA.format(extra=sql.Identifier(name), lacks_geo=lacks_geo(job), object=words)
    return sql.Identifier("event", name)
