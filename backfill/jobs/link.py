"""Link: every event row gets its address row and its own geo, set-based, in the server.

A batch goes over its blocks in passes, a transaction each: why, and which rows in which, is ``pass_of``.
"""

import time
import uuid
from collections.abc import Callable, Sequence

import psycopg2.errors
from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.addresses import Reason
from backfill.database.columns import column_type
from backfill.database.connection import ASYNCHRONOUS, execute, value
from backfill.database.decodable import decodable
from backfill.database.definition import DEFINITION
from backfill.database.quoting import regclass, table
from backfill.database.timeouts import Timeouts
from backfill.database.transient import TableLocked
from backfill.database.writing import writes
from backfill.errors import TableChanged, TableRewritten
from backfill.jobs import batch_map, index_hint
from backfill.jobs.passes import Pass, pass_of
from backfill.jobs.row_needs import lacks_geo, may_be_address, object_of, raw_text, readable_place, unlinked
from backfill.ledger import address_map, claims
from backfill.ledger.batches import Batch, PassCounts
from backfill.plan import Job, Plan

LIMITS = Timeouts()


LINK = sql.SQL("""
    update {table} as event
       set {assignments}
      from {map} as map
     where map.raw OPERATOR(pg_catalog.=) {text}
       and map.address_id is not null                     -- a text that is no address links nowhere
       and (event.{link} is null or ({needs_geo}))        -- idempotent
       and {looks}
       and {in_range}
       and {in_pass}
""")

# This one runs under the application's search_path: every operator and function of it is qualified.
SET_LINK = sql.SQL("{link} = coalesce(event.{link}, map.address_id)")  # the live application wins
SET_AS_IT_IS = sql.SQL("{column} = event.{column}")  # why: ``index_hint``
SET_GEO = sql.SQL("""
    {extra} = case when {needs_geo}
                   then {object} OPERATOR(pg_catalog.||) map.geo
                   else event.{extra} end                 -- jsonb || NULL would wipe the column
""")

# A row that the application linked itself, without a text: its place is that of the address.
PLACE_OF_LINK = sql.SQL("""
    update {table} as event
       set {extra} = {object} OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object('geoip_info', known.{geo})
      from {addresses} as known
     where known.{key} {equals} event.{link}
       and event.{raw} is null
       and {lacks_geo}
       and {readable}
       and {in_range}
""")

# Rows are spread over the passes by where they lie. The last pass takes whatever is left, so that
# a row that live traffic moved between two passes is not missed. Two inequalities say "equal": the
# planner takes a third of the rows for each, a ninth together, which is about right for shares of four
# and eight; for "= {number}" on an expression it would take one row in 200.
IN_PASS = sql.SQL("""
    (pg_catalog.hashtid(event.ctid) OPERATOR(pg_catalog.&) {mask}) OPERATOR(pg_catalog.<=) {number}
    and (OPERATOR(pg_catalog.-) (pg_catalog.hashtid(event.ctid) OPERATOR(pg_catalog.&) {mask}))
        OPERATOR(pg_catalog.<=) {minus}
""")

# The map has few reasons among many addresses, and an index over them: joined with the whole of it,
# looking for the few rows that link nowhere cost a third of copying the range.
QUARANTINE = sql.SQL("""
    insert into {quarantine} as entry (job, row_key, reason, run_id)
    select {name}, event.{key}::text, coalesce(map.reason, case when {decodable} then {too_long} else {undecodable} end), {run}
      from {table} as event
      left join (select raw, reason from {map} where reason is not null) as map on map.raw = {text}
     where {in_range} and {unlinked}
       and (map.reason is not null or not {may_be_address})
    on conflict (job, row_key)
        do update set reason = excluded.reason, run_id = excluded.run_id, decision_id = null
""")


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


def statement(
    texts: sql.Identifier, job: Job, now: Pass, unchanged: Sequence[str] = (), *, few: bool = False
) -> sql.Composed:
    """The UPDATE of one pass, from a batch map or all of it.

    *unchanged*: columns that are named, and stay as they are. *few*: rows that have all they need, nearly all of
    them, are told without a look into the map.
    """
    extra = None if job.extra is None else sql.Identifier(job.extra)
    needs_geo = sql.SQL("map.geo is not null and {}").format(lacks_geo(job))
    assignments: list[sql.Composable] = [SET_LINK.format(link=sql.Identifier(job.link))]
    if extra is not None:
        words = object_of(sql.Identifier("event", str(job.extra)))
        assignments.append(SET_GEO.format(extra=extra, needs_geo=needs_geo, object=words))
    assignments.extend(SET_AS_IT_IS.format(column=sql.Identifier(name)) for name in unchanged)
    return LINK.format(
        table=table(job),
        map=texts,
        text=raw_text(job),
        link=sql.Identifier(job.link),
        assignments=sql.SQL(", ").join(assignments),
        needs_geo=needs_geo,
        looks=sql.SQL("(event.{} is null or {})").format(sql.Identifier(job.link), lacks_geo(job))
        if few
        else sql.SQL("true"),
        in_range=now.range.holds("event"),
        in_pass=sql.SQL("true")
        if now.last
        else IN_PASS.format(
            mask=sql.Literal(now.shares - 1), number=sql.Literal(now.share), minus=sql.Literal(-now.share)
        ),
    )


