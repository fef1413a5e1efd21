"""Workers of a real Dask scheduler under TLS; what passes the scheduler; worker and scheduler killed; strangers."""

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import make_url

from tests.databases import query
from tests.faults.conftest import SMALL
from tests.faults.stage import SALT, worker_of_a_batch
from tests.worker_role import lines_of_the_document, make_worker

pytest.importorskip("distributed")
DASK = Path(sys.executable).parent / "dask"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """Those of the document, and a stranger's of a CA of its own."""
    folders = [tmp_path_factory.mktemp(name) for name in ("ours", "strangers")]
    for folder in folders:
        script = "\n".join(["set -e", *lines_of_the_document("openssl req -x509")])
        subprocess.run(["bash", "-c", script], cwd=folder, check=True, capture_output=True)
    return folders[0]


def tls(folder, who):
    """The options of ``dask scheduler`` and ``dask worker``."""
    pairs = {"--tls-ca-file": "ca.pem", "--tls-cert": f"{who}.pem", "--tls-key": f"{who}.key"}
    return [word for option, file in pairs.items() for word in (option, str(folder / file))]


@pytest.fixture
def as_client(certificates, monkeypatch):
    """The driver's certificate, as Dask's own variables name it."""
    name = "DASK_DISTRIBUTED__COMM__TLS__"
    monkeypatch.setenv(f"{name}CA_FILE", str(certificates / "ca.pem"))
    monkeypatch.setenv(f"{name}CLIENT__CERT", str(certificates / "client.pem"))
    monkeypatch.setenv(f"{name}CLIENT__KEY", str(certificates / "client.key"))


