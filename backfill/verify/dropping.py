"""Dropping: what is judged alike of every job whose raw column is dropped, whatever stands beside the value.

While the column stands: what was written since the last run. Once it is gone: the last full record, and what can
still be read.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.columns import columns, has_column
from backfill.database.connection import value
from backfill.database.nullable import or_seal
from backfill.errors import SchemaUnfit
from backfill.ledger import coverage
from backfill.ledger.counts import Count
from backfill.ledger.coverage_record import CoverageRecord
from backfill.ledger.verification_ranges import RangeCounts
from backfill.plan import DroppingJob

KEYS_SHOWN = 20

# Text of the server's own, compared as what it is.
NEWEST = sql.SQL("select max(moment::{type})::text from unnest(%s::text[]) as moment")


def last_proof(connection: Connection, job: DroppingJob, fingerprint: str) -> CoverageRecord | None:
    """The last full record of a raw column that is gone; ``None``: it stands.

    Raises ``SchemaUnfit`` where it is gone and was never proved.
    """
    if has_column(connection, job, job.raw):
        return None
    last = coverage.latest(connection, job, fingerprint, with_raw=True)
    if last is None:
        raise SchemaUnfit(
            problem=f"Table {job.name} has no column {job.raw}, and no proof of it is on record. Check the plan."
        )
    return last[0]


def summed(held: Iterable[RangeCounts]) -> tuple[Counter[Count], Counter[str], int]:
    """What ranges held together: counts, quarantined rows by reason, checksum."""
    counts: Counter[Count] = Counter()
    quarantined: Counter[str] = Counter()
    checksum = 0
    for one in held:
        counts.update(one.counts)
        quarantined.update(one.quarantined)
        checksum += one.checksum
    return counts, quarantined, checksum


def shown(keys: Iterable[str | None], shows: Callable[[str], str]) -> tuple[str, ...]:
    """The first of those row keys, as *shows* says them; a key that is NULL names nothing, whatever the plan says of it."""
    return tuple(map(shows, islice((key for key in keys if key is not None), KEYS_SHOWN)))


def newest_raw(connection: Connection, job: DroppingJob, held: Iterable[RangeCounts]) -> str | None:
    """The newest time of a row with a raw value, of those of each range."""
    found = [one.newest_raw for one in held if one.newest_raw]
    catalog = columns(connection, job)
    if not found or job.time_column is None or isinstance(catalog, str):
        return None
    type_ = catalog[job.time_column].type
    return str(value(connection, NEWEST.format(type=sql.SQL(type_)), (found,)))


def still_written(connection: Connection, job: DroppingJob, since: int, newest: str | None) -> list[str]:
    """A note, where *since* raw values were written after the last run ended."""
    if not since:
        return []
    return [
        f"{since:,} raw {'value was' if since == 1 else 'values were'} written after the last run ended, the newest at {newest}: "
        f"the application still writes them; deploy the change that stops it{or_seal(connection, job)}"
    ]
