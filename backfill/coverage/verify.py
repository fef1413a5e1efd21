"""Verify: recompute coverage from the data and put it on record.

1. Every address row: hash recomputed in the client.
2. Every event table: each distinct text read anew, each row joined with what it should be.
3. Columns to be discarded: what is still written there.
4. The records go into the ledger; the gates read them there.
"""

from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import Connection, Engine

from backfill.coverage import addresses as address_proof
from backfill.coverage import discards, events, texts
from backfill.coverage.record import Kind, Record
from backfill.database.inspection import has_column
from backfill.errors import NoRun
from backfill.geo import GeoDatabase
from backfill.ledger import coverage
from backfill.plan import Job, Plan


def verify(
    engine: Engine,
    schema: str,
    plan: Plan,
    fingerprint: str,
    hasher: Callable[[str], str],
    geo: GeoDatabase,
    tell: Callable[[str], None],
) -> list[Record]:
    """The records of all tables of the plan, in its order, entered in the ledger."""
    records = []
    with engine.connect() as connection:
        address_proof.read(connection, plan.addresses, hasher)
        texts.create(connection)
        connection.commit()
        tell(f"{plan.addresses.name}: hashes recomputed")
        addresses = address_proof.verify(connection, schema, plan.addresses)
        if addresses.counts["hash wrong"]:
            addresses = replace(addresses, wrong_keys=address_proof.wrong_keys(connection, events.KEYS_SHOWN))
        for job in plan.jobs:
            records.append(_verify_job(connection, plan, fingerprint, job, geo))
            connection.commit()
            tell(f"{job.name}: {records[-1].counts['rows']:,} rows read")
        records.append(addresses)
        records += [discards.observe(connection, discard) for discard in plan.discard]
        connection.commit()
        for record in records:
            coverage.record(
                connection,
                table_name=record.table,
                kind=record.kind,
                plan_fingerprint=fingerprint,
                covered=record.covered,
                counts={**record.counts, "quarantined by reason": dict(record.quarantined)},
                reasons=record.reasons,
                raw_rows=record.raw_rows,
                newest_raw=record.newest_raw,
                detail={
                    "geo type": geo.provenance.database_type,
                    "geo build": geo.provenance.build.isoformat(),
                    "wrong keys": list(record.wrong_keys),
                    "proved": record.proved.isoformat() if record.proved else None,
                },
            )
        connection.commit()
        connection.invalidate()  # the temporary tables hold addresses: they go with their session, now
    return records


def _verify_job(connection: Connection, plan: Plan, fingerprint: str, job: Job, geo: GeoDatabase) -> Record:
    if has_column(connection, job, job.raw):
        return events.verify(connection, job, geo)
    last = coverage.latest(connection, job.name, fingerprint, with_raw=True)
    if last is None:
        raise NoRun(what=f"proof of {job.name}, whose {job.raw} is gone,", command="backfill verify")
    proved = Record(job.name, Kind.EVENTS, last.covered, {}, (), proved=last.finished)
    return events.recheck(connection, plan.addresses, job, proved)