@pytest.fixture
def worker_role(stage):
    """The role that the document makes; the rights of the application's tables for each of them."""
    subprocess.run(
        [Path(sys.executable).parent / "alembic", "upgrade", "0001_expand"],
        env=stage.environment,
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    role = f"worker_{os.getpid()}_{time.monotonic_ns()}"
    make_worker(stage.query, role)
    yield role
    stage.query(f"drop owned by {role}")
    stage.query(f"drop role {role}")


@pytest.fixture
def farm(stage, certificates, as_client, worker_role):
    """A scheduler and two workers, each with the environment of its own machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = Farm(stage, port, certificates, worker_role)
    try:
        yield made
    finally:
        made.end()


class Farm:
    def __init__(self, stage, port, certificates, role):
        self.stage, self.port, self.url = stage, port, f"tls://127.0.0.1:{port}"
        self.certificates, self.role = certificates, role
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
        words = (
            "scheduler",
            "--protocol",
            "tls",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--no-dashboard",
        )
        words += tuple(tls(self.certificates, "scheduler"))
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
        url = make_url(environment["BACKFILL_DATABASE_URL"]).set(username=self.role)
        environment["BACKFILL_DATABASE_URL"] = url.render_as_string(hide_password=False)
        words = (
            "worker",
            self.url,
            *tls(self.certificates, "worker"),
            "--no-nanny",
            "--nthreads",
            "1",
            "--host",
            "127.0.0.1",
            "--no-dashboard",
        )
        return self._start(*words, environment=environment)

    def end(self):
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


class Ear:
    """Stands between a driver and its scheduler with certificates of both, hands every byte on, and keeps a copy."""

    def __init__(self, port: int, certificates: Path) -> None:
        self.behind, self.certificates = port, certificates
        self.heard = bytearray()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(30)

    def _context(self, purpose: ssl.Purpose, who: str) -> ssl.SSLContext:
        context = ssl.create_default_context(purpose, cafile=str(self.certificates / "ca.pem"))
        context.load_cert_chain(self.certificates / f"{who}.pem", self.certificates / f"{who}.key")
        context.check_hostname, context.verify_mode = False, ssl.CERT_REQUIRED
        return context

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        near = self._context(ssl.Purpose.CLIENT_AUTH, "scheduler")
        server = self._loop.run_until_complete(
            asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=near, limit=1 << 20)
        )
        self.url = f"tls://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.1))
        self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far = self._context(ssl.Purpose.SERVER_AUTH, "client")
        other = await asyncio.open_connection("127.0.0.1", self.behind, ssl=far, limit=1 << 20)
        with suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(self._carry(reader, other[1]), self._carry(other[0], writer))

    async def _carry(self, one: asyncio.StreamReader, other: asyncio.StreamWriter) -> None:
        try:
            while data := await one.read(65536):
                self.heard += data
                other.write(data)
                await other.drain()
        finally:
            other.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)


@pytest.fixture
def ear(farm):
    made = Ear(farm.port, farm.certificates)
    yield made
    made.close()


@pytest.mark.slow
def test_no_url_password_salt_geo_file_or_address_passes_the_scheduler(stage, farm, ear, same_as_undisturbed):
    """All of a run's traffic with its scheduler, as it is on the wire."""
    stage.url = make_url(stage.url).set(password="pa55word-in-the-url").render_as_string(hide_password=False)
    stage.call("run", "--quiet", *SMALL, "--dask", ear.url, log_format="json")
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


@pytest.mark.thorough
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
@pytest.mark.usefixtures("as_client")
def test_a_scheduler_that_is_not_there_is_a_line_and_the_run_resumes(stage, same_as_undisturbed):
    said = stage.call("run", "--quiet", *SMALL, "--dask", "tls://127.0.0.1:1", expect=2, patience="1")
    assert "Dask scheduler tls://127.0.0.1:1: cannot be reached" in said
    stage.run(*SMALL)
    same_as_undisturbed(stage)


STRANGER = """
import sys, os
from distributed import Client
from distributed.security import Security
address, folder = sys.argv[1:]
paths = {f"tls_{name}": f"{folder}/{file}" for name, file in
         (("ca_file", "ca.pem"), ("client_cert", "client.pem"), ("client_key", "client.key"))}
security = Security(require_encryption=True, **paths) if folder != "none" else None
try:
    client = Client(address, timeout=5, set_as_default=False, security=security)
    print("GOT", client.run(lambda: dict(os.environ)))
except BaseException as error:
    print("REFUSED", type(error).__name__)
sys.stdout.flush()
os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("with_certificate", [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_a_stranger_gets_nothing_of_a_cluster(farm, with_certificate):
    """Without a certificate, over plain TCP and TLS, and with one of another CA."""
    strangers = next(farm.certificates.parent.glob("strangers*"))
    tries = [farm.url] if with_certificate else [farm.url, farm.url.replace("tls:", "tcp:")]
    for address in tries:
        folder = str(strangers) if with_certificate else "none"
        done = subprocess.run(
            [sys.executable, "-c", STRANGER, address, folder],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={"PATH": os.environ["PATH"]},
        )
        assert "REFUSED" in done.stdout, done.stdout + done.stderr
        assert "GOT" not in done.stdout
    done = (
        subprocess.run(  # the same question from the holder of a certificate: it is not that nothing answers
            [sys.executable, "-c", STRANGER, farm.url, str(farm.certificates)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={"PATH": os.environ["PATH"]},
        )
    )
    assert "GOT" in done.stdout


@pytest.mark.slow
def test_the_workers_role_can_apply_batches_and_nothing_else(stage, worker_role):
    stage.run(*SMALL)
    url = make_url(stage.url).set(username=worker_role).render_as_string(hide_password=False)
    refused = [
        "select * from backfill.keys",
        "update backfill.decisions set count = 0",  # it reads them: whether consent is on record
        "insert into backfill.coverage default values",
        "update backfill.runs set status = 'succeeded'",
        "delete from backfill.batches",
        "delete from user_events",
        "insert into user_events (source_id, tag) select source_id, tag from user_events limit 1",
        "drop table user_events",
        "alter table user_events drop column ip_address_string",
        "update journals set submitted_from = null",
        "select * from users",
        "select * from ip_addresses",
        "update ip_addresses set hashed_ip_address = 'x'",
        "create table backfill.mine ()",
        "truncate user_events",
    ]
    for statement in refused:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):  # every one
            query(url, statement)


@pytest.mark.thorough
def test_a_certificate_of_another_ca_is_a_line_at_once(stage, farm, monkeypatch):
    """And no ten minutes of waiting for a scheduler that is there and will never answer."""
    strangers = next(farm.certificates.parent.glob("strangers*"))
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT", str(strangers / "client.pem"))
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY", str(strangers / "client.key"))
    said = stage.call("run", "--quiet", *SMALL, "--dask", farm.url, expect=2)
    assert "does not accept our certificate" in said