def link_rows(connection: Connection, schema: str, job: Job, batch: Batch, now: Pass) -> int:
    """One turn; returns the rows written. A single one needs no excerpt."""
    few = batch.phase.is_sweep
    if few:
        execute(connection, batch_map.PROBE)
        texts = address_map.name(schema)
    elif batch.passes == 1:
        batch_map.choose_join(connection, schema, job, now.range.last - now.range.first, texts_only=False)
        texts = address_map.name(schema)
    else:
        batch_map.ensure(connection, schema, job, batch)
        execute(connection, batch_map.HASH)
        texts = batch_map.NAME
    unchanged = index_hint.unchanged(connection, job)
    with (
        writes(connection, job),
        execute(connection, statement(texts, job, now, unchanged, few=few)) as cursor,
    ):
        return cursor.rowcount


def place_linked_rows(connection: Connection, job: Job, plan: Plan, now: Pass) -> int:
    """Give rows with a link and no text the place of the address that they are linked to; returns their number."""
    if job.extra is None:
        return 0
    known = plan.addresses
    execute(connection, batch_map.PROBE)
    statement = PLACE_OF_LINK.format(
        table=table(job),
        extra=sql.Identifier(job.extra),
        object=object_of(sql.Identifier("event", job.extra)),
        geo=sql.Identifier(known.geo),
        addresses=table(known),
        key=sql.Identifier(known.key),
        equals=column_type(connection, known, known.key).equals,
        link=sql.Identifier(job.link),
        raw=sql.Identifier(job.raw),
        lacks_geo=lacks_geo(job),
        readable=readable_place(sql.Identifier("known", known.geo), plan.geo.keys),
        in_range=now.range.holds("event"),
    )
    with writes(connection, job), execute(connection, statement) as cursor:
        return cursor.rowcount


def quarantine_rows(connection: Connection, schema: str, job: Job, run_id: int, which: sql.Composable) -> int:
    """Put those rows (``event``) that cannot be linked on record; returns their number."""
    statement = QUARANTINE.format(
        quarantine=sql.Identifier(schema, "quarantine"),
        name=sql.Literal(job.identity),
        key=sql.Identifier(job.key),
        text=raw_text(job),
        table=table(job),
        map=address_map.name(schema),
        run=sql.Literal(run_id),
        decodable=decodable(raw_text(job)),
        too_long=sql.Literal(Reason.TOO_LONG.value),
        undecodable=sql.Literal(Reason.UNDECODABLE.value),
        may_be_address=may_be_address(raw_text(job)),
        in_range=which,
        unlinked=unlinked(job),
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
) -> tuple[PassCounts, int]:
    """The batch's next pass, in *connection*'s transaction; returns its counts and the passes done.

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
    now = pass_of(batch.range, batch.passes, number)
    written = link_rows(connection, schema, job, batch, now)
    if plan is not None and batch.phase.is_sweep:  # where the count has seen some
        written += place_linked_rows(connection, job, plan, now)
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
) -> PassCounts:
    """All passes that are left of one range, a transaction each, and a rest after each.

    In one session, which has the batch map. Raises ``AddressesGone`` where somebody deleted rows of *plan*'s address
    table after they were resolved: the driver takes them out of the map, and a sweep resolves their texts anew.
    """
    written, quarantined, longest = 0, 0, 0.0
    tried_anew = False
    done = batch.passes_done
    with engine.connect() as connection:
        if batch.passes - done > 1:
            with connection.begin():
                timeouts.apply(connection)
                address_map.require_complete(connection, schema, batch.run_id)
                check_filenode(connection, job, filenode)
                batch_map.ensure(connection, schema, job, batch)
        while done < batch.passes:
            try:
                with connection.begin():
                    counts, done = run_pass(connection, schema, job, batch, lease, filenode, timeouts, plan)
            except psycopg2.errors.ForeignKeyViolation:
                with connection.begin():
                    timeouts.apply(connection)
                    batch_map.drop(connection)
                    gone = plan is not None and address_map.names_gone(connection, schema, plan.addresses)
                if gone:
                    raise address_map.AddressesGone from None
                if tried_anew:
                    raise  # another foreign key
                tried_anew = True  # the batch map may be older than the map
                continue
            tried_anew = False
            written += counts.written
            quarantined += counts.quarantined
            longest = max(longest, counts.seconds)
            rest(counts.seconds)
        with connection.begin():
            batch_map.drop(connection)
    return PassCounts(written=written, quarantined=quarantined, seconds=longest)
