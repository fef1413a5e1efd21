"""The gallery: each plan goes the whole way beside its unchanged application, and its table says what `plan` says.

A twin of each database gets the same statements and is never rewritten. What a row should hold is computed here from
the twin's value, its age, and the words of the gallery's pages.
"""

import hmac
import ipaddress
import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import Connection, make_url

from backfill.database.connection import make_engine
from backfill.database.preflight import checks
from backfill.database.preflight.target import Purpose
from backfill.errors import PlanInvalid
from backfill.ledger.batches import Batch
from backfill.ledger.phases import Phase
from backfill.plan import IN_PLACE, Plan, load_plan
from tests import rewritten
from tests.applications import APPLICATIONS, COMPLETE, SYNAPSE, Application, Column
from tests.databases import query
from tests.operator import ROOT

GALLERY = ROOT / "examples" / "plans"
PAGE = (GALLERY / "README.md").read_text(encoding="utf-8")
REFUSED = (GALLERY / "refused.md").read_text(encoding="utf-8")
NAMES = [application.name for application in COMPLETE]


def by_hand(prefix: int | None, text: str, job: dict) -> str | None:
    """What the pages say that a text becomes, and nothing of the package."""
    address = rewritten.canonical(text)
    if address is None:
        return None  # unreadable = "nothing", in every plan of the gallery
    if job["becomes"] == "network":
        return rewritten.network(text, job["widths"]["v4"], job["widths"]["v6"])
    assert prefix is not None
    key = hmac.digest(rewritten.SALT.encode(), b"backfill:pseudonym:1", "sha256")
    body = hmac.digest(key, f"address:{address}".encode(), "sha256")[:10]
    tag = hmac.digest(key, b"tag:" + body, "sha256")[:4]
    return str(ipaddress.IPv6Address(bytes((0xFD, prefix)) + body + tag))


def values(url: str, column: Column) -> dict[object, tuple]:
    """By key: the value as the application reads it, and the age of its row in seconds."""
    found = query(
        url,
        f"""select {column.key}, case when {column.raw} is null then null else concat({column.raw}) end,
                   extract(epoch from now() - ({column.time})) from {column.table} as event""",
    )
    return {key: (value, age) for key, value, age in found}


def others(url: str, application: Application) -> list[tuple]:
    """All columns that no job writes."""
    found = []
    for table in dict.fromkeys(column.table for column in application.columns):
        names = [column.raw for column in application.columns if column.table == table]
        found += query(url, f"select '{table}', to_jsonb(event) - %s::text[] from {table} as event order by 2", names)  # fmt: skip
    return found


# Whose rows nobody deletes, so that a twin has the same.
KEPT = [application for application in COMPLETE if application is not SYNAPSE]


