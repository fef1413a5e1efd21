"""Forecast: samples of the tables of a run, as they stand, and what follows from them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.blocks import heap_of
from backfill.database.connection import rows, value
from backfill.database.disk import free_bytes
from backfill.database.quoting import regclass
from backfill.engine.estimate import prediction
from backfill.engine.estimate.prediction import IN_PLACE, SHADOW, Advice, Cost, Size, Terms
from backfill.engine.estimate.sample import Sample, SampleFailed
from backfill.engine.estimate.sampler import MOST_BLOCKS, Sampler
from backfill.plan import InPlaceJob, Job, LinkJob
from backfill.settings import Settings
from backfill.shadow.refusals import refusals_of

# A run takes half a percent of its largest table, and no less than that many blocks.
RUN_SHARE, RUN_BLOCKS = 200, 16

UNDER_INDEX = "what a run takes to compare rows under a unique index comes on top of it"

SIZE = sql.SQL("""
    select pg_relation_size(c.oid) + coalesce(pg_total_relation_size(nullif(c.reltoastrelid, 0)), 0),
           pg_indexes_size(c.oid), (select count(*) from pg_index where indrelid = c.oid),
           greatest(c.reltuples, 0)::bigint
      from pg_class as c where c.oid = {}
""")

TEXTS = sql.SQL("""
    select coalesce(max(case when n_distinct >= 0 then n_distinct else -n_distinct * %s end), 0)::bigint
      from pg_stats where schemaname = %s and tablename = %s and attname = %s
""")


@dataclass(frozen=True)
class Forecast:
    """One job's: the cost of each strategy and the advice, or why there are none."""

    table: str  # the label of the job
    costs: Mapping[str, Cost]
    advice: Advice | None
    sampled: Sample | None
    problem: str | None = None
    also: str | None = None  # what the prediction leaves out


def size_of(connection: Connection, job: Job) -> Size:
    """The table as catalog and statistics have it."""
    ((heap, indexes, count, estimate),) = rows(connection, SIZE.format(regclass(job)))
    texts = value(connection, TEXTS, (estimate, job.schema_, job.table, job.raw))
    return Size(int(heap), int(indexes), int(count), int(estimate), int(texts))


def terms_of(settings: Settings) -> Terms:
    """What the operator has set."""
    return Terms(settings.workers, settings.target_seconds, settings.lock_timeout_ms / 1000)


def of_tables(sampler: Sampler, settings: Settings, jobs: Sequence[Job]) -> list[Forecast]:
    """A sample of each table, and what a run costs; of links both strategies, and which to take."""
    with sampler.engine.connect() as connection:
        free = free_bytes(connection)
    found = []
    for job in jobs:
        try:
            taken = sampler.best(job)
        except SampleFailed as failed:
            found.append(Forecast(job.label, {}, None, None, str(failed)))
            continue
        with sampler.engine.connect() as connection:
            size = size_of(connection, job)
            refusals = refusals_of(connection, job) if isinstance(job, LinkJob) else []
        costs = _costs(taken, size, terms_of(settings))
        advice, also = None, None
        if isinstance(job, LinkJob):  # nothing else can be copied
            advice = prediction.advise(costs[IN_PLACE], costs.get(SHADOW), refusals, free)
        elif isinstance(job, InPlaceJob) and job.on_duplicate is not None:
            also = UNDER_INDEX
        found.append(Forecast(job.label, costs, advice, taken, also=also))
    return found


def of_run(sampler: Sampler, settings: Settings, jobs: Sequence[Job], strategy: str) -> dict[str, Any]:
    """For the ledger: what this run should cost, by a small sample of its largest table."""
    with sampler.engine.connect() as connection:
        blocks = {job.identity: heap_of(connection, job).blocks for job in jobs}
        sizes = {job.identity: size_of(connection, job) for job in jobs}
    largest = max(jobs, key=lambda job: blocks[job.identity])
    most = blocks[largest.identity]
    try:
        taken = sampler.take(largest, min(MOST_BLOCKS, max(RUN_BLOCKS, most // RUN_SHARE)))
    except SampleFailed as failed:
        return {"problem": str(failed)}
    costs = []
    for job in jobs:
        if blocks[job.identity]:
            alike = replace(taken, share=min(1.0, taken.share * most / blocks[job.identity]))
            costs.append(_costs(alike, sizes[job.identity], terms_of(settings))[strategy])
    whole = asdict(prediction.total(costs))
    return {name: whole[name] for name in ("seconds", "wal", "growth")}


def _costs(taken: Sample, size: Size, terms: Terms) -> dict[str, Cost]:
    costs = {IN_PLACE: prediction.in_place(taken, size, terms)}
    return costs | {SHADOW: prediction.shadow(taken, size, terms)} if taken.copied else costs
