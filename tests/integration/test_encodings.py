"""One value that the database cannot hold costs its field, counted, and named by row key; never its batch."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg2 import sql
from sqlalchemy import make_url

from backfill.plan import GeoKey
from tests import rewritten
from tests.databases import Databases, query
from tests.demo_template import environment
from tests.integration.test_types import PLAN, SCHEMA
from tests.integration.test_undecodable import Encoded
from tests.operator import Operator
from tests.unit.test_geo import RECORDS, write_database

CITY = {"names": {"en": "Łódź"}}
BAD: dict[str, dict[str, Any]] = {
    "5.1.0.0/16": {"city": CITY, "country": {"iso_code": "PL", "names": {"en": "Poland"}}},
    "5.2.0.0/16": {"city": {"names": {"en": "Köln"}}, "country": {"iso_code": "DE"}},
    "5.3.0.0/16": {"city": {"names": {"en": "nul\0"}}, "country": {"iso_code": "FR"}},
    "5.4.0.0/16": {
        "location": {"latitude": float("nan"), "longitude": float("inf")},
        "country": {"iso_code": "FR"},
    },
    "5.5.0.0/16": {"city": CITY},
}
TEXTS = ["5.1.0.1", "5.2.0.1", "5.3.0.1", "5.4.0.1", "5.5.0.1"]


@pytest.fixture
def encoded(databases: Databases, home: Path, tmp_path: Path) -> Iterator[Any]:
    made = []

    def having(encoding: str) -> Operator:
        name = f"test_{encoding.lower()}_{tmp_path.name[-20:].lower()}"
        query(databases.server_url, sql.SQL("create database {} template template0 encoding {} locale 'C'").format(sql.Identifier(name), sql.Literal(encoding)))  # fmt: skip
        url = make_url(databases.server_url).set(database=name).render_as_string(hide_password=False)
        made.append(url)
        query(url, SCHEMA.format(collations="", raw="text", key="bigint", address_key="uuid", default="default gen_random_uuid()", hash="text"))  # fmt: skip
        for number, text in enumerate(TEXTS):
            query(url, "insert into logins (id, ip_address) values (%s, %s)", number, text)
        query(url, "insert into ip_addresses (ip_address) values ('5.1.0.9'), ('5.2.0.9')")
        plan = tmp_path / "plan.toml"
        keys = ", ".join(f'"{key}"' for key in GeoKey)
        plan.write_text(PLAN.replace("[addresses]", f"[geo]\nkeys = [{keys}]\n[addresses]", 1))
        geo = write_database(tmp_path / "city.mmdb", RECORDS | BAD)
        return Operator(url, environment(url, home)).having(plan=str(plan), geoip_db=str(geo))

    yield having
    for url in made:
        databases.drop(url)


@pytest.mark.parametrize(("encoding", "lost"), [("LATIN1", 4), ("WIN1252", 4), ("UTF8", 1)])
def test_what_the_encoding_lacks_costs_its_field(
    encoded: Any, tmp_path: Path, encoding: str, lost: int
) -> None:
    operator = encoded(encoding)
    said = operator.types("run", "--quiet").out
    places = "1 place" if lost == 1 else f"{lost} places"
    assert (
        f"{places} of ip_addresses without city, in all runs so far: this database's encoding cannot hold it. Row keys: "
        in said
    )
    assert "1 place of ip_addresses without latitude" in said
    places = dict(
        query(operator.url, "select ip_address, additional -> 'geoip_info' from logins order by id")
    )
    assert places["5.2.0.1"] == {"city": "Köln", "country_code": "DE", "country_code3": "DEU"}
    assert places["5.3.0.1"] == places["5.4.0.1"] == {"country_code": "FR", "country_code3": "FRA"}
    if encoding == "UTF8":
        assert places["5.1.0.1"]["city"] == places["5.5.0.1"]["city"] == "Łódź"
    else:
        assert places["5.1.0.1"] == {"country_code": "PL", "country_code3": "POL", "country_name": "Poland"}
        assert places["5.5.0.1"] is None
    named = query(
        operator.url,
        """select host(ip_address) from backfill.lost_fields join ip_addresses on id::text = row_key
            where field = 'city' and ip_address <> '5.1.0.9' order by 1""",
    )
    assert [host for (host,) in named] == (
        ["5.3.0.1"] if encoding == "UTF8" else ["5.1.0.1", "5.3.0.1", "5.5.0.1"]
    )
    operator.types("verify")
    if encoding == "WIN1252":
        beside_a_value(operator, tmp_path)


def beside_a_value(operator: Operator, folder: Path) -> None:
    """The same of places beside a value that is rewritten; of rows without a key, the number."""
    for name, key in (("named", "primary key"), ("nameless", "")):
        query(operator.url, f"create table public.{name} (id int {key}, ip text, place jsonb)")
        query(operator.url, f"insert into public.{name} (id, ip) values (7, '5.1.0.1'), (8, '5.1.0.9'), (9, '5.2.0.1'), (10, '5.5.0.1')")  # fmt: skip
    jobs = [{"table": name, "raw": "ip", "becomes": "hash", "unreadable": "keep", "geo": "place"} for name in ("named", "nameless")]  # fmt: skip
    said = rewritten.run(operator.having(plan=str(rewritten.plan_file(folder, *jobs))), "--quiet").out
    assert "3 places of named.place without city, in all runs so far: this database's encoding cannot hold it. Row keys: 10, 7, 8.\n" in said  # fmt: skip
    assert (
        "3 places of nameless.place without city, in all runs so far: this database's encoding cannot hold it.\n"
        in said
    )
    for name in ("named", "nameless"):
        assert f"{name}.place: 3 rows have the place of the address, 0 kept their own, 1 have none" in said
        places = dict(query(operator.url, f"select id, place from public.{name}"))
        assert places[9] == {"city": "Köln", "country_code": "DE", "country_code3": "DEU"}
        assert (
            places[7] == places[8] == {"country_code": "PL", "country_code3": "POL", "country_name": "Poland"}
        )
        assert places[10] is None
    # A place with a byte that means nothing is the application's, and is looked at by its bytes alone.
    name = str(make_url(operator.url).database)
    query(
        operator.url,
        """create table public.spoilt (id int primary key, ip text, place jsonb);
           create table public.beside (id int primary key, ip text, hashed text, place jsonb);
           create table public.keyed (id int primary key, ip text, hashed text, land text, town text)""",
    )
    put = Encoded(operator.url, name, "WIN1252").put
    for into, columns in (("spoilt (id, ip, place)", b'{"city": "\x81"}'), ("beside (id, ip, place)", b'{"city": "\x81"}'), ("keyed (id, ip, town)", b"\x81")):  # fmt: skip
        put(f"insert into public.{into} values (1, '5.2.0.1', %s)", columns)
    query(operator.url, "insert into public.keyed (id, ip) values (2, '5.1.0.1')")
    jobs = [
        {"table": "spoilt", "raw": "ip", "becomes": "hash", "unreadable": "keep", "geo": "place"},
        {"table": "beside", "raw": "ip", "becomes": "hash", "into": "hashed", "geo": "place"},
        {"table": "keyed", "raw": "ip", "becomes": "hash", "into": "hashed", "geo": {"region": '"town"', "country_code": '"land"'}},
    ]  # fmt: skip
    other = operator.having(plan=str(rewritten.plan_file(folder, *jobs)))
    said = rewritten.run(other, "--quiet").out
    assert said.count("0 rows have the place of the address, 1 kept their own, 0 have none") == 2
    assert "1 row has the place of the address, 1 kept their own, 0 have none" in said
    assert "keyed (land, town) without" not in said  # a city, which is no column of its own
    assert "keyed (town, land) without" not in said
    places = "select convert_to(place ->> 'city', 'WIN1252')::text from public.{}"
    assert (
        query(operator.url, places.format("spoilt"))
        == query(operator.url, places.format("beside"))
        == [("\\x81",)]
    )
    found = {
        one["table"]: one["counts"]
        for one in json.loads(other.types("verify", "--format", "json").out)["tables"]
    }
    assert [found[name]["geo"] for name in ("spoilt", "beside", "keyed")] == [1, 1, 2]
    assert [found[name]["own_place_kept"] for name in ("beside", "keyed")] == [1, 1]
