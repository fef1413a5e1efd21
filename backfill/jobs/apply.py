"""Apply: gives every row of a batch what its job asks for, set-based, in the server.

A batch goes over its blocks in passes, a transaction each: why, and which rows in which, is ``pass_of``. What is
written is the kind's own (``kinds``).
"""

import time
import uuid
from collections.abc import Callable, Sequence

import psycopg2
import psycopg2.errors
from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.addresses import Reason
from backfill.database.connection import ASYNCHRONOUS, execute, value
from backfill.database.decodable import decodable
from backfill.database.definition import DEFINITION
from backfill.database.quoting import regclass, table
from backfill.database.row_key import row_key
from backfill.database.timeouts import Timeouts
from backfill.database.transient import TableLocked
from backfill.errors import ConsentMissing, ResultChanged, TableChanged, TableRewritten, ValuesCopied
from backfill.job_id import JobId
from backfill.jobs import batch_map, copied_values, shared_pass
from backfill.jobs.in_place import InPlaceWriter
from backfill.jobs.kinds import writer_of
from backfill.jobs.passes import pass_of
from backfill.jobs.row_needs import may_be_address, raw_text
from backfill.ledger import address_map, claims, consents
from backfill.ledger.batches import Batch, PassCounts
from backfill.ledger.phases import LINK
from backfill.plan import Job, Plan

LIMITS = Timeouts()

# What the database, or the writer, has against a row; not that it was busy.
REFUSED = (
    psycopg2.DataError,
    psycopg2.IntegrityError,
    psycopg2.InternalError,
    psycopg2.ProgrammingError,
    ConsentMissing,
    ResultChanged,
    ValuesCopied,
)

# The map has few reasons among many addresses, and an index over them: joined with the whole of it,
# looking for the few rows that link nowhere cost a third of copying the range.
QUARANTINE = sql.SQL("""
    insert into {quarantine} as entry (job, row_key, key_columns, reason, run_id)
    select {name}, {key}, {key_columns}, coalesce(map.reason, case when {decodable} then {too_long} else {undecodable} end), {run}
      {unreadable}
    on conflict (job, row_key)
        do update set key_columns = excluded.key_columns, reason = excluded.reason, rows = 1, run_id = excluded.run_id,
                      decision_id = null
""")
UNREADABLE = sql.SQL("""
      from {table} as event
      left join (select raw, reason from {map} where reason is not null) as map on map.raw = {text}
     where {in_range} and {unfinished}
       and (map.reason is not null or not {may_be_address})
""")
# Which of them were counted before, nobody could tell: they are on record once a run ends.
COUNT_UNREADABLE = sql.SQL("select count(*) {unreadable}")


def check_filenode(connection: Connection, job: Job, filenode: int) -> None:
    """Raises ``TableRewritten`` when blocks lie elsewhere; the lock keeps them in place until commit.

    ``TableLocked`` where somebody holds the whole table: told apart from a locked row, which a
    smaller batch can avoid.
    """
    try:
        execute(connection, sql.SQL("lock table {} in row exclusive mode").format(table(job)))
    except psycopg2.errors.LockNotAvailable:
        raise TableLocked(f"{job.name} is locked as a whole") from None
    now = value(connection, sql.SQL("select pg_relation_filenode({})").format(regclass(job)))
    if now != filenode:
        raise TableRewritten(table=job.name)


AS_SEEN = sql.SQL("""
    select known.definition is null or known.definition operator(pg_catalog.=) {now}
      from (select definitions ->> {job} from {runs} where id = {run}) as known (definition)
""")


def check_definition(connection: Connection, schema: str, job: Job, run_id: int) -> None:
    """Raises ``TableChanged`` where the table is no longer what preflight saw; asked under the lock."""
    query = AS_SEEN.format(
        now=DEFINITION.format(table=regclass(job)),
        job=sql.Literal(job.identity),
        runs=sql.Identifier(schema, "runs"),
        run=sql.Literal(run_id),
    )
    if value(connection, query) is False:
        raise TableChanged(table=job.name)


def quarantine_rows(connection: Connection, schema: str, job: Job, run_id: int, which: sql.Composable) -> int:
    """Put those unfinished rows (``event``) whose text is no address on record; returns their number.

    Where nothing names a row, they are counted alone.
    """
    unreadable = UNREADABLE.format(
        text=raw_text(job),
        table=table(job),
        map=address_map.name(schema),
        may_be_address=may_be_address(raw_text(job)),
        in_range=which,
        unfinished=writer_of(job, schema).unfinished,
    )
    key = row_key(connection, job)
    if not key.columns:
        return int(value(connection, COUNT_UNREADABLE.format(unreadable=unreadable)))
    statement = QUARANTINE.format(
        quarantine=sql.Identifier(schema, "quarantine"),
        name=sql.Literal(job.identity),
        key=key.text(),
        key_columns=key.array,
        run=sql.Literal(run_id),
        decodable=decodable(raw_text(job)),
        too_long=sql.Literal(Reason.TOO_LONG.value),
        undecodable=sql.Literal(Reason.UNDECODABLE.value),
        unreadable=unreadable,
    )
    with execute(connection, statement) as cursor:
        return cursor.rowcount


