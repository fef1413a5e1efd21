"""Compare: every row of the copy against its original, before anything is swapped.

Each snapshot leaves out the rows whose key is noted: note and change are one transaction, so whatever
a snapshot shows without a note has to be equal. Links, hashes and geo are judged by the ``proof``.
"""

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.addresses import MAX_LENGTH
from backfill.database.engine import execute, rows
from backfill.database.heap import heap_of, ranges
from backfill.database.names import table
from backfill.jobs.conditions import lacks_geo
from backfill.jobs.resolve import Resolver
from backfill.plan import Addresses, Job
from backfill.shadow import names, proof
from backfill.shadow.catalog import Blueprint

BLOCKS = 20_000  # 160 MB a snapshot, some 700,000 rows
MOST_ROUNDS = 6  # of a range for each session; each range reads the whole copy once
REPEATABLE = sql.SQL("set transaction isolation level repeatable read")

# The planner knows nothing of ranges and the two sessions of ours are all the parallelism there should be;
# left alone it probed two indexes for every row and started four more processes (12 µs a row against 4).
HASHED = sql.SQL("""
    set local enable_nestloop = off; set local enable_mergejoin = off;
    set local max_parallel_workers_per_gather = 0; set local work_mem = '64MB'
""")

# What may not be: each of these is a fault of the copy.
FAULTS = {
    "missing": "copy.{key} is null",
    "differing": "copy.{key} is not null and ({original}) is distinct from ({copied})",
    "relinked": "copy.{key} is not null and event.{link} is not null and copy.{link} is distinct from event.{link}",
    "unlinked": "copy.{key} is not null and event.{raw} is not null and copy.{link} is null and text.address is not null",
    "linked for nothing": "event.{raw} is null and event.{link} is null and copy.{link} is not null",
    "other words": "{words_differ}",
    "geo missing": "copy.{key} is not null and text.geo is not null and {lacks_geo}",
    "not judged": "event.{raw} is not null and length(event.{raw}) <= {max_length} and text.raw is null",
}

# What the original brought with it: the copy is right, but nobody could tell any more once it serves.
FLAWS = {
    "rejected": "event.{raw} is not null and copy.{link} is null and text.address is null",
    "wrong": "text.address is not null and copy.{link} is not null"
    " and text.address is distinct from host(known.{address})",
    "hash missing": "copy.{link} is not null and event.{raw} is not null and known.{hash} is null",
    "hash wrong": "text.address = host(known.{address}) and known.{hash} <> text.hash",
}

COMPARE = sql.SQL("""
    select count(*), count(event.{raw}), count(event.{link}), count(copy.{link}), {counts}
      from {table} as event
      left join {shadow} as copy on copy.{key} = event.{key}
      left join {proof} as text on text.raw = event.{raw}
      left join {addresses} as known on known.{address_key} = copy.{link}
     where {which} and {unnoted}
""")

# The event's own words stay; geo is added where there was room for it, and is what the address has.
WORDS_DIFFER = sql.SQL("""
    copy.{key} is not null and copy.{extra} is distinct from event.{extra}
    and ({lacks_geo} and copy.{extra} = coalesce(nullif(event.{extra}, 'null'::jsonb), '{{}}'::jsonb)
         || case when text.geo is not null then text.geo
                 else jsonb_build_object('geoip_info', copy.{extra} -> 'geoip_info') end)
       is not true
""")

UNNOTED = sql.SQL("not exists (select from {log} as note where note.key = {alias}.{key})")

