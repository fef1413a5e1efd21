"""Resolve in one go: the map that contenders without a tool join, made by Backfill's own code.

So they differ from ours in how rows are written, and in nothing else; its time is told apart.
"""

from pathlib import Path
from typing import Any

from psycopg2 import sql
from sqlalchemy import Engine, event, make_url

from backfill.addresses import MAX_LENGTH
from backfill.database import revisions
from backfill.database.connection import execute, make_engine, rows
from backfill.geo.sources import open_geo
from backfill.jobs import address_rows
from backfill.jobs.resolver import Resolver
from backfill.ledger import address_map
from backfill.plan import EVENT_TABLES, PYPI
from backfill.settings import Settings
from benchmarks.ground import Site

SCHEMA = "backfill"

TEXTS = sql.SQL(" union ").join(
    sql.SQL("select ip_address_string from {} where length(ip_address_string) <= {}").format(
        sql.Identifier(name), sql.Literal(MAX_LENGTH)
    )
    for name in EVENT_TABLES
) + sql.SQL(" union select host(ip_address) from ip_addresses")


def ready(site: Site) -> Engine:
    """An engine, and the tables that resolve writes to."""
    engine = make_engine(make_url(site.url), ledger_schema=SCHEMA)

    @event.listens_for(engine, "connect")
    def _by_hand(connection: Any, _record: Any) -> None:
        """What is typed by hand names its tables without a schema."""
        with connection.cursor() as cursor:
            cursor.execute("set search_path = public")
        connection.commit()

    revisions.expand(Settings(home=Path(site.salt_file).parent), engine)
    return engine


def resolve(engine: Engine, site: Site) -> None:
    """Every distinct text into addresses and map: one transaction."""
    with open_geo(site.geo_path, PYPI.geo.keys) as geo, engine.begin() as connection:
        resolver = Resolver(site.salt.hasher(PYPI.hash.scheme), geo)
        address_map.create(connection, SCHEMA, PYPI.addresses)
        resolved = list(resolver.resolve(text for (text,) in rows(connection, TEXTS)))
        address_rows.enter(connection, SCHEMA, PYPI.addresses, resolver, resolved)
        execute(connection, sql.SQL("analyze {}").format(address_map.name(SCHEMA)))
