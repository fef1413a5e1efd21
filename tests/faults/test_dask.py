"""Workers of a real Dask scheduler on loopback; what passes the scheduler; worker and scheduler killed."""

import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from backfill import worker
from backfill.attempt import Terms
from backfill.worker import Ticket
from tests.faults.conftest import SMALL
from tests.faults.stage import SALT

pytest.importorskip("distributed")
DASK = Path(sys.executable).parent / "dask"


def test_nothing_secret_is_in_what_a_worker_is_told():
    """The whole of what is submitted: function, ticket, schema, fingerprint, terms."""
    told = pickle.dumps(
        (worker.link_from_environment, Ticket(1, "user_events", 2), "backfill", "0" * 64, Terms())
    )
    for secret in (SALT, "postgresql", "://", ".mmdb"):
        assert secret.encode() not in told


@pytest.fixture
def farm(stage):
    """A scheduler and two workers, each with the environment of its own machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = Farm(stage, port)
    try:
        yield made
    finally:
        made.end()


class Farm:
    def __init__(self, stage, port):
        self.stage, self.port, self.url = stage, port, f"tcp://127.0.0.1:{port}"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.scheduler = self.start_scheduler()
        self.workers = [self.start_worker() for _ in range(2)]

    def _start(self, *words: str, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [str(DASK), *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def start_scheduler(self):
        bare = {name: value for name, value in os.environ.items() if not name.startswith("BACKFILL_")}
        words = ("scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")
        process = self._start(*words, environment=bare)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return process
            time.sleep(0.1)
        raise AssertionError("no scheduler")

    def start_worker(self):
        # No salt and no geo file: a worker has no use for them.
        environment = {
            name: value
            for name, value in self.stage.environment.items()
            if name not in ("BACKFILL_IP_SALT", "BACKFILL_GEOIP_DB")
        }
        words = ("worker", self.url, "--no-nanny", "--nthreads", "1", "--host", "127.0.0.1", "--no-dashboard")
        return self._start(*words, environment=environment)

    def end(self):
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


@pytest.mark.slow
def test_a_worker_and_the_scheduler_are_killed(stage, farm, same_as_undisturbed):
    command = stage.start("run", "--quiet", *SMALL, "--nice", "20", "--dask", farm.url)
    stage.until_linking()
    farm.workers[0].kill()
    farm.workers[1] = farm.start_worker()
    time.sleep(1)
    farm.scheduler.kill()
    farm.scheduler.wait()
    time.sleep(1)
    farm.scheduler = farm.start_scheduler()
    farm.start_worker()
    assert command.end() == 0, command.said
    assert stage.value("select attempts from backfill.runs") == 1
    workers = stage.value("select count(distinct worker) from backfill.batches where phase = 'link'")
    assert workers >= 1
    assert not stage.query(
        "select 1 from backfill.batches where phase = 'link' and split_part(worker, ':', 2)::int = %s",
        command.process.pid,
    )
    same_as_undisturbed(stage)


@pytest.mark.slow
def test_a_scheduler_that_is_not_there_is_a_line_and_the_run_resumes(stage, same_as_undisturbed):
    said = stage.call("run", "--quiet", *SMALL, "--dask", "tcp://127.0.0.1:1", expect=2, patience="1")
    assert "Dask scheduler tcp://127.0.0.1:1: cannot be reached" in said
    stage.run(*SMALL)
    same_as_undisturbed(stage)
