"""Bad input, as typed: one clear line, exit 2, no traceback, nothing half done."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from backfill.embedded import EmbeddedServer
from backfill.engine import target
from tests.conftest import temporary_home
from tests.databases import query
from tests.demo_template import GEO_PATH, SALT
from tests.operator import Operator

FINGERPRINT = """
    select coalesce(string_agg(n.nspname || '.' || c.relname || ':' || c.relkind::text, ',' order by 1), '')
      from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname !~ '^pg_|information_schema'
"""


def refused(operator: Operator, *words: object, code: int = 2) -> str:
    """The one line that a command says before it ends; checks that it is one."""
    said = operator.is_told(*words)
    assert said.code == code, said
    assert "Traceback" not in said.out + said.err
    assert said.err.count("\n") == 1, said.err
    assert said.err.startswith("backfill: ")
    assert SALT not in said.out + said.err
    return said.err


@pytest.fixture
def untouched(fresh_demo: Operator) -> Iterator[Operator]:
    """A demo database without a ledger, and with none when the test is over."""
    yield fresh_demo
    assert query(fresh_demo.url, "select to_regnamespace('backfill')") == [(None,)]


# Where the database is


@pytest.mark.parametrize(
    ("url", "line"),
    [
        (
            "nonsense",
            "BACKFILL_DATABASE_URL: not a URL such as postgresql://user:password@host:5432/database",
        ),
        ("postgresql://me:hush@host:port/db", "BACKFILL_DATABASE_URL: not a URL such as"),
        ("mysql://me:hush@host/db", "BACKFILL_DATABASE_URL: mysql is not PostgreSQL; use postgresql://"),
        (
            "postgresql://me:hush@/db?host=/nowhere/at/all",
            "Cannot connect to postgresql://me:***@/db",
        ),
        ("postgresql://me:hush@127.0.0.1:1/db", "Check BACKFILL_DATABASE_URL and that the server is up"),
        ("postgresql://me:hush@127.0.0.1:1/db?nonsense=1", "Cannot connect to"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_an_url_that_leads_nowhere(fresh_demo: Operator, command: str, url: str, line: str) -> None:
    said = refused(fresh_demo.having(database_url=url), command)
    assert line in said
    assert "hush" not in said


def test_a_database_that_does_not_exist(fresh_demo: Operator) -> None:
    elsewhere = make_url(fresh_demo.url).set(drivername="postgresql", database="no_such_database")
    said = refused(fresh_demo.having(database_url=elsewhere.render_as_string(hide_password=False)), "run")
    assert 'database "no_such_database" does not exist' in said


def test_a_wrong_password() -> None:
    with temporary_home() as home:
        url = EmbeddedServer(home).ensure()
        query(url, "create role guest login password 'the right one'")
        access = EmbeddedServer(home).status().data / "pg_hba.conf"
        access.write_text("local all guest scram-sha-256\n" + access.read_text())
        query(url, "select pg_reload_conf()")
        guest = make_url(url).set(drivername="postgresql", username="guest")
        wrong, right = (
            Operator(
                url, {"BACKFILL_DATABASE_URL": guest.set(password=word).render_as_string(hide_password=False)}
            )
            for word in ("the wrong one", "the right one")
        )
        said = refused(wrong, "run")
        assert 'password authentication failed for user "guest"' in said
        assert "wrong" not in said
        assert "Role guest may not create schema backfill" in refused(right, "run")


def test_the_same_lines_come_from_alembic(fresh_demo: Operator) -> None:
    away = fresh_demo.having(database_url="postgresql://me:hush@127.0.0.1:1/db")
    said = away.really_types("upgrade", "head", tool="alembic")
    assert said.code == 255
    assert "Cannot connect to" in said.out + said.err
    assert "Traceback" not in said.out + said.err
    assert "hush" not in said.out + said.err


def test_a_server_that_is_too_old(fresh_demo: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no PostgreSQL 13 at hand: the real server is measured against a later oldest one."""
    monkeypatch.setattr(target, "OLDEST_SERVER", 990_000)
    said = fresh_demo.types("run", expect=2)
    major = query(fresh_demo.url, "show server_version_num")[0][0][:2]
    assert f"backfill: The server is PostgreSQL {major}; Backfill needs 14 or newer" in said.err


# What is in it


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("drop table team_events", "Table team_events does not exist in this database."),
        ("alter table team_events drop column additional", "Table team_events has no column additional (extra)."),
        ("alter table ip_addresses drop column hashed_ip_address", "Table ip_addresses has no column hashed_ip_address"),
        ("alter table ip_addresses drop constraint ip_addresses_hashed_ip_address_key", "Column ip_addresses.hashed_ip_address is not unique."),
        ("alter table team_events alter ip_address_string type cidr using null", "Column team_events.ip_address_string (raw address) is cidr"),
        ("alter table team_events rename to real; create view team_events as select * from real", "team_events is a view, which is not supported."),
    ],
)  # fmt: skip
def test_a_schema_that_does_not_fit(untouched: Operator, change: str, line: str) -> None:
    query(untouched.url, change)
    assert line in refused(untouched, "run")
    said = untouched.is_told("plan")
    assert said.code == 2
    assert line in said.out


