"""Scan: every kind of place where an address hides is found, by place and count, and never by value."""

import json
import random
import re
import resource
import tomllib
from contextlib import closing

import pytest

from tests.databases import connect, query
from tests.demo_template import environment
from tests.operator import Operator, ended
from tests.unit.test_scan_patterns import addresses

V4, V6 = "198.51.99.77", "2a03:2880:f10c:83::25de"

PLACES = {
    "t_inet.v": ("inet", f"'{V4}'"),
    "t_cidr.v": ("cidr", f"'{V4}'"),
    "t_text.v": ("text", f"'seen from {V6}, twice'"),
    "t_varchar.v": ("varchar(99)", f"' {V4} '"),
    "t_citext.v": ("public.citext", f"'{V6.upper()}'"),
    "t_domain.v": ("public.note", f"'{V4}'"),
    "t_composite.v": ("public.pair", f"row('{V4}', 1)"),
    "t_array.v": ("text[]", f"array['x', '{V4}']"),
    "t_inet_array.v": ("inet[]", f"array['{V6}']::inet[]"),
    "t_json.v $.a.ip": ("json", f"""'{{"a": {{"ip": "{V4}"}}}}'"""),
    "t_jsonb.v $.list[*].from": ("jsonb", f"""'{{"list": [{{"from": "{V6}"}}]}}'"""),
    "t_keys.v $.{keys}": ("jsonb", f"""'{{"{V4}": 1}}'"""),
    "t_scalar.v $": ("jsonb", f"""'"{V4}"'"""),
    "t_bytea.v": ("bytea", rf"'\x0001ff'::bytea || '{V4}'::bytea || '\xfe00'::bytea"),
    "t_hstore.v": ("public.hstore", f"'client=>{V4}'"),
    "t_xml.v": ("text", f"'<ip>{V4}</ip>'"),
    "t_long.v": ("text", f"repeat('lorem ', 800000) || '{V4}' || repeat(' ipsum', 100000)"),
    "t_long_json.v": ("jsonb", f"jsonb_build_array(repeat('lorem ', 800000), '{V4}')"),
    "t_long_bytea.v": ("bytea", rf"decode(repeat('00ff0a', 1500000), 'hex') || '{V4}'::bytea"),
    "other.t_elsewhere.v": ("text", f"'{V4}'"),
    't_odd.50% "of it"': ("text", f"'{V4}'"),
}


def place_table(place: str) -> str:
    return f"public.{place.split('.')[0]}" if not place.startswith("other.") else "other.t_elsewhere"


@pytest.fixture
def hidden(databases, clone) -> Operator:
    """A database with one marked address in each kind of place, and nothing else."""

    def fill(url: str) -> None:
        with closing(connect(url)) as session, session.cursor() as cursor:
            cursor.execute(
                "create extension citext schema public; create extension hstore schema public; create schema other"
            )
            cursor.execute(
                "create domain public.note as text; create type public.pair as (host text, number int)"
            )
            for place, (kind, value) in PLACES.items():
                column = '"50%% ""of it"""' if "50%" in place else "v"
                cursor.execute(
                    f"create table {place_table(place)} (id int, {column} {kind})".replace("%%", "%")
                )
                cursor.execute(f"insert into {place_table(place)} values (1, {value}), (2, null)")
            cursor.execute(f"create type public.kind as enum ('{V4}', 'none')")
            cursor.execute(
                f"create table public.plain (a int default length('{V4}'), b text); comment on column public.plain.b is 'as {V4}'"
            )
            cursor.execute(f"create view public.a_view as select '{V4}'::text as host")
            cursor.execute("create materialized view public.a_mat as select host from public.a_view")
            cursor.execute(
                f"create function public.a_function() returns text language sql as $$ select '{V4}' $$"
            )
            cursor.execute(
                f"create table public.counted as select '{V4}'::text as v from generate_series(1, 9); analyze public.counted; delete from public.counted"
            )
            cursor.execute(
                "create table public.parted (v text) partition by list (v); create table public.part_1 partition of public.parted default"
            )
            cursor.execute(f"insert into public.parted values ('{V6}')")
            cursor.execute(f"create unlogged table public.unlogged as select '{V4}'::text as v")

    databases.template("hidden", fill)
    url = clone("hidden")
    return Operator(url, environment(url, "/nonexistent"))


