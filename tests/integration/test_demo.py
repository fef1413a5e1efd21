"""The demo database: complete, deterministic, and all or nothing."""

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from backfill.addresses import MAX_LENGTH, Reason, canonical_text, canonicalise
from backfill.database import binary_copy
from backfill.errors import DatabaseNotEmpty
from backfill.geo.city import bundled_geo_path
from backfill.geo.sources import open_geo
from backfill.plan import PYPI
from backfill.pypi.demo import create_demo, is_demo
from backfill.pypi.demo.extras import EVENT_TABLES
from backfill.pypi.demo.load import _Loader
from backfill.pypi.demo.population import Table
from tests.databases import Databases, connect, query

EVENTS = 2_000
TABLES = [table.name for table in EVENT_TABLES]
ALL_EVENTS = " union all ".join(
    f"select '{name}' as name, id, tag, time, ip_address_string as raw, additional, ip_address_id as link from {name}"
    for name in TABLES
)


def live_hash(text: str) -> str:
    return hashlib.sha256(f"{text}the salt of the tests".encode()).hexdigest()


def make(url: str, *, events: int = EVENTS, seed: int = 1, report: Any = lambda line: None) -> Any:
    path = bundled_geo_path()
    assert path
    return create_demo(url, events=events, seed=seed, hash_address=live_hash, geo_path=path, report=report)


def recognised(url: str) -> bool:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg2"), poolclass=NullPool)
    with engine.connect() as connection:
        return is_demo(connection)


def column(url: str, statement: str) -> list[Any]:
    return [row[0] for row in query(url, statement)]


def checksums(url: str) -> dict[str, str]:
    """Every row of every table, in the order in which it lies on disk."""
    names = column(
        url, "select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"
    )
    return {
        name: column(url, f"select md5(string_agg(t::text, '|' order by ctid)) from public.{name} t")[0]
        for name in names
    }


def empty(url: str) -> None:
    query(url, "drop schema public cascade; create schema public")


@pytest.fixture
def demo(databases: Databases, clone: Callable[[str], str]) -> str:
    return clone(databases.template("demo", make))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_gives_others(database: str) -> None:
    make(database)
    first = checksums(database)
    empty(database)
    make(database)
    assert checksums(database) == first
    empty(database)
    make(database, seed=2)
    assert not set(checksums(database).items()) & set(first.items()) - {
        ("alembic_version", first["alembic_version"])
    }


def test_the_summary_is_what_is_there(database: str) -> None:
    lines: list[str] = []
    summary = make(database, report=lines.append)
    assert summary.events == EVENTS == query(database, f"select count(*) from ({ALL_EVENTS}) e")[0][0]
    for table, rows in summary.rows.items():
        assert column(database, f"select count(*) from {table}") == [rows]
    counts = query(
        database,
        f"""select count(link), count(*) filter (where raw is null and link is null),
                   count(*) filter (where raw is null and link is not null) from ({ALL_EVENTS}) e""",
    )[0]
    assert tuple(counts) == (summary.linked, summary.no_address, summary.retired)
    texts = column(database, f"select raw from ({ALL_EVENTS}) e where raw is not null")
    assert summary.malformed == sum(isinstance(canonicalise(text), Reason) for text in texts)
    assert "user_events: 1,200 rows" in lines


@pytest.mark.parametrize("events", [1, 17, 1_000])
def test_small_databases_work_too(database: str, events: int) -> None:
    assert make(database, events=events).events == events


def test_every_reason_and_every_shape_is_there(demo: str) -> None:
    texts = column(demo, f"select raw from ({ALL_EVENTS}) e where link is null and raw is not null")
    reasons = {canonicalise(text) for text in texts}
    assert reasons >= {
        Reason.EMPTY, Reason.TOO_LONG, Reason.CONTROL_CHARACTERS, Reason.UNKNOWN,
        Reason.FORWARDED_LIST, Reason.NETWORK, Reason.ZERO_PADDED, Reason.HOST_NAME,
    }  # fmt: skip
    assert max(map(len, texts)) == 10_240
    assert {"unknown", "-", "localhost", ""} <= set(texts)
    for table in TABLES[:1]:
        kinds = set(column(demo, f"select coalesce(jsonb_typeof(additional), 'SQL NULL') from {table}"))
        assert kinds >= {"SQL NULL", "null", "object", "array", "string", "number"}
    odd = {
        text for text in texts
        if not isinstance(found := canonicalise(text), Reason) and canonical_text(found) != text
    }  # fmt: skip
    for sign in (" ", "::ffff:", ":5678", "]:443", "/32", "/128", "%eth0", ":0000:"):
        assert any(sign in text for text in odd), sign
    assert any(text != text.lower() for text in odd)


