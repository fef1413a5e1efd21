"""Neither salt nor address reaches the server's log, an output, a process list or the ledger; errors included."""

import os
import pty
import re
import select
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from backfill.database import binary_copy
from backfill.embedded import EmbeddedServer
from tests.conftest import temporary_home
from tests.databases import connect, query
from tests.demo_template import ALL_EVENTS, SALT, SENTINEL, TABLES, environment, read_by_hand
from tests.operator import BIN, ROOT, Operator, Said

EVENTS = 2_000
NEVER_SEEN = "203.0.113.211"
BUFFERED = 100  # chunks of 300 bytes: more than libpq keeps before it sends
TALKATIVE = {
    "log_statement": "all", "log_min_messages": "info", "log_min_error_statement": "info", "log_duration": "on",
    "log_lock_waits": "on", "deadlock_timeout": "50ms", "log_error_verbosity": "verbose", "log_temp_files": "0",
    "log_autovacuum_min_duration": "0", "log_parameter_max_length": "-1", "log_parameter_max_length_on_error": "-1",
}  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    """A server that writes everything it can into its log."""
    with temporary_home() as folder:
        embedded = EmbeddedServer(folder)
        with closing(connect(embedded.ensure())) as connection, connection.cursor() as cursor:
            for name, value in TALKATIVE.items():
                cursor.execute(f"alter system set {name} = '{value}'")
            cursor.execute("select pg_reload_conf()")
        yield embedded


