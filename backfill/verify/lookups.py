"""Lookups: address rows without a place, by why, and what each build of the geo database knew. They gate nothing."""

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.columns import has_column
from backfill.database.connection import rows
from backfill.database.quoting import table
from backfill.ledger.coverage_record import GeoBuild
from backfill.plan import Addresses
from backfill.verify.places import has_place

GEO = sql.SQL("""
    select count(*) filter (where not seen.found), count(*) filter (where seen.found is null),
           count(*) filter (where seen.found)
      from (select bool_or(lookup.found) as found
              from {addresses} as known left join {lookups} as lookup on lookup.address_key = known.{key}::text
             where not {has_place}
             group by known.{key}) as seen
""")
BUILDS = sql.SQL("""
    select source || ' ' || to_char(build at time zone 'UTC', 'YYYY-MM-DD'),
           count(*) filter (where found), count(*) filter (where not found)
      from {lookups} group by source, build order by source, build
""")


@dataclass(frozen=True)
class AddressLookups:
    """Address rows without a place, by why, and lookups by geo database and its build."""

    absent: int  # looked up, and unknown to the database
    never: int
    lost: int  # a live request that the edge did not see set it to NULL
    builds: Mapping[str, GeoBuild]


def observe(connection: Connection, schema: str, addresses: Addresses) -> AddressLookups:
    """What is known of places; need not be of one moment with the rest of a verification."""
    if not has_column(connection, addresses, addresses.address):
        return AddressLookups(0, 0, 0, {})
    names = {
        "addresses": table(addresses),
        "key": sql.Identifier(addresses.key),
        "lookups": sql.Identifier(schema, "geo_lookups"),
        "has_place": has_place(sql.Identifier("known", addresses.geo)),
    }
    ((absent, never, lost),) = rows(connection, GEO.format(**names))
    builds = rows(connection, BUILDS.format(**names))
    return AddressLookups(
        absent, never, lost, {build: GeoBuild(found=yes, absent=no) for build, yes, no in builds}
    )
