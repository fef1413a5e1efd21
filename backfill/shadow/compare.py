"""Compare: every row of the copy against its original, before anything is swapped.

Each snapshot leaves out the rows whose key is noted: note and change are one transaction, so whatever
a snapshot shows without a note has to be equal. One look tells the rows that are plainly fine; what the
others are is told by name (``classification``), from their texts computed once more.
"""

from collections.abc import Callable, Mapping

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.database.blocks import Range, heap_of, ranges
from backfill.database.columns import column_type
from backfill.database.connection import execute, rows
from backfill.database.quoting import table
from backfill.engine.in_flight import in_threads
from backfill.jobs.resolver import Resolver
from backfill.plan import Addresses, LinkJob
from backfill.shadow import blockers, classification, expected_rows, names
from backfill.shadow.classification import BLOCKERS, FAULTS
from backfill.shadow.expected_rows import ExpectedRows
from backfill.shadow.table_definition import TableDefinition

BLOCKS = 10_000  # 80 MB a snapshot, some 350,000 rows: twice as many are more than a hash in memory holds
MOST_ROUNDS = 6  # of a range for each session; each range reads the whole copy once
FEW = 20_000  # rows that are asked for by key; for more of them the whole range is read again
REPEATABLE = sql.SQL("set transaction isolation level repeatable read")

# The planner knows nothing of ranges and the two sessions of ours are all the parallelism there should be;
# left alone it probed two indexes for every row and started four more processes (12 µs a row against 4).
HASHED = sql.SQL("""
    set local enable_nestloop = off; set local enable_mergejoin = off;
    set local max_parallel_workers_per_gather = 0; set local work_mem = '64MB'
""")
PLANNED = sql.SQL("set local enable_nestloop = on; set local enable_mergejoin = on")

# In one snapshot, after every range was compared: whatever the original shows without a note was met and
# has its row in the copy; as many rows there without a note, and there is none that only the copy has.
COUNTS = sql.SQL("""
    select original.rows, copied.rows, copied.links
      from (select count(*) as rows from {table} as event where {event_unnoted}) as original,
           (select count(*) as rows, count({link}) as links from {shadow} as copy where {copy_unnoted}) as copied
""")

SURPLUS = sql.SQL("""
    select count(*) from {shadow} as copy
     where not exists (select from {table} as event where event.{key} = copy.{key}) and {copy_unnoted}
""")

Counts = dict[str, int]


def compare(
    engine: Engine,
    schema: str,
    addresses: Addresses,
    job: LinkJob,
    definition: TableDefinition,
    against: ExpectedRows,
    advance: Callable[[int], object],
    *,
    workers: int,
) -> Counts:
    """Counts of all rows by ``FAULTS`` and ``BLOCKERS``, of rows, and of rows that only the copy has.

    The keys of rows with flaws are on record afterwards.
    """
    against.read(job)
    expected = against.expected(addresses, job)
    with engine.begin() as connection:
        blockers.clear(connection, schema, job)
        blocks = heap_of(connection, job).blocks
    rounds = min(-(-blocks // (BLOCKS * workers)), MOST_ROUNDS) or 1
    spans = ranges(blocks, -(-blocks // (rounds * workers)) or 1)

    def classify(span: Range) -> Counts:
        which = span.holds("event")
        with engine.begin() as connection:
            execute(connection, REPEATABLE)
            execute(connection, HASHED)
            look = classification.classified_rows(schema, job, definition, expected, which)
            ((number, raw, before, linked, others),) = rows(connection, look)
            found = dict.fromkeys((*FAULTS, *BLOCKERS), 0)
            if others:
                if len(others) <= FEW:
                    execute(connection, PLANNED)
                    which = sql.SQL("event.{key} = any ({keys}::{type}[])").format(
                        key=sql.Identifier(names.key(job)),
                        keys=sql.Literal(others),
                        type=sql.SQL(column_type(connection, job, names.key(job)).name),
                    )
                found |= compare_rows(connection, schema, addresses, job, definition, against.resolver, which)
                expected_rows.drop_temporary(connection)
        return found | {"rows": number, "raw": raw, "linked before": before, "linked": linked}

    total: Counts = {}
    for _, found in in_threads(workers, classify, spans, name="compare"):
        total = {name: total.get(name, 0) + number for name, number in found.items()}
        advance(found["rows"])
    with engine.begin() as connection:
        total["surplus"] = _surplus(connection, schema, job)
    return total


def compare_rows(
    connection: Connection,
    schema: str,
    addresses: Addresses,
    job: LinkJob,
    definition: TableDefinition,
    resolver: Resolver,
    which: sql.Composable,
) -> Counts:
    """``FAULTS`` and ``BLOCKERS`` of those rows of the original (``event``), in *connection*'s snapshot.

    By a proof of its own. The keys of those with flaws are put on record.
    """
    expected_rows.create_temporary(connection)
    expected_rows.enter_expected(connection, expected_rows.TEMPORARY, job, resolver, which)
    about = (schema, addresses, job, definition, expected_rows.TEMPORARY, which)
    (found,) = rows(connection, classification.counts(*about))
    counted = dict(zip(("rows", *FAULTS, *BLOCKERS), found, strict=True))
    if any(counted[name] for name in BLOCKERS):
        execute(connection, classification.blocked(*about))
    return counted


def now(connection: Connection, schema: str, job: LinkJob) -> Counts:
    """Rows and links of the copy as they are at this moment, and faults that mere counting shows.

    A comparison may be days old: rows that somebody took out of the copy, or put in, would be lost or gained.
    """
    originals, copies, links = _numbers(connection, schema, job)
    return {
        "rows": copies,
        "linked": links,
        "missing": max(0, originals - copies),
        "surplus": max(0, copies - originals),
    }


def _surplus(connection: Connection, schema: str, job: LinkJob) -> int:
    execute(connection, REPEATABLE)
    originals, copies, _ = _numbers(connection, schema, job)
    if originals == copies:
        return 0
    execute(connection, HASHED)
    return int(rows(connection, SURPLUS.format(**_sides(schema, job)))[0][0])


def _numbers(connection: Connection, schema: str, job: LinkJob) -> tuple[int, int, int]:
    (found,) = rows(connection, COUNTS.format(**_sides(schema, job)))
    return found


def _sides(schema: str, job: LinkJob) -> dict[str, sql.Composable]:
    return {
        "shadow": table(names.shadow(job)),
        "table": table(job),
        "key": sql.Identifier(names.key(job)),
        "link": sql.Identifier(job.link),
        "event_unnoted": classification.unnoted(schema, job, "event"),
        "copy_unnoted": classification.unnoted(schema, job, "copy"),
    }


def faults(counts: Mapping[str, int]) -> dict[str, int]:
    """What would make a swap a loss; empty when the copy is right."""
    return {name: counts[name] for name in (*FAULTS, "surplus") if counts.get(name)}
