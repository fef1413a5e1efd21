"""Pages: no row version, live or dead, carries a dropped attribute, and no page is older than the rewrite.

Through ``pageinspect``, created in a transaction that is rolled back; where that is not to be had,
from the files.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg2
from psycopg2 import errorcodes, sql
from sqlalchemy import Connection

from backfill import escaping
from backfill.database.connection import execute, rows
from backfill.erase.erase import TABLE
from backfill.erase.targets import Target, raw_columns, relations, rewritten_since
from backfill.ledger import erasures
from backfill.plan import Plan
from backfill.prove import page
from backfill.prove.files import Files, pieces
from backfill.prove.finding import Depth, Finding, State

BLOCKS = 5_000  # pages a statement

DROPPED = sql.SQL("""
    select attnum from pg_attribute where attrelid = %s and attnum > 0 and attisdropped order by 1
""")

# lp_flags 1: a row version is there, whoever may still see it.
CARRIERS = sql.SQL("""
    select count(*) from generate_series({first}, {last}) as block,
           lateral {inspect}.heap_page_items({inspect}.get_raw_page({relation}, block::int)) as item
     where item.lp_flags = 1
       and exists (select from unnest({dropped}) as attribute
                    where attribute <= (item.t_infomask2 & 2047)
                      and ((item.t_infomask & 1) = 0 or substr(item.t_bits, attribute, 1) = '1'))
""")

# An all-zero page was never written; LSN 0/0 on another means that it is not logged.
OLDER = sql.SQL("""
    select count(*) filter (where header.lsn < {since}::pg_lsn and header.lsn <> '0/0'),
           count(*) filter (where header.lsn = '0/0' and header.upper <> 0)
      from generate_series({first}, {last}) as block,
           lateral {inspect}.page_header({inspect}.get_raw_page({relation}, block::int)) as header
""")

# The table, its TOAST and the indexes of both.
FAMILY = sql.SQL("""
    with heap (id) as (select {table}::oid union all select reltoastrelid from pg_class where oid = {table}::oid and reltoastrelid <> 0)
    select id::bigint, id::regclass::text, pg_relation_size(id) / current_setting('block_size')::int, pg_relation_filepath(id)
      from (select id from heap union all select indexrelid from pg_index where indrelid in (select id from heap)) as family (id)
     order by 1
""")


@dataclass(frozen=True)
class Relation:
    """One relation of a table's family."""

    oid: int
    name: str
    blocks: int
    path: str


@dataclass
class Count:
    """What the pages of one relation came to."""

    carriers: int = 0
    older: int = 0
    unlogged: int = 0


def search_pages(
    connection: Connection, plan: Plan, files: Files | None, *, from_files: bool = False
) -> Iterator[Finding]:
    """A finding for every table of the plan that has a dropped attribute. *connection* is in a transaction,
    which the caller rolls back. *from_files*: the folder is not the server's own."""
    inspect = None if from_files else pageinspect(connection)
    stays = {
        job.table_identity for job in plan.in_place_jobs
    }  # its old values may be in dead rows and free space
    for part, _column in raw_columns(plan):
        for target in relations(connection, part.schema_, part.table):
            if target.dropped == 0 and part.table_identity not in stays:
                yield Finding(Depth.PAGES, target.name, State.GONE, "a new table: it never had the column")
            elif inspect is None and files is None:
                what = "reading pages takes pageinspect (a superuser) or the files"
                yield Finding(
                    Depth.PAGES, target.name, State.UNPROVED, what, "prove as a superuser, or --pgdata"
                )
            else:
                yield _judge(connection, plan, target, inspect, files)


