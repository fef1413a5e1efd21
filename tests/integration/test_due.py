"""Due runs: ten days of a timer, its bounds, two at once, and what is said of rows that are late."""

import json
import re
from pathlib import Path

import pytest
from sqlalchemy import make_url

from backfill.database.connection import make_engine
from backfill.ledger.run_lock import run_lock
from tests import rewritten
from tests.databases import query
from tests.operator import Operator

AFTER = 28
SCHEMA = """
    create table logins (id bigint generated always as identity primary key, ip text, created timestamptz, note text default 'kept');
    create index on logins (created);
"""
# Fifty days of a site, forty rows a day; rows of one day share addresses with those of others.
HISTORY = """
    insert into logins (ip, created)
    select '81.2.' || n % 7 || '.' || n, now() - make_interval(days => day) - make_interval(hours => 6, mins => n) from generate_series(0, 49) as day, generate_series(1, 40) as n
     order by day desc, n
"""


def site_job() -> dict[str, object]:
    return {
        "table": "logins", "raw": "ip", "becomes": "network", "unreadable": "keep", "time": "created", "after": f"{AFTER} days",
    }  # fmt: skip


@pytest.fixture
def site(database: str, home: Path, tmp_path: Path) -> Operator:
    query(database, SCHEMA)
    query(database, HISTORY)
    query(database, "analyze logins")
    return rewritten.operator(database, home, rewritten.plan_file(tmp_path, site_job()))


def shown(url: str) -> list[tuple]:
    """Rows by key: the value, and its age in days."""
    return query(
        url, "select id, ip, extract(epoch from now() - created) / 86400, note from logins order by id"
    )


@pytest.mark.parametrize("days", [2, pytest.param(10, marks=pytest.mark.thorough)])
def test_days_of_a_timer(site, days: int) -> None:
    """Rows grow older instead of the clock going on."""
    before = {key: ip for key, ip, _, _ in shown(site.url)}
    rewritten.run(site, "--due", "--quiet")
    for _ in range(days):
        query(site.url, "update logins set created = created - interval '1 day'")
        query(
            site.url,
            "insert into logins (ip, created) values ('81.2.3.3', now()), ('9.9.9.9', null), ('9.9.9.9', now() + interval '3 days')",
        )
        late = site.types("status", "--due", expect=1).out
        assert "40 rows of logins show a raw value older than 28 days" in late
        said = site.types("run", "--due", "--quiet").out
        assert "logins: 40 rows are due" in said
        assert re.search(r"Of the rows that were due:\ntable .*\n.*\nlogins +40 +40 +0 +0 +0 +0\n", said)
        for key, ip, age, note in shown(site.url):
            was = before.get(key, ip)
            assert note == "kept"
            assert ip == (rewritten.network(was) if age is not None and age > AFTER else was)
    ages = json.loads(site.types("status", "--due", "--format", "json").out)["jobs"][0]
    assert (ages["late_rows"], ages["raw_rows_without_time"], ages["rows_ahead"]) == (0, days, 2)


