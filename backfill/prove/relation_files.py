"""Relation files: which files belong to which relation of this database, and which belong to none."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Connection

from backfill import escaping
from backfill.database.connection import rows
from backfill.prove.files import Files

FORKS = ("", "_fsm", "_vm", "_init")
_FILE = re.compile(r"^(?:t\d+_)?(\d+)(?:_(?:fsm|vm|init))?(?:\.\d+)?$")

# Indexes and TOAST bear the name of the table that has to be rewritten to rewrite them.
RELATIONS = sql.SQL("""
    select pg_relation_filepath(c.oid), n.nspname, coalesce(owner.relname, c.relname), c.relkind,
           coalesce(owner.relkind, c.relkind), c.relname, coalesce(home.nspname, n.nspname),
           case when c.relpersistence = 'u' then c.oid::regclass::text end
      from pg_class as c
      join pg_namespace as n on n.oid = c.relnamespace
      left join pg_index as i on i.indexrelid = c.oid
      left join pg_class as heap on heap.oid = i.indrelid
      left join pg_class as toasted on toasted.reltoastrelid = coalesce(heap.oid, c.oid)
      left join pg_class as owner on owner.oid = coalesce(toasted.oid, heap.oid)
      left join pg_namespace as home on home.oid = owner.relnamespace
     where pg_relation_filepath(c.oid) is not null
     order by 1
""")
KINDS = {"r": "table", "m": "materialized view", "i": "index", "t": "TOAST", "S": "sequence"}
CATALOGS = ("pg_catalog", "pg_toast", "information_schema")


@dataclass(frozen=True)
class Place:
    """Files that are judged together."""

    name: str
    paths: tuple[str, ...]
    toast: bool = False
    fix: str = ""
    unlogged: str | None = None  # its name; no checkpoint writes its pages out, only a shutdown does


def relations(connection: Connection, files: Files) -> Iterator[Place]:
    """Every relation with files, in all forks and segments; then the files that nobody owns."""
    known: set[str] = set()
    found = rows(connection, RELATIONS)
    listed: dict[str, list[str]] = {}
    for path, *_ in found:
        folder = path.rpartition("/")[0]
        if folder not in listed:
            listed[folder] = files.names(folder)
    by_node: dict[tuple[str, str], list[str]] = {}
    for folder, names in listed.items():
        for name in names:
            if (match := _FILE.match(name)) and not name.startswith("t"):
                by_node.setdefault((folder, match[1]), []).append(f"{folder}/{name}")
    for path, schema, owner, kind, owner_kind, own_name, home, unlogged in found:
        folder, _, node = path.rpartition("/")
        paths = tuple(by_node.get((folder, node), ()))
        known.update(paths)
        if not paths:
            continue
        name = owner if home == "public" else f"{home}.{owner}"
        what = KINDS.get(kind, kind)
        shown = f"{what} {name}" if own_name == owner else f"{what} of {name}"
        if kind == "i":
            shown = f"index {own_name} of {name}"
        yield Place(shown, paths, kind == "t", _fix(schema, home, name, owner_kind), unlogged)
    orphans = [
        f"{folder}/{name}"
        for folder, names in listed.items()
        for name in names
        if folder != "global" and _FILE.match(name) and f"{folder}/{name}" not in known
    ]
    if orphans:
        fix = "left by a crash or by an open temporary table; end the session, or remove it with the server stopped"
        yield Place("files of no relation", tuple(orphans), fix=fix)


def _fix(schema: str, home: str, name: str, kind: str) -> str:
    if home in CATALOGS:
        return "`backfill erase` as a superuser (vacuum full pg_statistic)"
    if kind == "m":
        return f"refresh or drop it, then `backfill erase {escaping.word(name)}`"
    return f"`backfill scan --table {escaping.word(name)}` tells whether live rows hold it; then `backfill erase {escaping.word(name)}`"


def elsewhere(files: Files, *, replay: bool = True) -> Iterator[Place]:
    """What belongs to the cluster: WAL, temporary files, what slots have spilled."""
    wal = [
        f"pg_wal/{name}" for name in files.names("pg_wal") if re.fullmatch(r"[0-9A-F]{24}(\.partial)?", name)
    ]
    yield Place("WAL segments", tuple(wal), fix="`backfill erase` cycles them where the role may")
    spaces = ["base", *(
        f"pg_tblspc/{space}/{version}" for space in files.names("pg_tblspc") for version in files.names(f"pg_tblspc/{space}")
    )]  # fmt: skip
    temporary = [
        f"{space}/pgsql_tmp/{name}" for space in spaces for name in files.names(f"{space}/pgsql_tmp")
    ]
    yield Place("temporary files", tuple(temporary), fix="they go with their query, or with the next start")
    spilled = [
        f"pg_replslot/{slot}/{name}" for slot in files.names("pg_replslot") for name in files.names(f"pg_replslot/{slot}")
    ]  # fmt: skip
    if spilled and replay:
        yield Place(
            "replication slots' files", tuple(spilled), fix="let the subscriber catch up, or drop the slot"
        )


def everything(files: Files) -> Iterator[Place]:
    """A folder without its server: every relation file by its number."""
    bases = [f"base/{name}" for name in files.names("base") if name.isdigit()]
    bases += [
        f"pg_tblspc/{space}/{version}/{database}"
        for space in files.names("pg_tblspc")
        for version in files.names(f"pg_tblspc/{space}")
        for database in files.names(f"pg_tblspc/{space}/{version}")
        if database.isdigit()
    ]
    for base in [*bases, "global"]:
        by_node: dict[str, list[str]] = {}
        for name in files.names(base):
            if match := _FILE.match(name):
                by_node.setdefault(match[1], []).append(f"{base}/{name}")
        for node, paths in sorted(by_node.items()):
            yield Place(f"file {base}/{node}", tuple(paths), toast=True)