def _judge(
    connection: Connection, plan: Plan, target: Target, inspect: str | None, files: Files | None
) -> Finding:
    row = erasures.latest(connection, TABLE, target.name)
    if row is not None and rewritten_since(connection, plan, target, row.started):
        what = "values were rewritten in place since the file was: dead rows and free space hold the old ones"
        return Finding(
            Depth.PAGES, target.name, State.UNPROVED, what, f"`backfill erase {escaping.word(target.name)}`"
        )
    since = row.lsn if row is not None and target.filenode in (row.filenode, None) else None
    dropped = [number for (number,) in rows(connection, DROPPED, (target.oid,))]
    family = [Relation(*found) for found in rows(connection, FAMILY.format(table=sql.Literal(target.oid)))]
    total = Count()
    for relation in family:
        own = dropped if relation.oid == target.oid else []
        if inspect is not None:
            count = _through_server(connection, inspect, relation, own, since)
        elif files is not None:
            found = _through_files(files, relation, own, since)
            if found is None:
                what = f"the file of {relation.name} is not in this folder: it is of another time"
                return Finding(Depth.PAGES, target.name, State.UNPROVED, what, "see what its bytes say")
            count = found
        total = Count(
            total.carriers + count.carriers, total.older + count.older, total.unlogged + count.unlogged
        )
    fix = f"`backfill erase {escaping.word(target.name)}`"
    if total.carriers:
        what = f"{total.carriers:,} row versions carry a dropped column"
        return Finding(Depth.PAGES, target.name, State.FOUND, what, fix)
    if since is None:
        what = (
            "no row version carries it; but no rewrite of this file is on record, and free space may hold it"
        )
        return Finding(Depth.PAGES, target.name, State.UNPROVED, what, fix)
    if total.older:
        what = f"{total.older:,} pages of it, its TOAST or its indexes are older than the rewrite"
        return Finding(Depth.PAGES, target.name, State.FOUND, what, fix)
    blocks = sum(relation.blocks for relation in family)
    unlogged = f"; {total.unlogged:,} are not logged and bear no age" if total.unlogged else ""
    what = f"{blocks:,} pages with TOAST and indexes: no row version carries it, none is older than the rewrite{unlogged}"
    return Finding(Depth.PAGES, target.name, State.GONE, what)


def pageinspect(connection: Connection) -> str | None:
    """The schema of pageinspect, created for this transaction if need be; ``None`` without the right."""
    try:
        with connection.begin_nested():
            execute(connection, sql.SQL("create extension if not exists pageinspect"))
            ((schema,),) = rows(
                connection,
                sql.SQL(
                    "select extnamespace::regnamespace::text from pg_extension where extname = 'pageinspect'"
                ),
            )
            rows(connection, sql.SQL("select {}.get_raw_page('pg_class', 0)").format(sql.SQL(schema)))
    except psycopg2.Error as error:
        # Not allowed, or not installed on that server.
        if error.pgcode in (
            errorcodes.INSUFFICIENT_PRIVILEGE,
            errorcodes.FEATURE_NOT_SUPPORTED,
            errorcodes.UNDEFINED_FILE,
        ):
            return None
        raise
    return str(schema)


RAW = sql.SQL("""
    select string_agg({inspect}.get_raw_page({relation}, block::int), ''::bytea order by block)
      from generate_series({first}, {last}) as block
""")
BLOCKS_A_PIECE = 500  # 4 MB, which travel as hex


def in_memory(connection: Connection, inspect: str, relation: str) -> Iterator[bytes]:
    """The pages of that relation as the server has them, whether or not it has written them out."""
    ((blocks,),) = rows(
        connection,
        sql.SQL("select pg_relation_size({}) / current_setting('block_size')::int").format(
            sql.Literal(relation)
        ),
    )
    for first in range(0, blocks, BLOCKS_A_PIECE):
        names = {
            "inspect": sql.SQL(inspect),
            "relation": sql.Literal(relation),
            "first": sql.Literal(first),
            "last": sql.Literal(min(first + BLOCKS_A_PIECE, blocks) - 1),
        }
        yield bytes(rows(connection, RAW.format(**names))[0][0])


def _through_server(
    connection: Connection, inspect: str, relation: Relation, dropped: list[int], since: str | None
) -> Count:
    count = Count()
    for first in range(0, relation.blocks, BLOCKS):
        names = {
            "inspect": sql.SQL(inspect),
            "relation": sql.Literal(relation.name),
            "first": sql.Literal(first),
            "last": sql.Literal(min(first + BLOCKS, relation.blocks) - 1),
            "dropped": sql.SQL("{}::int[]").format(sql.Literal(dropped)),
            "since": sql.Literal(since),
        }
        if dropped:
            count.carriers += rows(connection, CARRIERS.format(**names))[0][0]
        if since is not None:
            ((older, unlogged),) = rows(connection, OLDER.format(**names))
            count.older, count.unlogged = count.older + older, count.unlogged + unlogged
    return count


def _through_files(files: Files, relation: Relation, dropped: list[int], since: str | None) -> Count | None:
    """The count; ``None`` where the relation's file is not there."""
    count, start = Count(), page.number(since) if since else 0
    folder, _, node = relation.path.rpartition("/")
    segments = [name for name in files.names(folder) if name == node or name.startswith(f"{node}.")]
    if not segments:
        return None
    for name in segments:
        for piece, _first, _last in pieces(files, f"{folder}/{name}"):
            whole = piece[len(piece) % page.SIZE :]  # a later piece begins with the end of the one before
            if dropped:
                count.carriers += sum(any(map(row.carries, dropped)) for row in page.tuples(whole))
            for one in page.pages(whole):
                at = page.lsn(one)
                count.older += 0 < at < start
                count.unlogged += at == 0
    return count