def test_a_due_run_is_bounded_and_asks_nobody(site, tmp_path: Path) -> None:
    url = site.url
    rewritten.run(site, "--due", "--quiet")  # 880 rows, confirmed by count
    assert "0 rows are due" in site.types("run", "--due", "--quiet").out
    untouched = rewritten.values(url, "logins")
    # A wrong unit, an import of old rows: more than three times what was ever accepted.
    query(
        url,
        "insert into logins (ip, created) select '81.2.9.' || n % 200 + 1, now() - interval '1 year' from generate_series(1, 2641) as n",
    )
    refusal = site.types("run", "--due", "--quiet", expect=2).err
    assert "2,641 rows are due, and 2,640 are allowed, 3 times the largest run that was accepted" in refusal
    assert rewritten.values(url, "logins")[: len(untouched)] == untouched
    assert query(url, "select status, count(*) from backfill.runs group by 1 order by 1") == [
        ("cancelled", 1),
        ("succeeded", 2),
    ]
    assert "2,641 rows are due" in site.types("run", "--due", "--quiet", "--accept-due", 2640, expect=2).err
    (command,) = re.findall(r"`backfill (run --due [^`]*)`", refusal)
    site.types(*command.split(), "--quiet")
    assert query(
        url, "select count(*) from logins where created < now() - interval '300 days' and ip !~ '[.]0$'"
    ) == [(0,)]
    # The interval between runs is known now. A clock that is further on than two of them is not believed.
    query(url, "update backfill.runs set created = created - interval '1 day' * (10 - id)")
    query(url, "insert into logins (ip, created) values ('81.2.9.9', now() - interval '1 year')")
    query(url, "update backfill.runs set created = created - interval '2 days'")
    late = site.types("run", "--due", "--quiet", expect=2).err
    assert "after the last due run, and the last ones were at most" in late
    assert query(
        url, "select count(*) from logins where ip = '81.2.9.9' and created < now() - interval '300 days'"
    ) == [(1,)]
    (command,) = re.findall(r"`backfill (run --due [^`]*)`", late)
    site.types(*command.split(), "--quiet")
    # A bound of the plan counts instead.
    job = dict(site_job(), max_due=5)
    bounded = rewritten.operator(
        url, Path(site.variables["BACKFILL_HOME"]), rewritten.plan_file(tmp_path, job)
    )
    query(
        url,
        "insert into logins (ip, created) select '81.2.8.' || n, now() - interval '1 year' from generate_series(1, 6) as n",
    )
    rewritten.run(bounded, "--due", "--quiet", "--accept-due", 6)
    query(
        url,
        "insert into logins (ip, created) select '81.2.8.' || n, now() - interval '1 year' from generate_series(1, 6) as n",
    )
    assert (
        "6 rows are due, and max_due of the plan allows 5"
        in bounded.types("run", "--due", "--quiet", expect=2).err
    )


def test_two_timers_at_once_and_a_run_that_is_not_finished(site) -> None:
    url = site.url
    rewritten.run(site, "--due", "--quiet")
    query(url, "update logins set created = created - interval '1 day'")
    engine = make_engine(make_url(url), ledger_schema="backfill")
    with run_lock(engine, "backfill"):
        busy = site.types("run", "--due", "--quiet", expect=75)
    engine.dispose()
    assert "so nothing was done" in busy.err
    site.types("run", "--quiet")
    query(url, "update backfill.runs set status = 'paused', finished = null where strategy = 'in-place'")
    query(url, "update logins set created = created - interval '1 day'")
    waiting = site.types("run", "--due", "--quiet", expect=2).err
    assert "is not finished, and a due run would end it" in waiting
    site.types("run", "--quiet")
    assert "No row of logins shows a raw value older than 28 days" in site.types("status", "--due").out


def test_what_is_not_due_is_not_said_to_be_done(site) -> None:
    said = rewritten.run(site, "--quiet").out
    assert re.search(r"[+] not due *\n", said)
    assert re.search(r"logins\s+2,000\s+880\s+0\s+0\s+0\s+0\s+1,120\n", said)
    proved = site.types("verify").out
    assert re.search(r"logins .*1,120", proved)
    assert "Everything is done, and nothing is late now" in site.types("gates").out
    query(site.url, "update logins set created = created - interval '1 day'")
    late = site.types("gates", expect=1).out
    assert late.startswith("Late: 40 rows show an older one, of 2,000 at ")
    assert "To fix it: `backfill run --due`." in late.split("\n\n")[0]
    (table,) = json.loads(site.types("verify", "--format", "json", expect=1).out)["tables"]
    assert (table["counts"]["still_raw"], table["counts"]["not_due"]) == (40, 1_080)
    site.types("status", "--due", expect=1)
    site.types("status", "--due", "--grace", "25 hours")
    site.types("status", "--due", "--grace", "a while", expect=None)