def scan(operator: Operator, *words: object, expect: int | None = None) -> dict:
    return json.loads(operator.types("scan", "--format", "json", *words, expect=expect).out)


def places(operator: Operator, *words: object) -> dict[str, dict]:
    return {place["where"]: place for place in scan(operator, *words)["places"]}


CATALOG = {
    "enum label of kind",
    "default of plain.a",
    "comment of plain.b",
    "view definition of a_view",
    "function body of a_function",
    "statistics of counted.v",
}


def test_every_kind_of_place_is_found_and_no_value_is_shown(hidden):
    said = hidden.types("scan", expect=1)
    found = places(hidden)
    expected = {*PLACES, *CATALOG, "a_mat.host", "part_1.v", "unlogged.v"}
    assert expected - set(found) == set()
    assert set(found) - expected == set()
    assert all(place["sure"] == 1 for where, place in found.items() if where in PLACES)
    for text in (said.out, said.err, json.dumps(found)):
        assert V4 not in text
        assert V6 not in text.lower()
    assert "198" not in said.out


def test_each_place_has_the_public_ones_counted_and_every_value_read(hidden):
    found = places(hidden, "--table", "t_inet")
    assert found == {"t_inet.v": found["t_inet.v"]}
    place = found["t_inet.v"]
    assert (place["values"], place["seen"], place["sure"], place["public"], place["exact"]) == (
        1,
        1,
        1,
        1,
        True,
    )


def test_it_is_narrowed_by_schema_and_table_and_says_when_there_is_none(hidden):
    assert set(places(hidden, "--schema", "other")) == {"other.t_elsewhere.v"}
    assert set(places(hidden, "--table", "other.t_elsewhere")) == {"other.t_elsewhere.v"}
    assert (
        "no table with a column that this role sees"
        in hidden.types("scan", "--table", "nothing", expect=2).err
    )


def test_it_writes_nothing(hidden):
    horizon = "select pg_snapshot_xmax(pg_current_snapshot())::text"

    def numbers_taken() -> bool:
        before = query(hidden.url, horizon)
        hidden.types("scan", "--full", expect=1)
        return query(hidden.url, horizon) != before

    assert not all(numbers_taken() for _ in range(3))  # an autovacuum of the server takes one now and then


def test_an_allow_list_with_reasons_makes_it_green_and_its_idle_entries_are_named(hidden, tmp_path):
    allow = tmp_path / "allow.toml"
    lines = [
        '[[allow]]\nwhere = "*"\nreason = "planted by a test"\n',
        '[[allow]]\nwhere = "gone.column"\nreason = "was once"\n',
    ]
    allow.write_text("\n".join(lines))
    said = hidden.types("scan", "--allow", allow, expect=0)
    assert "allowed: planted by a test" in said.out
    assert "gone.column: was once" in said.out
    allow.write_text('[[allow]]\nwhere = "t_jsonb.v $.list[*].from"\nreason = "known"\n')
    found = places(hidden, "--allow", allow)
    assert [where for where, place in found.items() if place["allowed"]] == ["t_jsonb.v $.list[*].from"]


@pytest.mark.parametrize(
    "content", ['[[allow]]\nwhere = "x"\n', "not toml", '[[allow]]\nwhere = "x"\nreason = ""\n', "what = 1"]
)
def test_an_allow_list_without_reasons_is_refused(hidden, tmp_path, content):
    allow = tmp_path / "allow.toml"
    allow.write_text(content)
    assert "Allow-list" in hidden.types("scan", "--allow", allow, expect=2).err


