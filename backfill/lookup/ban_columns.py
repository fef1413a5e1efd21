"""Ban columns: the statements that set and clear them, and what the application still needs of a new row."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.columns import Column, column_type
from backfill.database.connection import copy_in, execute, rows, value
from backfill.database.quoting import regclass, table
from backfill.database.writing import writes
from backfill.errors import SettingInvalid
from backfill.gates.conditions import HASH_CHECK
from backfill.lookup.address_rows import names_of
from backfill.plan import Addresses

STAGE = sql.SQL("""
    create temporary table if not exists backfill_bans (key text, hash text, address text) on commit delete rows;
    truncate pg_temp.backfill_bans
""")

# These write the application's table, under its search_path: all is qualified.
ADD = sql.SQL("""
    insert into {addresses} ({columns})
    select {values} from pg_temp.backfill_bans as target
     where target.key is null
     order by target.hash                                 -- sorted: opposite orders deadlock
    on conflict do nothing                                -- the application was faster: its row is found next
""")
SET = sql.SQL("""
    update {addresses} as known
       set {settings}
      from pg_temp.backfill_bans as target
     where target.key is not null and known.{key} {key_equals} target.key::{key_type}
""")
KEPT = sql.SQL("""
    select known.{key}::text from {addresses} as known
      join pg_temp.backfill_bans as target on known.{key} {key_equals} target.key::{key_type}
     where known.{banned} is distinct from {wanted}
     order by 1
""")
LABELS = sql.SQL("""
    select e.enumlabel from pg_attribute as a join pg_enum as e on e.enumtypid = a.atttypid
     where a.attrelid = {table} and a.attname = %s order by e.enumsortorder
""")
CHECKED = sql.SQL("select exists (select from pg_constraint where conrelid = {table} and conname = %s)")
BY_HASH = sql.SQL("select exists (select from {addresses} as known where known.{address} is null)")


@dataclass
class Change:
    """What is to be written."""

    rows: dict[str, str | None] = field(default_factory=dict)  # key → the hash that the row lacks
    new: dict[str, str | None] = field(default_factory=dict)  # hash → raw address, where the row needs one

    @property
    def is_empty(self) -> bool:
        """Whether nothing is."""
        return not self.rows and not self.new


def needs_address(connection: Connection, part: Addresses, known: Mapping[str, Column]) -> bool:
    """Whether a new row has to have its raw address: the column requires it, or the application may still look for it.

    An application that upserts by the raw address does not see a row without one, adds its own, and fails on the
    unique hash. That it upserts by hash is shown by the revision that comes after that deployment, or by its rows.
    """
    if part.address not in known:
        return False
    if known[part.address].not_null:
        return True
    if known[part.hash].not_null or value(connection, CHECKED.format(table=regclass(part)), (HASH_CHECK,)):
        return False
    return not value(connection, BY_HASH.format(addresses=table(part), address=sql.Identifier(part.address)))


def require_reason(connection: Connection, part: Addresses, reason: str | None) -> None:
    """Raises ``SettingInvalid`` for one that the column does not take, or for none where there is one."""
    if part.ban_reason is None:
        return
    known = [label for (label,) in rows(connection, LABELS.format(table=regclass(part)), (part.ban_reason,))]
    if reason is None or (known and reason not in known):
        takes = f"it is one of: {', '.join(known)}" if known else "say why"
        raise SettingInvalid(
            setting="--reason",
            problem=f"{takes}; {part.name}.{part.ban_reason} keeps it. Nothing was changed",
        )


def add(
    connection: Connection, part: Addresses, change: Change, reason: str | None, *, with_address: bool
) -> int:
    """Rows that are banned from the start; returns how many were added."""
    _stage(connection, [(None, hashed, address) for hashed, address in change.new.items()])
    names = names_of(connection, part)
    new = {
        part.hash: sql.SQL("target.hash::{}").format(names["hash_type"]),
        **_set(connection, part, reason),
    }
    if with_address:
        new[part.address] = sql.SQL("target.address::pg_catalog.inet")
    statement = ADD.format(
        columns=sql.SQL(", ").join(map(sql.Identifier, new)), values=sql.SQL(", ").join(new.values()), **names
    )
    with writes(connection, part), execute(connection, statement) as cursor:
        return cursor.rowcount


def set_banned(connection: Connection, part: Addresses, change: Change, reason: str | None) -> int:
    """Rows that were there; what is banned keeps its reason and date. Returns how many were written."""
    _stage(connection, [(key, hashed, None) for key, hashed in change.rows.items()])
    names = names_of(connection, part)
    banned = sql.Identifier("known", str(part.banned))
    new = {
        column: sql.SQL("case when {0} then known.{1} else {2} end").format(
            banned, sql.Identifier(column), setting
        )
        for column, setting in _set(connection, part, reason).items()
    }
    hashed = sql.SQL("coalesce(known.{hash}, target.hash::{hash_type})").format(
        hash=names["hash"], hash_type=names["hash_type"]
    )
    return _write(connection, part, {part.hash: hashed, **new})


def clear(connection: Connection, part: Addresses, change: Change) -> int:
    """Rows that are no longer banned; returns how many were written."""
    _stage(connection, [(key, None, None) for key in change.rows])
    new: dict[str, sql.Composable] = {str(part.banned): sql.SQL("false")}
    new |= {name: sql.SQL("null") for name in (part.ban_reason, part.ban_date) if name}
    return _write(connection, part, new)


def kept(connection: Connection, part: Addresses, *, wanted: bool) -> list[str]:
    """Keys of rows that were written and are not as wanted."""
    statement = KEPT.format(
        banned=sql.Identifier(str(part.banned)), wanted=sql.Literal(wanted), **names_of(connection, part)
    )
    return [key for (key,) in rows(connection, statement)]


def _write(connection: Connection, part: Addresses, new: Mapping[str, sql.Composable]) -> int:
    settings = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(column), setting) for column, setting in new.items()
    )
    statement = SET.format(settings=settings, **names_of(connection, part))
    with writes(connection, part), execute(connection, statement) as cursor:
        return cursor.rowcount


def _stage(connection: Connection, records: list[tuple[str | None, str | None, str | None]]) -> None:
    execute(connection, STAGE)
    copy_in(connection, sql.SQL("pg_temp.backfill_bans"), ["key", "hash", "address"], records)


def _set(connection: Connection, part: Addresses, reason: str | None) -> dict[str, sql.Composable]:
    """Columns of a ban, and what is written to them. The application's times without a zone are UTC."""
    new: dict[str, sql.Composable] = {str(part.banned): sql.SQL("true")}
    if part.ban_reason:
        kind = column_type(connection, part, part.ban_reason)
        new[part.ban_reason] = sql.SQL("{}::{}").format(sql.Literal(reason), sql.SQL(kind.name))
    if part.ban_date:
        zoned = column_type(connection, part, part.ban_date).name == "pg_catalog.timestamptz"
        now = "pg_catalog.now()" if zoned else "pg_catalog.timezone('UTC', pg_catalog.now())"
        new[part.ban_date] = sql.SQL(now)
    return new
