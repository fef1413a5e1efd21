"""A demo database, an operator who types commands in other processes, and what must be true at the end."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import make_url

from backfill.geo.city import bundled_geo_path
from backfill.hashing.salt import Salt
from backfill.hashing.sha256 import SHA256_SUFFIX
from backfill.plan import EVENT_TABLES
from backfill.pypi.demo import create_demo
from tests.databases import query
from tests.operator import ROOT, Operator

SALT = "a salt of the fault tests"
BACKFILL = Path(sys.executable).parent / "backfill"
PATIENCE = 60.0

EVENTS = " union all ".join(
    f"""select '{table}' as "table", event.id::text, host(known.ip_address) as address, event.additional::text
          from {table} as event left join ip_addresses as known on known.id = event.ip_address_id"""
    for table in EVENT_TABLES
)
FINAL = {
    "events": f"select * from ({EVENTS}) as event order by 1, 2",
    "addresses": """
        select ip_address::text, hashed_ip_address, geoip_info::text, is_banned, ban_reason::text
          from ip_addresses order by 1
    """,
    # A duplicate is told by the address, the key is drawn by lot.
    "quarantine": """
        select entry.job, entry.reason, coalesce(known.ip_address::text, entry.row_key)
          from backfill.quarantine as entry
          left join ip_addresses as known on known.id::text = entry.row_key order by 1, 2, 3
    """,
}
CLOSING = """
    select job, rows, linked, already_linked, no_address, quarantined, left_to_live
      from backfill.run_tables where linked is not null and run_id = (select max(id) from backfill.runs) order by 1
"""


def stretched(seconds: float) -> float:
    """*seconds*, on a machine that does more than it has processors for."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def promised(seconds: float = 2.0) -> float:
    """What a signal is promised to take, and what such a machine adds."""
    return stretched(seconds) + 1


def fill(url: str, events: int) -> None:
    """The demo, as ``backfill demo`` makes it."""
    geo = bundled_geo_path()
    assert geo is not None
    create_demo(
        url,
        events=events,
        seed=1,
        hash_address=Salt(SALT, source="tests").hasher(SHA256_SUFFIX.name),
        geo_path=geo,
        report=lambda line: None,
    )