@pytest.mark.parametrize("application", KEPT, ids=[application.name for application in KEPT])
def test_a_plan_goes_the_whole_way_beside_its_application(
    databases, home: Path, application: Application
) -> None:
    live, twin = databases.create(), databases.create()
    now, plan = datetime.now(UTC), GALLERY / application.name / "plan.toml"
    jobs = {(job["table"], job["raw"]): job for job in tomllib.loads(plan.read_text())["jobs"]}
    assert set(jobs) == {(column.table, column.raw) for column in application.columns}
    for url in (live, twin):
        application.fill(url, now)

    def goes_on(step: int) -> None:
        for url in (live, twin):
            application.write(url, now, step)

    def is_as_the_plan_says(*, all_of_it: bool = True) -> int:
        """How many values are no longer what they were; *all_of_it*: none waits that should not."""
        prefixes, rewritten_rows = query(live, "select prefix from backfill.pseudonym_prefixes"), 0
        prefix = prefixes[0][0] if prefixes else None
        for column in application.columns:
            was, job = values(twin, column), jobs[column.table, column.raw]
            for key, (value, _) in values(live, column).items():
                raw, age = was.pop(key)
                due = application.days is None or (age is not None and age > application.days * 86_400)
                wanted = by_hand(prefix, raw, job) if due and raw is not None else raw
                assert value == wanted or (not all_of_it and value == raw), (column, key)
                rewritten_rows += value != raw
            assert not was
        assert others(live, application) == others(twin, application)
        return rewritten_rows

    due = () if application.days is None else ("--due",)
    operator = rewritten.operator(live, home, plan)
    if not load_plan(plan).needs_salt:
        operator = operator.having(ip_salt="")
    proposed = tomllib.loads(operator.having(plan="").types("scan", "--format", "toml", expect=1).out)
    assert {(job["table"], job["raw"]) for job in proposed["jobs"]} == set(jobs)
    operator.types("plan", "--no-sample")
    asked = operator.types("run", *due, "--quiet", expect=2)
    goes_on(1)  # between the count and the consent, beside both
    phases: list[Phase] = []

    def meanwhile(batch: Batch) -> None:
        if batch.phase not in phases:
            phases.append(batch.phase)
            goes_on(3 + len(phases))

    operator.hooked(before_batch=meanwhile).types(*rewritten.confirmed(asked), "--workers", 1)
    assert len(phases) == 2
    first = is_as_the_plan_says(all_of_it=False)  # what was written during the run may wait for the next one
    assert first

    goes_on(2)
    for url in (live, twin):
        application.sleep(url)
    if due:
        operator.types("status", "--due", expect=1)  # a day later, before the timer
    operator.types("run", *due, "--quiet")
    assert is_as_the_plan_says() > first
    goes_on(3)
    if due:
        operator.types("status", "--due")
        operator.types("verify")
    else:  # without an age, whatever was written since is raw
        operator.types("verify", expect=1)
        operator.types("run", "--quiet")
        operator.types("verify")
    is_as_the_plan_says()
    LOOK_UPS[application.name](live, twin)
    for url in (live, twin):
        databases.drop(url)


def test_synapse_inserts_old_addresses_again_and_keeps_one_row_of_each(databases, home: Path) -> None:
    live, twin = databases.create(), databases.create()
    now = datetime.now(UTC)
    for url in (live, twin):
        SYNAPSE.fill(url, now)
    operator = rewritten.operator(live, home, GALLERY / "synapse" / "plan.toml")
    operator.types("plan", "--no-sample")
    asked = operator.types("run", "--due", "--quiet", expect=2)

    def goes_on(step: int) -> None:
        moment = datetime.now(UTC)
        for url in (live, twin):
            SYNAPSE.write(url, moment, step)

    phases: list[Phase] = []

    def meanwhile(batch: Batch) -> None:
        if batch.phase not in phases:
            phases.append(batch.phase)
            goes_on(3 + len(phases))

    operator.hooked(before_batch=meanwhile).types(*rewritten.confirmed(asked), "--workers", 1)
    for day in range(1, 9):
        goes_on(day)
        for url in (live, twin):
            SYNAPSE.sleep(url)
        if day in (1, 8):  # the timer stood still for a week
            operator.types("run", "--due", "--quiet", "--accept-due", 2000)
    operator.types("status", "--due")
    operator.types("verify")
    ((prefix,),) = query(live, "select prefix from backfill.pseudonym_prefixes")
    seen = "select user_id || {}, ip, last_seen, last_seen < (extract(epoch from now()) - 7 * 86400) * 1000 from {} where ip is not null"
    for rest, name in (("access_token", "user_ips"), ("device_id", "devices")):
        # What the twin has of each session and address: the newest, if it is old, under its pseudonym.
        newest: dict[tuple[str, str], int] = {}
        for who, ip, at, old in query(twin, seen.format(rest, name)):
            shown = by_hand(prefix, ip, {"becomes": "pseudonym"}) if old else ip
            newest[who, str(shown)] = max(at, newest.get((who, str(shown)), 0))
        found = query(live, seen.format(rest, name))
        # A session that came back within the week shows its address, and beside it the pseudonym of earlier.
        young = {(who, ip): at for who, ip, at, old in found if not old}
        assert young == {key: at for key, at in newest.items() if not key[1].startswith("fd")}
        aged = {(who, ip): at for who, ip, at, old in found if old}
        assert len(young) + len(aged) == len(found)
        assert all(ip.startswith(f"fd{prefix:02x}") for _, ip in aged)
        assert {key for key in newest if key[1].startswith("fd")} <= set(aged)
        assert all(aged[key] == at for key, at in newest.items() if key[1].startswith("fd"))
    assert query(live, "select sum(deleted) > 0 from backfill.batches") == [(True,)]
    for url in (live, twin):
        databases.drop(url)


