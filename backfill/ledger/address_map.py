"""The address map: raw text → address row and geo, for as long as a run lasts.

UNLOGGED, so that raw addresses reach neither WAL nor standbys. That has its price, all measured:

- it is empty after a crash of the server and on a promoted standby. A logged count in ``runs`` and
  an equally unlogged marker tell a complete map from an emptied one; a mismatch restarts resolve;
- ANALYZE would copy its values into ``pg_statistic``, which is logged: ``raw`` has statistics 0,
  and ANALYZE then records the size alone, which is all that the planner needs;
- a b-tree entry ends at about 2,700 bytes: texts of over 64 characters never enter.

It is dropped as soon as the run that uses it has succeeded.
"""

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database import quoting
from backfill.database.columns import column_type
from backfill.database.connection import execute, value
from backfill.errors import LedgerTableTaken
from backfill.ledger import runs
from backfill.plan import Addresses
from backfill.raw_column import Table

COLUMNS = ["raw", "address_id", "geo", "reason", "address", "hash", "pseudonym", "foreign_prefix", "lost"]
MARKER_COLUMNS = ["run_id"]

FOUND = sql.SQL("""
    select array_agg(a.attname::text order by a.attnum)
      from pg_attribute as a join pg_class as c on c.oid = a.attrelid join pg_namespace as n on n.oid = c.relnamespace
     where n.nspname = %s and c.relname = %s and a.attnum > 0 and not a.attisdropped
""")


class MapIncomplete(Exception):
    """The address map was emptied or is being rebuilt; links must not be made from it."""


class AddressesGone(MapIncomplete):
    """Somebody deleted address rows that the map names; the driver takes their texts out of it."""


def name(schema: str) -> sql.Identifier:
    """``raw text`` primary key, what it becomes, or the ``reason`` why it is no address.

    For links ``address_id`` and ``geo`` (wrapped); else what the run's kinds need of ``address`` (canonical, without a
    mask), ``hash``, ``pseudonym`` and ``geo`` (``lost``: keys that the database cannot hold). ``foreign_prefix``: looks
    like a pseudonym, and is none of ours.
    """
    return sql.Identifier(schema, "address_map")


def regclass(schema: str) -> sql.Composed:
    """``'"schema"."address_map"'::regclass``, for the catalog's functions."""
    return quoting.regclass(Table(table="address_map", schema=schema))


def marker(schema: str) -> sql.Identifier:
    """One row a finished map: the run it is complete for. Emptied together with the map."""
    return sql.Identifier(schema, "address_map_complete")


def create(connection: Connection, schema: str, addresses: Addresses | None) -> None:
    """An empty map with its marker, whatever was there before. *addresses*: what its links refer to."""
    drop(connection, schema)
    key_type = "text" if addresses is None else _key_type(connection, addresses)
    execute(
        connection,
        sql.SQL("""
            create unlogged table {map} (
                raw text collate "C" primary key,
                address_id {key_type},
                geo jsonb,
                reason text,
                address inet,
                hash text,
                pseudonym text,
                foreign_prefix boolean,
                lost text
            );
            create index on {map} (raw) where reason is not null;
            create index on {map} (raw) where foreign_prefix;
            alter table {map} alter raw set statistics 0;
            alter table {map} alter address_id set statistics 0;
            alter table {map} alter geo set statistics 0;
            alter table {map} alter address set statistics 0;
            alter table {map} alter hash set statistics 0;
            alter table {map} alter pseudonym set statistics 0;
            alter table {map} alter foreign_prefix set statistics 0;
            alter table {map} alter lost set statistics 0;
            create unlogged table {marker} (run_id bigint primary key);
        """).format(map=name(schema), marker=marker(schema), key_type=sql.SQL(key_type)),
    )


def _key_type(connection: Connection, addresses: Addresses) -> str:
    statement = sql.SQL("""
        select format_type(atttypid, atttypmod) from pg_attribute
         where attrelid = {} and attname = %s and not attisdropped
    """).format(quoting.regclass(addresses))
    return str(value(connection, statement, (addresses.key,)))


def drop(connection: Connection, schema: str) -> None:
    """Remove map and marker, where they are. Raises ``LedgerTableTaken`` where one is somebody else's."""
    for what, ours in ((name(schema), COLUMNS), (marker(schema), MARKER_COLUMNS)):
        found = value(connection, FOUND, what.strings)
        if found is not None and found != ours:
            raise LedgerTableTaken(table=".".join(what.strings), columns=", ".join(found))
    execute(connection, sql.SQL("drop table if exists {}, {}").format(name(schema), marker(schema)))


def exists(connection: Connection, schema: str) -> bool:
    """Whether there is a map, full or empty."""
    return bool(value(connection, sql.SQL("select to_regclass(%s) is not null"), (f"{schema}.address_map",)))


def count(connection: Connection, schema: str) -> int:
    """Texts in the map."""
    return int(value(connection, sql.SQL("select count(*) from {}").format(name(schema))))


def forget_gone(connection: Connection, schema: str, addresses: Addresses, run_id: int) -> int:
    """Take texts out whose address row is gone, so that they are resolved again; returns how many."""
    statement = sql.SQL("delete from {map} as map where {gone}").format(
        map=name(schema), gone=_gone(connection, addresses)
    )
    with execute(connection, statement) as cursor:
        forgotten = cursor.rowcount
    runs.add_map_rows(connection, run_id, -forgotten)
    return forgotten


def names_gone(connection: Connection, schema: str, addresses: Addresses) -> bool:
    """Whether the map names an address row that is gone; a worker may read the map, and not write it."""
    statement = sql.SQL("select exists (select from {map} as map where {gone})").format(
        map=name(schema), gone=_gone(connection, addresses)
    )
    return bool(value(connection, statement))


def _gone(connection: Connection, addresses: Addresses) -> sql.Composed:
    key = column_type(connection, addresses, addresses.key)
    return sql.SQL("""
        map.address_id is not null
        and not exists (select from {addresses} as known where known.{key} {equals} map.address_id)
    """).format(addresses=quoting.table(addresses), key=sql.Identifier(addresses.key), equals=key.equals)


def complete(connection: Connection, schema: str, run_id: int) -> None:
    """Mark the map as complete for that run."""
    execute(
        connection,
        sql.SQL("insert into {} values (%s) on conflict do nothing").format(marker(schema)),
        (run_id,),
    )


def is_complete(connection: Connection, schema: str, run_id: int) -> bool:
    """Whether links may be made from the map."""
    return exists(connection, schema) and bool(
        value(
            connection,
            sql.SQL("select exists (select from {} where run_id = %s)").format(marker(schema)),
            (run_id,),
        )
    )


def require_complete(connection: Connection, schema: str, run_id: int) -> None:
    """Raises ``MapIncomplete`` unless links may be made from the map, in this very transaction."""
    if not is_complete(connection, schema, run_id):
        raise MapIncomplete
