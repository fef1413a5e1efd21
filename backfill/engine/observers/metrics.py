"""Metrics: a run's standing for Prometheus, over HTTP on loopback or as a textfile.

Read from the ledger when somebody scrapes: what two collectors see is what the status says.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from backfill import escaping
from backfill.errors import OutputUnwritable
from backfill.files import require_writable, write_whole
from backfill.ledger.run_state import RunState
from backfill.ledger.run_status import RunStatus

EVERY_SECONDS = 5.0  # how often the textfile is written
LOOPBACK = "127.0.0.1"
FILE = "BACKFILL_METRICS_FILE"

# name → (help, kind); docs/operations.md has the same table, and a test compares.
METRICS = {
    "backfill_up": "1 while the ledger could be read",
    "backfill_run_status": "1 for the current status of the run, by status",
    "backfill_run_driven": "1 while a process drives the run",
    "backfill_heartbeat_age_seconds": "seconds since the last heartbeat of the driver",
    "backfill_waiting": "1 while the run waits for something",
    "backfill_rows": "rows of a table in a phase, as the planner estimates them",
    "backfill_rows_done": "rows processed in a table and phase",
    "backfill_rows_written_total": "rows written in a table and phase",
    "backfill_rows_placed_total": "rows that got the place of their address beside their value, in a table and phase",
    "backfill_rows_per_second": "rate of the last minute",
    "backfill_eta_seconds": "seconds until the phase ends, at that rate",
    "backfill_batch_blocks": "size of the next batch",
    "backfill_transaction_longest_seconds": "longest transaction in a table and phase",
    "backfill_batches_failed": "batches given up",
    "backfill_retries_total": "retries by kind of error",
    "backfill_quarantine_rows": "rows that wait for a decision, by table and reason",
    "backfill_kept_unreadable_rows": "rows that the plan keeps with a text that is no address, by table and reason",
    "backfill_workers_busy": "batches that a worker holds",
}


class RunCollector(Collector):
    """Asks *look* at each scrape."""

    def __init__(self, look: Callable[[], RunStatus]) -> None:
        self._look = look

    def describe(self) -> list[Metric]:
        """Nothing in advance: the ledger need not be there yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One scrape. The library escapes what a label must not hold; what a terminal obeys is made safe here."""
        for metric in self._collected():
            for sample in metric.samples:
                for label, text in sample.labels.items():
                    sample.labels[label] = escaping.name(text)
            yield metric

    def _collected(self) -> Iterator[Metric]:
        try:
            now = self._look()
        except Exception:
            yield _gauge("backfill_up", 0)
            return
        yield _gauge("backfill_up", 1)
        status = _labelled("backfill_run_status", ["status"])
        for name in RunState:
            status.add_metric([name.value], float(now.run.status is name))
        yield status
        yield _gauge("backfill_run_driven", now.driven)
        yield _gauge("backfill_heartbeat_age_seconds", now.heartbeat_age)
        yield _gauge("backfill_waiting", now.waiting is not None)
        yield _gauge("backfill_rows_per_second", now.rate)
        if now.eta_seconds is not None:
            yield _gauge("backfill_eta_seconds", now.eta_seconds)
        yield _gauge("backfill_batch_blocks", now.run.batch_blocks or 0)
        yield _gauge("backfill_batches_failed", len(now.failures))
        yield _gauge("backfill_workers_busy", len(now.claimed_batches))
        yield from _parts(now)
        retries = CounterMetricFamily("backfill_retries", METRICS["backfill_retries_total"], labels=["error"])
        for transient_error, number in now.run.retries.items():
            retries.add_metric([transient_error], number)
        yield retries
        yield _by_reason("backfill_quarantine_rows", now.quarantine)
        yield _by_reason("backfill_kept_unreadable_rows", now.kept_unreadable)


def _parts(now: RunStatus) -> Iterator[Metric]:
    labels = ["phase", "table"]
    rows, done = _labelled("backfill_rows", labels), _labelled("backfill_rows_done", labels)
    longest = _labelled("backfill_transaction_longest_seconds", labels)
    written = CounterMetricFamily(
        "backfill_rows_written", METRICS["backfill_rows_written_total"], labels=labels
    )
    placed = CounterMetricFamily("backfill_rows_placed", METRICS["backfill_rows_placed_total"], labels=labels)
    for part in now.parts:
        where = [part.phase, part.table]
        rows.add_metric(where, part.rows)
        done.add_metric(where, part.rows_done)
        longest.add_metric(where, part.longest_seconds)
        written.add_metric(where, part.written)
        placed.add_metric(where, part.placed)
    yield from (rows, done, longest, written, placed)


def _by_reason(name: str, found: Mapping[str, Mapping[str, int]]) -> Metric:
    metric = _labelled(name, ["table", "reason"])
    for table, reasons in found.items():
        for reason, number in reasons.items():
            metric.add_metric([table, reason], number)
    return metric


def _gauge(name: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, METRICS[name], value=float(value))


def _labelled(name: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, METRICS[name], labels=labels)


class Metrics:
    """Serves and writes for as long as a run lasts. A file that cannot be written any more is told once: it is
    never the run's business. One that cannot be written from the beginning raises ``OutputUnwritable``."""

    def __init__(
        self,
        look: Callable[[], RunStatus],
        port: int | None,
        file: Path | None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        if file is not None:
            require_writable(file, what=FILE)
        self._tell, self._told = tell, False
        self._registry = CollectorRegistry()
        self._registry.register(RunCollector(look))
        self._file = file
        self._done = threading.Event()
        self._server: Any = None
        self._thread: threading.Thread | None = None
        if port is not None:
            self._server, _ = start_http_server(port, addr=LOOPBACK, registry=self._registry)
        if file is not None:
            self._thread = threading.Thread(target=self._write_again_and_again, daemon=True)
            self._thread.start()

    @property
    def port(self) -> int | None:
        """Where it serves."""
        return None if self._server is None else int(self._server.server_port)

    def _write_again_and_again(self) -> None:
        while not self._done.wait(EVERY_SECONDS):
            self._write()

    def _write(self) -> None:
        if self._file is None:
            return
        try:
            write_whole(self._file, generate_latest(self._registry).decode(), what=FILE)
            self._told = False
        except OutputUnwritable as error:
            if not self._told:
                self._told = True
                self._tell(f"{error} The run goes on.")

    def close(self) -> None:
        """A last textfile, and no more scrapes."""
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        self._write()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