def mastodon_looks_up(live: str, twin: str) -> None:
    """The check for suspicious sign-ins says of every user and address what it said before; a search by address does not."""
    suspicious = """
        with asked as (select user_id, ip, set_masklen(ip, case family(ip) when 4 then 16 else 64 end)::cidr as near
                         from (select distinct user_id, '81.2.9.9'::inet as ip from user_ips
                               union select distinct user_id, '2a00:5:1:2::abcd'::inet from user_ips
                               union select distinct user_id, '8.8.8.8'::inet from user_ips) as all_of_them)
        select user_id, ip, exists (select from user_ips as seen where seen.user_id = asked.user_id and seen.ip <<= asked.near) from asked order by 1, 2
    """
    assert query(live, suspicious) == query(twin, suspicious)
    by_network = "select count(distinct user_id) from user_ips where ip <<= '81.2.3.0/24'"
    assert query(live, by_network) == query(twin, by_network) != [(0,)]
    by_address = "select count(*) from login_activities where ip = '81.2.2.101' and created_at < now() - interval '60 days'"
    assert (query(live, by_address), query(twin, by_address)) == ([(0,)], [(1,)])


def keycloak_looks_up(live: str, twin: str) -> None:
    """A search for an address finds events of the last 90 days; one for its pseudonym finds those before."""
    search = "select count(*) from event_entity where realm_id = 'master' and ip_address = %s and event_time {} :ms - 90 * 86400000::bigint"
    search = search.replace(":ms", "(extract(epoch from now()) * 1000)::bigint")
    young, old = search.format(">"), search.format("<")
    text = "81.2.3.11"  # 10 days old
    assert query(live, young, text) == query(twin, young, text) == [(1,)]
    text = "81.2.5.111"  # 110 days old
    assert (query(live, old, text), query(twin, old, text)) == ([(0,)], [(1,)])
    ((prefix,),) = query(live, "select prefix from backfill.pseudonym_prefixes")
    assert query(live, old, by_hand(prefix, text, {"becomes": "pseudonym"})) == [(1,)]
    assert query(live, "select count(*) from event_entity where ip_address like '%,%'") == [
        (2,)
    ]  # the young ones


def axes_looks_up(live: str, twin: str) -> None:
    """Lock-outs count in a table that the plan leaves alone."""
    attempts = "select username, host(ip_address), failures_since_start from axes_accessattempt"
    assert query(live, attempts) == query(twin, attempts) == [("u2", "2a00:5:1::2", 5)]
    together = "select count(distinct ip_address), count(ip_address) from axes_accessfailurelog"
    assert query(live, together) == query(twin, together)


def devise_looks_up(live: str, twin: str) -> None:
    """A pseudonym that a sign-in copied to the other column is still the one of its address."""
    copied = (
        "select count(*) from users where last_sign_in_ip like 'fd%' and current_sign_in_ip = '2A00:5:1::9'"
    )
    assert (query(live, copied), query(twin, copied)) == ([(5,)], [(0,)])


