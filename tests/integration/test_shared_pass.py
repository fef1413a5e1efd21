"""Several jobs of one table: rows are rewritten once, each column as its job asks, and what one job meets is not the others'."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from backfill.hashing.salt import Salt
from tests import rewritten
from tests.databases import connect, query
from tests.operator import Operator

ROWS = 3_000
SCHEMA = """
    create table logins (id bigint generated always as identity primary key,
        ip text, last_ip inet, first_ip varchar(39), note text default 'kept');
    insert into logins (ip, last_ip, first_ip)
    select case when i % 7 = 0 then null when i % 50 = 1 then 'unknown' when i % 50 = 2 then {done}
                else '81.2.' || i % 91 || '.' || i % 251 end,
           case when i % 5 = 0 then null when i % 50 = 3 then '10.0.0.0/8' else ('2a00:' || to_hex(i % 97) || '::' || i % 31)::inet end,
           case when i % 3 = 0 then null when i % 50 = 4 then '::ffff:8.8.4.' || i % 9 else '8.8.' || i % 13 || '.9' end
      from generate_series(1, {rows}) as i
"""
COLUMNS = ("ip", "last_ip", "first_ip")
JOBS = tuple(
    {"table": "logins", "raw": raw, "becomes": becomes, "unreadable": "keep"}
    for raw, becomes in zip(COLUMNS, ("hash", "network", "pseudonym"), strict=True)
)
DONE = "a" * 64  # looks like a hash: taken for one


def shown(url: str) -> list[tuple]:
    return query(
        url,
        "select id, ip, host(last_ip) || case when masklen(last_ip) < 32 then '/8' else '' end, first_ip, note from logins order by id",
    )


def updates(url: str, at_least: int) -> int:
    """Row versions that updates made; each session reports its own when it ends, and PostgreSQL 14 half a second later."""
    end, before = time.monotonic() + 30, -1
    while True:
        number = int(query(url, "select n_tup_upd from pg_stat_user_tables where relname = 'logins'")[0][0])
        if number >= at_least and number == before:
            return number
        assert time.monotonic() < end, number
        before = number
        time.sleep(0.6)


@pytest.fixture
def logins(database: str, home: Path, tmp_path: Path) -> Operator:
    query(database, SCHEMA.format(rows=ROWS, done=f"'{DONE}'"))
    return rewritten.operator(database, home, rewritten.plan_file(tmp_path, *JOBS))


def expected(url: str, before: list[tuple]) -> list[tuple]:
    ((prefix,),) = query(url, "select prefix from backfill.pseudonym_prefixes")
    pseudonyms = Salt(rewritten.SALT, source="test").pseudonyms(prefix)

    def hashed(text: str | None) -> str | None:
        return text if text in (None, "unknown", DONE) else rewritten.hashed(text)

    def network(text: str | None) -> str | None:
        return text if text is None or "/" in text else rewritten.network(text)

    def pseudonym(text: str | None) -> str | None:
        return None if text is None else pseudonyms.pseudonym(str(rewritten.canonical(text)))

    return [(key, hashed(a), network(b), pseudonym(c), note) for key, a, b, c, note in before]


def test_a_row_is_rewritten_once_for_all_jobs_of_its_table(logins: Operator) -> None:
    url, before = logins.url, shown(logins.url)
    rewritten.run(logins, "--quiet", "--workers", "2", "--batch-blocks", "8")
    after = expected(url, before)
    assert shown(url) == after
    changed = sum(was != now for was, now in zip(before, after, strict=True))
    # Those without a first value are written for the others by batches of theirs; no row is written for each job.
    assert updates(url, changed) < 1.2 * changed
    counted = {
        column: sum(was[at] != now[at] for was, now in zip(before, after, strict=True))
        for at, column in enumerate(COLUMNS, start=1)
    }
    total = "select sum(written) from backfill.batches where job = %s and phase like '%%link'"
    for column, number in counted.items():
        assert query(url, total, f"public.logins.{column}") == [(number,)]
    shared = query(
        url, "select job, sum(written) from backfill.batches where phase = 'shared-link' group by job"
    )
    assert {job.rpartition(".")[2] for job, _ in shared} == {"last_ip", "first_ip"}
    assert all(number > 0.5 * ROWS for _, number in shared)
    found = json.loads(logins.types("verify", "--format", "json").out)
    assert found["covered"]
    assert " 0 " in logins.types("run", "--quiet").out
    assert shown(url) == after


def test_a_run_of_one_job_leaves_the_other_columns_alone(logins: Operator) -> None:
    before = shown(logins.url)
    rewritten.run(logins, "logins.ip", "--quiet")
    now = shown(logins.url)
    assert [row[2:] for row in now] == [row[2:] for row in before]
    assert [row[1] for row in now] != [row[1] for row in before]


@pytest.mark.parametrize(
    "body",
    [
        "if new.last_ip is distinct from old.last_ip and old.id = 41 then raise 'not this one'; end if; return new;",
        "if old.id = 41 then new.last_ip := old.last_ip; end if; return new;",
    ],
    ids=["refuses", "keeps"],
)
def test_what_refuses_one_job_is_in_the_way_of_no_other(logins: Operator, body: str) -> None:
    url, before = logins.url, shown(logins.url)
    query(
        url,
        f"""create function watch() returns trigger language plpgsql set search_path = pg_catalog as $$ begin {body} end $$;
            create trigger watch before update on logins for each row execute function watch()""",
    )
    accept = ("--accept", "before-trigger:public.logins.watch")
    asked = logins.types("run", "--quiet", *accept, expect=2)
    done = logins.types(*rewritten.confirmed(asked), expect=1)
    after = expected(url, before)
    now = shown(url)
    assert [row[1] for row in now] == [row[1] for row in after], done
    assert [row[3] for row in now] == [row[3] for row in after], done
    assert now[40][2] == before[40][2]
    assert "logins.last_ip" in done.out + done.err
    query(url, "drop function watch() cascade")
    logins.types("run", "--quiet")
    assert shown(url) == after
    logins.types("verify")


def test_a_row_that_somebody_writes_meanwhile_is_rewritten_as_it_is_then(logins: Operator) -> None:
    """The pass waits for the row's lock with what it saw before: none of that may come over what was written."""
    url, before = logins.url, shown(logins.url)
    words = rewritten.confirmed(logins.types("run", "--quiet", expect=2))
    later = "update logins set ip = '9.9.9.9', last_ip = '2a01:7::9', note = 'later' where id = 41"
    with closing(connect(url, autocommit=False)) as other, ThreadPoolExecutor(1) as thread:
        other.cursor().execute(later)
        running = thread.submit(logins.types, *words)
        waits = "select count(*) from pg_locks where not granted and pid <> pg_backend_pid()"
        end = time.monotonic() + 30
        while not query(url, waits)[0][0]:
            assert time.monotonic() < end
            assert not running.done(), running.result()
        other.commit()
        running.result()
    as_written = [(41, "9.9.9.9", "2a01:7::9", *row[3:4], "later") if row[0] == 41 else row for row in before]
    assert shown(url) == expected(url, as_written)
    logins.types("verify")


