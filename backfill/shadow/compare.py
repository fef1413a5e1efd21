"""Compare: every row of the copy against its original, before anything is swapped.

Each snapshot leaves out the rows whose key is noted: note and change are one transaction, so whatever
a snapshot shows without a note has to be equal. Links, hashes and geo are recomputed from the text,
here, in the client; the address map has no part in it.
"""

from collections.abc import Callable, Mapping

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.addresses import MAX_LENGTH
from backfill.database.engine import copy_in, execute, rows
from backfill.database.heap import heap_of, ranges
from backfill.database.names import table
from backfill.jobs.conditions import lacks_geo
from backfill.jobs.resolve import Resolved, Resolver
from backfill.plan import Addresses, Job
from backfill.shadow import names
from backfill.shadow.catalog import Blueprint

BLOCKS = 20_000  # 160 MB a snapshot: the copy's index is read once a range, so small ranges cost more
PROOF = sql.Identifier("backfill_shadow_proof")
REPEATABLE = sql.SQL("set transaction isolation level repeatable read")

# Statistics 0: ANALYZE by hand would write values into pg_statistic, which is logged.
CREATE = sql.SQL("""
    create temporary table if not exists {proof} (
        raw text primary key, address text, hash text, geo jsonb, reason text);
    alter table {proof} alter raw set statistics 0, alter address set statistics 0, alter hash set statistics 0
""")

UNREAD = sql.SQL("""
    select text.raw
      from (select distinct event.{raw} as raw from {table} as event
             where {which} and event.{raw} is not null and length(event.{raw}) <= {max_length}) as text
     where not exists (select from {proof} as known where known.raw = text.raw)
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
         || jsonb_build_object('geoip_info', coalesce(text.geo -> 'geoip_info', copy.{extra} -> 'geoip_info')))
       is not true
""")

UNNOTED = sql.SQL("not exists (select from {log} as note where note.key = {alias}.{key})")

SURPLUS = sql.SQL("""
    select count(*) from {shadow} as copy
     where {which} and not exists (select from {table} as event where event.{key} = copy.{key}) and {unnoted}
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
) -> Counts:
    """Counts of all rows by ``FAULTS`` and ``FLAWS``, of rows, and of rows that only the copy has."""
    total: Counts = {}
    shadow = names.shadow(job)
    with engine.connect() as connection:
        blocks = heap_of(connection, job).blocks
        connection.rollback()
        for span in ranges(blocks, BLOCKS):
            execute(connection, REPEATABLE)
            found = check(connection, schema, addresses, job, blueprint, resolver, span.holds("event"))
            connection.commit()
            total = {name: total.get(name, 0) + number for name, number in found.items()}
            advance(found["rows"])
        surplus = 0
        for span in ranges(heap_of(connection, shadow).blocks, BLOCKS):
            connection.rollback()
            execute(connection, REPEATABLE)
            statement = SURPLUS.format(
                shadow=table(shadow),
                table=table(job),
                key=sql.Identifier(job.key),
                which=span.holds("copy"),
                unnoted=_unnoted(schema, job, "copy"),
            )
            surplus += rows(connection, statement)[0][0]
        connection.rollback()
        connection.invalidate()  # the temporary table holds addresses: it goes with its session, now
    return total | {"surplus": surplus}


def check(
    connection: Connection,
    schema: str,
    addresses: Addresses,
    job: Job,
    blueprint: Blueprint,
    resolver: Resolver,
    which: sql.Composable,
) -> Counts:
    """The counts of those rows of the original (``event``), in one snapshot."""
    execute(connection, CREATE.format(proof=PROOF))
    unread = UNREAD.format(
        raw=sql.Identifier(job.raw),
        table=table(job),
        which=which,
        max_length=sql.Literal(MAX_LENGTH),
        proof=PROOF,
    )
    texts = [text for (text,) in rows(connection, unread)]
    copy_in(connection, PROOF, Resolved._fields, resolver.resolve(texts))
    (found,) = rows(connection, _statement(schema, addresses, job, blueprint, which))
    labels = ("rows", "raw", "linked before", "linked", *FAULTS, *FLAWS)
    return dict(zip(labels, found, strict=True))


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


def drop_proof(connection: Connection) -> None:
    """Take the texts out of a session that goes on."""
    execute(connection, sql.SQL("drop table if exists {}").format(PROOF))


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
    schema: str, addresses: Addresses, job: Job, blueprint: Blueprint, which: sql.Composable
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
        proof=PROOF,
        addresses=table(addresses),
        address_key=sql.Identifier(addresses.key),
        which=which,
        unnoted=_unnoted(schema, job, "event"),
    )