# In one snapshot, after every range was compared: whatever the original shows without a note was met and
# has its row in the copy; as many rows there without a note, and there is none that only the copy has.
COUNTS = sql.SQL("""
    select (select count(*) from {table} as event where {event_unnoted}),
           (select count(*) from {shadow} as copy where {copy_unnoted})
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
    job: Job,
    blueprint: Blueprint,
    resolver: Resolver,
    advance: Callable[[int], object],
    *,
    workers: int,
    first: bool,
    last: bool,
) -> Counts:
    """Counts of all rows by ``FAULTS`` and ``FLAWS``, of rows, and of rows that only the copy has.

    One proof serves several tables, from the *first* to the *last*.
    """
    with engine.begin() as connection:
        if first or not proof.exists(connection, schema):
            proof.create(connection, schema)
        blocks = heap_of(connection, job).blocks
    proof.read_all(engine, schema, job, resolver)
    rounds = min(-(-blocks // (BLOCKS * workers)), MOST_ROUNDS) or 1
    statements = [
        _statement(schema, addresses, job, blueprint, proof.shared(schema), span.holds("event"))
        for span in ranges(blocks, -(-blocks // (rounds * workers)) or 1)
    ]

    def judge(statement: sql.Composed) -> Counts:
        with engine.begin() as connection:
            execute(connection, REPEATABLE)
            execute(connection, HASHED)
            return _counts(connection, statement)

    total: Counts = {}
    under_way: deque[Future[Counts]] = deque()
    with ThreadPoolExecutor(workers, "compare") as pool:
        while statements or under_way:
            if statements and len(under_way) < workers:
                under_way.append(pool.submit(judge, statements.pop(0)))
                continue
            found = under_way.popleft().result()
            total = {name: total.get(name, 0) + number for name, number in found.items()}
            advance(found["rows"])
    with engine.begin() as connection:
        total["surplus"] = _surplus(connection, schema, job)
        if last:
            proof.drop(connection, schema)
    return total


def check(
    connection: Connection,
    schema: str,
    addresses: Addresses,
    job: Job,
    blueprint: Blueprint,
    resolver: Resolver,
    which: sql.Composable,
) -> Counts:
    """The counts of those rows of the original (``event``), in *connection*'s snapshot, by a proof of its own."""
    proof.create_temporary(connection)
    proof.read(connection, proof.TEMPORARY, job, resolver, which)
    return _counts(connection, _statement(schema, addresses, job, blueprint, proof.TEMPORARY, which))


def _counts(connection: Connection, statement: sql.Composed) -> Counts:
    (found,) = rows(connection, statement)
    labels = ("rows", "raw", "linked before", "linked", *FAULTS, *FLAWS)
    return dict(zip(labels, found or [0] * len(labels), strict=True))


def _surplus(connection: Connection, schema: str, job: Job) -> int:
    execute(connection, REPEATABLE)
    execute(connection, HASHED)
    parts = {
        "shadow": table(names.shadow(job)),
        "table": table(job),
        "key": sql.Identifier(job.key),
        "event_unnoted": _unnoted(schema, job, "event"),
        "copy_unnoted": _unnoted(schema, job, "copy"),
    }
    ((originals, copies),) = rows(connection, COUNTS.format(**parts))
    return 0 if originals == copies else int(rows(connection, SURPLUS.format(**parts))[0][0])


UNLINKED = sql.SQL("""
    select count(*), count(copy.{link}), count(*) filter (where event.{raw} is not null and copy.{link} is null)
      from {table} as event join {shadow} as copy on copy.{key} = event.{key}
     where {unnoted}
""")


def unlinked(connection: Connection, schema: str, job: Job) -> Counts:
    """Rows, links, and rows that would lose a text, as they are now: one join, where a comparison is many."""
    statement = UNLINKED.format(
        link=sql.Identifier(job.link),
        raw=sql.Identifier(job.raw),
        key=sql.Identifier(job.key),
        table=table(job),
        shadow=table(names.shadow(job)),
        unnoted=_unnoted(schema, job, "event"),
    )
    return dict(zip(("rows", "linked", "rejected"), rows(connection, statement)[0], strict=True))


def faults(counts: Mapping[str, int]) -> dict[str, int]:
    """What would make a swap a loss; empty when the copy is right."""
    return {name: counts[name] for name in (*FAULTS, "surplus") if counts.get(name)}


def flaws(counts: Mapping[str, int]) -> dict[str, int]:
    """What has to be settled or repaired before the texts go; empty when nothing has."""
    return {name: counts[name] for name in FLAWS if counts.get(name)}


def _unnoted(schema: str, job: Job, alias: str) -> sql.Composed:
    return UNNOTED.format(
        log=names.log(schema, job), key=sql.Identifier(job.key), alias=sql.Identifier(alias)
    )


def _statement(
    schema: str,
    addresses: Addresses,
    job: Job,
    blueprint: Blueprint,
    texts: sql.Identifier,
    which: sql.Composable,
) -> sql.Composed:
    plain = [c.name for c in blueprint.columns if c.name not in (job.link, job.extra)]
    parts: dict[str, sql.Composable] = {
        "key": sql.Identifier(job.key),
        "link": sql.Identifier(job.link),
        "raw": sql.Identifier(job.raw),
        "address": sql.Identifier(addresses.address),
        "hash": sql.Identifier(addresses.hash),
        "original": sql.SQL(", ").join(sql.Identifier("event", name) for name in plain),
        "copied": sql.SQL(", ").join(sql.Identifier("copy", name) for name in plain),
        "lacks_geo": lacks_geo(job, "copy"),
        "words_differ": sql.SQL("false"),
        "max_length": sql.Literal(MAX_LENGTH),
    }
    if job.extra is not None:
        parts["words_differ"] = WORDS_DIFFER.format(
            key=parts["key"], extra=sql.Identifier(job.extra), lacks_geo=lacks_geo(job)
        )
    conditions = [*FAULTS.values(), *FLAWS.values()]
    counts = [
        sql.SQL("count(*) filter (where {})").format(sql.SQL(text).format(**parts)) for text in conditions
    ]
    return COMPARE.format(
        **{name: parts[name] for name in ("raw", "link", "key")},
        counts=sql.SQL(", ").join(counts),
        table=table(job),
        shadow=table(names.shadow(job)),
        proof=texts,
        addresses=table(addresses),
        address_key=sql.Identifier(addresses.key),
        which=which,
        unnoted=_unnoted(schema, job, "event"),
    )
