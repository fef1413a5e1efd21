"""Foreseen duplicates: how many rows a run would find equal to others in a unique index, counted without changing any.

As the batches find them (``collisions``), of the whole table at once: each distinct text comes to the client, and what it
becomes goes into a temporary table of this session.
"""

from collections.abc import Iterator, Sequence
from typing import cast

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database import unique_keys
from backfill.database.connection import copy_in, driver, execute
from backfill.database.quoting import table
from backfill.jobs.collisions import Collisions
from backfill.jobs.in_place import InPlaceWriter
from backfill.jobs.kinds import writer_of
from backfill.jobs.row_needs import may_be_address, raw_text
from backfill.jobs.values import Value, ValueResolver
from backfill.plan import InPlaceJob, Plan

FETCHED = 10_000

INCOMING = sql.SQL("""
    create temporary table backfill_incoming_results (
        raw text, address text, hash text, pseudonym text, reason text, foreign_prefix text, geo text, lost text
    ) on commit drop;
    create temporary table backfill_results (
        raw text collate "C" primary key, address inet, hash text, pseudonym text, reason text
    ) on commit drop;
    alter table pg_temp.backfill_results  -- no value of it into pg_statistic, nor into the WAL
          alter raw set statistics 0, alter address set statistics 0, alter hash set statistics 0,
          alter pseudonym set statistics 0, alter reason set statistics 0
""")
ENTER = sql.SQL("""
    insert into pg_temp.backfill_results
    select raw, address::inet, hash, pseudonym, reason from pg_temp.backfill_incoming_results
        on conflict do nothing;  -- another column of the same index has it
    truncate pg_temp.backfill_incoming_results
""")
TEXTS = sql.SQL("select distinct {text} from {table} as event where {unfinished} and {may_be}")
# What a row's text becomes; nothing where it stays.
BECOMES = sql.SQL("""
    left join lateral (
         select {value} as text, true as is_written
           from pg_temp.backfill_results as map where map.raw = {text} and {usable} and {unfinished}
          union all
         select {nothing}, true
          where {removes} and {unfinished} and (not {may_be} or exists (
                select from pg_temp.backfill_results as looked where looked.raw = {text} and looked.reason is not null))
         ) as {name} on true
""")
NO_ROW = sql.SQL("(select) as no_entry")


def count(
    connection: Connection, schema: str, plan: Plan, job: InPlaceJob, resolver: ValueResolver
) -> tuple[int, list[str]]:
    """Rows that would be deleted, or not written, as *job* says, and the names of the unique indexes.

    Where another column of such an index is a job that *plan* has before it, rows may be equal only once both are
    written: those are counted for the later one. In *connection*'s transaction, whose temporary tables end with it. *job*
    has a moment.
    """
    collisions = Collisions.of(connection, job)
    if not collisions.keys:
        return 0, []
    before = _before(connection, plan, job, collisions)
    execute(connection, INCOMING).close()
    for one in (*before, job):
        for texts in _texts(connection, schema, one):
            copy_in(
                connection,
                sql.Identifier("backfill_incoming_results"),
                Value._fields,
                list(resolver.resolve(texts)),
            )
            execute(connection, ENTER).close()
    execute(connection, sql.SQL("analyze pg_temp.backfill_results")).close()
    lost = _lost(connection, schema, collisions, (*before, job))
    if before:
        lost -= _lost(connection, schema, collisions, before)
    return max(0, lost), [key.name for key in collisions.keys]


def _before(
    connection: Connection, plan: Plan, job: InPlaceJob, collisions: Collisions
) -> tuple[InPlaceJob, ...]:
    """Jobs whose turn comes before that of *job*, and whose column a unique index has beside its own."""
    found = []
    for other in plan.in_place_jobs:
        if other.identity == job.identity:
            break
        if (
            other.table_identity == job.table_identity
            and job.moment is not None
            and collisions.names & Collisions.of(connection, other).names
        ):
            found.append(other.at(job.moment))
    return tuple(found)


def _lost(connection: Connection, schema: str, collisions: Collisions, jobs: Sequence[InPlaceJob]) -> int:
    """How many rows lose when the columns of *jobs* are written."""
    source: list[sql.Composable] = [NO_ROW]
    written, becomes = list[sql.Composable](), dict[str, sql.Composable]()
    for number, job in enumerate(jobs):
        writer, name, text = cast(InPlaceWriter, writer_of(job, schema)), f"becomes {number}", raw_text(job)
        result: sql.Composable = sql.Identifier(name, "text")
        source.append(
            BECOMES.format(
                name=sql.Identifier(name),
                value=writer.value,
                text=text,
                usable=writer.usable,
                nothing=sql.SQL("({})::text").format(writer.nothing),
                removes=sql.Literal(job.unreadable == "nothing"),
                may_be=may_be_address(text),
                unfinished=writer.unfinished,
            )
        )
        written.append(sql.Identifier(name, "is_written"))
        if len(jobs) > 1:  # of one job, only rows that are written are looked at
            result = sql.SQL("(case when {} then {} else {} end)").format(written[-1], result, text)
        becomes[job.raw] = result
    own = becomes.pop(collisions.job.raw, raw_text(collisions.job))
    besides = {
        job.raw: sql.SQL("{}{}").format(becomes[job.raw], unique_keys.cast(connection, job))
        for job in jobs
        if job.raw in becomes
    }
    which = sql.SQL("({})").format(sql.SQL(" or ").join(written))
    losing = collisions.losing(connection, own, sql.SQL(" ").join(source), which, besides)
    return sum(1 for _ in losing)


def _texts(connection: Connection, schema: str, job: InPlaceJob) -> Iterator[Sequence[str]]:
    statement = TEXTS.format(
        text=raw_text(job),
        table=table(job),
        unfinished=writer_of(job, schema).unfinished,
        may_be=may_be_address(raw_text(job)),
    )
    with driver(connection).cursor(name="backfill_texts") as cursor:
        cursor.execute(statement)
        while found := cursor.fetchmany(FETCHED):
            yield [text for (text,) in found]
