"""A small live application from before the first command to after the last drop: nobody waits for an answer, bans and
limits hold, and at the end no raw address is anywhere that we can look."""

import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import query
from tests.demo_template import SALT, environment, fill_demo, live_hash
from tests.operator import ROOT, Operator

TOKEN = "the-secret-of-the-edge"
RATE = 25  # requests of one client and worker in an hour
VISITORS = [f"81.2.69.{number}" for number in range(1, 60)] + [
    f"2a02:2e0::{number:x}" for number in range(16, 60)
]
FAST, ATTACKER, LATER = "81.2.69.201", "81.2.69.202", "81.2.69.203"
# How somebody would look for them, in whatever text.
MARKS = re.compile(r"81\.2\.69\.\d|2a02:2e0::[0-9a-f]|(?<![0-9.])127\.0\.0\.1(?![0-9.])")


class Site:
    """The application under gunicorn, with two workers."""

    def __init__(self, operator: Operator, folder: Path) -> None:
        self.folder, self.release = folder, folder / "release"
        self.release.write_text("1")
        user = query(operator.url, "select id::text from users limit 1")[0][0]
        self.logs = [folder / "access.log", folder / "error.log"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BACKFILL_")}
        environment |= {
            "PYTHONPATH": str(ROOT),
            "BACKFILL_IP_SALT": SALT,
            "APPLICATION_RELEASE": str(self.release),
            "APPLICATION_DATABASE": operator.url,
            "APPLICATION_USER": user,
            "APPLICATION_RATE": f"{RATE}/hour",
            "APPLICATION_EDGE_TOKEN": TOKEN,
            "APPLICATION_BIND": "127.0.0.1:0",
            "APPLICATION_ACCESS_LOG": str(self.logs[0]),
            "APPLICATION_ERROR_LOG": str(self.logs[1]),
        }
        words = [
            "-m",
            "gunicorn",
            "-c",
            "examples/application/gunicorn_conf.py",
            "examples.application.app:application",
        ]
        self.process = subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, env=environment, start_new_session=True
        )
        found = self.waits_for(lambda: re.search(r"Listening at: http://[0-9a-f]{64}:(\d+)", self.log(1)))
        self.port = int(found[1])
        self.pids = self.waits_for(self.workers)

    def log(self, number: int) -> str:
        """What is in the access log (0) or in the error log (1)."""
        return self.logs[number].read_text() if self.logs[number].exists() else ""

    def waits_for(self, answer):
        """What *answer* returns, as soon as it is something."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                if found := answer():
                    return found
            assert self.process.poll() is None, self.log(1)
            time.sleep(0.05)
        pytest.fail(f"nothing for 60 s: {self.log(1)}")

    def asks(self, path: str, headers: dict[str, str]) -> tuple[int, str]:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def sends(self, data: bytes) -> bytes:
        """What comes back for bytes that are no request."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(data)
            return connection.recv(4_096)

    def states(self) -> dict[int, dict]:
        """What both workers have in memory, by process id."""
        found = [json.loads(self.asks("/state", {})[1]) for _ in range(8)]
        return {state["pid"]: state for state in found}

    def workers(self) -> set[int]:
        """The process ids of the workers, once both have answered."""
        pids = set(self.states())
        return pids if len(pids) == 2 else set()

    def deploys(self, release: str) -> None:
        """A rolling deployment: workers of the old release end when those of the new one are there."""
        self.release.write_text(release)
        self.process.send_signal(signal.SIGHUP)
        old = self.pids
        self.pids = self.waits_for(lambda: (pids := self.workers()) and not pids & old and pids)

    def ends(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Traffic(threading.Thread):
    """Visitors, through the edge and not, as long as the test works."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site, self.over = site, threading.Event()
        self.random = random.Random(16)
        self.statuses: Counter[int] = Counter()
        self.wrong: list[object] = []

    def run(self) -> None:
        while not self.over.wait(0.02):
            address = self.random.choice(VISITORS)
            try:
                status, text = self.visits(address)
            except Exception as error:
                self.wrong.append(error)
                continue
            self.statuses[status] += 1
            if (status, text) != (200, live_hash(address)):
                self.wrong.append((status, text[:200]))

    def visits(self, address: str, path: str = "/") -> tuple[int, str]:
        """A request of that client, who lies about where it comes from."""
        headers = {
            "User-Agent": "Mozilla/5.0 Chrome/120.0.0.0",
            "X-Real-IP": address,
            "Referer": f"http://{VISITORS[0]}/",
        }
        if self.random.random() < 0.5:
            headers["X-Forwarded-For"] = f"81.2.69.250, {address}"
        else:
            digest = self.random.choice(
                [live_hash(address), "", "0" * 64]
            )  # an edge that is not always right
            headers |= {"Warehouse-Token": TOKEN, "Warehouse-IP": address, "Warehouse-Hashed-IP": digest}
            headers |= {
                "Warehouse-City": "london",
                "Warehouse-Country-Code": "gb",
                "X-Forwarded-For": "81.2.69.251",
            }
        return self.site.asks(path, headers)


@pytest.fixture
def operator(database, home) -> Operator:
    fill_demo(database, events=300)
    return Operator(database, environment(database, home))


@pytest.fixture
def site(operator, tmp_path) -> Iterator[Site]:
    site = Site(operator, tmp_path)
    yield site
    site.ends()


@pytest.fixture
def traffic(site) -> Iterator[Traffic]:
    traffic = Traffic(site)
    traffic.start()
    yield traffic
    traffic.over.set()
    traffic.join()


def holding(url: str) -> list[str]:
    """Tables of the database, whatever their schema, in a row of which one of the visitors can be read."""
    tables = query(
        url,
        "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname not in ('pg_catalog', 'information_schema')",
    )
    return [
        table
        for (table,) in tables
        if any(MARKS.search(text) for (text,) in query(url, f"select row::text from {table} as row"))
    ]


@pytest.mark.usefixtures("still_server")
def test_a_live_application_goes_the_whole_way(operator, site, traffic):
    url = operator.url
    # Release 1: raw text, rows and bans by address.
    assert traffic.visits(ATTACKER, "/attack")[0] == 200
    assert traffic.visits(ATTACKER)[0] == 403
    statuses = Counter(traffic.visits(FAST)[0] for _ in range(2 * RATE + 3))
    assert statuses == {200: statuses[200], 429: 2 * RATE + 3 - statuses[200]}
    assert statuses[429] >= 3
    assert set(holding(url)) == {"public.user_events", "public.ip_addresses"}
    operator.types("run", "--quiet")
    operator.settles_everything()

    # Release 2: no raw text in events, everything by hash; the address is kept, as its column is NOT NULL.
    site.deploys("2")
    assert traffic.visits(ATTACKER)[0] == 403
    operator.types("run", "--quiet")  # what release 1 wrote meanwhile has no place
    operator.types("verify")
    operator.migrates("0005a_ip_address_optional")
    assert set(holding(url)) == {"public.ip_addresses"}

    # Release 3: no address at all. Somebody is banned who was never seen.
    site.deploys("3")
    operator.types("ban", "--reason", "authentication-attempts", sends=f"{LATER}\n")
    operator.types("verify")
    operator.migrates()
    assert [traffic.visits(address)[0] for address in (ATTACKER, LATER)] == [403, 403]
    site.sends(b"GET /81.2.69.1 HTTP/999\r\n\r\n")  # which gunicorn answers, and writes down, by itself
    operator.types("erase")
    before = traffic.statuses.total()
    site.waits_for(lambda: traffic.statuses.total() > before + 3)
    traffic.over.set()
    traffic.join()

    assert traffic.wrong == []  # every request was answered, and rightly
    assert traffic.statuses.total() > 50
    assert holding(url) == []
    assert json.loads(operator.types("prove", "--format", "json").out)["state"] == "gone"
    assert operator.types("scan").code == 0
    states = site.states().values()
    assert (
        sum(state["events"].get("hash-missing", 0) for state in states) > 0
    )  # the edge was not always right
    keys = [key for state in states for key in state["limits"]]
    assert keys
    assert not [key for key in keys if MARKS.search(key)]
    access, errors = site.log(0), site.log(1)
    assert access.count(live_hash(ATTACKER)) >= 4
    assert "Invalid request from ip=" in errors
    assert MARKS.findall(access + errors) == []
