"""On duplicate: what becomes of a row whose new value another row has already, under a unique index. As the plan says.

``refuse``: it stays as it is, and waits in the quarantine. ``keep-newest``: the older row is deleted in the transaction
that rewrites the newer one, and only where a row that is equal to it stands when both is done.

Whoever else writes the table is not kept from it. Both rows are locked as they were seen; where one has changed
meanwhile, all that are equal to it wait for a later pass, as does any row that was not compared. Where the index refuses
a row that nobody had seen, nothing of the pass is written, and it is done again.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg2.errors
from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import execute, rows, value
from backfill.database.quoting import regclass, table
from backfill.database.row_key import row_key
from backfill.database.transient import RowsRaced
from backfill.database.writing import writes
from backfill.errors import DuplicateKept, TableChanged
from backfill.jobs.collisions import Collision, Collisions
from backfill.ledger import claims
from backfill.ledger.batches import Batch
from backfill.ledger.quarantine import DUPLICATE_RESULT
from backfill.plan import InPlaceJob

# As they were seen: a row that was changed since lies elsewhere. Its place may hold another one by now, since between two
# statements nothing keeps vacuum and pruning from what a transaction older than ours has removed: told by its xmin.
LOCK = sql.SQL("""
    select event.ctid::text from {table} as event
     where event.ctid = any ({places}::tid[])
       and exists (select from pg_temp.backfill_written as seen
                    where seen."backfill tid" = event.ctid and seen."backfill xmin" = event.xmin::text)
     order by event.ctid for update
""")
# Under the application's search_path.
DELETE = sql.SQL("""
    delete from {table} as event
     where event.ctid OPERATOR(pg_catalog.=) any ({places}::pg_catalog.tid[])
""")
REFERRED = sql.SQL("select exists (select from pg_constraint where contype = 'f' and confrelid = {table})")
QUARANTINE = sql.SQL("""
    insert into {quarantine} as entry (job, row_key, key_columns, reason, run_id)
    select {job}, {key}, {key_columns}, {reason}, {run}
      from {table} as event
     where event.ctid = any ({places}::tid[])
       and exists (select from pg_temp.backfill_written as seen
                    where seen."backfill tid" = event.ctid and seen."backfill xmin" = event.xmin::text)
    on conflict (job, row_key)
        do update set key_columns = excluded.key_columns, reason = excluded.reason, rows = 1, run_id = excluded.run_id,
                      decision_id = null
""")
# As it was compared; under the application's search_path.
COMPARED = sql.SQL("""
    exists (select from pg_temp.backfill_written as compared
             where compared."backfill tid" OPERATOR(pg_catalog.=) event.ctid
               and compared."backfill xmin" OPERATOR(pg_catalog.=) event.xmin::pg_catalog.text
               and not compared."backfill stands")
""")
NOT_THESE = sql.SQL("event.ctid OPERATOR(pg_catalog.<>) all ({places}::pg_catalog.tid[])")
ANY_ROW = sql.SQL("true")


@contextmanager
def decides(
    connection: Connection,
    schema: str,
    job: InPlaceJob,
    batch: Batch,
    written: sql.Composable,
    source: sql.Composable,
    which: sql.Composable,
) -> Iterator[sql.Composable]:
    """For the statement that makes *written* of the rows *which* (``event``, of *source*): what else it has to ask.

    Nothing, where the plan has no ``on_duplicate``. What became of the others is counted in the batch's record.

    Raises ``RowsRaced``, which a batch that is done again gets over, ``DuplicateKept``, ``TableChanged``.
    """
    collisions = Collisions.of(connection, job) if job.on_duplicate is not None else None
    if collisions is None or not collisions.keys:
        yield ANY_ROW
        return
    claims.take_turn(connection, batch)
    lost = list(collisions.losing(connection, written, source, which))
    deletes = job.deletes
    try:
        waiting: set[str] = set()
        if deletes:
            lost, waiting = _lock(connection, job, lost)
            _delete(connection, job, lost)
        elif lost:
            waiting = _put_aside(connection, schema, job, batch, lost)
        others = NOT_THESE.format(places=sql.Literal(sorted(waiting)))
        yield sql.SQL("{} and {}").format(COMPARED, others if waiting else ANY_ROW)
    except psycopg2.errors.UniqueViolation as error:
        name = error.diag.constraint_name
        if error.diag.table_name != job.table or name not in collisions.names:
            raise  # a trigger of the application wrote elsewhere
        raise RowsRaced(job.label, name) from None
    if not lost:
        return
    if deletes and (missing := collisions.unmatched(connection, lost)):
        raise DuplicateKept(job=job.label, problem=f"{missing:,} of {len(lost):,} rows to be deleted as duplicates are equal to no other row.")  # fmt: skip
    number = len(lost)
    claims.count_duplicates(connection, batch, deleted=number if deletes else 0, quarantined=0 if deletes else number)  # fmt: skip


def _delete(connection: Connection, job: InPlaceJob, lost: Sequence[Collision]) -> None:
    if not lost:
        return
    if value(connection, REFERRED.format(table=regclass(job))):
        raise TableChanged(table=job.name)  # since preflight; its lock keeps others out from here on
    places = sql.Literal([one.lost for one in lost])
    with writes(connection, job), execute(connection, DELETE.format(table=table(job), places=places)) as gone:
        deleted = gone.rowcount
    if deleted != len(lost):
        raise DuplicateKept(job=job.label, problem=f"{len(lost) - deleted:,} of {len(lost):,} duplicates are still there after they were deleted.")  # fmt: skip


def _put_aside(
    connection: Connection, schema: str, job: InPlaceJob, batch: Batch, lost: Sequence[Collision]
) -> set[str]:
    places = sql.Literal([one.lost for one in lost])
    key = row_key(connection, job)  # preflight asks for one
    statement = QUARANTINE.format(
        quarantine=sql.Identifier(schema, "quarantine"),
        job=sql.Literal(job.identity),
        key=key.text(),
        key_columns=key.array,
        reason=sql.Literal(DUPLICATE_RESULT),
        run=sql.Literal(batch.run_id),
        table=table(job),
        places=places,
    )
    execute(connection, statement).close()
    return {one.lost for one in lost}


def _lock(
    connection: Connection, job: InPlaceJob, lost: Sequence[Collision]
) -> tuple[list[Collision], set[str]]:
    """Those of which both rows are as they were seen, and stay so; and where the rows of all others lie."""
    if not lost:
        return [], set()
    places = {place for one in lost for place in (one.lost, one.stays)}
    found = rows(connection, LOCK.format(table=table(job), places=sql.Literal(sorted(places))))
    held = {place for (place,) in found}
    # A row that stays, and of which one equal has changed, could meet that one.
    unsure = {one.stays for one in lost if not {one.lost, one.stays} <= held}
    sure = [one for one in lost if one.stays not in unsure]
    return sure, {place for one in lost if one.stays in unsure for place in (one.lost, one.stays)}
