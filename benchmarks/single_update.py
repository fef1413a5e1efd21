"""One UPDATE … FROM a table, in one session: what one would type without a tool."""

import time
from dataclasses import dataclass, field

from psycopg2 import sql
from sqlalchemy import Engine

from backfill.database.connection import execute
from backfill.plan import EVENT_TABLES
from benchmarks import whole_resolve
from benchmarks.contenders import BASELINE, Work
from benchmarks.ground import Site

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

# Rows that the application linked itself, without a text, get the place of their address.
PLACES = """
    update {} as event
       set additional = coalesce(nullif(additional, 'null'), '{{}}') || known.place
      from (select id, case when jsonb_typeof(geoip_info) = 'object' and geoip_info <> '{{}}'
                            then jsonb_build_object('geoip_info', geoip_info) else map.geo end as place
              from ip_addresses left join backfill.address_map as map on map.raw = host(ip_address)) as known
     where known.id = event.ip_address_id and event.ip_address_string is null and known.place is not null
       and (additional is null or additional = 'null'
            or (jsonb_typeof(additional) = 'object' and coalesce(additional -> 'geoip_info', 'null') = 'null'))
"""


@dataclass
class SingleUpdate:
    """Resolve everything at once, then five statements."""

    name: str = BASELINE
    complete: bool = True
    sampled: bool = False
    _engine: Engine = field(init=False, repr=False)

    def prepare(self, site: Site) -> None:
        """Connect, and bring the tables that resolve writes to."""
        self._engine = whole_resolve.ready(site)

    def run(self, site: Site) -> Work:
        """Resolve, then update; the longest transaction is the longest UPDATE."""
        began = time.monotonic()
        whole_resolve.resolve(self._engine, site)
        resolved = time.monotonic()
        longest = 0.0
        for name in EVENT_TABLES:
            started = time.monotonic()
            with self._engine.begin() as connection:
                execute(connection, sql.SQL(UPDATE).format(sql.Identifier(name)))
                execute(connection, sql.SQL(PLACES).format(sql.Identifier(name)))
            longest = max(longest, time.monotonic() - started)
        ended = time.monotonic()
        self._engine.dispose()
        return Work(ended - began, {"resolve": resolved - began, "update": ended - resolved}, longest)
