"""The part of ``backfill run`` that needs no address table: values rewritten where they are, hashes in another column."""

from collections.abc import Sequence
from typing import Any

import click

from backfill import escaping
from backfill.cli import preflight, pseudonym_prefix
from backfill.cli.context import Session
from backfill.cli.invocation import Invocation
from backfill.cli.sampler import predicted, value_resolver
from backfill.engine.driver import run_lock
from backfill.engine.due import Due
from backfill.engine.estimate.actual import Fact
from backfill.engine.in_place import InPlace
from backfill.hashing.pseudonym import Pseudonyms
from backfill.ledger import batches, keys, lost_fields
from backfill.plan import InPlaceJob, Job, Place


def rewrite(
    invocation: Invocation,
    jobs: Sequence[Job],
    strategy: InPlace,
    explained: int = 0,
    *,
    sampled: bool = False,
) -> dict[str, Any]:
    """Write the values of *jobs*, or go on where an earlier run stopped; what it came to, for machines.

    *explained*: hashes beside raw values that agree with salt and scheme. *sampled*: what it costs is predicted first.
    """
    session = invocation.session
    session.expand()
    needs_salt = any(job.becomes in ("hash", "pseudonym") for job in jobs)
    if needs_salt:
        salt = session.salt
        with run_lock(session.engine, session.settings.ledger_schema), session.engine.begin() as connection:
            keys.record(connection, session.settings.key_id, salt)
    pseudonyms = _pseudonyms(invocation) if any(job.becomes == "pseudonym" for job in jobs) else None
    resolver = value_resolver(session, jobs, pseudonyms)
    preflight.record(session, invocation.looks.report, invocation.accept)
    fact = Fact(session.engine, jobs, predicted(session, jobs, "in-place") if sampled else None)
    number, counts = invocation.drive(jobs, resolver, strategy, fact, explained=explained)
    if isinstance(strategy, Due):
        click.echo("Of the rows that were due:")
    done = "rewritten" if all(isinstance(job, InPlaceJob) for job in jobs) else "written"
    facts = invocation.tell(number, counts, "in-place", done=done)
    with session.engine.begin() as connection:
        deleted = {
            job.label: batches.deleted(connection, job.identity, number)
            for job in jobs
            if isinstance(job, InPlaceJob) and job.deletes
        }
    counted = (
        "; above, they count only where this run had rewritten them before"
        if isinstance(strategy, Due)
        else ""
    )
    for label, rows in deleted.items():
        click.echo(
            f"{label}: {escaping.counted(rows, 'row was deleted as a duplicate of a newer one', 'rows were deleted as duplicates of newer ones')}"
            f"{counted if rows else ''}."
        )
    if deleted:
        facts["deleted"] = deleted
    if placed := places_of(jobs):
        facts["places"] = _tell_places(session, number, placed)
    for line in preflight.kept(invocation.looks.report, counts, session.plan):
        click.echo(line)
    return facts


def places_of(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """Those of *jobs* that keep the place of each address."""
    return tuple(job for job in jobs if job.place is not None)


def _tell_places(session: Session, run: int, jobs: Sequence[Job]) -> dict[str, Any]:
    """Say how many rows of that run have a place; the same for machines."""
    facts = {}
    for job in jobs:
        with session.engine.begin() as connection:
            placed, own = batches.places(connection, job.identity, run)
            written = batches.written_by_workers(connection, run, job.identity)
            lost = lost_fields.summary(connection, job)
        none = max(0, written - placed - own)
        facts[job.label] = {"placed": placed, "own": own, "none": none}
        click.echo(
            f"{_where(job.label, job.place)}: {escaping.counted(placed, 'row has', 'rows have')} the place of the address, {own:,} kept "
            f"their own, {none:,} have none (no public address, or not in the geo database)."
        )
        narrow = ", or its column is too short" if job.place and job.place.by_key else ""
        tell_lost(_where(job.name, job.place), lost, narrow)
    return facts


def _where(name: str, place: Place | None) -> str:
    return escaping.name(f"{name} ({place})" if place and place.by_key else f"{name}.{place}")


def tell_lost(where: str, lost: Sequence[tuple[str, int, Sequence[str]]], also: str = "") -> None:
    """Say which keys of places the database cannot hold: key, number of rows, and keys of some of these."""
    for field, rows, first in lost:
        named = f" Row keys: {', '.join(first)}{', …' if rows > len(first) else ''}." if first else ""
        click.echo(
            f"{escaping.counted(rows, 'place', 'places')} of {where} without {field}, in all runs so far: this database's encoding cannot hold it{also}.{named}"
        )


def _pseudonyms(invocation: Invocation) -> Pseudonyms:
    """Under the prefix of the key id, which is drawn the first time, beside all that is in the data."""
    session = invocation.session
    with run_lock(session.engine, session.settings.ledger_schema):
        byte = pseudonym_prefix.ensure(session)
    return session.salt.pseudonyms(byte)