def test_what_may_not_be_read_is_never_passed_over(hidden):
    role = "reader_of_scan"
    query(hidden.url, f"create role {role} login")
    try:
        query(hidden.url, f"grant select on public.t_text, public.t_inet to {role}")
        query(hidden.url, "alter table public.t_inet enable row level security")
        reader = hidden.having(
            database_url=hidden.variables["BACKFILL_DATABASE_URL"].replace("//backfill@", f"//{role}@")
        )
        assert places(reader, "--table", "t_text")["t_text.v"]["unread"] is None
        assert "SELECT" in places(reader, "--table", "t_array")["t_array.v"]["unread"]
        assert places(reader, "--table", "t_inet")["t_inet.v"]["unread"]
        assert "UNREAD" in reader.types("scan", "--table", "t_array", expect=1).out
    finally:
        query(hidden.url, f"drop owned by {role}")
        query(hidden.url, f"drop role {role}")


HOST = "'203.0.113.' || i % 200"
# column of a table that has every other thing which a job needs → its values, and whether it is a raw column
CONTENTS = {
    "plain": (HOST, True),
    "odd_spellings": ("case i % 5 when 0 then ' 203.0.113.7 ' when 1 then '203.0.113.8:443' when 2 then '[2001:db8::7]:1' when 3 then '2001:DB8::7' else '::ffff:203.0.113.9' end", True),
    "placeholders": ("(array['-', 'unknown', '', 'localhost', 'N/A', ' '])[1 + i % 6]", False),
    "mostly_placeholders": (f"case when i % 10 = 0 then {HOST} else (array['-', 'UNKNOWN', '', 'localhost'])[1 + i % 4] end", True),
    "nearly_all": (f"case when i % 40 = 0 then 'host-' || i else {HOST} end", True),
    "user_names": (f"case when i % 3 = 0 then {HOST} else 'Maja' || i end", False),
    "comments": ("case when i % 300 = 7 then 'banned 203.0.113.7, twice' else 'nice work ' || i end", False),
    "all_comments": ("'banned 203.0.113.' || i % 200 || ' again'", False),
    "lists": ("'203.0.113.7, 10.0.0.' || i % 200", False),
    "networks": ("'203.0.113.0/24'", False),
    "padded": ("'010.001.002.003'", False),
}  # fmt: skip
# What can be no link, and can be rewritten where it is.
IN_PLACE = {
    ("two", "third"),
    ("no_link", "v"),
    ("held", "v"),
    ("visits", "old_ip"),
    ("visits", "md5_ip"),
}


@pytest.fixture
def applications(database) -> Operator:
    """Tables that lack nothing but a proposal, each with one column that may be a raw one, and some that lack something."""
    address_table = (
        "create table public.seen_addresses (id uuid primary key default gen_random_uuid(), address inet not null unique, "
        "address_hash text unique, place jsonb, network_of uuid references public.seen_addresses (id))"
    )
    rest = "id bigint generated always as identity primary key, link uuid references public.seen_addresses (id), created timestamptz not null default now()"
    query(database, address_table)
    for name, (value, _) in CONTENTS.items():
        query(database, f"create table public.{name} ({rest}, v text)")
        query(database, f"insert into public.{name} (v) select {value} from generate_series(1, 900) as i")
    odd = '"a "" table\n$1 %s"'
    for statement in (
        f"create table public.two ({rest}, sign_up_ip text, last_ip text, third text, sign_up_ip_id uuid references public.seen_addresses (id))",
        "insert into public.two (sign_up_ip, last_ip, third) select '203.0.113.7', '203.0.113.8', '203.0.113.9' from generate_series(1, 30)",
        "create table public.no_link (id int primary key, v text)",
        "insert into public.no_link values (1, '203.0.113.7')",
        "create table public.held (id int primary key, who text, v text, unique (who, v))",
        "insert into public.held values (1, 'x', '203.0.113.7')",
        "create table public.no_key (a int, b int, v text, link uuid references public.seen_addresses (id), primary key (a, b))",
        "insert into public.no_key values (1, 1, '203.0.113.7')",
        "create table public.raw_is_key (v text primary key, link uuid references public.seen_addresses (id))",
        "insert into public.raw_is_key values ('203.0.113.7')",
        """create table public.visits (id int primary key, sign_in_ip inet, "hashedSignInIp" text, password_hash text, old_ip text, old_ip_hash varchar(20),
           md5_ip text, md5_ip_hash text, at timestamptz not null default now())""",
        "insert into public.visits values (1, '203.0.113.7', null, 'x', '203.0.113.7', null, '203.0.113.7', md5('x'))",
        "create table public.one (id int primary key, v varchar(45), hashed_v text, link uuid references public.seen_addresses (id))",
        "insert into public.one (id, v) values (1, '203.0.113.7')",
        "create table public.typed (id int primary key, v inet, w cidr, link uuid references public.seen_addresses (id))",
        "insert into public.typed values (1, '203.0.113.7', '203.0.113.0/24')",
        "create domain public.client as inet",
        "create table public.named (id int primary key, v public.client not null, link uuid references public.seen_addresses (id))",
        "insert into public.named values (1, '203.0.113.7')",
        "insert into public.seen_addresses (address) values ('203.0.113.7')",
        "create table public.listed (id int primary key, v text[], j jsonb, link uuid references public.seen_addresses (id))",
        """insert into public.listed values (1, '{203.0.113.7}', '{"ip": "203.0.113.7"}')""",
        "create table public.parted (id int, v text, link uuid references public.seen_addresses (id), primary key (id)) partition by range (id)",
        "create table public.part_1 partition of public.parted for values from (0) to (100)",
        "insert into public.parted values (1, '203.0.113.7')",
        f'create table public.{odd} ("i d" int primary key, "v\n]]" text, "l%%ink" uuid references public.seen_addresses (id))',
        f"insert into public.{odd} values (1, '203.0.113.7')",
    ):
        query(database, statement.replace("%%", "%"))
    return Operator(database, environment(database, "/nonexistent"))