def run_pass(
    connection: Connection,
    schema: str,
    job: Job,
    batch: Batch,
    lease: uuid.UUID,
    filenode: int,
    timeouts: Timeouts = LIMITS,
    plan: Plan | None = None,
    others: Sequence[InPlaceWriter] = (),
) -> tuple[PassCounts, int]:
    """The batch's next pass, in *connection*'s transaction; returns its counts and the passes done.

    *others*: whose values the same UPDATE rewrites as well.

    Raises ``LeaseLost``, ``Stopped``, ``MapIncomplete``, ``TableRewritten``, ``TableLocked``; nothing
    is written then.
    """
    started = time.monotonic()
    timeouts.apply(connection)
    execute(connection, ASYNCHRONOUS)
    number = claims.fence(connection, batch, lease)
    if number >= batch.passes:  # committed, and the answer was lost on its way to us
        return PassCounts(), number
    address_map.require_complete(connection, schema, batch.run_id)
    check_filenode(connection, job, filenode)
    check_definition(connection, schema, job, batch.run_id)
    consents.fence(connection, schema, job, batch.run_id)
    now = pass_of(batch.range, batch.passes, number)
    writer = writer_of(job, schema)
    with copied_values.refused(connection, writer, plan):
        if others and isinstance(writer, InPlaceWriter):
            written = shared_pass.write(connection, plan, writer, others, batch, now)
        else:
            written = writer.write(connection, plan, batch, now)
    quarantined = (
        quarantine_rows(connection, schema, job, batch.run_id, now.range.holds("event")) if now.last else 0
    )
    counts = PassCounts(written=written, quarantined=quarantined, seconds=time.monotonic() - started)
    claims.count_pass(connection, batch.id, counts, seconds=counts.seconds)
    return counts, number + 1


def process(
    engine: Engine,
    schema: str,
    job: Job,
    batch: Batch,
    lease: uuid.UUID,
    filenode: int,
    timeouts: Timeouts = LIMITS,
    rest: Callable[[float], object] = lambda worked: None,
    plan: Plan | None = None,
    beside: Sequence[JobId] = (),
) -> PassCounts:
    """All passes that are left of one range, a transaction each, and a rest after each.

    *beside*: jobs of the run whose batches come later; what they make of the same rows is written with it, where it can be.

    In one session, which has the batch map. Raises ``AddressesGone`` where somebody deleted rows of *plan*'s address
    table after they were resolved: the driver takes them out of the map, and a sweep resolves their texts anew.
    """
    written, quarantined, longest = 0, 0, 0.0
    tried_anew = False
    done = batch.passes_done
    # Not in a sweep, which finds few rows, nor in a single pass: neither has batch maps.
    others = (
        shared_pass.partners(job, schema, plan, beside) if batch.phase == LINK and batch.passes > 1 else ()
    )
    with engine.connect() as connection:
        if others:
            with connection.begin():
                timeouts.apply(connection)
                others = shared_pass.unwatched(connection, others)
        if batch.passes - done > 1:
            with connection.begin():
                timeouts.apply(connection)
                address_map.require_complete(connection, schema, batch.run_id)
                check_filenode(connection, job, filenode)
                batch_map.ensure(connection, writer_of(job, schema), batch)
        while done < batch.passes:
            try:
                with connection.begin():
                    counts, done = run_pass(
                        connection, schema, job, batch, lease, filenode, timeouts, plan, others
                    )
            except psycopg2.errors.ForeignKeyViolation:
                with connection.begin():
                    timeouts.apply(connection)
                    batch_map.drop(connection)
                    gone = plan is not None and any(
                        address_map.names_gone(connection, schema, known) for known in plan.address_tables
                    )
                if gone:
                    raise address_map.AddressesGone from None
                if tried_anew and not others:
                    raise  # another foreign key
                others = ()  # it may be theirs
                tried_anew = True  # the batch map may be older than the map
                continue
            except REFUSED:
                if not others:
                    raise
                others = ()  # what is refused may be theirs, and then their own batches say so
                continue
            tried_anew = False
            written += counts.written
            quarantined += counts.quarantined
            longest = max(longest, counts.seconds)
            rest(counts.seconds)
        with connection.begin():
            batch_map.drop(connection)
    return PassCounts(written=written, quarantined=quarantined, seconds=longest)
