"""Settle: the operator decides what becomes of rows whose text is no address.

The exact count is the confirmation; the decision is entered with the first rows that it changes. Each
row's text is judged once more, under lock: one that was repaired meanwhile is left to the next run.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill import escaping
from backfill.addresses import Reason, canonicalise
from backfill.database.columns import column_type, has_column
from backfill.database.connection import execute, rows, value
from backfill.database.decodable import if_decodable
from backfill.database.nullable import require_nullable
from backfill.database.quoting import table
from backfill.database.write_check import collisions_told, require_taken
from backfill.database.writing import writes
from backfill.errors import SchemaUnfit, WrongCount
from backfill.jobs.row_needs import raw_text, unlinked
from backfill.ledger import quarantine
from backfill.ledger.decisions import Decision
from backfill.plan import Addresses, DroppingJob, IntoJob

CHUNK = 1_000  # rows a transaction


class Fate(StrEnum):
    """What becomes of a quarantined row."""

    SENTINEL = "sentinel"  # linked to the address that stands for "no address"
    DISCARD = "discard"  # its raw value is set to NULL


LOCK_ROWS = sql.SQL("""
    select event.{key}::text, {readable} from {table} as event
     where event.{key} {equals} any (%s::{key_type}[]) and event.{raw} is not null and event.{result} is null
     order by event.{key}
       for update
""")

# These write the application's tables, under its search_path: all is qualified.
LINK = sql.SQL("update {table} set {result} = %s where {key} {equals} any (%s::{key_type}[])")
DISCARD = sql.SQL("update {table} set {raw} = null where {key} {equals} any (%s::{key_type}[])")

# Rows that are not what was written, or are gone.
KEPT = sql.SQL("""
    select wanted.key from unnest(%s::text[]) as wanted (key)
     where not exists (select from {table} as event
                        where event.{key} {equals} wanted.key::{key_type} and {as_written})
""")

# Its hash may be another row's, the sentinel in another spelling: merging moves it later.
SENTINEL = sql.SQL("""
    insert into {addresses} ({address}, {hash})
    select {sentinel}::pg_catalog.inet, case when not exists (
               select from {addresses} as other where other.{hash} {hash_equals} {hashed}::{hash_type}) then {hashed} end
    on conflict do nothing
