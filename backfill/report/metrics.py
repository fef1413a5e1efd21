"""Metrics: how old raw values are, for Prometheus, as a textfile: what ``backfill status --due`` has seen."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from backfill import escaping
from backfill.verify.standing import Standing

# name → help; docs/retention.md has the same table, and a test compares.
AGES = {
    "backfill_ages_looked_at_timestamp_seconds": "when the job's table was looked at, in seconds since 1970",
    "backfill_ages_limit_seconds": "the age that a raw value may have, with the grace",
    "backfill_ages_rows": "rows of the table",
    "backfill_ages_raw_rows": "rows with a raw value, of any age",
    "backfill_ages_late_rows": "rows with a raw value that is older than the limit",
    "backfill_ages_late_kept_unreadable_rows": "rows older than the limit with a text that is no address, may hold one, and is kept by the plan",
    "backfill_ages_kept_unreadable_rows": "rows with a text that is no address, kept by the plan, of any age",
    "backfill_ages_raw_rows_without_time": "rows with a raw value and no time, which are never due",
    "backfill_ages_ahead_rows": "rows more than a day in the future",
    "backfill_ages_too_many_ahead": "1 where these are more than one in 1,000, and not accepted by name: nothing is known of their age",
    "backfill_ages_oldest_raw_timestamp_seconds": "time of the oldest raw value; absent where there is none",
    "backfill_ages_erased_timestamp_seconds": "when `backfill erase` rewrote the table last; absent where it never did",
}


class AgesCollector(Collector):
    """One look, given."""

    def __init__(self, found: Standing) -> None:
        self._found = found

    def describe(self) -> list[Metric]:
        """Nothing in advance."""
        return []

    def collect(self) -> Iterator[Metric]:
        """A gauge a job."""
        gauges = {name: GaugeMetricFamily(name, told, labels=["job"]) for name, told in AGES.items()}
        for job in self._found.jobs:
            ages = job.ages
            values = (
                ages.asked.timestamp(),
                (job.after + self._found.grace).total_seconds(),
                ages.rows,
                ages.raw,
                ages.late,
                ages.kept_late,
                ages.kept,
                ages.without_time,
                ages.ahead,
                int(job.unknown),
                ages.oldest_epoch,
                job.erased.timestamp() if job.erased else None,
            )
            for gauge, value in zip(gauges.values(), values, strict=True):
                if value is not None:
                    gauge.add_metric([escaping.name(job.label)], value)
        yield from gauges.values()


def text(found: Standing) -> str:
    """The textfile."""
    registry = CollectorRegistry()
    registry.register(AgesCollector(found))
    return generate_latest(registry).decode()