@pytest.mark.parametrize("how", ["corrected", "another row", "by the plan"])
def test_what_waits_is_due_again_once_a_run_can_do_something_about_it(
    site: Operator, tmp_path: Path, how: str
) -> None:
    """Nothing else is due, so nothing else leads to its block."""
    url, refusing = site.url, site_job() | {"unreadable": "refuse"}
    site = rewritten.operator(
        url, Path(site.variables["BACKFILL_HOME"]), rewritten.plan_file(tmp_path, refusing)
    )
    rewritten.run(site, "--due", "--quiet")
    query(url, "insert into logins (ip, created) values ('junk', now() - interval '1 year')")
    site.types("run", "--due", "--quiet")
    waiting = "select row_key from backfill.quarantine"
    ((key,),) = query(url, waiting)
    assert "0 rows are due" in site.types("run", "--due", "--quiet").out
    if how == "corrected":
        query(url, "update logins set ip = '81.2.9.9' where id = %s", key)
    elif how == "another row":
        query(url, "delete from logins where id = %s", key)
        query(
            url,
            "insert into logins overriding system value values (%s, '81.2.9.9', now() - interval '1 year')",
            key,
        )
    else:
        rewritten.plan_file(tmp_path, refusing | {"unreadable": "nothing"})
        site.types(*rewritten.confirmed(site.types("run", "--due", "--quiet", expect=2)))
    if how != "by the plan":
        assert "1 row is due" in site.types("run", "--due", "--quiet").out
    assert query(url, "select ip from logins where id = %s", key) == [
        (None if how == "by the plan" else "81.2.9.0",)
    ]
    assert query(url, waiting) == []
    site.types("status", "--due")


def test_values_that_are_not_due_are_found_and_another_rewrite_is_no_advice(site) -> None:
    rewritten.run(site, "--due", "--quiet")
    site.types("verify")

    def acts() -> dict[tuple[str, str], tuple[str, str]]:
        proof = json.loads(site.types("prove", "--format", "json", expect=1).out)
        return {(one["depth"], one["where"]): (one["state"], one["act"]) for one in proof["findings"]}

    before = acts()
    assert before["pages", "logins"] == ("unproved", "`backfill erase logins`")
    assert "`backfill erase logins`" in before["bytes", "table logins"][1]
    site.types("erase")
    after = acts()
    assert after["pages", "logins"][0] == "gone"
    assert after["catalog", "logins.ip"] == ("found", "`backfill status --due` says when one is late")
    state, act = after["bytes", "table logins"]
    assert state == "found"
    assert act == "values that are not due count as well; `backfill status --due` says when one is late"
    # One that was rewritten since the file was is no longer among them.
    query(site.url, "update logins set created = created - interval '1 day'")
    site.types("run", "--due", "--quiet")
    site.types("verify")
    assert "`backfill erase logins`" in acts()["bytes", "table logins"][1]


def test_run_due_is_for_jobs_with_an_age(database: str, home: Path, tmp_path: Path) -> None:
    query(database, SCHEMA)
    job = {key: value for key, value in site_job().items() if key not in ("after", "time")}
    operator = rewritten.operator(database, home, rewritten.plan_file(tmp_path, job))
    assert "names no age" in operator.types("run", "--due", expect=2).err
    assert "names no age" in operator.types("run", "--due", "logins", expect=2).err


@pytest.mark.parametrize("hook", ["before_batch", pytest.param("after_phase", marks=pytest.mark.thorough)])
def test_a_due_run_that_was_lost_goes_on_at_its_moment(site, hook: str) -> None:
    """A batch is about to be written, or texts are resolved."""
    url = site.url
    rewritten.run(site, "--due", "--quiet")

    def dies(*_: object) -> None:
        raise ZeroDivisionError

    query(url, "update logins set created = created - interval '1 day'")
    with pytest.raises(ZeroDivisionError):
        site.hooked(**{hook: dies}).types("run", "--due", "--quiet")
    ((moment,),) = query(url, "select max(created) from backfill.runs")
    # Younger than 28 days when the run was begun, older by now: those are for the next run.
    query(
        url,
        "insert into logins (ip, created) values ('81.2.5.5', %s - interval '28 days' + interval '1 ms')",
        moment,
    )
    said = site.types("run", "--due", "--quiet").out
    assert "Resuming run" in said
    assert query(
        url, "select ip from logins where ip in ('81.2.5.5', '81.2.5.0') order by id desc limit 1"
    ) == [("81.2.5.5",)]
    assert query(
        url,
        "select count(*) from logins where created < %s - interval '28 days' and ip !~ '[.]0$'",
        moment,
    ) == [(0,)]
    assert "1 row of logins shows a raw value older" in site.types("status", "--due", expect=1).out
    assert "1 row is due" in site.types("run", "--due", "--quiet").out
    site.types("status", "--due")


