"""Brings the demo into an empty database: one transaction, so a failure or a kill leaves it empty.

Rows travel by binary COPY only (``wire`` says why), and ``ip_addresses`` by way of a text column:
the server log shows no address, not even at ``log_statement = all``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from psycopg2 import sql
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from backfill.database import binary_copy
from backfill.database.connection import make_engine, server_codec
from backfill.database.demo_mark import DEMO_MARK, is_demo
from backfill.errors import DatabaseNotEmpty
from backfill.geo.sources import open_geo
from backfill.plan import PYPI
from backfill.pypi.demo import events as event_tables
from backfill.pypi.demo import journals, known, population
from backfill.pypi.demo.clock import generator, new_uuid
from backfill.pypi.demo.events import Live, Tally, event_rows
from backfill.pypi.demo.extras import EVENT_TABLES, shares
from backfill.pypi.demo.pool import Lookup, Pool
from backfill.pypi.demo.population import Table

__all__ = ["DEMO_MARK", "DemoSummary", "create_demo", "is_demo"]

_LOCK = 0x64656D6F  # "demo": two commands at once create one demo, and the second finds it

# Extensions' own objects (deptype e) do not count. A table's row type and a type's array are not told twice.
_FOUND = """
with own as (select classid, objid from pg_depend where deptype = 'e'),
found (class, id, schema, name) as (
    select 'pg_class'::regclass, oid, relnamespace, relname from pg_class
     where relkind in ('r', 'p', 'v', 'm', 'f', 'S', 'c')
    union all
    select 'pg_type'::regclass, oid, typnamespace, typname from pg_type
     where typtype in ('e', 'd', 'r')
)
select format('%I.%I', nspname, found.name)
  from found
  join pg_namespace on pg_namespace.oid = found.schema
  left join own on own.classid = found.class and own.objid = found.id
 where own.objid is null
   and nspname <> 'information_schema'
   and nspname !~ '^pg_'
 order by 1
"""

_STAGE = """
create temporary table demo_addresses (
    id uuid, ip_address text, is_banned boolean, ban_reason public.banreason, ban_date timestamp,
    hashed_ip_address text, geoip_info jsonb
) on commit drop
"""

_UNSTAGE = """
insert into public.ip_addresses
      (id, ip_address, is_banned, ban_reason, ban_date, hashed_ip_address, geoip_info)
select id, ip_address::inet, is_banned, ban_reason, ban_date, hashed_ip_address, geoip_info
  from pg_temp.demo_addresses