""")


def instead(job: DroppingJob, count: int) -> str:
    """What else can be done about rows that cannot be discarded: a sentence."""
    if isinstance(job, IntoJob):
        return "Correct the rows (`backfill quarantine list` has their keys), then `backfill run`."
    return f"Type `backfill quarantine settle {escaping.word(job.label)} --as sentinel --count {count}`."


def waiting(engine: Engine, schema: str, job: DroppingJob) -> list[quarantine.Entry]:
    """Rows of that table that still wait for a decision; repaired ones leave on the way."""
    with engine.begin() as connection:
        return _waiting(connection, schema, job)


def would_settle(engine: Engine, schema: str, job: DroppingJob) -> int:
    """The count that ``settle`` would find now; nothing is changed, nor is a repaired row let go."""
    with engine.connect() as connection:
        found = len(_waiting(connection, schema, job))
        connection.rollback()
        return found


def _waiting(connection: Connection, schema: str, job: DroppingJob) -> list[quarantine.Entry]:
    if not has_column(connection, job, job.raw):
        raise SchemaUnfit(problem=f"{job.name}.{job.raw} is gone: nothing of it can be settled any more.")
    quarantine.release_fixed(connection, schema, job, unlinked(job))
    return quarantine.entries(connection, job.identity)


def settle(
    engine: Engine,
    schema: str,
    addresses: Addresses | None,
    job: DroppingJob,
    fate: Fate,
    count: int,
    hasher: Callable[[str], str] | None,
) -> int:
    """Settle all waiting rows of that table; returns how many. Raises ``WrongCount``, and ``ChangeNotTaken``.

    *addresses*: where the sentinel is; for rows that become links alone. *hasher* is asked for the sentinel's hash,
    where its row has to be made.
    """
    entries = waiting(engine, schema, job)
    if len(entries) != count:
        raise WrongCount(
            subject=f"Quarantine of {job.label}",
            given=count,
            found=len(entries),
            look=f"backfill quarantine settle {escaping.word(job.label)}",
        )
    if not entries:
        return 0
    if fate is Fate.DISCARD:
        with engine.begin() as connection:
            require_nullable(connection, job, instead(job, count), new_rows=False)
    sentinel = None
    with engine.begin() as connection:
        if fate is Fate.SENTINEL and addresses is not None:
            hashed = hasher(addresses.sentinel) if hasher else None
            hash_type = column_type(connection, addresses, addresses.hash)
            names = {
                "addresses": table(addresses),
                "key": sql.Identifier(addresses.key),
                "address": sql.Identifier(addresses.address),
                "hash": sql.Identifier(addresses.hash),
                "sentinel": sql.Literal(addresses.sentinel),
                "hashed": sql.Literal(hashed),
                "hash_type": sql.SQL(hash_type.name),
                "hash_equals": hash_type.equals,
            }
            with writes(connection, addresses):
                execute(connection, SENTINEL.format(**names))
            sentinel = value(
                connection,
                sql.SQL("select {key}::text from {addresses} where {address} = {sentinel}::inet").format(
                    **names
                ),
            )
            if sentinel is None:
                raise SchemaUnfit(problem=f"{addresses.name} did not take the sentinel. Nothing was changed.")
    decision = Decision("settle", job.identity, {"fate": fate.value})
    settled = 0
    keys = [entry.key for entry in entries]
    for start in range(0, len(keys), CHUNK):
        settled += _settle_chunk(engine, schema, job, keys[start : start + CHUNK], fate, sentinel, decision)
    return settled


def _settle_chunk(
    engine: Engine,
    schema: str,
    job: DroppingJob,
    keys: Sequence[str],
    fate: Fate,
    sentinel: str | None,
    decision: Decision,
) -> int:
    with engine.begin() as connection:
        kind = column_type(connection, job, job.key)
        names = {
            "table": table(job),
            "key": sql.Identifier(job.key),
            "raw": sql.Identifier(job.raw),
            "result": sql.Identifier(job.result),
            "readable": if_decodable(raw_text(job)),
            "key_type": sql.SQL(kind.name),
            "equals": kind.equals,
        }
        locked = rows(connection, LOCK_ROWS.format(**names), (list(keys),))
        hopeless = [key for key, raw in locked if raw is None or isinstance(canonicalise(raw), Reason)]
        with collisions_told(job, job.result), writes(connection, job):
            if fate is Fate.SENTINEL:
                execute(connection, LINK.format(**names), (sentinel, hopeless))
            else:
                execute(connection, DISCARD.format(**names), (hopeless,))
        _require_settled(connection, schema, job, fate, sentinel, hopeless, names)
        if hopeless:
            number = decision.took(connection, len(hopeless))
            quarantine.decide(connection, job.identity, hopeless, number)
    return len(hopeless)


def _require_settled(
    connection: Connection,
    schema: str,
    job: DroppingJob,
    fate: Fate,
    sentinel: str | None,
    keys: list[str],
    names: dict[str, sql.Composable],
) -> None:
    """The rows are locked, so what they are now is what will be committed. Raises ``ChangeNotTaken``."""
    column = job.result if fate is Fate.SENTINEL else job.raw
    if fate is Fate.SENTINEL:
        link = column_type(connection, job, job.result)
        as_written = sql.SQL("event.{} {} {}::{}").format(
            names["result"], link.equals, sql.Literal(sentinel), sql.SQL(link.name)
        )
    else:
        as_written = sql.SQL("event.{} is null").format(names["raw"])
    kept = [key for (key,) in rows(connection, KEPT.format(as_written=as_written, **names), (keys,))]
    require_taken(connection, schema, job, column, kept, len(keys))