class SensorMonitor(threading.Thread):
    """Looks again and again at what any process and any session shows of itself."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.seen, self.looks = url, set[str](), 0
        self.over = threading.Event()

    def run(self) -> None:
        with closing(connect(self.url)) as connection, connection.cursor() as cursor:
            while not self.over.wait(0.01):
                self.looks += 1
                with suppress(psycopg2.Error):
                    cursor.execute(
                        "select coalesce(query, ''), coalesce(application_name, '') from pg_stat_activity"
                    )
                    self.seen |= {text for row in cursor.fetchall() for text in row}
                if (
                    self.looks % 10 == 1
                ):  # a process keeps its words for as long as it lives, a session its query for less
                    for path in Path("/proc").glob("[0-9]*/cmdline"):
                        with suppress(OSError):
                            self.seen.add(path.read_text(errors="replace"))


@contextmanager
def watched(url: str) -> Iterator[SensorMonitor]:
    watch = SensorMonitor(url)
    watch.start()
    try:
        yield watch
    finally:
        watch.over.set()
        watch.join()


def every_address(url: str) -> set[str]:
    """Each text that spells an address, and its canonical form, that the database holds before anything is done."""
    texts = {raw for (raw,) in query(url, f"select distinct raw from ({ALL_EVENTS}) e where raw is not null")}
    texts |= {raw for (raw,) in query(url, "select distinct submitted_from from journals where submitted_from is not null")}  # fmt: skip
    texts |= {host for (host,) in query(url, "select host(ip_address) from ip_addresses")}
    spelled = {text.strip() for text in texts if read_by_hand(text)}
    found = spelled | {read_by_hand(text) or "" for text in spelled}
    # What is in a forwarded-for list or a network counts as well.
    for text in texts:
        found |= {part for part in re.split(r"[,\s/\x00-\x1f]+", text) if read_by_hand(part)}
    return found - {SENTINEL, ""}


@pytest.fixture(scope="module")
def whole_way(server: EmbeddedServer) -> dict[str, Any]:
    """The whole way on that server, with every error on it that we know how to provoke."""
    url = server.ensure()
    said: list[Said] = []
    with temporary_home() as home:
        operator = Operator(url, environment(url, home)).having(workers="2")

        def types(*words: object, tool: str = "backfill", expect: int = 0, sends: str | None = None) -> None:
            said.append(operator.really_types(*words, tool=tool, sends=sends))
            assert said[-1].code == expect, said[-1]

        with watched(url) as watch:
            types("demo", "--events", EVENTS)
            addresses = every_address(url)
            # Of an address that the application linked, of one in another spelling, and of one that was never seen.
            asked = [*sorted(addresses)[:: len(addresses) // 5], f"::ffff:{NEVER_SEEN}"]
            addresses.add(NEVER_SEEN)
            types("ban", "--reason", "authentication-attempts", sends=asked[-1])
            types("lookup", sends="\n".join(asked))
            types("plan")
            types("calibrate")
            said.append(terminated_in_the_middle_of_copy(operator))
            said.append(deadlocked(operator))
            types("status")
            types("verify", expect=1)
            types("quarantine", "list")
            types("quarantine", "settle", "user_events", "--as", "sentinel", "--count", "99999", expect=2)
            for table in TABLES:
                number = len(operator.waiting(table))
                types("quarantine", "settle", table, "--as", "sentinel", "--count", number)
            types("addresses", "merge", "--count", 1)
            types("verify", "--format", "json")
            types("report", "--format", "markdown")
            ledger = everything_in_the_ledger(url)
            operator = operator.having(restore_point="none", lock_timeout_ms="50")
            said.append(held_up(operator, "0003b_team_events"))
            violate_the_guard(url)
            types(
                "upgrade", "head", tool="alembic", expect=255
            )  # the violation changed nothing, the row count did
            query(url, "delete from user_events where tag = 'leak'")
            types("verify")
            types("upgrade", "head", tool="alembic")
            types("verify")
            types("lookup", "--format", "json", sends="\n".join(asked))
            types("ban", "--reason", "authentication-attempts", "--count", len(asked), sends="\n".join(asked))
            said.append(asked_at_a_prompt(operator, home, asked[-1]))
            history = (home.parent / "history").read_text()
    log = server.status().log.read_text(errors="replace")
    return {
        "said": said,
        "addresses": addresses,
        "log": log,
        "ledger": ledger,
        "watch": watch,
        "history": history,
    }


def asked_at_a_prompt(operator: Operator, home: Path, address: str) -> Said:
    """``backfill lookup`` in a shell that keeps a history, the address typed when it asks; what came after that."""
    terminal, its = pty.openpty()
    variables = {"PATH": os.environ["PATH"], "HISTFILE": str(home.parent / "history"), "TERM": "dumb"}
    shell = subprocess.Popen(
        ["/bin/bash", "--norc", "--noprofile", "-i"],
        env=variables | {"PS1": "$ "} | operator.variables,
        stdin=its,
        stdout=its,
        stderr=its,
        cwd=ROOT,
        start_new_session=True,
    )
    os.close(its)
    shown = ""

    def wait_for(text: str) -> None:
        nonlocal shown
        until = time.monotonic() + 60
        while text not in shown:
            assert time.monotonic() < until, shown
            if select.select([terminal], [], [], 0.1)[0]:
                shown += os.read(terminal, 1 << 16).decode(errors="replace")

    wait_for("$ ")
    os.write(terminal, f"{BIN / 'backfill'} lookup\n".encode())
    wait_for("Address: ")
    os.write(terminal, f"{address}\n".encode())
    wait_for("not asked")
    os.write(terminal, b"exit\n")
    assert shell.wait(timeout=60) == 0
    os.close(terminal)
    return Said(0, shown.replace(address, "", 1))  # what was typed is echoed once


def terminated_in_the_middle_of_copy(operator: Operator) -> Said:
    """A run of one table whose session the server ends while texts are on their way to it; it goes on by itself."""
    read, ended = binary_copy.Stream.read, []

    def reading(stream: binary_copy.Stream, size: int = 0) -> bytes:
        chunk = read(stream, 300)
        if len(ended) < BUFFERED:
            ended.append(chunk)
        elif len(ended) == BUFFERED:
            ended.append(chunk)
            query(operator.url, "select pg_terminate_backend(pid) from pg_stat_activity where query like '%copy%stdin%' and pid <> pg_backend_pid()")  # fmt: skip
            time.sleep(0.2)
        return chunk

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(binary_copy.Stream, "read", reading)
        said = operator.types("run", "project_events", "--quiet")
    assert len(ended) == BUFFERED + 1
    return said


def deadlocked(operator: Operator) -> Said:
    """A run that meets a session which takes rows in the opposite order; one of the two is the victim."""
    with closing(connect(operator.url, autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute("select 1 from user_events where ctid = (select max(ctid) from user_events where ip_address_id is null) for update")  # fmt: skip
        cursor.execute("select 1 from team_events where ctid = (select max(ctid) from team_events where ip_address_id is null) for update")  # fmt: skip
        process = operator.starts("run", "--quiet")
        waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%update%map%'"
        while not query(operator.url, waiting)[0][0]:
            assert process.poll() is None
            time.sleep(0.01)
        with suppress(psycopg2.errors.DeadlockDetected):
            cursor.execute("update user_events set tag = tag")
        other.rollback()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return Said(0, out, err)


def held_up(operator: Operator, revision: str) -> Said:
    """A migration that does not get its lock at first."""
    with closing(connect(operator.url, autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute("lock table journals in access share mode")
        process = operator.starts("upgrade", revision, tool="alembic")
        assert process.stdout
        line = process.stdout.readline()
        assert "busy" in line
        other.rollback()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return Said(0, line + out, err)


def violate_the_guard(url: str) -> None:
    """By statements that hold no address themselves: what an application writes there is its own affair."""
    for statement in (
        "update user_events set ip_address_id = null where ip_address_string is not null",
        "update user_events set ip_address_string = ip_address_string || ' ' where ip_address_string is not null",
        """insert into user_events (source_id, tag, ip_address_string)
           select source_id, 'leak', ip_address_string from user_events where ip_address_string is not null limit 1""",
    ):
        with pytest.raises(psycopg2.errors.CheckViolation):
            query(url, statement)
    query(
        url,
        """insert into user_events (source_id, tag, ip_address_string, ip_address_id)
           select source_id, 'leak', ip_address_string, ip_address_id
             from user_events where ip_address_string is not null limit 1""",
    )


def everything_in_the_ledger(url: str) -> str:
    names = query(
        url, "select relname from pg_class where relnamespace = 'backfill'::regnamespace and relkind = 'r'"
    )
    rows = [query(url, f"select t::text from backfill.{name} t") for (name,) in names]
    return "\n".join(text for table in rows for (text,) in table)


def test_the_way_was_gone_and_the_errors_did_happen(whole_way: dict[str, Any]) -> None:
    log = whole_way["log"]
    assert len(whole_way["addresses"]) > 200
    assert "statement: " in log
    assert "terminating connection due to administrator command" in log
    assert re.search(r"CONTEXT: +COPY \w+, line \d+", log)
    assert "deadlock detected" in log
    assert "canceling statement due to lock timeout" in log
    assert "may not hold ip_address_string without ip_address_id" in log
    assert "a proved row of user_events may not change" in log


def test_the_servers_log_holds_no_address(whole_way: dict[str, Any]) -> None:
    found = [address for address in whole_way["addresses"] if address in whole_way["log"]]
    lines = [line for line in whole_way["log"].splitlines() if any(one in line for one in found[:5])]
    assert not found, lines[:5]


def test_no_output_holds_an_address(whole_way: dict[str, Any]) -> None:
    outputs = "\n".join(said.out + said.err for said in whole_way["said"])
    assert not [address for address in whole_way["addresses"] if address in outputs]


def test_the_ledger_holds_no_address(whole_way: dict[str, Any]) -> None:
    assert not [address for address in whole_way["addresses"] if address in whole_way["ledger"]]


def test_no_session_and_no_process_shows_an_address_or_the_salt(whole_way: dict[str, Any]) -> None:
    watch = whole_way["watch"]
    assert watch.looks > 50
    assert any("backfill" in text for text in watch.seen)
    for text in watch.seen:
        assert SALT not in text
        assert not [address for address in whole_way["addresses"] if address in text]


def test_the_shells_history_holds_no_address(whole_way: dict[str, Any]) -> None:
    assert "backfill lookup" in whole_way["history"]
    assert not [address for address in whole_way["addresses"] if address in whole_way["history"]]


def test_the_salt_is_nowhere(whole_way: dict[str, Any]) -> None:
    assert SALT not in whole_way["log"]
    assert SALT not in whole_way["ledger"]
    assert not [said for said in whole_way["said"] if SALT in said.out + said.err]