def test_a_column_is_proposed_where_its_values_are_addresses_and_never_where_they_contain_some(applications):
    found = places(applications)
    assert {name: found[f"{name}.v"]["raw_column"] for name in CONTENTS if f"{name}.v" in found} == {
        name: raw for name, (_, raw) in CONTENTS.items() if name != "placeholders"
    }
    assert found["mostly_placeholders.v"]["placeholders"] == 810
    assert "100.0%, 810 left aside" in applications.types("scan", expect=1).out
    assert found["lists.v"]["lists"] == 900


def test_the_plan_that_it_writes_loads_and_passes_and_says_what_was_left_out(applications, tmp_path):
    path = tmp_path / "plan.toml"
    applications.types("scan", "--output", path, expect=1)
    text = path.read_text()
    jobs = {(job["table"], job["raw"]): job for job in tomllib.loads(text)["jobs"]}
    raw = {(name, "v") for name, (_, is_raw) in CONTENTS.items() if is_raw}
    assert set(jobs) == {
        *raw,
        ("one", "v"),
        ("typed", "v"),
        ("no_key", "v"),
        ("named", "v"),
        ("two", "sign_up_ip"),
        ("two", "last_ip"),
        ('a " table\n$1 %s', "v\n]]"),
        ("visits", "sign_in_ip"),
        *IN_PLACE,
    }
    assert {place for place, job in jobs.items() if job["becomes"] == "pseudonym"} == IN_PLACE
    for place, why in {
        "two": "no link: The table has no other column that refers to seen_addresses",
        "no_link": "no link: The table has no column that refers to seen_addresses",
    }.items():
        (block,) = [
            part
            for part in text.split("[[jobs]]")
            if f'table = "{place}"' in part and "pseudonym" in part.split("#")[0]
        ]
        assert f"# {why}" in block
        assert '#   becomes = "network": possible.' in block
        assert '#   becomes = "nothing"' in block
    assert (
        '#   becomes = "network", on_duplicate = "refuse": possible. Unique index held_who_v_key of held has v in it.'
        in text
    )
    assert jobs["held", "v"]["on_duplicate"] == "refuse"
    assert (jobs["two", "sign_up_ip"]["link"], jobs["two", "last_ip"]["link"]) == ("sign_up_ip_id", "link")
    assert "#   hash: no. Column typed.v" in text
    assert (jobs["plain", "v"]["key"], jobs["plain", "v"]["time"]) == ("id", "created")
    assert jobs["one", "v"]["time"] == ""
    assert (jobs["no_key", "v"]["key"], jobs["no_link", "v"]["key"]) == (["a", "b"], "id")
    into = jobs["visits", "sign_in_ip"]  # no password, and no column of another job
    assert (into["becomes"], into["into"], into["then"], into["time"]) == (
        "hash",
        "hashedSignInIp",
        "drop",
        "at",
    )
    assert "# hashedSignInIp stands beside it: its hash goes there, and sign_in_ip is dropped once" in text
    assert '#   becomes = "hash", into = "hashed_v": possible.' in text
    assert "#   hash, into old_ip_hash: no. Column visits.old_ip_hash is character varying(20)" in text
    assert "#   hash, into md5_ip_hash: no. md5_ip_hash holds values that are no hash" in text
    assert "password_hash" not in text
    said = applications.having(plan=str(path)).types("plan", "--no-sample", expect=None)
    assert "Nothing is in the way" in said.out, said
    for place, why in {
        "comments.v": "it contains addresses; 0.0% of its values are one",
        "user_names.v": "it contains addresses; 33.3% of its values are one",
        "lists.v": "lists of addresses",
        "raw_is_key.v": "It is the table's primary key",
        "typed.w": "so it is no raw column",
        "part_1.v": "it is part of parted",
        "listed.j $.ip": "no plan takes it out",
    }.items():
        (line,) = [line for line in text.splitlines() if line.startswith(f"# {place} (")]
        assert why in line
    assert "203.0.113" not in text


