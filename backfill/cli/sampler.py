"""What the samples of a command need: salt, geo database and prefix, as far as its jobs do; and its prediction for the ledger."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from backfill.cli.context import Session
from backfill.engine.estimate.forecast import of_run
from backfill.engine.estimate.sampler import Sampler
from backfill.engine.estimate.value_miniature import PREFIX
from backfill.errors import NoRun
from backfill.hashing.pseudonym import Pseudonyms
from backfill.jobs.resolver import Resolver
from backfill.jobs.values import ValueResolver
from backfill.ledger import prefixes, runs
from backfill.ledger.run_state import UNFINISHED
from backfill.plan import Job, LinkJob


def predicted(session: Session, jobs: Sequence[Job], strategy: str) -> dict[str, Any] | None:
    """What the run should cost; None for one that goes on, which was told when it began."""
    with session.engine.begin() as connection:
        try:
            begun = runs.latest(connection).status in UNFINISHED
        except NoRun:
            begun = False
    return None if begun else of_run(sampler_of(session, jobs), session.settings, jobs, strategy)


def sampler_of(session: Session, jobs: Sequence[Job]) -> Sampler:
    """For those jobs; pseudonyms under the prefix on record, or one that nobody else sees."""
    engine, settings = session.engine, session.settings
    pseudonyms = None
    if any(job.becomes == "pseudonym" for job in jobs):
        with engine.connect() as connection:
            allotted = prefixes.all_of(connection, settings.ledger_schema)
        pseudonyms = session.salt.pseudonyms(next(iter(allotted), PREFIX))
    found = Sampler(engine, settings.passes, values=value_resolver(session, jobs, pseudonyms))
    if not any(isinstance(job, LinkJob) for job in jobs):
        return found
    links = Resolver(session.salt.hasher(session.plan.hash.scheme), session.geo)
    return replace(found, addresses=session.plan.addresses, links=links)


def value_resolver(session: Session, jobs: Sequence[Job], pseudonyms: Pseudonyms | None) -> ValueResolver:
    """What those of *jobs* need that make no links. *pseudonyms*: where one needs them."""
    found = [job for job in jobs if not isinstance(job, LinkJob)]
    hashes = any(job.becomes == "hash" for job in found)
    return ValueResolver(
        hash_address=session.salt.hasher(session.plan.hash.scheme) if hashes else None,
        pseudonyms=pseudonyms,
        geo=session.geo if any(job.place is not None for job in found) else None,
    )
