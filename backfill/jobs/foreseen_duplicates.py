"""Foreseen duplicates: how many rows a run would find equal to others in a unique index, counted without changing any.

As the batches find them (``collisions``), of the whole table at once: each distinct text comes to the client, and what it
becomes goes into a temporary table of this session.
"""

from collections.abc import Iterator, Sequence
from typing import cast

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import copy_in, driver, execute
from backfill.database.quoting import table
from backfill.jobs.collisions import Collisions
from backfill.jobs.in_place import InPlaceWriter
from backfill.jobs.kinds import writer_of
from backfill.jobs.row_needs import may_be_address, raw_text
from backfill.jobs.values import Value, ValueResolver
from backfill.plan import InPlaceJob

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
    select raw, address::inet, hash, pseudonym, reason from pg_temp.backfill_incoming_results;
    truncate pg_temp.backfill_incoming_results
""")
TEXTS = sql.SQL("select distinct {text} from {table} as event where {unfinished} and {may_be}")
# What a row's text becomes; nothing where it stays.
BECOMES = sql.SQL("""
    lateral (select {value} as text from pg_temp.backfill_results as map where map.raw = {text} and {usable}
              union all
             select {nothing} where {removes} and (not {may_be} or exists (
                    select from pg_temp.backfill_results as looked where looked.raw = {text} and looked.reason is not null))
            ) as becomes
""")


def count(
    connection: Connection, schema: str, job: InPlaceJob, resolver: ValueResolver
) -> tuple[int, list[str]]:
    """Rows that would be deleted, or not written, as *job* says, and the names of the unique indexes.

    In *connection*'s transaction, whose temporary tables end with it. *job* has a moment.
    """
    collisions = Collisions.of(connection, job)
    if not collisions.keys:
        return 0, []
    execute(connection, INCOMING).close()
    for texts in _texts(connection, schema, job):
        copy_in(
            connection,
            sql.Identifier("backfill_incoming_results"),
            Value._fields,
            list(resolver.resolve(texts)),
        )
        execute(connection, ENTER).close()
    execute(connection, sql.SQL("analyze pg_temp.backfill_results")).close()
    writer = cast(InPlaceWriter, writer_of(job, schema))
    becomes = BECOMES.format(
        value=writer.value,
        text=raw_text(job),
        usable=writer.usable,
        nothing=sql.SQL("({})::text").format(writer.nothing),
        removes=sql.Literal(job.unreadable == "nothing"),
        may_be=may_be_address(raw_text(job)),
    )
    losing = collisions.losing(connection, sql.SQL("becomes.text"), becomes, writer.unfinished)
    return sum(1 for _ in losing), [key.name for key in collisions.keys]


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
