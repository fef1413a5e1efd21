"""Copied values: whether a trigger of the application writes the raw values that a pass rewrites somewhere else.

Asked in the pass's own transaction, which is rolled back when it does. The counters of the transaction tell which
other tables it has written, and the rows there are told from those of others by their transaction: it alone is in progress
and visible here. So what the live application writes meanwhile is never looked at. Not seen is what a trigger sends elsewhere
(another server, a file, a queue), a column of the same table, a value in another spelling, a table that this role may not
read, and rows before its last ``TAIL`` blocks.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import rows, value
from backfill.database.decodable import bytes_of
from backfill.database.preflight.finding import RAW_COPIED
from backfill.database.quoting import regclass
from backfill.errors import ValuesCopied
from backfill.jobs.writer import Writer
from backfill.ledger import address_map
from backfill.plan import InPlaceJob, Plan

TAIL = 1_024  # blocks at the end of another table that are looked at
MOST = 100  # rows of it

UPDATE, DELETE = 16, 8  # in tgtype
# A trigger of the application that fires when we update, or delete: without one, nothing else is written.
FIRES = sql.SQL("""
    select exists (select from pg_trigger where tgrelid = {table} and not tgisinternal and tgenabled in ('O', 'A') and tgtype & {events} <> 0)
""")
# What the session has not reported yet stands there too; so the difference is what counts.
WRITTEN = sql.SQL("""
    select relid::bigint, n_tup_ins + n_tup_upd from pg_stat_xact_user_tables
     where n_tup_ins + n_tup_upd > 0 and relid <> {table} and schemaname <> {ledger}
""")
COLUMNS = sql.SQL("""
    select n.nspname, c.relname, a.attname, named.relnamespace::regnamespace::text, named.relname,
           greatest(pg_relation_size(c.oid) / current_setting('block_size')::bigint - {tail}, 0)
      from pg_class as c
      join pg_namespace as n on n.oid = c.relnamespace
      join pg_class as named on named.oid = coalesce(pg_partition_root(c.oid)::oid, c.oid)  -- as people know it
      join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      join pg_type as t on t.oid = a.atttypid
     where c.oid = any ({tables}::bigint[]::oid[]) and c.relkind = 'r' and c.relpersistence <> 't'
       and t.typcategory not in ('B', 'D', 'N', 'T') and t.typname <> 'uuid'
       and has_table_privilege(c.oid, 'select') and has_schema_privilege(n.oid, 'usage') and not row_security_active(c.oid)
     order by 1, 2, a.attnum
""")
# A row of this transaction, or of one within it: no older than its own, and in progress.
FOUND = sql.SQL("""
    select cell.name
      from (select * from {table} as written
             where written.ctid >= {first}::tid
               and case when age(written.xmin) > 0 then false
                        else pg_xact_status((pg_current_xact_id()::text::numeric - age(written.xmin))::text::xid8) = 'in progress' end
             limit {most}) as written
     cross join lateral (values {cells}) as cell (name, whole, plain)
     where exists (select from {map} as map where map.raw = cell.whole and {replaced} and {not_ours})
        or exists (select from regexp_matches(cell.plain, '[0-9A-Fa-f:.]{{2,}}', 'g') as token (parts)
                     join {map} as map on map.raw = token.parts[1]
                    where {usable} and {not_ours})
     limit 1
""")
# Audit triggers note where a session comes from: that is us.
NOT_OURS = sql.SQL(
    "map.raw not in (coalesce(host(inet_client_addr()), ''), coalesce(host(inet_server_addr()), ''))"
)


@contextmanager
def refused(connection: Connection, writer: Writer, plan: Plan | None) -> Iterator[None]:
    """Round what a pass writes. Raises ``ValuesCopied`` where values that it replaced were copied elsewhere.

    Columns that *plan* names are its own business: raw columns of a job, and what ``accept`` names.
    """
    job = writer.job
    if not isinstance(job, InPlaceJob) or not _fires(connection, job):
        yield
        return
    before = _written(connection, writer)
    yield
    after = _written(connection, writer)
    moved = [table for table, number in after.items() if number > before.get(table, 0)]
    if moved:
        _look(connection, writer, plan, moved)


def _fires(connection: Connection, job: InPlaceJob) -> bool:
    events = sql.Literal(UPDATE | DELETE if job.deletes else UPDATE)
    return bool(value(connection, FIRES.format(table=regclass(job), events=events)))


def _written(connection: Connection, writer: Writer) -> Mapping[int, int]:
    statement = WRITTEN.format(table=regclass(writer.job), ledger=sql.Literal(writer.schema))
    return dict(rows(connection, statement))


def _look(connection: Connection, writer: Writer, plan: Plan | None, moved: list[int]) -> None:
    known = {(part.schema_, part.table, part.raw_column) for part in plan.parts} if plan else set()
    accepted = set(plan.accept) if plan else set()
    tables: dict[tuple[str, str, int], dict[str, str]] = {}
    statement = COLUMNS.format(tail=sql.Literal(TAIL), tables=sql.Literal(moved))
    for schema, name, column, *parent, first in rows(connection, statement):
        shown = ".".join((*parent, column))  # of a partition, the table that people know
        if (schema, name, column) not in known and f"{RAW_COPIED}:{shown}" not in accepted:
            tables.setdefault((schema, name, first), {})[column] = shown
    for (schema, name, first), columns in tables.items():
        found = rows(connection, _statement(writer, sql.Identifier(schema, name), first, list(columns)))
        if found:
            ((column,),) = found
            raise ValuesCopied(job=writer.job.label, column=columns[column], code=RAW_COPIED)


def _statement(writer: Writer, table: sql.Identifier, first: int, columns: list[str]) -> sql.Composable:
    cells = []
    for name in columns:
        text = sql.SQL('({}::text collate "C")').format(sql.Identifier("written", name))
        plain = sql.SQL("encode({}, 'escape')").format(bytes_of(text))  # patterns fail on some bytes
        cells.append(sql.SQL("({}, {}, {})").format(sql.Literal(name), text, plain))
    replaced = writer.usable
    if isinstance(writer.job, InPlaceJob) and writer.job.unreadable == "nothing":
        # One that may hold an address: "unknown" and its like stand in other columns as well.
        may_hold = "map.raw ~ '[0-9]' or map.raw ~ ':.*:'"
        replaced = sql.SQL("({} or (map.reason is not null and ({})))").format(replaced, sql.SQL(may_hold))
    return FOUND.format(
        table=table,
        first=sql.Literal(f"({first},0)"),
        most=sql.Literal(MOST),
        cells=sql.SQL(", ").join(cells),
        map=address_map.name(writer.schema),
        usable=writer.usable,
        replaced=replaced,
        not_ours=NOT_OURS,
    )