def test_the_addresses_are_real_heavy_tailed_and_a_tenth_ipv6(demo: str) -> None:
    texts = column(demo, f"select raw from ({ALL_EVENTS}) e where length(raw) <= {MAX_LENGTH}")
    addresses = [a for a in map(canonicalise, texts) if not isinstance(a, Reason)]
    distinct = set(addresses)
    assert 0.7 < len(distinct) / (EVENTS / 10) < 1.3
    assert 0.05 < sum(address.version == 6 for address in distinct) / len(distinct) < 0.15
    busiest = sorted((addresses.count(address) for address in distinct), reverse=True)
    assert sum(busiest[: len(busiest) // 5]) > len(addresses) * 0.5
    path = bundled_geo_path()
    assert path
    with open_geo(path, PYPI.geo.keys) as geo:
        found = [geo.lookup(address) for address in distinct]
    assert 0.9 < sum(map(bool, found)) / len(found) < 1.0
    assert any(record and "city" not in record for record in found)


def test_the_live_application_has_done_part_of_the_work(demo: str) -> None:
    linked, events = query(demo, f"select count(link), count(*) from ({ALL_EVENTS}) e")[0]
    assert 0.1 < linked / events < 0.2
    rows = query(
        demo,
        f"""select raw, host(ip_address), hashed_ip_address, ip.geoip_info, e.additional
              from ({ALL_EVENTS}) e join ip_addresses ip on ip.id = link""",
    )
    for raw, address, digest, geo, additional in rows:
        assert digest in (None, live_hash(address))
        if raw is not None and address != "192.0.2.69":
            assert canonicalise(raw) == canonicalise(address)
        for place in (geo, additional.get("geoip_info") if isinstance(additional, dict) else None):
            assert place is None or set(place) <= set(PYPI.geo.keys)
    resolved = [(geo, isinstance(more, dict) and "geoip_info" in more) for *_, geo, more in rows if geo]
    assert {has_geo for _, has_geo in resolved} == {True, False}
    sentinel = [raw for raw, address, *_ in rows if address == "192.0.2.69"]
    assert len(sentinel) >= 5
    assert all(isinstance(canonicalise(raw), Reason) for raw in sentinel)


def test_ip_addresses_holds_gaps_bans_spares_and_one_host_twice(demo: str) -> None:
    statement = f"""select count(*), count(hashed_ip_address), count(geoip_info), count(*) filter (where is_banned),
                       count(*) filter (where id not in (select link from ({ALL_EVENTS}) e where link is not null))
                  from ip_addresses"""
    rows, hashes, geos, bans, unused = query(demo, statement)[0]
    assert hashes < rows
    assert geos < rows
    assert bans >= 2
    assert unused >= 3
    twins = query(
        demo,
        f"""select plain.is_banned, mapped.is_banned,
                   (select count(*) from ({ALL_EVENTS}) e where link = plain.id),
                   (select count(*) from ({ALL_EVENTS}) e where link = mapped.id)
              from ip_addresses plain join ip_addresses mapped
                on host(mapped.ip_address) = '::ffff:' || host(plain.ip_address)""",
    )
    assert len(twins) == 1
    plain_banned, mapped_banned, *events = twins[0]
    assert (plain_banned, mapped_banned) == (False, True)
    assert min(events) >= 3


@pytest.mark.parametrize(("table", "time", "raw"), [*((name, "time", "ip_address_string") for name in TABLES), ("journals", "submitted_date", "submitted_from")])  # fmt: skip
def test_the_newest_rows_have_no_raw_text(demo: str, table: str, time: str, raw: str) -> None:
    newest_raw = f"(select max({time}) from {table} where {raw} is not null)"
    assert query(demo, f"select count(*) > 0 from {table} where {time} > {newest_raw}") == [(True,)]


def test_the_columns_stand_in_different_orders(demo: str) -> None:
    orders = {
        tuple(column(demo, f"select column_name from information_schema.columns where table_schema = 'public' and table_name = '{name}' order by ordinal_position"))
        for name in TABLES
    }  # fmt: skip
    assert len(orders) == len(TABLES)
    assert len(set(map(frozenset, orders))) == 1


def test_constraints_hold(demo: str) -> None:
    assert column(
        demo, "select count(*) from pg_constraint where contype in ('f', 'c') and not convalidated"
    ) == [0]
    with pytest.raises(Exception, match="ip_addresses_ban_check"):
        query(demo, "update ip_addresses set is_banned = not is_banned")
    assert column(demo, "select count(*) from pg_indexes where tablename = 'journals'") == [6]
    cascades = column(
        demo,
        "select conrelid::regclass::text from pg_constraint where confrelid = 'ip_addresses'::regclass "
        "and contype = 'f' and confupdtype = 'c' and confdeltype = 'c'",
    )
    assert sorted(cascades) == sorted(TABLES)


def test_a_journal_entry_moves_its_projects_serial_and_names_are_normalized(demo: str) -> None:
    wrong = "select count(*) from projects p where last_serial <> coalesce((select max(id) from journals where name = p.name), 0)"
    assert column(demo, wrong) == [0]
    query(demo, "insert into journals (name, action) select name, 'test' from projects order by name limit 1")
    assert column(demo, wrong) == [0]
    query(demo, "delete from journals where action = 'test'")
    assert column(demo, wrong) == [0]
    query(demo, "insert into projects (name) values ('A_b.-C')")
    assert column(demo, "select normalized_name from projects where name = 'A_b.-C'") == ["a-b-c"]
    assert column(
        demo, "select count(*) from projects where normalized_name <> normalize_project_name(name)"
    ) == [0]


def test_the_database_is_marked_as_a_demo(database: str) -> None:
    assert not recognised(database)
    make(database)
    assert recognised(database)


@pytest.mark.parametrize(
    "statement",
    [
        "create table something ()",
        "create schema other; create view other.something as select 1",
        "create type something as enum ('a')",
        "create sequence something",
    ],
)
def test_a_database_that_is_not_empty_is_refused(database: str, statement: str) -> None:
    query(database, statement)
    with pytest.raises(DatabaseNotEmpty, match="something"):
        make(database)
    assert column(database, "select to_regclass('public.ip_addresses')") == [None]


def test_objects_of_extensions_do_not_count(database: str) -> None:
    query(database, "create extension citext")
    assert make(database, events=10).events == 10
    with pytest.raises(DatabaseNotEmpty, match=r"and \d+ more"):
        make(database)


def test_a_kill_midway_leaves_the_database_empty(database: str) -> None:
    script = (
        "import sys; from pathlib import Path; from backfill.pypi.demo import create_demo\n"
        "create_demo(sys.argv[1], events=20_000, seed=1, hash_address=str.upper, geo_path=Path(sys.argv[2]),"
        " report=lambda line: print(line, flush=True))"
    )
    command = [sys.executable, "-c", script, database, str(bundled_geo_path())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith("user_events"):
                process.kill()
                break
    assert process.returncode == -9
    assert make(database).events == EVENTS  # would be refused otherwise


def test_an_error_midway_leaves_the_database_empty(database: str) -> None:
    def report(line: str) -> None:
        if line.startswith("keys"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        make(database, report=report)
    assert make(database).events == EVENTS


def test_a_cancelled_copy_shows_no_row(database: str) -> None:
    with closing(connect(database, autocommit=False)) as connection, connection.cursor() as cursor:
        cursor.execute("create table texts (raw text)")

        def rows() -> Iterator[bytes]:
            for number in range(10_000_000):
                if number == 50_000:
                    query(database, "select pg_cancel_backend(%s)", connection.info.backend_pid)
                yield binary_copy.row(binary_copy.text("MARKED"))

        with pytest.raises(psycopg2.errors.QueryCanceled) as caught:
            _Loader(cursor, print).copy(Table("texts", ("raw",), rows()))
    assert "COPY texts, line" in str(caught.value)
    assert "MARKED" not in str(caught.value)