@dataclass
class Stage:
    """One database and its operator."""

    url: str
    settings: dict[str, str] = field(default_factory=dict)
    commands: "list[Command]" = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("BACKFILL_", "PG"))}
        url = make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)
        ours = {
            "BACKFILL_DATABASE_URL": url,
            "BACKFILL_IP_SALT": SALT,
            "BACKFILL_GEOIP_DB": str(bundled_geo_path()),
            "BACKFILL_MAX_LAG": "0",
        }
        return kept | ours | {f"BACKFILL_{name.upper()}": value for name, value in self.settings.items()}

    def start(self, *words: str, **settings: str) -> "Command":
        """``backfill *words`` in a process of its own."""
        more = {f"BACKFILL_{name.upper()}": value for name, value in settings.items()}
        self.commands.append(Command([str(BACKFILL), *words], self.environment | more))
        return self.commands[-1]

    def call(self, *words: str, expect: int = 0, **settings: str) -> str:
        """``backfill *words``, to its end; returns what it said."""
        command = self.start(*words, **settings)
        assert command.end() == expect, command.said
        return command.said

    def types(self, *words: str, expect: int = 0, **settings: str) -> str:
        """As ``call``, in this process: for what a test does not disturb. A new one costs a second or two."""
        environment = self.environment | {
            f"BACKFILL_{name.upper()}": value for name, value in settings.items()
        }
        variables = {name: value for name, value in environment.items() if name.startswith("BACKFILL_")}
        said = Operator(self.url, variables).types(*words, expect=expect)
        return said.out + said.err

    def leave(self) -> None:
        """End what a test that failed has left running: it would wait for its database for minutes."""
        for command in self.commands:
            if command.process.poll() is None:
                kill_group(command)

    def run(self, *words: str, **settings: str) -> str:
        """An undisturbed run, or the one that resumes."""
        return self.types("run", "--quiet", *words, **settings)

    def query(self, statement: str, *values: object) -> list[tuple]:
        return query(self.url, statement, *values)

    def value(self, statement: str) -> object:
        return self.query(statement)[0][0]

    def status(self) -> dict:
        return json.loads(self.types("status", "--format", "json"))

    def final(self, *, closing: bool = True) -> dict[str, object]:
        """The state of everything that a run writes, keys that are drawn by lot left out."""
        found: dict[str, object] = {}
        for name, statement in FINAL.items():
            rows = self.query(statement)
            found[name] = len(rows)
            found[f"{name} digest"] = hashlib.sha256(repr(rows).encode()).hexdigest()
        if closing:
            found["closing"] = self.query(CLOSING)
            for _, rows, *parts in found["closing"]:
                assert sum(parts) == rows
        return found

    def until(self, condition: str, seconds: float = PATIENCE) -> None:
        """Wait until the SQL *condition* holds."""
        self.until_true(lambda: bool(self.value(f"select {condition}")), condition, seconds)

    def until_true(self, condition: Callable[[], bool], what: str = "", seconds: float = PATIENCE) -> None:
        end = time.monotonic() + stretched(seconds)
        while True:
            with suppress(Exception):  # the server may be down, the ledger not there yet
                if condition():
                    return
            assert time.monotonic() < end, f"never: {what}"
            time.sleep(0.02)

    def until_linking(self, seconds: float = PATIENCE) -> None:
        """Wait until some passes of the link phase are committed."""
        self.until("exists (select from backfill.batches where phase = 'link' and written > 0)", seconds)

    def sessions(self) -> list[int]:
        """Server processes of ours."""
        found = self.query(
            "select pid from pg_stat_activity where application_name = 'backfill' and datname = current_database()"
            " order by backend_start"
        )
        return [pid for (pid,) in found]


class Command:
    """A process in a group of its own, so that all of it can be ended."""

    def __init__(self, words: list[str], environment: dict[str, str]) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            words,
            env=environment | {"PYTHONUNBUFFERED": "1"},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    @property
    def said(self) -> str:
        return "".join(self.lines)

    def end(self, seconds: float = PATIENCE * 2) -> int:
        """Its exit code."""
        try:
            code = self.process.wait(stretched(seconds))
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not end: {self.said}") from None
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """The driver alone, with SIGKILL: what is left of it has to end by itself."""
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(30)
        self._reader.join(10)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def children(self) -> list[int]:
        """Worker processes: grandchildren by way of the fork server."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, ValueError, IndexError):
                # session id: field 6 of stat, after the name in brackets
                if int((path / "stat").read_text().rpartition(")")[2].split()[3]) == self.process.pid:
                    found.append(int(path.name))
        return [pid for pid in found if pid != self.process.pid]


@contextmanager
def in_background(work: Callable[[threading.Event], None]) -> Iterator[threading.Event]:
    """*work(done)* in a thread, told to end at the end of the block; its exception is raised here."""
    done = threading.Event()
    failed: list[BaseException] = []

    def thread() -> None:
        try:
            work(done)
        except BaseException as error:
            failed.append(error)

    worker = threading.Thread(target=thread, daemon=True)
    worker.start()
    try:
        yield done
    finally:
        done.set()
        worker.join(30)
    if failed:
        raise failed[0]


def kill_group(command: Command, number: int = signal.SIGKILL) -> None:
    """Everything of that command, workers included."""
    with suppress(ProcessLookupError):
        os.killpg(command.process.pid, number)
    command.kill()


def worker_of_a_batch(stage: Stage) -> tuple[int, int]:
    """A batch in the middle of its passes, and the process that has it."""
    found: list[tuple[int, int]] = []

    def look() -> bool:
        found[:] = stage.query(
            "select id, split_part(worker, ':', 2)::int from backfill.batches"
            " where status = 'running' and phase = 'link' and passes_done between 1 and passes - 2 limit 1"
        )
        return bool(found)

    stage.until_true(look, "a batch in the middle")
    return found[0]
