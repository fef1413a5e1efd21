"""Settle: the operator decides what becomes of rows whose text is no address.

The exact count is the confirmation; the decision is entered with the first rows that it changes. Each
row's text is judged once more, under lock: one that was repaired meanwhile is left to the next run. No row that came
after the count is touched, whether it has a name or not.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill import escaping
from backfill.database.columns import column_type
from backfill.database.connection import execute, rows, value
from backfill.database.decodable import if_decodable
from backfill.database.nullable import require_nullable
from backfill.database.quoting import table
from backfill.database.row_key import row_key
from backfill.database.write_check import collisions_told, now_at, require_taken
from backfill.database.writing import writes
from backfill.errors import SchemaUnfit, WrongCount
from backfill.jobs.row_needs import raw_text, unlinked
from backfill.ledger import quarantine
from backfill.ledger.decisions import Decision
from backfill.plan import Addresses, DroppingJob, IntoJob
from backfill.verify import waiting

CHUNK = 1_000  # rows a transaction


class Fate(StrEnum):
    """What becomes of a quarantined row."""

    SENTINEL = "sentinel"  # linked to the address that stands for "no address"
    DISCARD = "discard"  # its raw value is set to NULL


LOCK_ROWS = sql.SQL("""
    select wanted.wanted, event.ctid, {readable}
      from unnest(%s::text[]) as wanted
      join {table} as event on {named}
     where {unfinished}
     order by event.ctid
       for update of event
""")

# These write the application's tables, under its search_path: all is qualified. A locked row stays where it lies.
THERE = sql.SQL("event.ctid OPERATOR(pg_catalog.=) any (%s::pg_catalog.text[]::pg_catalog.tid[])")
LINK = sql.SQL("update {table} as event set {result} = %s where {there} returning event.ctid")
DISCARD = sql.SQL("update {table} as event set {raw} = null where {there} returning event.ctid")

# The rows as they are now, by name, and whether each is what was written.
TAKEN = sql.SQL("select {name}, coalesce({as_written}, false) from {table} as event where {now_at}")

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
        return "Correct the rows (`backfill quarantine list` has their keys, or their number where nothing names them), then `backfill run`."
    return f"Type `backfill quarantine settle {escaping.word(job.label)} --as sentinel --count {count}`."


def would_settle(engine: Engine, schema: str, job: DroppingJob) -> int:
    """The count that ``settle`` would find now; nothing is changed, nor is a repaired row let go."""
    return len(waiting.find(engine, schema, job, looks_only=True).handles)


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
    found = waiting.find(engine, schema, job).handles
    if len(found) != count:
        raise WrongCount(
            subject=f"Quarantine of {job.label}",
            given=count,
            found=len(found),
            look=f"backfill quarantine settle {escaping.word(job.label)}",
        )
    if not found:
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
    for start in range(0, len(found), CHUNK):
        settled += _settle_chunk(engine, schema, job, found[start : start + CHUNK], fate, sentinel, decision)
    return settled


def _settle_chunk(
    engine: Engine,
    schema: str,
    job: DroppingJob,
    handles: Sequence[str],
    fate: Fate,
    sentinel: str | None,
    decision: Decision,
) -> int:
    with engine.begin() as connection:
        key = row_key(connection, job)
        names = {
            "table": table(job),
            "named": key.names(connection, job, sql.SQL("wanted.wanted")),
            "unfinished": unlinked(job),
            "raw": sql.Identifier(job.raw),
            "result": sql.Identifier(job.result),
            "readable": if_decodable(raw_text(job)),
            "there": THERE,
        }
        hopeless, places = waiting.Waiting(), []
        for handle, place, text in rows(connection, LOCK_ROWS.format(**names), (list(handles),)):
            if waiting.reason_of(text) is not None:
                waiting.take(hopeless, [(handle, text)])
                places.append(place)
        with collisions_told(job, job.result), writes(connection, job):
            if fate is Fate.SENTINEL:
                written = rows(connection, LINK.format(**names), (sentinel, places))
            else:
                written = rows(connection, DISCARD.format(**names), (places,))
        _require_settled(
            connection, schema, job, fate, sentinel, hopeless.handles, places, [place for (place,) in written]
        )
        if places:
            number = decision.took(connection, len(places))
            if key.columns:
                quarantine.decide(connection, job.identity, hopeless.handles, number)
            else:
                quarantine.take_out(connection, job.identity, hopeless.reasons)
    return len(places)


def _require_settled(
    connection: Connection,
    schema: str,
    job: DroppingJob,
    fate: Fate,
    sentinel: str | None,
    handles: Sequence[str],
    places: Sequence[str],
    written: Sequence[str],
) -> None:
    """The rows are locked, so what they are now is what will be committed. Raises ``ChangeNotTaken``."""
    column = job.result if fate is Fate.SENTINEL else job.raw
    if fate is Fate.SENTINEL:
        link = column_type(connection, job, job.result)
        as_written = sql.SQL("event.{} {} {}::{}").format(
            sql.Identifier(job.result), link.equals, sql.Literal(sentinel), sql.SQL(link.name)
        )
    else:
        as_written = sql.SQL("event.{} is null").format(sql.Identifier(job.raw))
    key = row_key(connection, job)
    statement = TAKEN.format(
        name=key.text(),
        as_written=as_written,
        table=table(job),
        now_at=now_at(job, places, written),
    )
    found = rows(connection, statement) if places else []
    kept: list[str | None] = [name for name, taken in found if not taken]
    gone: list[str | None] = [None] * (len(places) - len(found))
    if key.columns:
        gone = list(set(handles) - {name for name, _ in found})
    require_taken(connection, schema, job, column, [*kept, *gone], len(places))