def test_numbers_as_times_and_no_index_and_no_key(database: str, home: Path, tmp_path: Path) -> None:
    """Two of the rows that are old enough are networks: nothing names them, and each run counts them anew."""
    query(database, "create table visits (id int, ip inet, ms bigint)")
    query(
        database,
        """insert into visits select n, '81.2.7.9', floor(extract(epoch from now() - make_interval(days => n, mins => 5)) * 1000)
             from generate_series(0, 40) as n""",
    )
    job = site_job() | {
        "table": "visits",
        "becomes": "pseudonym",
        "time": {"column": '"ms"', "unit": '"unix-ms"'},
    }
    query(
        database, "insert into visits select id + 100, '10.0.0.0/8', ms from visits where id in (20, 30, 40)"
    )
    operator = rewritten.operator(database, home, rewritten.plan_file(tmp_path, job))
    plan = operator.types("plan", "--no-sample").out
    assert "Nothing names a row of visits" in plan
    newest = query(database, "select max(ms), to_timestamp(max(ms) / 1000) at time zone 'UTC' from visits")[0]
    assert (
        f"visits.ms is read as unix-ms; its newest value is {newest[0]} ({newest[1]:%Y-%m-%d %H:%M:%S} UTC)"
        in plan
    )
    assert "the first `backfill run --due` counts" in plan
    assert plan.endswith("Next: `backfill run --due`.\n")
    assert "No index leads to the old rows of visits" in plan
    said = rewritten.run(operator, "--due", "--quiet").out
    assert "visits: 13 rows are due" in said
    assert "found by reading all of it: no index leads to old rows" in said
    raw = query(database, "select count(*), min(id), max(id) from visits where ip = '81.2.7.9'")
    assert raw == [(28, 0, 27)]
    assert _counted(operator) == {"network": 2}
    query(database, "update visits set ms = ms - 86400000; delete from visits where id = 130")
    assert "visits: 1 row is due" in operator.types("run", "--due", "--quiet").out
    assert _counted(operator) == {"network": 1}
    query(database, "delete from visits where id = 140")
    assert "visits: 0 rows are due" in operator.types("run", "--due", "--quiet").out
    assert _counted(operator) == {}
    assert operator.types("status", "--due").out.startswith(
        "No row of visits shows a raw value older than 28 days."
    )


def _counted(operator: Operator) -> dict[str, int]:
    entries = json.loads(operator.types("quarantine", "list", "--format", "json").out)["kept"]
    return {entry["reason"]: entry["rows"] for entry in entries}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("alter table logins alter created type timestamp using created at time zone 'Pacific/Kiritimati'", "is timestamp without time zone"),
        ("alter table logins rename to every_login; create view public.logins as select * from every_login where created > now() - interval '28 days'", "is a view"),
        ("create table more () inherits (logins)", "Other tables inherit from logins"),
    ],
)  # fmt: skip
def test_status_is_not_green_over_a_table_that_is_no_longer_what_the_plan_says(site, change, said) -> None:
    """A time that is read wrongly makes rows younger, and a view hides them."""
    rewritten.run(site, "--due", "--quiet")
    query(
        site.url, "insert into logins (ip, created) values ('9.9.9.9', now() - interval '28 days 10 hours')"
    )
    query(site.url, change)
    assert said in site.types("status", "--due", expect=2).err


AHEAD = "times-ahead:public.visits.ts"