def test_what_is_no_column_is_named_with_what_helps(hidden):
    text = hidden.types("scan", "--format", "toml", expect=1).out
    for place in CATALOG - {"statistics of counted.v"}:
        assert re.search(
            f"^# {place} .*: no plan takes it out; change or drop it yourself$", text, re.MULTILINE
        )
    assert re.search(
        "^# statistics of counted.v .*`analyze` the table, then `backfill erase`$", text, re.MULTILINE
    )


def test_a_table_without_a_key_is_proposed_and_it_says_so(hidden):
    text = hidden.types("scan", "--format", "toml", expect=1).out
    jobs = {(job["table"], job["raw"]): job for job in tomllib.loads(text)["jobs"]}
    assert jobs["t_varchar", "v"]["key"] == ""
    assert "# no key: nothing names a row" in text
    assert "Nothing names a row" not in text
    assert V4 not in text


def test_raw_columns_of_the_plan_are_marked_as_such(fresh_demo):
    found = places(fresh_demo)
    planned = {where for where, place in found.items() if place["planned"]}
    assert {"user_events.ip_address_string", "ip_addresses.ip_address", "journals.submitted_from"} <= planned
    raw = found["user_events.ip_address_string"]
    ((expected,),) = query(
        fresh_demo.url,
        "select count(*) from user_events where ip_address_string ~ '[.:].*[.:]' and length(ip_address_string) < 60",
    )
    assert raw["sure"] + raw["likely"] == pytest.approx(expected, rel=0.02)


def test_after_the_migration_nothing_is_left_to_find(erased):
    assert scan(erased, expect=0)["places"] == []


def test_an_empty_database_is_not_called_clean(database):
    said = Operator(database, environment(database, "/nonexistent")).types("scan", expect=2)
    assert "nothing to scan" in said.err
    assert "BACKFILL_DATABASE_URL" in said.err


def test_of_100_000_spellings_in_a_column_none_is_missed(database):
    operator = Operator(database, environment(database, "/nonexistent"))
    with closing(connect(database)) as session, session.cursor() as cursor:
        cursor.execute("create table public.seen (v text)")
        values = list(addresses(random.Random(9)))
        cursor.execute("insert into public.seen select unnest(%s::text[])", (values,))
    place = places(operator, "--full")["seen.v"]
    assert place["sure"] + place["likely"] + place["unlikely"] == place["values"] == len(values)