LOOK_UPS = {
    "mastodon": mastodon_looks_up,
    "keycloak": keycloak_looks_up,
    "axes": axes_looks_up,
    "devise": devise_looks_up,
}


@contextmanager
def tables_of(databases, name: str) -> Iterator[Connection]:
    """A session on the tables of that application."""
    url = databases.create()
    query(url, APPLICATIONS[name].tables)
    engine = make_engine(make_url(url), ledger_schema="backfill")
    with engine.connect() as connection:
        yield connection
    engine.dispose()
    databases.drop(url)


def said_of(connection: Connection, plan: Plan) -> list[str]:
    """What preflight has against it, one finding a line."""
    report = checks.inspect(connection, plan, plan.parts, "backfill", Purpose.PLAN)
    return [f"{finding.name}. {finding.text}" for finding in (*report.blocking, *report.unaccepted)]


def cells(line: str) -> list[str]:
    return [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]


def table() -> dict[str, list[dict[str, str]]]:
    """Rows of the page's table, by application."""
    lines = [line for line in PAGE.splitlines() if line.startswith("|")]
    head, found = cells(lines[0]), {}
    for line in lines[2:]:
        row = dict(zip(head, cells(line), strict=True))
        found.setdefault(row["application"].partition("]")[0].strip("[").lower(), []).append(row)
    return found


@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_table_says_of_each_column_and_kind_what_plan_says(databases, name: str) -> None:
    rows = table()[name]
    with tables_of(databases, name) as connection:
        for row in rows:
            table_name, _, raw = row["column"].partition(".")
            job = {
                "table": table_name,
                "raw": raw.partition(" ")[0],
                "unreadable": "keep",
                "on_duplicate": "refuse",
            }
            if table_name == "user_ips":  # without a key
                job |= {
                    "on_duplicate": "keep-newest",
                    "time": {"column": "last_seen", "unit": "unix-ms"},
                }
            if row["type"].startswith("JSON"):
                job["path"] = "$.member"
            for kind in IN_PLACE:
                keys = job | {"becomes": kind} | ({"then": "keep"} if kind == "nothing" else {})
                try:
                    said = said_of(connection, Plan.model_validate({"name": name, "jobs": [keys]}))
                except ValidationError as error:
                    said = [problem["msg"].removeprefix("Value error, ") for problem in error.errors()]
                codes = {line.partition(":")[0] for line in said}
                assert row[kind] == ("yes" if not codes else "no: " + ", ".join(sorted(codes))), (row, said)
    if name in NAMES:
        planned = {
            f"{job.table}.{job.raw}": job.becomes for job in load_plan(GALLERY / name / "plan.toml").jobs
        }
        assert planned == {row["column"]: row["plan"] for row in rows if row["plan"] != "none"}


@pytest.mark.parametrize("number", range(1))
def test_a_plan_that_is_refused_is_so_with_the_words_of_the_page(
    databases, tmp_path: Path, number: int
) -> None:
    sections = re.findall(
        r"^## (\w+).*?\n```toml\n(.*?)```\n.*?\n```\n(.*?)```", REFUSED, re.MULTILINE | re.DOTALL
    )
    assert len(sections) == 1
    name, text, words = sections[number]
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with tables_of(databases, name.lower()) as connection:
        try:
            said = said_of(connection, load_plan(path))
        except PlanInvalid as error:
            said = [str(error)]
    for line in words.strip().splitlines():
        assert any(line in one for one in said), (line, said)


def test_the_pages_say_what_a_page_has_to_say() -> None:
    for name in NAMES:
        page = (GALLERY / name / "README.md").read_text(encoding="utf-8")
        heads = re.findall(r"^## (.*)", page, re.MULTILINE)
        assert heads == [
            "The columns",
            "What goes on, what does not",
            "What to choose",
            "How to run it",
            "What remains",
        ]
        for column in APPLICATIONS[name].columns:
            assert f"`{column.table}.{column.raw}`" in page
