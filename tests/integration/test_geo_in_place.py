"""Jobs in place that keep the place of each address in a column beside the value: what every row holds afterwards."""

import ipaddress
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import maxminddb
import pytest

from backfill.geo.city import eight_fields
from tests import rewritten
from tests.databases import Databases, query
from tests.integration.test_run import Interrupted, in_order
from tests.operator import ROOT
from tests.rewritten import SPELT, TEXTS, UNREADABLE
from tests.unit.test_geo import CONTINENT, FULL, write_database

# A file may know private addresses and tunnels: a reader does not believe it.
RECORDS = {
    "81.2.0.0/16": FULL, "2a00::/16": CONTINENT, "1.2.3.0/24": FULL, "10.0.0.0/8": FULL, "fd00::/8": FULL,
    "2001::/32": FULL, "2002::/16": FULL,
}  # fmt: skip
NOWHERE = ("9.9.9.9", "10.1.2.3", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2002:808:808::1")
KEYS = ("city", "continent_code", "country_code3", "country_code", "country_name", "region")
OWN = {**dict.fromkeys(KEYS, "ZZ"), "seen": True}
# What stands there before, in turn: no place five times, a place, and what is none and cannot become one.
BEFORE = (
    None,
    "null",
    "{}",
    '{"city": "?", "region": null}',
    '{"city": ""}',
    '{"city": "", "seen": []}',
    json.dumps(OWN),
    '["DE"]',
    '"DE"',
)
KINDS_DOCUMENT = (ROOT / "docs" / "kinds.md").read_text(encoding="utf-8")
KINDS = ("pseudonym", "hash", "network", "nothing")
SMALL = ("run", "--quiet", "--batch-blocks", "2")


def fill(url: str, name: str, type_: str, key: str) -> None:
    texts = [text for text in (*TEXTS, *SPELT, *NOWHERE, *UNREADABLE) if len(text) <= 64]
    if type_ == "inet":
        texts = [str(rewritten.canonical(text)) for text in texts if rewritten.canonical(text) is not None]
    rows = [*zip(itertools.cycle(texts), itertools.cycle(BEFORE), range(len(texts) * 2 + 1)), (None, None, 0)]
    query(
        url,
        f"create table {name} (id bigint generated always as identity {key}, ip {type_}, place jsonb, note text)",
    )
    query(
        url,
        f"""insert into {name} (ip, place, note)
            select ip::{type_}, place::jsonb, repeat('x', 200) from unnest(%s::text[], %s::text[]) as row (ip, place)""",
        [ip for ip, _, _ in rows],
        [place for _, place, _ in rows],
    )


def shown(url: str, name: str) -> list[tuple]:
    return query(
        url,
        f"select id, case when ip is null then null else concat(ip) end, place, place is null from {name} order by id",
    )


@pytest.fixture(scope="module")
def city_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_database(tmp_path_factory.mktemp("geo") / "city.mmdb", RECORDS)


@pytest.fixture(scope="module")
def looked_up(city_file: Path) -> Iterator:
    """The place of a text's address by the reader of the file, with none of what Backfill makes of it but names."""
    with maxminddb.open_database(city_file) as reader:

        def look(text: str | None) -> dict | None:
            address = None if text is None else rewritten.canonical(text)
            if (
                address is None
                or not address.is_global
                or address in ipaddress.ip_network("2002::/16" if address.version == 6 else "0.0.0.0/32")
            ):
                return None
            record = reader.get(address)
            found = eight_fields(record) if record else None
            return {key: value for key, value in (found or {}).items() if key in KEYS} or None

        yield look


def says_something(place: object) -> bool:
    return isinstance(place, dict) and any(value not in (None, "", "?") for value in place.values())


@pytest.fixture(scope="module")
def done(databases: Databases, home: Path, tmp_path_factory, city_file: Path) -> Iterator[tuple]:
    """An operator of four tables whose run was cut off between two batches, emptied of its map, and resumed."""
    url, folder = databases.create(), tmp_path_factory.mktemp("plan")
    jobs = []
    for kind, type_, key in zip(
        KINDS,
        ("inet", "text", "varchar(64)", "text"),
        ("primary key", "", "primary key", "primary key"),
        strict=True,
    ):
        fill(url, kind, type_, key)
        jobs.append(
            {
                "table": kind,
                "raw": "ip",
                "becomes": kind,
                "unreadable": "nothing" if kind == "hash" else "keep",
                "geo": "place",
            }
        )
    query(
        url,
        "update network set place = '{}' where place is null; alter table network alter place set not null",
    )
    query(
        url, "alter table nothing add at timestamptz; update nothing set at = now() - interval '1 day' * id"
    )
    jobs[-1] |= {"then": "keep", "time": "at", "after": "100 days"}
    before = {kind: shown(url, kind) for kind in KINDS}
    operator = rewritten.operator(url, home, rewritten.plan_file(folder, *jobs)).having(
        geoip_db=str(city_file), workers="1", passes="2"
    )
    command = rewritten.confirmed(operator.types(*SMALL, expect=2)) + list(SMALL[1:])

    def some(number: int) -> None:
        if number > 4:
            raise Interrupted

    with pytest.raises(Interrupted):
        operator.hooked(before_batch=in_order(some)).types(*command)
    ((half,),) = query(
        url, "select count(*) from backfill.batches where phase = 'link' and status <> 'succeeded'"
    )
    query(url, "truncate backfill.address_map")
    said = operator.types(*SMALL, "--format", "json")
    assert "Resuming run 1" in said.out + said.err
    assert half >= 1
    yield operator, before, json.loads(said.out[said.out.index("{") :])
    databases.drop(url)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_was_cut_off_leaves_every_row_with_the_place_of_its_address(
    done, looked_up, kind: str
) -> None:
    operator, before, facts = done
    placed = own = none = 0
    for (_, was, place, null), (_, now, after, null_now) in zip(
        before[kind], shown(operator.url, kind), strict=True
    ):
        rewritten_now = was != now
        expected = looked_up(was) if rewritten_now else None
        if isinstance(place, list | str) or says_something(place) or expected is None:
            assert (after, null_now) == (place, null), was
        else:
            assert after == expected, was
        if rewritten_now:
            placed += after == expected is not None
            own += says_something(after) and after != expected
            none += not says_something(after)
    assert placed > 20
    assert own > 5
    assert none > 5
    (run,) = facts["runs"]
    assert run["places"][kind] == {"placed": placed, "own": own, "none": none}


def test_verify_and_report_say_what_is_known_of_the_places_and_no_more(done, tmp_path: Path) -> None:
    operator, _, facts = done
    query(
        operator.url,
        "update nothing set at = at - interval '90 days' where id < 20; update hash set place = null where id = 1",
    )
    metrics = tmp_path / "metrics.prom"
    due = operator.having(metrics_file=str(metrics)).types("run", "--due", "--quiet")
    assert re.search(
        r'^backfill_rows_placed_total{phase="link",table="nothing"} [1-9]', metrics.read_text(), re.MULTILINE
    )
    assert "nothing.place: " in due.out
    (run,) = facts["runs"]
    verified = operator.types("verify", "--format", "json", expect=None)
    for record in json.loads(verified.out)["tables"]:
        kind = record["table"]
        rows = [(ip, place) for _, ip, place, _ in shown(operator.url, kind)]
        counts, said = record["counts"], " ".join(record["notes"])
        assert counts["geo"] + counts["without_place"] + counts["geo_has_no_place"] >= counts["in_form"]
        if kind == "pseudonym":
            assert counts["geo"] == sum(says_something(place) for ip, place in rows)
            assert counts["geo_has_no_place"] == sum(
                isinstance(place, list | str) for ip, place in rows if ip
            )
        assert f"places recomputed from the text: 0 of {counts['geo']:,}, since the text is gone" in said
        places = run["places"][kind]
        if kind != "nothing":
            assert f"{places['placed']:,} got the place of their address" in said
            assert (
                f"{places['own']:,} kept one of their own, and for {places['none']:,} none is known" in said
            )
    assert "without a place" in operator.types("report").out


def test_a_plan_without_a_geo_database_is_refused_before_anything_is_counted(done, tmp_path: Path) -> None:
    operator, _, _ = done
    query(
        operator.url,
        "create table public.fresh (id int primary key, ip text, place jsonb); insert into public.fresh values (1, '81.2.1.1')",
    )
    job = {"table": "fresh", "raw": "ip", "becomes": "hash", "unreadable": "keep", "geo": "place"}
    bare = operator.having(plan=str(rewritten.plan_file(tmp_path, job)), geoip_db="")
    said = bare.types("run", expect=2)
    assert "BACKFILL_GEOIP_DB" in said.err
    assert "Dry run" not in said.out
    assert "BACKFILL_GEOIP_DB" in bare.types("plan", expect=2).out
    bare.types("verify", expect=1)  # which looks nothing up


def test_rows_that_were_rewritten_before_get_no_place_and_the_plan_says_so(done, tmp_path: Path) -> None:
    operator, _, _ = done
    query(operator.url, "alter table pseudonym add elsewhere jsonb")
    job = {
        "table": "pseudonym",
        "raw": "ip",
        "becomes": "pseudonym",
        "unreadable": "keep",
        "geo": "elsewhere",
    }
    other = operator.having(plan=str(rewritten.plan_file(tmp_path, job)))
    assert "They get no place in elsewhere: the text is gone." in " ".join(other.types("plan").out.split())


def test_a_trigger_that_takes_the_place_away_fails_the_batch(done, tmp_path: Path) -> None:
    operator, _, _ = done
    query(
        operator.url,
        """create table public.kept (id int primary key, ip text, place jsonb); insert into public.kept values (1, '81.2.1.1');
           create function public.away() returns trigger language plpgsql as $$ begin new.place := null; return new; end $$;
           create trigger away before update on public.kept for each row execute function public.away()""",
    )
    job = {
        "table": "kept",
        "raw": "ip",
        "becomes": "nothing",
        "then": "keep",
        "unreadable": "keep",
        "geo": "place",
    }
    other = operator.having(plan=str(rewritten.plan_file(tmp_path, job)))
    said = rewritten.run(other, "--quiet", "--accept", "before-trigger:public.kept.away", expect=1)
    assert "1 of 1 rows do not hold what was written" in said.err + said.out
    assert query(operator.url, "select ip from public.kept") == [("81.2.1.1",)]
    # A place of the application is gone as well where none is known that could take its place.
    own = "update public.kept set ip = '9.9.9.9', place = '{}'"
    query(operator.url, f"alter table public.kept disable trigger away; {own.format(json.dumps(OWN))}")
    query(operator.url, "alter table public.kept enable trigger away")
    said = other.types("run", "--quiet", "--accept", "before-trigger:public.kept.away", expect=1)
    assert "1 of 1 rows do not hold what was written" in said.err + said.out
    # What comes after the row was stored, or at the end of the transaction: a place of ours, and one of the application.
    query(
        operator.url,
        """drop trigger away on public.kept;
           create function public.late() returns trigger language plpgsql as $$ begin
               update public.kept set place = null where id = new.id and place is not null; return null; end $$;
           create constraint trigger late after update on public.kept deferrable initially deferred
               for each row when (new.ip is null) execute function public.late()""",
    )
    for ip, place in (("9.9.9.9", OWN), ("81.2.1.1", None)):
        query(
            operator.url,
            "update public.kept set ip = %s, place = %s",
            ip,
            json.dumps(place) if place else None,
        )
        said = other.types("run", "--quiet", "--accept", "after-trigger:public.kept.late", expect=1)
        assert "1 of 1 rows do not hold what was written" in said.err + said.out
        assert query(operator.url, "select ip, place from public.kept") == [(ip, place)]
    # One that writes the row, and leaves it its place, is no fault.
    query(operator.url, "create or replace function public.late() returns trigger language plpgsql as $$ begin update public.kept set id = id + 1 where id = new.id and id < 5; return null; end $$")  # fmt: skip
    other.types("run", "--quiet", "--accept", "after-trigger:public.kept.late")
    assert query(operator.url, "select id, ip, place ->> 'city' from public.kept") == [(5, None, "San Jose")]


def test_a_trigger_as_documented_forgets_the_place_of_an_address_that_is_replaced(
    done, tmp_path: Path
) -> None:
    operator, _, _ = done
    recipe = KINDS_DOCUMENT[KINDS_DOCUMENT.index("create function public.forget_place()") :].split("\n\n")[0]
    query(
        operator.url,
        "create table public.users (id int primary key, ip text, place jsonb); insert into public.users values (1, '81.2.1.1', null), (2, '2a00::1', null), (3, '9.9.9.9', null), (4, '81.2.1.3', '{\"continent_code\": \"own\"}');"
        + recipe,
    )
    job = {"table": "users", "raw": "ip", "becomes": "hash", "unreadable": "keep", "geo": "place"}
    other = operator.having(plan=str(rewritten.plan_file(tmp_path, job)))
    rewritten.run(other, "--quiet", "--accept", "before-trigger:public.users.forget_place")
    places = "select place ->> 'continent_code' from public.users order by id"
    assert query(operator.url, places) == [("NA",), ("EU",), (None,), ("own",)]
    query(
        operator.url,
        "update public.users set ip = case id when 1 then '2a00::2' when 2 then '10.1.2.3' else '81.2.1.2' end",
    )
    assert query(operator.url, places) == [(None,)] * 4
    other.types("run", "--quiet", "--accept", "before-trigger:public.users.forget_place")
    assert query(operator.url, places) == [("EU",), (None,), ("NA",), ("NA",)]


def test_the_newest_of_equal_rows_stays_with_its_place(done, tmp_path: Path) -> None:
    operator, _, _ = done
    query(
        operator.url,
        """create table public.sessions (who int, ip inet, at timestamptz, place jsonb, unique (who, ip));
           insert into public.sessions values (1, '81.2.1.1', now() - interval '2 days'), (1, '::ffff:81.2.1.1', now()),
                                       (2, '81.2.1.1', now()), (2, '9.9.9.9', now())""",
    )
    job = {
        "table": "sessions",
        "raw": "ip",
        "becomes": "pseudonym",
        "unreadable": "keep",
        "geo": "place",
        "on_duplicate": "keep-newest",
        "time": "at",
    }
    other = operator.having(plan=str(rewritten.plan_file(tmp_path, job)))
    said = rewritten.run(other, "--quiet")
    assert "sessions.place: 2 rows have the place of the address, 0 kept their own, 1 have none" in said.out
    assert query(operator.url, "select who, place ->> 'city', at > now() - interval '1 day' from public.sessions order by 1, 2") == [
        (1, "San Jose", True), (2, "San Jose", True), (2, None, True),
    ]  # fmt: skip


KEYED = {"country_code": '"land"', "city": '"town"', "region": '"part"'}
KEYED_ROWS = (
    # address, land, town, part before → after, and what it counts as
    ("81.2.1.1", None, "", None, "US", "", "CA", "placed"),  # the town is too long for its column
    ("81.2.1.2", "? ", "?", None, "US", "?", "CA", "placed"),
    ("5.1.1.1", None, "", "", "DE", "Köln", "", "placed"),  # no region is known
    (
        "5.1.1.2",
        "FR",
        "",
        None,
        "FR",
        "",
        None,
        "own",
    ),  # never the town of one source with the country of another
    ("5.1.1.3", None, "Bonn", None, None, "Bonn", None, "own"),
    ("2a00::1", None, "", None, None, "", None, "none"),  # a continent and nothing else
    ("9.9.9.9", None, "", None, None, "", None, "none"),
    ("10.1.2.3", None, "", None, None, "", None, "none"),
    ("unknown", None, "", None, None, "", None, None),
    ("5.2.1.1", None, "", None, None, "", None, "none"),  # nothing but a town that is too long
)


def test_columns_by_key_are_filled_as_a_whole_and_a_text_that_is_too_long_costs_its_field(
    databases: Databases, home: Path, tmp_path: Path
) -> None:
    url = databases.create()
    cologne = {"city": {"names": {"en": "Köln"}}, "country": {"iso_code": "DE"}}
    file = write_database(
        tmp_path / "city.mmdb",
        RECORDS | {"5.1.0.0/16": cologne, "5.2.0.0/16": {"city": {"names": {"en": "Frankfurt"}}}},
    )
    query(
        url,
        "create schema types; create extension citext schema types; create domain types.town as varchar(7)",
    )
    for name in ("keyed", "nameless", "hashing"):
        key = "" if name == "nameless" else "primary key"
        query(
            url,
            f"create table public.{name} (id int {key}, ip text, hashed text, land char(2), town types.town not null, part types.citext)",
        )
        for number, (ip, land, town, part, *_) in enumerate(KEYED_ROWS):
            query(
                url,
                f"insert into public.{name} values (%s, %s, null, %s, %s, %s)",
                number,
                ip,
                land,
                town,
                part,
            )
    jobs = [
        {"table": "keyed", "raw": "ip", "becomes": "network", "unreadable": "keep", "geo": KEYED},
        {
            "table": "nameless",
            "raw": "ip",
            "becomes": "nothing",
            "then": "keep",
            "unreadable": "keep",
            "geo": KEYED,
        },
        {"table": "hashing", "raw": "ip", "becomes": "hash", "into": "hashed", "geo": KEYED},
    ]
    operator = rewritten.operator(url, home, rewritten.plan_file(tmp_path, *jobs)).having(
        geoip_db=str(file), workers="1"
    )
    said = rewritten.run(operator, "--quiet").out
    expected = [row[4:7] for row in KEYED_ROWS]
    for name in ("keyed", "nameless", "hashing"):
        assert query(url, f"select land, town, part::text from public.{name} order by id") == expected, name
        assert (
            f"{name} (land, town, part): 3 rows have the place of the address, 2 kept their own, 4 have none"
            in said
        )
        where = "" if name == "nameless" else " Row keys: 0, 1, 9."
        assert (
            f"3 places of {name} (land, town, part) without city, in all runs so far: this database's encoding cannot hold it, or its column is too short.{where}\n"
            in said
        )
    query(url, "update public.hashing set ip = null where ip = 'unknown'")
    records = {
        one["table"]: one for one in json.loads(operator.types("verify", "--format", "json").out)["tables"]
    }
    assert (records["keyed"]["counts"]["geo"], records["keyed"]["counts"]["without_place"]) == (5, 4)
    counts = records["hashing"]["counts"]
    assert (counts["geo"], counts["own_place_kept"], counts["geo_missing"]) == (5, 2, 0)
    assert "in land, town, part counts as a place, whoever wrote it" in " ".join(records["keyed"]["notes"])
    # Nothing is done again; a place that is gone is missed, and given back.
    query(url, "update public.hashing set land = null, town = '', part = null where id = 0")
    assert (
        json.loads(operator.types("verify", "--format", "json", expect=1).out)["tables"][2]["counts"][
            "geo_missing"
        ]
        == 1
    )
    operator.types("run", "--quiet")
    operator.types("verify")
    for name in ("keyed", "nameless", "hashing"):
        assert query(url, f"select land, town, part::text from public.{name} order by id") == expected, name
    assert query(url, "select job, row_key, field, rows from backfill.lost_fields order by 1, 2") == [
        *(("public.hashing.ip", key, "city", 1) for key in "019"),
        *(("public.keyed.ip", key, "city", 1) for key in "019"), ("public.nameless.ip", "", "city", 3),
    ]  # fmt: skip
    operator.types("report")
    assert query(
        url,
        "select count(*) from backfill.batches where job like '%%hashing%%' and phase like 'sweep%%' and run_id = (select max(id) from backfill.runs)",
    ) == [(0,)]
    # A trigger that forgets a place, or takes one away afterwards: of the application (3), and of ours (0).
    query(
        url,
        """create function public.forgets() returns trigger language plpgsql as $$ begin new.land := null; return new; end $$;
           create function public.late() returns trigger language plpgsql as $$ begin
               update public.hashing set land = null, part = null where id = new.id and (land is not null or part is not null); return null; end $$;
           update public.hashing set hashed = null, ip = '9.9.9.9' where id = 3;
           create trigger forgets before update on public.hashing for each row execute function public.forgets()""",
    )
    said = operator.types("run", "--quiet", "--accept", "before-trigger:public.hashing.forgets", expect=1)
    assert "1 of 1 rows do not hold what was written" in said.err + said.out
    query(
        url,
        """drop trigger forgets on public.hashing;
           update public.hashing set hashed = null, land = null, part = null where id = 0;
           create trigger late after update on public.hashing for each row execute function public.late()""",
    )
    said = operator.types("run", "--quiet", "--accept", "after-trigger:public.hashing.late", expect=1)
    assert "2 of 2 rows do not hold what was written" in said.err + said.out
    assert query(url, "select land, hashed from public.hashing where id in (0, 3) order by id") == [
        (None, None),
        ("FR", None),
    ]
    # One that passes over rows which have their hash: it is told that a row stays without its place.
    query(
        url,
        f"""drop trigger late on public.hashing; update public.hashing set hashed = '{rewritten.hashed("81.2.1.1")}' where id = 0;
           create function public.keeps() returns trigger language plpgsql as $$ begin return null; end $$;
           create trigger keeps before update on public.hashing for each row when (old.hashed is not null) execute function public.keeps()""",
    )
    said = operator.types("run", "--quiet", "--accept", "before-trigger:public.hashing.keeps", expect=None)
    assert "hashing: 1 rows stay as they are although they were updated" in said.err + said.out
    databases.drop(url)