"""


@dataclass(frozen=True)
class DemoSummary:
    """What was made. Rows that are several things at once are counted as each."""

    rows: Mapping[str, int]  # by table, in the order of loading
    distinct: int  # addresses that an event or a journal entry has
    malformed: int  # events whose text is no address
    odd: int  # events whose text is an odd spelling of one
    linked: int  # events that the live application linked
    no_address: int  # events with neither text nor link
    retired: int  # events with a link and no text any more

    @property
    def events(self) -> int:
        """Rows of all event tables."""
        return sum(self.rows[table.name] for table in EVENT_TABLES)


def create_demo(
    url: str,
    *,
    events: int,
    seed: int,
    hash_address: Callable[[str], str],
    geo_path: Path,
    report: Callable[[str], None],
    addresses: int | None = None,
) -> DemoSummary:
    """Fill the empty database at *url* with *events* events; the same arguments give the same rows.

    *addresses*: how many distinct ones, up to a ten; at most half the events. Without, a tenth or fewer.
    *hash_address* is the live application's: text → hexadecimal. *report* gets a line for each step.
    Raises ``DatabaseNotEmpty``, ``GeoFileUnusable`` and SQLAlchemy's or psycopg2's errors; after any
    of them, or a kill, the database is as it was.
    """
    target = make_url(url).set(drivername="postgresql+psycopg2")
    engine = make_engine(target, poolclass=NullPool)
    with engine.connect() as connection:
        codec = server_codec(connection)
    with open_geo(geo_path, PYPI.geo.keys, codec) as geo, engine.begin() as connection:
        _claim(connection)
        cursor = _cursor(connection)
        loader = _Loader(cursor, report)
        cursor.execute("create extension if not exists citext schema public")
        cursor.execute(_script("tables.sql"))
        summary = _fill(loader, events, seed, hash_address, geo.lookup, addresses)
        report("keys, indexes, foreign keys, triggers")
        cursor.execute(_script("constraints.sql"))
        mark = sql.Literal(f"{DEMO_MARK}: events={events}, seed={seed}")
        cursor.execute(sql.SQL("comment on table public.ip_addresses is {}").format(mark))
        for table in summary.rows:  # by name: ANALYZE alone would go through the system catalogs as well
            cursor.execute(sql.SQL("analyze public.{}").format(sql.Identifier(table)))
    return summary


class _Loader:
    """Copies tables and remembers how many rows each got."""

    def __init__(self, cursor: Any, report: Callable[[str], None]) -> None:
        self.rows: dict[str, int] = {}
        self.cursor = cursor
        self._report = report

    def copy(self, table: Table, *, schema: str = "public") -> int:
        """Rows of *table* copied. Its columns may stand in another order in the database."""
        statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(
            sql.Identifier(schema, table.name), sql.SQL(", ").join(map(sql.Identifier, table.columns))
        )
        stream = binary_copy.Stream(table.rows)
        self.cursor.copy_expert(statement, stream, size=binary_copy.CHUNK_BYTES)
        return stream.count

    def load(self, *tables: Table) -> None:
        """Copy *tables*, count and report them."""
        for table in tables:
            self.rows[table.name] = self.copy(table)
            self._report(f"{table.name}: {self.rows[table.name]:,} rows")


def _claim(connection: Connection) -> None:
    """Make sure that the database is empty and stays ours till commit. Raises ``DatabaseNotEmpty``."""
    connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    found = connection.execute(text(_FOUND)).scalars().all()
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        database = connection.execute(text("select current_database()")).scalar()
        raise DatabaseNotEmpty(database=database, found=f"{found[0]}{more}")
    connection.execute(text("set local statement_timeout = 0"))  # an operator's default is for a live site
    connection.execute(text("set local maintenance_work_mem = '128MB'"))


def _fill(
    loader: _Loader,
    events: int,
    seed: int,
    hash_address: Callable[[str], str],
    lookup: Lookup,
    addresses: int | None,
) -> DemoSummary:
    """Load every table. Later ones are about earlier ones, so the order matters."""
    pool = Pool(events, lookup, generator(seed, "addresses"), addresses)
    users, user_tables = population.users(events, generator(seed, "users"))
    projects = population.projects(events, generator(seed, "projects"))
    organizations, organization_table = population.organizations(events, generator(seed, "organizations"))
    teams, team_table = population.teams(events, organizations, generator(seed, "teams"))
    uploaded, file_tables = population.files(events, projects, generator(seed, "files"))

    last_serials = [0] * len(projects.ids)
    rows = journals.journal_rows(
        max(1, events // journals.EVENTS_PER_JOURNAL),
        projects,
        users,
        last_serials,
        pool,
        generator(seed, "journals"),
    )
    loader.load(*user_tables, Table("journals", journals.COLUMNS, rows))
    loader.load(population.project_rows(projects, last_serials), *file_tables, organization_table, team_table)

    tally = Tally()
    ids = generator(seed, "live")
    live = Live(sentinel=binary_copy.uuid(new_uuid(ids)), mapped=binary_copy.uuid(new_uuid(ids)))
    sources = {
        "users": users,
        "projects": projects,
        "release_files": uploaded,
        "organizations": organizations,
        "teams": teams,
    }
    for table, count in zip(EVENT_TABLES, shares(events).values(), strict=True):
        rows = event_rows(
            table,
            count,
            sources[table.sources].ids,
            pool,
            live,
            tally,
            every_kind=table is EVENT_TABLES[0],
            rng=generator(seed, table.name),
        )
        loader.load(Table(table.name, event_tables.COLUMNS, rows))

    loader.cursor.execute(_STAGE)
    staged = Table("demo_addresses", known.COLUMNS, known.known_rows(pool, live, hash_address))
    loader.rows["ip_addresses"] = loader.copy(staged, schema="pg_temp")
    loader.cursor.execute(_UNSTAGE)
    return DemoSummary(
        rows=loader.rows,
        distinct=sum(pool.used),
        malformed=tally.malformed,
        odd=tally.odd,
        linked=tally.linked,
        no_address=tally.no_address,
        retired=tally.retired,
    )


def _cursor(connection: Connection) -> Any:
    """psycopg2's own cursor in the transaction of *connection*: SQLAlchemy has no COPY."""
    driver = connection.connection.driver_connection
    assert driver is not None  # noqa: S101 - a checked-out connection has one
    return driver.cursor()


def _script(name: str) -> str:
    return files("backfill.pypi.demo").joinpath(name).read_text(encoding="utf-8")