def test_names_versions_hashes_times_and_uuids_raise_no_alarm(database):
    operator = Operator(database, environment(database, "/nonexistent"))
    query(
        database,
        """create table public.innocent as
           select 'package-' || n as name, (n % 13) || '.' || (n % 7) || '.' || (n % 29) || case when n % 5 = 0 then '.' || n % 11 else '' end as version,
                  md5(n::text) as hash, to_char(now() - n * interval '61 seconds', 'HH24:MI:SS') as time, gen_random_uuid()::text as id,
                  now() - n * interval '61 seconds' as moment
             from generate_series(1, 100000) as n""",
    )
    found = places(operator, "--full")
    assert sum(place["sure"] for place in found.values()) <= 500
    assert set(found) <= {"innocent.version"}


def test_a_sample_of_a_large_table_says_how_sure_it_is_and_comes_near_the_truth(database):
    operator = Operator(database, environment(database, "/nonexistent"))
    query(
        database,
        f"""create table public.large as select case when n % 10 = 0 then '{V4}' else md5(n::text) end as v, repeat('x', 300) as ballast
              from generate_series(1, 60000) as n""",
    )
    query(database, "analyze public.large")
    place = places(operator, "--sample", "40", "--table", "large")["large.v"]
    assert not place["exact"]
    assert place["seen"] < 60_000
    assert place["margin"] > 0
    assert place["sure"] == pytest.approx(6_000, rel=0.2)
    assert "~" in operator.types("scan", "--sample", "40", "--table", "large", expect=1).out


def test_a_sensor_holds_it_and_it_says_why(hidden):
    query(hidden.url, "create table public.traffic (heavy boolean)")
    query(hidden.url, "insert into public.traffic values (true)")
    held = hidden.having(throttle_query="select coalesce(bool_or(heavy), false) from public.traffic")
    with ended(held.starts("scan", "--table", "t_text")) as process:
        assert "Held:" in process.stderr.readline()
        query(hidden.url, "update public.traffic set heavy = false")
        out, _ = process.communicate(timeout=60)
    assert "t_text.v" in out
    assert process.returncode == 1


def test_values_of_a_hundred_megabytes_are_read_piece_by_piece(database):
    """The address lies at the end, and across the edge of two pieces; client memory does not grow with the value."""
    operator = Operator(database, environment(database, "/nonexistent"))
    half = "repeat('lorem ipsum ', 4400000)"
    query(database, "create table public.huge (text text, bytes bytea, document jsonb)")
    for name in ("text", "bytes", "document"):  # compressing them would take longer than all the rest
        query(database, f"alter table public.huge alter {name} set storage external")
    query(
        database,
        rf"""insert into public.huge select {half} || '{V4} ' || {half} || '{V6}',
                   convert_to({half}, 'UTF8') || '\x0001ff'::bytea || '{V4}'::bytea || '\xfe00'::bytea || convert_to({half}, 'UTF8'),
                   jsonb_build_object('a', {half}, 'b', {half}, 'c', '{V4}')""",
    )
    assert query(
        database,
        "select length(text) > 100 * 1024 * 1024, length(bytes) > 100 * 1024 * 1024 from public.huge",
    ) == [(True, True)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = places(operator, "--full")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # kilobytes
    assert {where: place["sure"] for where, place in found.items()} == {
        "huge.text": 1,
        "huge.bytes": 1,
        "huge.document": 1,
    }
    assert all(place["unread"] is None for place in found.values())
    assert grown < 64 * 1024


def test_binary_rubbish_is_read_without_a_word_and_raises_no_alarm(database):
    operator = Operator(database, environment(database, "/nonexistent"))
    query(
        database,
        """create table public.rubbish as
           select decode(string_agg(md5(n::text || g::text), ''), 'hex') as v
             from generate_series(1, 100) as g, generate_series(1, 3000) as n group by g""",
    )
    query(database, r"insert into public.rubbish values ('\x'), ('\x00'), ('\xff5c3078'), ('\xc328'), (decode(repeat('00', 5000000), 'hex'))")  # fmt: skip
    assert sum(place["sure"] for place in places(operator, "--full").values()) == 0
    query(
        database,
        rf"insert into public.rubbish values ('\xff00'::bytea || '{V4}'::bytea || '\x5c3031'::bytea)",
    )
    assert places(operator, "--full")["rubbish.v"]["sure"] == 1
