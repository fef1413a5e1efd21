"""Workers of a real Dask scheduler on loopback; what passes the scheduler; worker and scheduler killed."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.faults.conftest import SMALL
from tests.faults.stage import SALT, worker_of_a_batch

pytest.importorskip("distributed")
DASK = Path(sys.executable).parent / "dask"


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


class Ear:
    """Stands between a driver and its scheduler, hands every byte on, and keeps a copy."""

    def __init__(self, port: int) -> None:
        self.behind = port
        self.heard = bytearray()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        self._open = [self._server]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self.behind))
                self._open += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                self.heard += data
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture
def ear(farm):
    made = Ear(farm.port)
    yield made
    made.close()


@pytest.mark.slow
def test_no_url_password_salt_geo_file_or_address_passes_the_scheduler(stage, farm, ear, same_as_undisturbed):
    """All of a run's traffic with its scheduler, as it is on the wire."""
    stage.url = make_url(stage.url).set(password="pa55word-in-the-url").render_as_string(hide_password=False)
    stage.run(*SMALL, "--dask", ear.url, log_format="json")
    heard = bytes(ear.heard)
    assert b"link_from_environment" in heard  # it was all listened to, and none of it is compressed
    assert heard.count(b"user_events") > 5
    query_of_url = make_url(stage.url).query
    secrets = {
        "salt": SALT,
        "password": "pa55word-in-the-url",
        "scheme of the URL": "postgresql",
        "host": str(query_of_url["host"]),
        "geo file": "GeoLite2",
    }
    for name, secret in secrets.items():
        assert secret.encode() not in heard, name
    raws = stage.query(
        "select distinct ip_address_string from user_events where length(ip_address_string) > 9"
    )
    assert not [raw for (raw,) in raws if raw.encode() in heard]
    same_as_undisturbed(stage)


@pytest.mark.slow
def test_a_worker_that_is_killed_in_the_middle_of_a_batch_is_replaced(stage, farm, same_as_undisturbed):
    """Dask gives its task to another one; the ledger gives it the batch once the lease is over."""
    command = stage.start("run", "--quiet", *SMALL, "--nice", "20", "--dask", farm.url)
    batch, worker = worker_of_a_batch(stage)
    assert worker in [process.pid for process in farm.workers]
    os.kill(worker, signal.SIGKILL)
    farm.start_worker()
    assert command.end(300) == 0, command.said
    assert stage.query("select attempts from backfill.batches where id = %s", batch) == [(2,)]
    assert stage.value("select attempts from backfill.runs") == 1
    same_as_undisturbed(stage)


@pytest.mark.slow
def test_a_scheduler_that_is_killed_is_waited_for(stage, farm, same_as_undisturbed):
    command = stage.start("run", "--quiet", *SMALL, "--nice", "20", "--dask", farm.url)
    stage.until_linking()
    farm.scheduler.kill()
    farm.scheduler.wait()
    stage.until_true(lambda: "A worker was lost" in command.said, "the driver has noticed")
    stage.until_true(lambda: "is not there; waiting for it" in command.said, "it has asked in vain")
    farm.scheduler = farm.start_scheduler()
    farm.start_worker()
    assert command.end() == 0, command.said
    assert stage.value("select (retries ->> 'worker-lost')::int from backfill.runs") >= 1
    assert stage.value("select attempts from backfill.runs") == 1
    assert not stage.query(  # all of it was done by the cluster
        "select 1 from backfill.batches where phase = 'link' and split_part(worker, ':', 2)::int = %s",
        command.process.pid,
    )
    same_as_undisturbed(stage)


@pytest.mark.slow
def test_a_cluster_without_workers_is_named_and_the_run_goes_on_when_one_comes(
    stage, farm, same_as_undisturbed
):
    for process in farm.workers:
        process.kill()
        process.wait()
    command = stage.start("run", "--quiet", *SMALL, "--dask", farm.url)
    stage.until_true(
        lambda: "no worker has taken a batch" in (stage.status()["waiting"] or ""), "status says why"
    )
    farm.start_worker()
    assert command.end() == 0, command.said
    same_as_undisturbed(stage)


@pytest.mark.slow
def test_a_scheduler_that_is_not_there_is_a_line_and_the_run_resumes(stage, same_as_undisturbed):
    said = stage.call("run", "--quiet", *SMALL, "--dask", "tcp://127.0.0.1:1", expect=2, patience="1")
    assert "Dask scheduler tcp://127.0.0.1:1: cannot be reached" in said
    stage.run(*SMALL)
    same_as_undisturbed(stage)