def test_each_job_has_its_own_age_and_its_own_way_with_what_is_no_address(
    database: str, home: Path, tmp_path: Path
) -> None:
    query(
        database,
        """create table logins (id int primary key, ip text not null, last_ip inet, first_ip text, at timestamptz);
           insert into logins
           select i, case when i % 40 = 1 then 'unknown' else '81.2.' || i % 91 || '.' || i % 251 end, ('2a00::' || to_hex(i % 97))::inet,
                  case when i % 40 = 2 then '10.0.0.0/8' when i % 40 = 3 then 'fdff::' || i else '8.8.' || i % 13 || '.9' end,
                  now() - make_interval(days => i % 30)
             from generate_series(1, 2000) as i""",
    )
    aged = {"table": "logins", "time": "at"}
    plan = rewritten.plan_file(
        tmp_path,
        {**aged, "raw": "ip", "becomes": "nothing", "then": "keep", "constant": "192.0.2.0", "unreadable": "nothing", "after": "10 days"},
        {**aged, "raw": "last_ip", "becomes": "nothing", "then": "keep", "unreadable": "refuse", "after": "20 days"},
        {**aged, "raw": "first_ip", "becomes": "pseudonym", "unreadable": "nothing", "after": "5 days"},
    )  # fmt: skip
    operator = rewritten.operator(database, home, plan)
    before = query(database, "select id, ip, host(last_ip), first_ip from logins order by id")
    rewritten.run(operator, "--quiet", "--workers", "2")
    ((prefix,),) = query(database, "select prefix from backfill.pseudonym_prefixes")
    pseudonyms = Salt(rewritten.SALT, source="test").pseudonyms(prefix)
    expected = []
    for key, ip, last_ip, first_ip in before:
        days = key % 30
        first = None if "/" in first_ip else pseudonyms.pseudonym(first_ip)
        expected.append(
            (
                key,
                "192.0.2.0" if days >= 10 else ip,
                None if days >= 20 else last_ip,
                first if days >= 5 else first_ip,
            )
        )
    assert query(database, "select id, ip, host(last_ip), first_ip from logins order by id") == expected
    shared = query(
        database, "select job, sum(written) from backfill.batches where phase = 'shared-link' group by 1"
    )
    assert {job.rpartition(".")[2] for job, _ in shared} == {"last_ip", "first_ip"}
    operator.types("verify")
    operator.types("status", "--due")


def test_a_trigger_for_a_column_is_called_only_where_the_column_is_rewritten(logins: Operator) -> None:
    query(
        logins.url,
        """
        create table calls (id bigint, altered bool);
        create function note() returns trigger language plpgsql as $$ begin
            insert into calls values (new.id, new.last_ip is distinct from old.last_ip); return null; end $$;
        create trigger note after update of last_ip on logins for each row execute function note()
        """,
    )
    before = shown(logins.url)
    rewritten.run(logins, "--quiet", "--batch-blocks", "8", "--accept", "after-trigger:public.logins.note")
    assert shown(logins.url) == expected(logins.url, before)
    assert query(logins.url, "select altered, count(*) > 0 from calls group by 1") == [(True, True)]
