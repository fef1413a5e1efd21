"""Replay: rows whose key was noted are taken anew from the original, as it is now.

One snapshot a transaction (REPEATABLE READ), so that the notes in it and the rows in it belong
together: read statement by statement, a row could be fresher than its notes and collide with another
on a unique index. What a transaction replays it compares as well.
"""

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.database.columns import column_type
from backfill.database.connection import execute, rows, value
from backfill.database.lock_retry import patiently
from backfill.database.quoting import table
from backfill.database.writing import writes
from backfill.jobs import address_rows, apply
from backfill.jobs.resolver import Resolver
from backfill.jobs.row_needs import lacks_geo, may_be_address, raw_text
from backfill.ledger import address_map, batches, runs
from backfill.ledger.phases import RESOLVE
from backfill.plan import Addresses, LinkJob
from backfill.shadow import blockers, capture, compare, expected_rows, names
from backfill.shadow.rows import insert, known
from backfill.shadow.table_definition import TableDefinition

NOTES = 20_000  # a transaction: under a second
LOCK_TIMEOUT_MS = 2_000  # for the run's own row: others hold it for a moment
QUIET = 200  # notes that the cut-over may find: a few milliseconds under its lock

# On commit drop: keys are no addresses, but the next transaction has others.
TAKE = sql.SQL("""
    create temporary table backfill_changes (key {key_type}) on commit drop;
    with taken as (
        delete from {log} where id in (select id from {log} order by id limit {limit}) returning key
    )
    insert into backfill_changes select distinct key from taken
""")

# By array: the planner takes it for ten keys and probes indexes throughout. A join with the temporary table,
# of which it knows nothing, read both tables as a whole, half a dozen times for each 20,000 notes.
KEYS = sql.SQL("any (array(select key from pg_temp.backfill_changes))")
WHICH = sql.SQL("event.{key} {equals} {keys}")

TEXTS = sql.SQL("""
    select distinct {text}
      from {table} as event
     where {which} and event.{raw} is not null and {may_be_address}
       and (event.{link} is null or {lacks_geo})
       and not exists (select from {map} as map where map.raw = {text})
""")


class ReplayDiffers(Exception):
    """A replayed row is not what its original calls for; the replay was rolled back."""


def catch_up(
    engine: Engine,
    schema: str,
    addresses: Addresses,
    job: LinkJob,
    definition: TableDefinition,
    resolver: Resolver,
    run_id: int,
) -> int:
    """Replay until few notes are left; returns how many were read. Raises ``ReplayDiffers``."""

    def once(connection: Connection) -> tuple[int, int]:
        execute(connection, compare.REPEATABLE)
        runs.keep(connection, run_id)
        read = replay(connection, schema, addresses, job, definition, resolver, run_id)
        return read, capture.waiting(connection, schema, job)

    replayed = 0
    while True:
        # An address that the live application enters at the same moment is a serialization failure here.
        read, left = patiently(engine, LOCK_TIMEOUT_MS, once)
        replayed += read
        if left <= QUIET:
            return replayed


def ensure_map(connection: Connection, schema: str, addresses: Addresses, run_id: int) -> None:
    """An address map to look texts up in, if only an empty one: the replay resolves what it lacks."""
    if not address_map.exists(connection, schema):
        address_map.create(connection, schema, addresses)
        runs.set_map_rows(connection, run_id, 0)
        batches.restart(connection, run_id, phase=RESOLVE)  # a resumed run must not think it complete


def replay(
    connection: Connection,
    schema: str,
    addresses: Addresses,
    job: LinkJob,
    definition: TableDefinition,
    resolver: Resolver,
    run_id: int,
    *,
    limit: int = NOTES,
) -> int:
    """Read up to *limit* notes in *connection*'s transaction; returns their number of keys."""
    log, key = names.log(schema, job), sql.Identifier(names.key(job))
    kind = column_type(connection, job, names.key(job))
    take = TAKE.format(key_type=sql.SQL(kind.name), log=log, limit=sql.Literal(limit))
    with execute(connection, take) as cursor:
        taken = cursor.rowcount
    if taken == 0:
        execute(connection, sql.SQL("drop table backfill_changes"))
        return 0
    which: sql.Composable = WHICH.format(key=key, equals=kind.equals, keys=KEYS)
    _resolve(connection, schema, addresses, job, resolver, run_id, which)
    shadow = table(names.shadow(job))
    if value(connection, sql.SQL("select exists (select from backfill_changes where key is null)")):
        # The original was truncated. Whatever was written afterwards has notes of its own, read or to
        # be read; those that were read already are taken again.
        execute(connection, sql.SQL("delete from {}").format(shadow))
        which = sql.SQL("true")
        blockers.clear(connection, schema, job)
    blockers.release(connection, schema, job, sql.Identifier("backfill_changes"))
    execute(
        connection,
        sql.SQL("delete from {} as copy where copy.{} {} {}").format(shadow, key, kind.equals, KEYS),
    )
    places = known(connection, addresses, resolver.geo.keys)
    with writes(connection, job, names.shadow(job)):
        execute(connection, insert(schema, job, definition, which, places))
    _release(connection, schema, job)
    apply.quarantine_rows(connection, schema, job, run_id, which)
    counts = compare.compare_rows(connection, schema, addresses, job, definition, resolver, which)
    expected_rows.drop_temporary(connection)
    execute(connection, sql.SQL("drop table backfill_changes"))
    if compare.faults(counts):
        raise ReplayDiffers(str(compare.faults(counts)))
    return taken


def _release(connection: Connection, schema: str, job: LinkJob) -> None:
    """Nothing waits for a decision of a row that changed: what it holds now is judged anew."""
    statement = sql.SQL("""
        delete from {quarantine} as entry using backfill_changes as noted
         where entry.job = %s and entry.decision_id is null and entry.row_key = noted.key::text
    """)
    execute(connection, statement.format(quarantine=sql.Identifier(schema, "quarantine")), (job.identity,))


def _resolve(
    connection: Connection,
    schema: str,
    addresses: Addresses,
    job: LinkJob,
    resolver: Resolver,
    run_id: int,
    which: sql.Composable,
) -> None:
    statement = TEXTS.format(
        raw=sql.Identifier(job.raw),
        text=raw_text(job),
        table=table(job),
        which=which,
        may_be_address=may_be_address(raw_text(job)),
        link=sql.Identifier(job.link),
        lacks_geo=lacks_geo(job),
        map=address_map.name(schema),
    )
    resolved = list(resolver.resolve(text for (text,) in rows(connection, statement)))
    if resolved:
        entered = address_rows.enter(connection, schema, addresses, resolver, resolved)
        runs.add_map_rows(connection, run_id, entered)