def test_times_in_the_future_are_green_for_nobody(database: str, home: Path, tmp_path: Path) -> None:
    """An application that goes over from seconds to milliseconds makes its rows younger than anything."""
    query(database, "create table visits (id int primary key, ip text, ts bigint)")
    query(
        database,
        """insert into visits select n, '81.2.7.' || n, floor(extract(epoch from now() - make_interval(days => n, mins => 5)))
             from generate_series(0, 60) as n""",
    )
    job = site_job() | {"table": "visits", "time": {"column": '"ts"', "unit": '"unix-s"'}}
    plan = rewritten.plan_file(tmp_path, job)
    site = rewritten.operator(database, home, plan)
    rewritten.run(site, "--due", "--quiet")
    site.types("verify")
    query(database, "update visits set ts = ts * 1000, ip = '9.9.9.9'")
    told = "61 rows of visits, of 61, are more than a day in the future, and nothing is known of their age: correct unit or zone of ts"
    said = site.types("status", "--due", "--metrics-file", tmp_path / "late.prom", expect=1).out
    assert told in said
    assert f"backfill run --accept {AHEAD}" in said
    assert "No row of" not in said
    assert "Too many rows in the future to know what is late: 1 of 1 job. Next: `backfill plan`." in said
    assert 'backfill_ages_too_many_ahead{job="visits"} 1.0' in (tmp_path / "late.prom").read_text()
    said = site.types("gates", expect=1).out
    assert said.startswith("Not known what is late: 0 rows show an older one; 61 rows are more than a day")
    said = site.types("verify", "--format", "json", expect=1).out
    (record,) = json.loads(said)["tables"]
    assert "61 rows are more than a day in the future, of 61, and nothing is known" in record["reasons"][0]
    assert AHEAD in record["reasons"][0]
    assert "0 raw values are younger, 61 are more than a day in the future" in " ".join(record["notes"])
    site.types("report", "--output", tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["verdict"].endswith("Too many rows in the future to know what is late: 1 of 1 job.")
    assert any(told in one["what"] for one in report["left"])
    site.types("run", "--due", "--quiet", expect=2)
    # Where that is known, it is noted.
    known = plan.read_text()
    plan.write_text(known.replace("[[jobs]]", f'accept = ["{AHEAD}"]\n\n[[jobs]]', 1))
    assert "61 rows are more than a day in the future" in site.types("status", "--due").out
    plan.write_text(known)
    site.types("run", "--due", "--quiet", "--accept", AHEAD)
    site.types("status", "--due")
    site.types("verify")
    assert site.types("gates").out.startswith("Everything is done")


def test_a_date_at_the_limits_of_its_type_stops_nobody(database: str, home: Path, tmp_path: Path) -> None:
    """Whoever can write a row would switch the check off."""
    wild = {
        "date": ("5874897-12-31", "294277-01-01", "4714-11-24 BC", "infinity", "-infinity"),
        "timestamp": ("294276-12-31 23:59:59.999999", "4714-11-24 00:00:00 BC"),
    }
    jobs = []
    for kind in wild:
        query(
            database,
            f"""create table t_{kind} (id int generated always as identity primary key, ip text, t {kind});
                insert into t_{kind} (ip, t) select '9.9.9.9', now() - (n < 4)::int * interval '40 days' from generate_series(1, 4000) as n""",
        )
        time = {"column": '"t"', "zone": '"Pacific/Kiritimati"'}
        jobs.append(site_job() | {"table": f"t_{kind}", "time": time})
    site = rewritten.operator(database, home, rewritten.plan_file(tmp_path, *jobs))
    rewritten.run(site, "--due", "--quiet")
    for kind, values in wild.items():
        for value in values:
            query(database, f"insert into t_{kind} (ip, t) values ('9.9.9.9', '{value}')")
    site.types("plan")
    late = json.loads(site.types("status", "--due", "--format", "json", expect=1).out)["jobs"]
    assert [(job["late_rows"], job["rows_ahead"]) for job in late] == [(2, 3), (1, 1)]
    site.types("run", "--due", "--quiet")
    site.types("status", "--due")
    notes = [record["notes"] for record in json.loads(site.types("verify", "--format", "json").out)["tables"]]
    for number, said in zip(("3 are", "1 is"), notes, strict=True):
        assert f"3,997 raw values are younger, {number} more than a day in the future" in " ".join(said)
    left = [
        query(database, f"select t::text from t_{kind} where id > 4000 and ip = '9.9.9.0'") for kind in wild
    ]
    assert [sorted(rows) for rows in left] == [
        [("-infinity",), ("4714-11-24 BC",)],
        [("4714-11-24 00:00:00 BC",)],
    ]
