"""Shared pass: where several jobs rewrite columns of one table, one UPDATE of a row rewrites them all.

A row that a pass writes anyway takes along what its other jobs make of it: one row version, one set of index entries and
of triggers' calls instead of one a job. It is their batches' work done early, and nothing more: each job has batches of
its own afterwards, which find what is left, put aside what cannot be read, and say what was refused. So where a shared
pass fails, the batch goes on alone.

Not shared is what asks more of a row than its text: duplicates, and the place of an address; nor what a trigger waits for.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.columns import column_type
from backfill.database.connection import rows, value
from backfill.database.quoting import regclass, table
from backfill.database.writing import writes
from backfill.errors import ResultChanged
from backfill.job_id import JobId
from backfill.jobs import batch_map, copied_values, index_hint
from backfill.jobs.in_pass import in_pass
from backfill.jobs.in_place import InPlaceWriter
from backfill.jobs.kinds import writer_of
from backfill.jobs.passes import Pass
from backfill.ledger import batches, consents
from backfill.ledger.batches import Batch
from backfill.plan import InPlaceJob, Job, Plan

# Each row as the statement found it: what the others were, RETURNING cannot tell. One that somebody wrote meanwhile lies
# elsewhere, and waits for the next pass or sweep.
WRITE = sql.SQL("""
    with written as (
        update {table} as event
           set {assignments}
          from (select event.ctid as lay_at, {found}
                  from {table} as event
                  join {own} as map_0 on map_0.raw OPERATOR(pg_catalog.=) {text}
                  {others}
                 where {waits} and {in_range} and {in_pass}) as seen
         where event.ctid OPERATOR(pg_catalog.=) seen.lay_at and {in_range}
        returning {returned}
    )
    select {counted} from written
""")
OTHER = sql.SQL("left join {map} as {alias} on {waits} and {alias}.raw OPERATOR(pg_catalog.=) {text}")
FOUND = sql.SQL("{alias}.becomes as {found_value}, {alias}.raw is not null as {takes}")
ASSIGNMENT = sql.SQL("{raw} = case when seen.{takes} then {value} else event.{raw} end")
RETURNED = sql.SQL("seen.{takes} as {takes}, {is_right} as {right}")
COUNTED = sql.SQL(
    "pg_catalog.count(*) filter (where {takes}), pg_catalog.count(*) filter (where {takes} and {right})"
)

WATCHED = sql.SQL("""
    select exists (select from pg_trigger as t
                     join pg_attribute as a on a.attrelid = t.tgrelid and a.attnum = any (t.tgattr)
                    where t.tgrelid = {table} and not t.tgisinternal and a.attname = any ({written}))
""")


def partners(job: Job, schema: str, plan: Plan | None, beside: Sequence[JobId]) -> tuple[InPlaceWriter, ...]:
    """The writers of those jobs *beside* it in the run whose values can be rewritten together with *job*'s."""
    if plan is None or not _fit(job):
        return ()
    found = [plan.job(name) for name in beside]
    return tuple(
        writer
        for other in found
        if _fit(other) and (other.schema_, other.table) == (job.schema_, job.table)
        if isinstance(writer := writer_of(other, schema), InPlaceWriter)
    )[: batch_map.MOST_BESIDE]


def unwatched(connection: Connection, others: Sequence[InPlaceWriter]) -> tuple[InPlaceWriter, ...]:
    """Those of the *others* for whose column no trigger waits (``UPDATE OF``).

    The statement names each column for all its rows; such a trigger would be called where the column stays as it is.
    """
    return tuple(
        other
        for other in others
        if not value(
            connection,
            WATCHED.format(table=regclass(other.job), written=sql.Literal(list(other.job.written))),
        )
    )


def _fit(job: Job) -> bool:
    return isinstance(job, InPlaceJob) and job.on_duplicate is None and job.place is None


def ensure_maps(connection: Connection, others: Sequence[InPlaceWriter], batch: Batch) -> None:
    """The batch maps of the *others*, over the same blocks, beside the batch's own."""
    for number, other in enumerate(others, start=1):
        batch_map.ensure(connection, other, batch, number)


def write(
    connection: Connection,
    plan: Plan | None,
    writer: InPlaceWriter,
    others: Sequence[InPlaceWriter],
    batch: Batch,
    now: Pass,
) -> int:
    """One pass of *writer*'s batch, with the *others*; returns the rows that it wrote of its own job.

    The others' are on record under ``batches.SHARED``. Raises ``ResultChanged``, ``ValuesCopied``, ``ConsentMissing``.
    """
    with ExitStack() as watched:
        for other in others:
            consents.fence(connection, other.schema, other.job, batch.run_id)
            watched.enter_context(copied_values.refused(connection, other, plan))
        written = _update(connection, writer, others, batch, now)
    if now.last:  # and whatever the plan wants of texts that are no address
        written += writer.write(connection, plan, batch, now)
    return written


def _update(
    connection: Connection, writer: InPlaceWriter, others: Sequence[InPlaceWriter], batch: Batch, now: Pass
) -> int:
    own = batch_map.texts(connection, writer, batch, now)
    ensure_maps(connection, others, batch)
    together = (writer, *others)
    unchanged = [
        name
        for name in index_hint.unchanged(connection, writer.job)
        if name not in {column for other in others for column in other.job.written}
    ]
    columns = [_names(connection, each, number) for number, each in enumerate(together)]
    statement = WRITE.format(
        table=table(writer.job),
        assignments=sql.SQL(", ").join(
            [*(ASSIGNMENT.format(**names) for names in columns), *index_hint.as_they_are(unchanged)]
        ),
        found=sql.SQL(", ").join(FOUND.format(**names) for names in columns),
        own=own,
        text=writer.text,
        waits=writer.waits,
        others=sql.SQL(" ").join(OTHER.format(**names) for names in columns[1:]),
        in_range=now.range.holds("event"),
        in_pass=in_pass(now),
        returned=sql.SQL(", ").join(RETURNED.format(**names) for names in columns),
        counted=sql.SQL(", ").join(COUNTED.format(**names) for names in columns),
    )
    began = time.monotonic()
    with writes(connection, writer.job):
        (numbers,) = rows(connection, statement)
    for each, written, right in zip(together, numbers[::2], numbers[1::2], strict=True):
        if right < written:
            raise ResultChanged(job=each.job.label, changed=written - right, written=written)
    for other, written in zip(others, numbers[2::2], strict=True):
        seconds = time.monotonic() - began
        batches.count_shared(connection, batch, other.job.identity, int(written), seconds)
    return int(numbers[0])


def _names(connection: Connection, writer: InPlaceWriter, number: int) -> dict[str, sql.Composable]:
    """What the statement calls the parts of one job."""
    found = sql.Identifier(f"value_{number}")
    becomes = sql.SQL("seen.{}").format(found)
    is_inet = column_type(connection, writer.job, writer.job.raw).is_inet
    return {
        "raw": sql.Identifier(writer.job.raw),
        "map": batch_map.name(number),
        "alias": sql.Identifier(f"map_{number}"),
        "found_value": found,
        "takes": sql.Identifier(f"takes_{number}"),
        "right": sql.Identifier(f"right_{number}"),
        "value": sql.SQL("({}::pg_catalog.inet)").format(becomes) if is_inet else becomes,
        "is_right": writer.is_right(becomes),
        "waits": writer.waits,
        "text": writer.text,
    }
