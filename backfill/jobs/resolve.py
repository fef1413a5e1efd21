"""Resolve: each distinct text once → canonical form → hash and geo → one row in the address table.

What a text becomes is computed in the client (``resolver``); the salt never reaches the server. A batch reads the
distinct texts of a block range that the map does not have yet, computes without a transaction
open, and writes addresses, map, lookups (``address_rows``; ``values`` the map alone) and its own checkpoint in one.

The driver computes the next batch while the server writes these (``client_phases``). A pool of processes would have
to be given the salt.
"""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Protocol

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.database.connection import ASYNCHRONOUS, execute, rows
from backfill.database.quoting import table
from backfill.database.timeouts import Timeouts
from backfill.jobs import batch_map
from backfill.jobs.kinds import writer_of
from backfill.jobs.row_needs import may_be_address, raw_text, short
from backfill.ledger import address_map, claims, runs
from backfill.ledger.batches import Batch, PassCounts
from backfill.plan import Job

# In one transaction: 10,000 took up to 0.9 s beside another session. Batches are sized by time, but the first blocks of
# the next table can hold ten times the new texts of those before: 50,000 in one transaction took 3.4 s.
TEXTS_AT_ONCE = 8_000


class Entry(Protocol):
    """A text and what became of it, as COPY wants it."""

    @property
    def raw(self) -> str:
        """The text."""
        ...


class Computes(Protocol):
    """Computes what texts become."""

    def resolve(self, texts: Iterable[str]) -> Iterator[Entry]:
        """Each text once; never raises for a text."""
        ...


Enter = Callable[[Connection, Sequence[Any]], int]  # new texts into the map; returns how many entered it


TEXTS = sql.SQL("""
    select fresh.raw
      from (select text.raw
              from (select distinct {text} as raw
                      from {table} as event
                     where {in_range} and {short} and {needs_text}) as text
             where not exists (select from {map} as map where map.raw = text.raw)
            offset 0) as fresh  -- not flattened: few are left of which it has to be asked
     where {may_be_address}
""")

COUNT = sql.SQL("""
    select count(*), count(*) filter (where {finished})
      from {table} as event where {in_range}
""")


def new_texts(connection: Connection, schema: str, job: Job, batch: Batch) -> list[str]:
    """Distinct texts of the range that need resolving and that the map lacks; at most 64 characters each."""
    if batch.phase.is_sweep:  # the hash of a map of a million texts costs most of a second, a batch
        execute(connection, batch_map.PROBE)
    statement = TEXTS.format(
        text=raw_text(job),
        table=table(job),
        in_range=batch.range.holds("event"),
        short=short(raw_text(job)),
        may_be_address=may_be_address(sql.SQL("fresh.raw")),
        needs_text=writer_of(job, schema).needs_text,
        map=address_map.name(schema),
    )
    return [text for (text,) in rows(connection, statement)]


@dataclass(frozen=True)
class Ready:
    """A batch whose texts are read and computed, to be entered."""

    batch: Batch
    rows: int
    already_linked: int | None
    resolved: Sequence[Entry]
    seconds: float  # that reading took


def prepare(
    engine: Engine,
    schema: str,
    job: Job,
    resolver: Computes,
    batch: Batch,
    in_flight: Set[str],
    timeouts: Timeouts,
    *,
    counting: bool,
) -> Ready:
    """Read and compute one range; texts *in_flight* are entered before it by somebody else."""
    total, already = 0, None
    began = time.monotonic()
    with engine.begin() as connection:
        timeouts.apply(connection)
        if counting:
            count = COUNT.format(
                finished=writer_of(job, schema).finished,
                table=table(job),
                in_range=batch.range.holds("event"),
            )
            ((total, already),) = rows(connection, count)
        texts = new_texts(connection, schema, job, batch)
    read = time.monotonic() - began
    resolved = list(resolver.resolve(text for text in texts if text not in in_flight))
    return Ready(batch, total, already, resolved, read)


def process(
    engine: Engine,
    enter: Enter,
    ready: Ready,
    lease: uuid.UUID,
    timeouts: Timeouts,
) -> PassCounts:
    """Enter one range. Raises ``LeaseLost``, and ``Stopped`` when the run is to wait or to end.

    In as many transactions as its texts need. What a kill leaves entered is found in the map the next time.
    """
    batch, entered, worked = ready.batch, 0, 0.0
    parts = [
        ready.resolved[at : at + TEXTS_AT_ONCE] for at in range(0, len(ready.resolved), TEXTS_AT_ONCE)
    ] or [[]]
    for number, part in enumerate(parts, start=1):
        last = number == len(parts)
        started = time.monotonic()
        with engine.begin() as connection:
            timeouts.apply(connection)
            execute(connection, ASYNCHRONOUS)  # a crash empties the map as well, and it all begins anew
            if claims.fence(connection, batch, lease) >= batch.passes:
                return PassCounts()  # committed, and the answer was lost on its way to us
            count = enter(connection, part) if part else 0
            runs.add_map_rows(connection, batch.run_id, count)
            seconds = time.monotonic() - started
            worked += seconds
            counts = PassCounts(written=count)
            if last:
                counts = replace(counts, rows=ready.rows, already_linked=ready.already_linked)
                seconds = max(seconds, ready.seconds)  # reading is a transaction as well
            claims.count_pass(connection, batch.id, counts, seconds=seconds, passes=int(last))
        entered += count
    seconds = max(ready.seconds, worked)  # what sizes the next batch
    return PassCounts(rows=ready.rows, already_linked=ready.already_linked, written=entered, seconds=seconds)
