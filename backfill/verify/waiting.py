"""Waiting: the rows of a table that wait for a decision, each by its handle.

Where rows have a key, they are those that a run has put on record. Where nothing names them, the record has their number
alone: they are looked for in the table, which is read for it, and judged by their texts.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.addresses import Reason, canonicalise
from backfill.database.blocks import heap_of, ranges
from backfill.database.columns import has_column
from backfill.database.connection import rows
from backfill.database.decodable import if_decodable
from backfill.database.quoting import table
from backfill.database.row_key import row_key
from backfill.errors import SchemaUnfit
from backfill.jobs.row_needs import raw_text, unlinked
from backfill.ledger import quarantine
from backfill.plan import DroppingJob

BLOCKS = 5_000

UNFINISHED = sql.SQL("select {handle}, {readable} from {table} as event where {in_range} and {unfinished}")


@dataclass
class Waiting:
    """Handles of rows; of those without a key, how many there are of each reason."""

    handles: list[str] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)


def reason_of(text: str | None) -> Reason | None:
    """Why a row's text is no address; None where it is one. *text*: None cannot be decoded."""
    address = Reason.UNDECODABLE if text is None else canonicalise(text)
    return address if isinstance(address, Reason) else None


def find(engine: Engine, schema: str, job: DroppingJob, *, looks_only: bool = False) -> Waiting:
    """Rows that wait for a decision; those that were repaired leave the record on the way, unless *looks_only*."""
    with engine.connect() as connection:
        if not has_column(connection, job, job.raw):
            raise SchemaUnfit(problem=f"{job.name}.{job.raw} is gone: nothing of it can be settled any more.")
        if row_key(connection, job).columns:
            quarantine.release_fixed(connection, schema, job, unlinked(job))
            found = Waiting([entry.key for entry in quarantine.entries(connection, job.identity)])
        else:
            quarantine.forget_other_keys(connection, job)
            found = _unnamed(connection, job)
            quarantine.recount(connection, job.identity, found.reasons)
        connection.rollback() if looks_only else connection.commit()
    return found


def _unnamed(connection: Connection, job: DroppingJob) -> Waiting:
    found = Waiting()
    for span in ranges(heap_of(connection, job).blocks, BLOCKS):
        statement = UNFINISHED.format(
            handle=row_key(connection, job).handle(),
            readable=if_decodable(raw_text(job)),
            table=table(job),
            in_range=span.holds("event"),
            unfinished=unlinked(job),
        )
        take(found, rows(connection, statement))
    return found


def take(waiting: Waiting, found: Iterable[tuple[str, str | None]]) -> None:
    """Add those rows, of which the text is known as well, whose text is no address."""
    for handle, text in found:
        reason = reason_of(text)
        if reason is not None:
            waiting.handles.append(handle)
            waiting.reasons[reason.value] += 1
