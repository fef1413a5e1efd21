"""One UPDATE … FROM a table, in one session: what one would type without a tool.

The map it joins is made by Backfill's own resolve, so that the two differ in how rows are written
and in nothing else; its time is told apart.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

from psycopg2 import sql
from sqlalchemy import Engine, make_url

from backfill.addresses import MAX_LENGTH
from backfill.database import chain
from backfill.database.engine import execute, make_engine, rows
from backfill.geo import open_geo
from backfill.jobs.resolve import Resolver, enter_all
from backfill.ledger import address_map
from backfill.plan import EVENT_TABLES, PYPI
from backfill.settings import Settings
from benchmarks.contenders import Work
from benchmarks.ground import Site

SCHEMA = "backfill"

TEXTS = sql.SQL(" union ").join(
    sql.SQL("select ip_address_string from {} where length(ip_address_string) <= {}").format(
        sql.Identifier(name), sql.Literal(MAX_LENGTH)
    )
    for name in EVENT_TABLES
)

LACKS_GEO = """(map.geo is not null
    and (additional is null or additional = 'null'
         or (jsonb_typeof(additional) = 'object'
             and coalesce(additional -> 'geoip_info', 'null') = 'null')))"""

UPDATE = f"""
    update {{}} as event
       set ip_address_id = coalesce(event.ip_address_id, map.address_id),
           additional = case when {LACKS_GEO}
                             then coalesce(nullif(additional, 'null'), '{{{{}}}}') || map.geo
                             else additional end
      from backfill.address_map as map
     where map.raw = event.ip_address_string
       and map.address_id is not null
       and (event.ip_address_id is null or {LACKS_GEO})
"""


@dataclass
class SingleUpdate:
    """Resolve everything at once, then five statements."""

    name: str = "one UPDATE a table"
    complete: bool = True
    _engine: Engine = field(init=False, repr=False)

    def prepare(self, site: Site) -> None:
        """Connect, and bring the tables that resolve writes to."""
        self._engine = make_engine(make_url(site.url), ledger_schema=SCHEMA)
        chain.expand(Settings(home=Path(site.salt_file).parent), self._engine)

    def run(self, site: Site) -> Work:
        """Resolve, then update; the longest transaction is the longest UPDATE."""
        began = time.monotonic()
        self._resolve(site)
        resolved = time.monotonic()
        longest = 0.0
        for name in EVENT_TABLES:
            started = time.monotonic()
            with self._engine.begin() as connection:
                execute(connection, sql.SQL(UPDATE).format(sql.Identifier(name)))
            longest = max(longest, time.monotonic() - started)
        ended = time.monotonic()
        self._engine.dispose()
        return Work(ended - began, {"resolve": resolved - began, "update": ended - resolved}, longest)

    def _resolve(self, site: Site) -> None:
        with open_geo(site.geo_path) as geo, self._engine.begin() as connection:
            resolver = Resolver(site.salt.hasher(PYPI.hash.scheme), geo)
            address_map.create(connection, SCHEMA, PYPI.addresses)
            resolved = list(resolver.resolve(text for (text,) in rows(connection, TEXTS)))
            enter_all(connection, SCHEMA, PYPI.addresses, resolver, resolved)
            execute(connection, sql.SQL("analyze {}").format(address_map.name(SCHEMA)))
