"""WAL: cycled, so that no segment on this server holds what was written before the rewrite.

A checkpoint recycles old segments by renaming them, with all their bytes (measured: 200,000 marked
addresses were still in them). So: recycling off, checkpoint, one small write and a switch for every
file that lies ready, checkpoint. What is left then is new, and what somebody needs: that one is named.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2 import errorcodes, sql
from sqlalchemy import Connection

from backfill.database.connection import execute, rows, value
from backfill.erase import snapshot_holders

ROUNDS = 3  # on a busy server, segments are filled while we switch
RELOAD_SECONDS = 5.0
MAX_SWITCHES = 1_000  # 16 GB of segments; more is not for a command to write

SEGMENTS = sql.SQL("select name from pg_ls_waldir() where name ~ '^[0-9A-F]{24}$' order by name")
CURRENT = sql.SQL("select pg_walfile_name(pg_current_wal_insert_lsn())")
# Where the setting comes from decides how it is put back.
BEFORE = sql.SQL("""
    select setting, coalesce(sourcefile, '') like '%%postgresql.auto.conf'
      from pg_settings where name = 'wal_recycle'
""")
KEEPERS = sql.SQL("""
    select case when current_setting('archive_mode') <> 'off'
                then 'the archive has not taken them yet (archive_mode is on)' end,
           case when current_setting('wal_keep_size') not in ('0', '0MB')
                then 'wal_keep_size is ' || current_setting('wal_keep_size') end
""")


@dataclass(frozen=True)
class Cycled:
    """What cycling came to: segments from before it that are still there, and why."""

    left: int
    why: str


def cycle(connection: Connection, tell: Callable[[str], None], note: Callable[[Any], None]) -> Cycled:
    """Cycle; *connection* is in autocommit. *note* keeps what has to be put back after a kill.

    Never raises for a missing privilege: that is a reason like another.
    """
    try:
        return _cycle(connection, tell, note)
    except psycopg2.Error as error:
        if error.pgcode != errorcodes.INSUFFICIENT_PRIVILEGE:
            raise
        needed = "pg_ls_waldir(), pg_switch_wal(), CHECKPOINT and ALTER SYSTEM SET wal_recycle"
        return Cycled(-1, f"this role may not cycle it; that needs {needed} (a superuser may)")


def put_back(connection: Connection, before: Any) -> None:
    """Undo the change of wal_recycle that a killed command left."""
    if before and before.get("setting") == "on":
        _set(connection, before["setting"] if before.get("by us") else None)


def _cycle(connection: Connection, tell: Callable[[str], None], note: Callable[[Any], None]) -> Cycled:
    ((setting, auto),) = rows(connection, BEFORE)
    before = {"setting": setting, "by us": auto}
    note(before)
    if setting == "on":
        _set(connection, "off")
    left = 0
    try:
        for _ in range(ROUNDS):
            execute(connection, sql.SQL("checkpoint"))
            names = _segments(connection)
            current = str(value(connection, CURRENT))
            ready = sum(name >= current for name in names) + 1
            if ready > MAX_SWITCHES:
                return Cycled(len(names), f"{ready:,} segments lie ready; lower min_wal_size, then again")
            tell(f"WAL: switching through {ready} segments")
            for _ in range(ready):
                # One small write: a switch at the very beginning of a segment does nothing.
                execute(connection, sql.SQL("select pg_logical_emit_message(false, 'backfill', 'cycle')"))
                execute(connection, sql.SQL("select pg_switch_wal()"))
            execute(connection, sql.SQL("checkpoint"))
            left = sum(name <= max([*names, current]) for name in _segments(connection))
            if left == 0:
                return Cycled(0, "no segment from before is left")
    finally:
        if setting == "on":
            put_back(connection, before)
    return Cycled(left, "; ".join(_keepers(connection)) or "a checkpoint still needs them")


def _segments(connection: Connection) -> list[str]:
    return [name for (name,) in rows(connection, SEGMENTS)]


def _keepers(connection: Connection) -> list[str]:
    ((archive, kept),) = rows(connection, KEEPERS)
    return [*snapshot_holders.find_pins(connection).wal, *filter(None, (archive, kept))]


def _set(connection: Connection, setting: str | None) -> None:
    """ALTER SYSTEM; ``None`` takes it back. Returns once this session, at least, has seen it."""
    target = sql.SQL("reset wal_recycle") if setting is None else sql.SQL("set wal_recycle = {}").format(sql.Literal(setting))  # fmt: skip
    execute(connection, sql.SQL("alter system {}").format(target))
    execute(connection, sql.SQL("select pg_reload_conf()"))
    deadline = time.monotonic() + RELOAD_SECONDS
    wanted = "on" if setting is None else setting
    while time.monotonic() < deadline:
        time.sleep(0.1)  # the postmaster tells the checkpointer and us at the same moment
        if value(connection, sql.SQL("show wal_recycle")) == wanted:
            return
