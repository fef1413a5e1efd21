"""Unique indexes beside an application that goes on as before: days of a timer, races, and two workers."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from psycopg2 import sql

from backfill.database.connection import rows
from backfill.jobs import on_duplicate
from backfill.jobs.collisions import Collisions
from backfill.ledger.batches import Batch
from backfill.ledger.phases import LINK
from tests import rewritten
from tests.databases import connect, query
from tests.operator import Operator

AFTER = 3
SCHEMA = """
    create table user_ips (id bigint generated always as identity primary key, who text not null, ip text not null, last_seen timestamptz not null,
        seen int not null default 1);
    create unique index on user_ips (who, ip);
    create index on user_ips (last_seen);
"""
# As the application does it with every request; {ago}: before now.
UPSERT = """
    insert into user_ips (who, ip, last_seen) values (%s, %s, now() - make_interval(mins => %s))
    on conflict (who, ip) do update set last_seen = excluded.last_seen, seen = user_ips.seen + 1
"""
WHO = ("ann", "bob", "cid")


def operator_of(url: str, home: Path, folder: Path, **keys: object) -> Operator:
    job = {
        "table": "user_ips",
        "raw": "ip",
        "becomes": "network",
        "unreadable": "refuse",
        "time": "last_seen",
        "on_duplicate": "keep-newest",
        **keys,
    }
    return rewritten.operator(url, home, rewritten.plan_file(folder, job))


def requests(day: int) -> Iterator[tuple[str, str, int]]:
    """Who comes from where that day, and how many minutes before its end: at home daily or now and then, and elsewhere once."""
    for number, who in enumerate(WHO):
        if day % (number * 4 + 1) == 0:
            yield who, f"81.2.3.{number + 1}", 5
        if day % 5 == number:
            yield who, f"::ffff:81.2.3.{number + 1}", 9
        yield who, f"2a00:{day + 16:x}::{number + 1:x}", 7
        if day % 6 == 0:
            yield who, f"2A00:1:0:0:0:0:0:{number + 1:x}", 3


@pytest.mark.parametrize("days", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_days_of_a_timer_beside_upserts_of_old_addresses(
    database: str, home: Path, tmp_path: Path, days: int
) -> None:
    """Rows grow older instead of the clock going on."""
    operator = operator_of(database, home, tmp_path, becomes="pseudonym", after=f"{AFTER} days")
    query(database, SCHEMA)
    # By who and address, as an address: the day of the newest request that is old; and by who and text, of any.
    newest: dict[tuple[str, str], int] = {}
    raw: dict[tuple[str, str], int] = {}

    def goes_on(day: int, part: int) -> None:
        for number, (who, ip, minutes) in enumerate(requests(day)):
            if number % 2 == part:
                query(database, UPSERT, who, ip, minutes)
                raw[who, ip] = day

    for day in range(-6, days + 1):
        query(database, "update user_ips set last_seen = last_seen - interval '1 day'")
        goes_on(day, 0)
        if day < 0:
            goes_on(day, 1)
            continue
        begun: list[int] = []

        def meanwhile(_: object, day: int = day, begun: list[int] = begun) -> None:
            if not begun:
                begun.append(day)
                goes_on(day, 1)

        if day == 0:
            asked = operator.types("run", "--due", "--quiet", expect=2)
            operator.hooked(before_batch=meanwhile).types(*rewritten.confirmed(asked))
        else:
            said = operator.hooked(before_batch=meanwhile).types("run", "--due", "--quiet").out
            # Those that the run had not rewritten are in no column of its table.
            assert ("; above, they count only where" in said) == ("user_ips: 0 rows were" not in said)
        assert begun
        for who, ip in [key for key, last in raw.items() if day - last >= AFTER]:
            address = str(rewritten.canonical(ip))
            newest[who, address] = max(raw.pop((who, ip)), newest.get((who, address), -99))
        found = query(database, "select who, ip, extract(epoch from now() - last_seen) / 86400 from user_ips")
        young = {(who, ip): int(age) for who, ip, age in found if age < AFTER}
        assert young == {key: day - last for key, last in raw.items()}
        old = [(who, ip, int(age)) for who, ip, age in found if age >= AFTER]
        assert all(ip.startswith("fd") for _, ip, _ in old)
        for who in WHO:
            assert sorted(age for whose, _, age in old if whose == who) == sorted(
                day - last for (whose, _), last in newest.items() if whose == who
            )
        operator.types("status", "--due")
    ((deleted, written),) = query(
        database, "select sum(deleted), sum(written) from backfill.batches where phase like '%link'"
    )
    assert deleted > 0
    assert written >= len(newest)
    assert f"by the same records, {deleted} row" in operator.types("verify").out


def until_waited_for(url: str, statement: str) -> threading.Thread:
    """*statement* is done, and committed when somebody waits for it: nobody sees it before."""
    connection = connect(url)
    connection.autocommit = False
    with connection.cursor() as cursor:
        cursor.execute(statement)
    pid = connection.info.backend_pid

    def end() -> None:
        waits = "select exists (select from pg_stat_activity where %s = any (pg_blocking_pids(pid)))"
        last = time.monotonic() + 20
        with closing(connection):
            while not query(url, waits, pid)[0][0] and time.monotonic() < last:
                time.sleep(0.02)
            connection.commit()

    thread = threading.Thread(target=end)
    thread.start()
    return thread


def test_a_row_that_came_or_changed_at_the_same_moment_is_compared_anew(
    database: str, home: Path, tmp_path: Path
) -> None:
    query(database, SCHEMA)
    for who, ip, ago in (("ann", "81.2.3.4", 60), ("bob", "81.2.3.4", 60), ("bob", "81.2.3.5", 50)):
        query(database, UPSERT, who, ip, ago)
    operator = operator_of(database, home, tmp_path)
    threads: list[threading.Thread] = []
    insert = "insert into user_ips (who, ip, last_seen) values ('ann', '81.2.3.0', now())"
    update = "update user_ips set last_seen = now() where who = 'bob' and ip = '81.2.3.4'"

    def meanwhile(batch: Batch) -> None:
        if not threads and batch.phase == LINK:
            threads.extend(until_waited_for(database, statement) for statement in (insert, update))

    asked = operator.types("run", "--quiet", expect=2)
    assert "3 rows to be rewritten in place, and 1 row to be deleted as duplicates" in asked.err
    operator.hooked(before_batch=meanwhile).types(*rewritten.confirmed(asked), "--workers", 1)
    for thread in threads:
        thread.join()
    assert query(database, "select id, who, ip from user_ips order by id") == [
        (2, "bob", "81.2.3.0"),
        (4, "ann", "81.2.3.0"),
    ]
    ((retries,),) = query(database, "select retries from backfill.runs")
    assert retries["unique-collision"] == 1
    operator.types("verify")


def test_what_does_not_let_itself_be_deleted_fails_its_batch(
    database: str, home: Path, tmp_path: Path
) -> None:
    query(database, SCHEMA)
    query(
        database,
        """create function stays() returns trigger language plpgsql set search_path = '' as $$ begin return null; end $$;
           create trigger stays before delete on user_ips for each row execute function stays()""",
    )
    for ip in ("81.2.3.4", "81.2.3.5"):
        query(database, UPSERT, "ann", ip, 60)
    operator = operator_of(database, home, tmp_path)
    assert "delete-trigger:public.user_ips.stays" in operator.types("run", expect=2).err
    accept = ("--accept", "delete-trigger:public.user_ips.stays")
    said = rewritten.run(operator, "--quiet", *accept, expect=1)
    assert "1 of 1 duplicates are still there after they were deleted" in said.out + said.err
    assert query(database, "select id, ip = '81.2.3.4' from user_ips order by id") == [(1, True), (2, False)]
    # One that copies the row elsewhere, raw address and all, was accepted under the same name.
    query(
        database,
        """create table public.bin (ip text); create or replace function public.stays() returns trigger language plpgsql set search_path = '' as
           $$ begin insert into public.bin values (old.ip); return old; end $$""",
    )
    said = operator.types("run", "--quiet", *accept, expect=1)
    assert "writes rows with raw addresses in public.bin.ip" in said.out + said.err
    assert query(database, "select count(*) from public.bin") == [(0,)]


@pytest.mark.slow
def test_two_workers_whose_rows_are_equal_everywhere(database: str, home: Path, tmp_path: Path) -> None:
    """Every value becomes the same, so each user keeps one row, wherever it lies; and the application goes on."""
    query(database, SCHEMA)
    query(
        database,
        "insert into user_ips (who, ip, last_seen) select 'u' || n % 50, '81.2.' || n / 250 || '.' || n % 250, now() - make_interval(mins => n % 777) from generate_series(1, 20000) as n",
    )
    query(
        database,
        "create table newest as select distinct on (who) who, id from user_ips order by who, last_seen desc, id desc",
    )
    operator = operator_of(database, home, tmp_path, becomes="nothing", then="keep", constant="-")
    stop = threading.Event()

    def application() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            query(database, UPSERT, f"v{number % 9}", f"9.9.{number % 250}.9", 1)

    thread = threading.Thread(target=application)
    thread.start()
    try:
        rewritten.run(operator, "--quiet", "--workers", 2, "--batch-blocks", 8)
    finally:
        stop.set()
        thread.join()
    operator.types("run", "--quiet")
    assert (
        query(database, "select who, id from user_ips where who like 'u%' except select who, id from newest")
        == []
    )
    assert query(database, "select count(*) from user_ips where who like 'u%'") == [(50,)]
    assert query(database, "select count(*) from user_ips where ip <> '-'") == [(0,)]


def test_a_place_that_another_row_has_by_now_is_not_taken_for_the_row_that_was_compared(
    database: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction older than ours removes the row that loses, vacuum frees its place, and an INSERT takes it."""
    query(database, SCHEMA)
    query(database, "alter table user_ips set (autovacuum_enabled = off)")
    seen = "insert into user_ips (who, ip, last_seen) values (%s, %s, now() - make_interval(days => %s))"
    query(database, seen, "ann", "81.2.3.0", 60)
    query(database, seen, "ann", "81.2.3.4", 0)
    query(database, "update user_ips set seen = 2 where id = 1")  # heap-only: its place is free for anybody
    operator = operator_of(database, home, tmp_path)
    words = rewritten.confirmed(operator.types("run", "--quiet", expect=2))
    older: list[Any] = []

    def delete(batch: Batch) -> None:
        if batch.phase == LINK and not older:
            older.append(connect(database))
            older[0].autocommit = False
            older[0].cursor().execute("delete from user_ips where id = 1")

    lock = on_duplicate._lock

    def meanwhile(*args: Any) -> Any:
        if args[2] and older and not older[0].closed:
            older[0].commit()
            older[0].close()
            query(database, "vacuum user_ips")
            for number in range(3):
                query(database, seen, f"eve{number}", "9.9.9.0", 0)
            monkeypatch.undo()
        return lock(*args)

    monkeypatch.setattr(on_duplicate, "_lock", meanwhile)
    operator.having(workers="1").hooked(before_batch=delete).types(*words)
    assert older
    assert query(database, "select who, ip from user_ips order by id") == [
        ("ann", "81.2.3.0"),
        *((f"eve{number}", "9.9.9.0") for number in range(3)),
    ]


def test_the_dry_run_leaves_no_value_in_the_catalog(
    database: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query(database, SCHEMA)
    query(database, "alter table user_ips set (autovacuum_enabled = off)")
    query(
        database,
        """insert into user_ips (who, ip, last_seen)
           select 'ann', '81.2.' || n / 250 || '.' || n % 250, now() from generate_series(1, 2000) as n""",
    )
    asked: list[int] = []
    losing = Collisions.losing

    def after_analyze(self: Collisions, connection: Any, *args: Any) -> Any:
        statistics = sql.SQL(
            "select * from pg_statistic where starelid = 'pg_temp.backfill_results'::regclass"
        )
        asked.append(len(rows(connection, statistics)))
        return losing(self, connection, *args)

    monkeypatch.setattr(Collisions, "losing", after_analyze)
    operator_of(database, home, tmp_path).types("run", "--quiet", expect=2)
    assert asked == [0]
