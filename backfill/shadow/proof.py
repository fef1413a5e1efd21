"""Proof: what each text of the original calls for, computed anew for the comparison; the address map has no part.

For a whole table a relation of the ledger's schema, so that several sessions can compare ranges of it at
once: unlogged, as the map is, and with its limits. For a replay a temporary one, of the session alone.
"""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.addresses import MAX_LENGTH
from backfill.database.engine import ASYNCHRONOUS, copy_in, execute, rows, value
from backfill.database.heap import Range, heap_of, ranges
from backfill.database.names import table
from backfill.jobs.resolve import Resolved, Resolver
from backfill.plan import Job

BLOCKS = 2_000  # 16 MB a transaction: some 30,000 new texts at first, half a second

TEMPORARY = sql.Identifier("backfill_shadow_proof")
COLUMNS = sql.SQL("raw text primary key, address text, hash text, geo jsonb, reason text")

# Statistics 0: ANALYZE by hand would write values into pg_statistic, which is logged.
PRIVATE = sql.SQL("""
    alter table {proof} alter raw set statistics 0, alter address set statistics 0,
        alter hash set statistics 0, alter geo set statistics 0
""")

UNREAD = sql.SQL("""
    select text.raw
      from (select distinct event.{raw} as raw from {table} as event
             where {which} and event.{raw} is not null and length(event.{raw}) <= {max_length}) as text
     where not exists (select from {proof} as known where known.raw = text.raw)
""")


def shared(schema: str) -> sql.Identifier:
    """The proof of a whole comparison."""
    return sql.Identifier(schema, "shadow_proof")


def create(connection: Connection, schema: str) -> None:
    """The shared proof, empty: one that was left behind may be of another salt or geo database."""
    drop(connection, schema)
    execute(connection, sql.SQL("create unlogged table {} ({})").format(shared(schema), COLUMNS))
    execute(connection, PRIVATE.format(proof=shared(schema)))


def exists(connection: Connection, schema: str) -> bool:
    """Whether there is one to go on with."""
    there = sql.SQL("select to_regclass(%s) is not null")
    return bool(value(connection, there, (f"{schema}.shadow_proof",)))


def create_temporary(connection: Connection) -> None:
    """One that ends with its session at the latest."""
    execute(connection, sql.SQL("create temporary table if not exists {} ({})").format(TEMPORARY, COLUMNS))
    execute(connection, PRIVATE.format(proof=TEMPORARY))


def drop(connection: Connection, schema: str) -> None:
    """Take the texts of the shared proof away."""
    execute(connection, sql.SQL("drop table if exists {}").format(shared(schema)))


def drop_temporary(connection: Connection) -> None:
    """Take the texts out of a session that goes on."""
    execute(connection, sql.SQL("drop table if exists {}").format(TEMPORARY))


def read(
    connection: Connection, proof: sql.Identifier, job: Job, resolver: Resolver, which: sql.Composable
) -> None:
    """Enter what *which* rows of the original (``event``) call for, as far as it is not there."""
    copy_in(connection, proof, Resolved._fields, resolver.resolve(_unread(connection, proof, job, which)))


def read_all(engine: Engine, schema: str, job: Job, resolver: Resolver) -> None:
    """The whole table's, into the shared proof; the server enters one range while the next is computed."""
    proof = shared(schema)
    with engine.begin() as connection:
        blocks = heap_of(connection, job).blocks

    def ask(span: Range) -> list[str]:
        with engine.begin() as connection:
            return _unread(connection, proof, job, span.holds("event"))

    def enter(resolved: list[Resolved]) -> None:
        with engine.begin() as connection:
            execute(connection, ASYNCHRONOUS)
            copy_in(connection, proof, Resolved._fields, resolved)

    # Three at a time: one range is asked for, one computed, one entered. What the two before it enter, the
    # proof may not have shown when a range was asked for.
    under_way: deque[set[str]] = deque(maxlen=2)
    with ThreadPoolExecutor(1, "ask") as asking, ThreadPoolExecutor(1, "enter") as entering:
        spans = list(ranges(blocks, BLOCKS))
        coming = [asking.submit(ask, span) for span in spans[:1]]
        going: list[Future[None]] = []
        for number in range(len(spans)):
            texts = coming.pop().result()
            coming += [asking.submit(ask, span) for span in spans[number + 1 : number + 2]]
            resolved = list(resolver.resolve(t for t in texts if not any(t in known for known in under_way)))
            for done in going:
                done.result()
            going = [entering.submit(enter, resolved)]
            under_way.append({one.raw for one in resolved})
        for done in going:
            done.result()
    with engine.begin() as connection:
        execute(connection, sql.SQL("analyze {}").format(proof))  # sizes alone: the planner needs them


def _unread(connection: Connection, proof: sql.Identifier, job: Job, which: sql.Composable) -> list[str]:
    statement = UNREAD.format(
        raw=sql.Identifier(job.raw),
        table=table(job),
        which=which,
        max_length=sql.Literal(MAX_LENGTH),
        proof=proof,
    )
    return [text for (text,) in rows(connection, statement)]