@pytest.mark.parametrize("privilege", ["update", "select"])
def test_a_missing_privilege(untouched: Operator, privilege: str) -> None:
    url = untouched.url
    role = make_url(url).database  # a name that no other test has
    query(url, f"create role {role} login")
    try:
        query(
            url,
            f"""grant select, update on all tables in schema public to {role};
                grant insert on ip_addresses to {role};
                grant create, temporary on database {role} to {role};
                revoke {privilege} on team_events from {role}""",
        )
        restricted = make_url(url).set(drivername="postgresql", username=role)
        operator = untouched.having(database_url=restricted.render_as_string(hide_password=False))
        said = refused(operator, "run")
        assert f"Role {role} lacks {privilege.upper()} on team_events. Grant it: grant {privilege}" in said
        query(url, f"grant {privilege} on team_events to {role}")
        assert operator.types("plan").code == 0
    finally:
        query(url, f"drop owned by {role}; drop role {role}")


def test_a_database_that_is_not_empty_for_a_demo(untouched: Operator) -> None:
    before = query(untouched.url, FINGERPRINT)
    said = refused(untouched, "demo", "--events", "100")
    assert "is not empty" in said
    assert "create a new database and name it in BACKFILL_DATABASE_URL" in said
    assert query(untouched.url, FINGERPRINT) == before


# What the operator has set


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "No such file or directory. docs/plan.md describes every key."),
        ("name = ", "not TOML"),
        ('name = "x"\n', "addresses: required, since nothing else is named"),
        ('name = "x"\nnonsense = 1\n[addresses]\ntable = "ip_addresses"\n[[jobs]]\ntable = "user_events"\n', "nonsense: Extra inputs are not permitted"),
        ('name = "x"\n[hash]\nscheme = "md5"\n[addresses]\ntable = "a"\n[[jobs]]\ntable = "b"\n', "hash.scheme: Input should be"),
    ],
)  # fmt: skip
def test_a_malformed_plan(untouched: Operator, tmp_path: Path, text: str | None, line: str) -> None:
    plan = tmp_path / "plan.toml"
    if text is not None:
        plan.write_text(text)
    said = refused(untouched.having(plan=str(plan)), "run")
    assert f"backfill: Plan {plan}: " in said
    assert line in said


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"ip_salt": ""}, "No salt is set. Set BACKFILL_IP_SALT or BACKFILL_IP_SALT_FILE"),
        ({"ip_salt": "short"}, "The salt from BACKFILL_IP_SALT is unusable: it is shorter than 16 bytes"),
        ({"ip_salt_file": "/no/such/file"}, "BACKFILL_IP_SALT and BACKFILL_IP_SALT_FILE: both are set; unset one"),
        ({"ip_salt": "", "ip_salt_file": "/no/such/file"}, "The salt from /no/such/file is unusable: No such file"),
        ({"ip_salt": "another salt, long enough too"}, "no scheme explains any: the salt is probably not"),
        ({"geoip_db": "/no/such/file"}, "Geo database /no/such/file: No such file or directory."),
        ({"geoip_db": "/"}, "Geo database /: it is not a file."),
        ({"geoip_db": __file__}, "it is not a complete MaxMind database. Set BACKFILL_GEOIP_DB"),
        ({"passes": "3"}, "BACKFILL_PASSES: Value error, must be a power of two"),
        ({"schema": "Not A Name"}, "BACKFILL_SCHEMA: String should match pattern"),
        ({"workers": "many"}, "BACKFILL_WORKERS: Input should be a valid integer"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be(untouched: Operator, variables: dict[str, str], line: str) -> None:
    assert line in refused(untouched.having(**variables), "run")


def test_a_weak_salt_is_accepted_when_told_to(untouched: Operator) -> None:
    weak = untouched.having(ip_salt="short")
    assert "no scheme explains any" in refused(weak, "run", "--allow-weak-salt")


def test_a_truncated_geo_database(untouched: Operator, tmp_path: Path) -> None:
    assert GEO_PATH
    half = tmp_path / "half.mmdb"
    content = GEO_PATH.read_bytes()
    half.write_bytes(content[: len(content) // 2])
    assert "it is not a complete MaxMind database" in refused(untouched.having(geoip_db=str(half)), "run")


@pytest.mark.parametrize(
    "words", [("run", "web_events"), ("plan", "web_events"), ("run", "user_events", "web_events")]
)
def test_a_job_that_is_not_in_the_plan(untouched: Operator, words: tuple[str, ...]) -> None:
    said = refused(untouched, *words)
    assert "No job is called web_events. The plan has: user_events, project_events" in said


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("quarantine", "list"),
        ("quarantine", "settle", "user_events", "--as", "discard", "--count", "1"),
        ("addresses", "merge", "--count", "1"),
        ("report",),
    ],
)
def test_asked_before_any_run(untouched: Operator, words: tuple[str, ...]) -> None:
    assert "This database has no run yet. Start with `backfill" in refused(untouched, *words)


@pytest.mark.parametrize(
    "words",
    [
        ("quarantine", "settle", "user_events", "--as", "sentinel", "--count", "1"),
        ("quarantine", "settle", "user_events", "--as", "discard", "--count", "999"),
        ("addresses", "merge", "--count", "2"),
    ],
)
def test_a_wrong_count(finished_run: Operator, words: tuple[str, ...]) -> None:
    said = refused(finished_run, *words)
    assert f"Nothing was changed. Look with `backfill {words[0]} {words[1]}" in said
    assert query(finished_run.url, "select count(*) from backfill.decisions") == [(0,)]
