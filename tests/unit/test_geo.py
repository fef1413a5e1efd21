"""City records of every degree of completeness, and every kind of bad file."""

import os
from datetime import UTC, datetime
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from random import Random
from typing import Any

import maxminddb
import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from backfill.addresses import Kind, Reason, canonicalise, classify
from backfill.errors import GeoFileUnusable
from backfill.geo.city import bundled_geo_path, eight_fields
from backfill.geo.source import KEYS
from backfill.geo.sources import open_geo
from backfill.plan import GeoKey

FULL: dict[str, Any] = {
    "city": {"geoname_id": 5392171, "names": {"de": "San José", "en": "San Jose"}},
    "continent": {"code": "NA", "geoname_id": 6255149, "names": {"en": "North America"}},
    "country": {"geoname_id": 6252001, "iso_code": "US", "names": {"de": "USA", "en": "United States"}},
    "location": {
        "accuracy_radius": 20,
        "latitude": 37.3388,
        "longitude": -121.8914,
        "time_zone": "US/Pacific",
    },
    "postal": {"code": "95141"},
    "registered_country": {"iso_code": "CA", "names": {"en": "Canada"}},
    "represented_country": {"iso_code": "DE", "names": {"en": "Germany"}, "type": "military"},
    "subdivisions": [
        {"iso_code": "CA", "names": {"en": "California"}},
        {"iso_code": "SC", "names": {"en": "Santa Clara"}},
    ],
    "traits": {"is_anonymous_proxy": True},
}
FULL_GEO = {
    "city": "San Jose",
    "continent_code": "NA",
    "country_code3": "USA",
    "country_code": "US",
    "country_name": "United States",
    "region": "CA",
    "latitude": 37.3388,
    "longitude": -121.8914,
}
CONTINENT = {"continent": {"code": "EU"}, "location": {"latitude": 47.0, "longitude": 8.0}}
CONTINENT_GEO = {"continent_code": "EU", "latitude": 47.0, "longitude": 8.0}
RECORDS: dict[str, dict[str, Any]] = {
    "1.2.3.0/24": FULL,
    "1.2.4.0/24": CONTINENT,
    "1.2.5.0/24": {"registered_country": {"iso_code": "FR", "names": {"en": "France"}}},
    "10.0.0.0/8": FULL,
    "192.0.2.0/24": FULL,
    "2a00:1450::/32": FULL,
    "fd00::/8": FULL,
}


def write_database(
    path: Path, records: dict[str, dict[str, Any]], kind: str = "GeoLite2-City", ip_version: int = 6
) -> Path:
    writer = MMDBWriter(
        ip_version, database_type=kind, languages=["en"], ipv4_compatible=ip_version == 6, float_type="f64"
    )
    for network, record in records.items():
        writer.insert_network(IPSet([network]), record)
    writer.to_db_file(str(path))
    return path


@pytest.fixture(scope="module")
def city_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_database(tmp_path_factory.mktemp("geo") / "city.mmdb", RECORDS)


@pytest.fixture(scope="module")
def bundled_file() -> Path:
    path = bundled_geo_path()
    assert path is not None, "the demo extra brings it"
    return path


def test_a_full_record_becomes_the_eight_keys_in_order() -> None:
    found = eight_fields(FULL)
    assert found == FULL_GEO
    assert tuple(found) == KEYS


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({}, None),
        ({"registered_country": {"iso_code": "FR"}}, None),
        ({"country": {}}, None),
        ({"city": {"names": {"de": "Genf"}}}, None),
        ({"city": {"names": {"en": ""}}}, None),
        (CONTINENT, CONTINENT_GEO),
        ({"country": {"iso_code": "CH"}}, {"country_code": "CH", "country_code3": "CHE"}),
        ({"country": {"iso_code": "XK"}}, {"country_code": "XK", "country_code3": "XKX"}),
        ({"country": {"iso_code": "ZZ"}}, {"country_code": "ZZ"}),
        ({"country": {"names": {"en": "Nowhere"}}}, {"country_name": "Nowhere"}),
        ({"location": {"latitude": 0, "longitude": 0.0}}, {"latitude": 0.0, "longitude": 0.0}),
        ({"location": {"time_zone": "Europe/Zurich"}}, None),
        ({"subdivisions": []}, None),
        ({"subdivisions": [{"names": {"en": "Vaud"}}]}, None),
        ({"subdivisions": [{"iso_code": "VD"}]}, {"region": "VD"}),
        # the flat records of other publishers: recognised as nothing, not as an error
        ({"country_code": "CH", "city": "Geneva", "latitude": 46.2, "longitude": 6.1}, None),
        ({"city": None, "country": "CH", "subdivisions": ["GE"], "location": [1, 2]}, None),
        ({"location": {"latitude": "46.2", "longitude": True}}, None),
    ],
)
def test_what_a_record_lacks_the_result_lacks(
    record: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    assert eight_fields(record) == expected


def test_a_database_answers_texts_and_addresses(city_file: Path) -> None:
    with open_geo(city_file) as geo:
        assert geo.lookup("1.2.3.4") == geo.lookup(ip_address("1.2.3.4")) == FULL_GEO
        assert geo.lookup(" [::ffff:1.2.3.4]:80 ") == FULL_GEO
        assert geo.lookup("2A00:1450::1") == FULL_GEO
        assert geo.lookup("1.2.4.1") == CONTINENT_GEO


@pytest.mark.parametrize(
    "text", ["2001:0:102:304::1", "2002:102:304::1", "64:ff9b::102:304", "64:ff9b:1::102:304"]
)
def test_an_address_out_of_a_tunnel_has_no_place(tmp_path: Path, text: str) -> None:
    tunnels = {"2001::/32": FULL, "2002::/16": FULL, "64:ff9b::/32": FULL}
    with open_geo(write_database(tmp_path / "city.mmdb", RECORDS | tunnels)) as geo:
        assert geo.lookup(text) is None
        assert not geo.knows(ip_address(text))


def test_only_the_keys_that_the_plan_names_are_answered(city_file: Path) -> None:
    with open_geo(city_file, (GeoKey.REGION, GeoKey.CITY)) as geo:
        assert geo.lookup("1.2.3.4") == {key: FULL_GEO[key] for key in ("city", "region")}
        assert geo.lookup("1.2.4.1") is None  # a continent alone
        assert not geo.knows(ip_address("1.2.4.1"))
    with open_geo(city_file, (GeoKey.COUNTRY_CODE,)) as geo:
        assert geo.knows(ip_address("1.2.3.4"))


@pytest.mark.parametrize("text", ["9.9.9.9", "2600::1", "1.2.5.1", "unknown", "", "1.2.3.0/24"])
def test_absent_records_and_texts_that_are_no_address_are_none(city_file: Path, text: str) -> None:
    with open_geo(city_file) as geo:
        assert geo.lookup(text) is None


@pytest.mark.parametrize("text", ["10.1.2.3", "192.0.2.69", "fd00::1", "127.0.0.1", "::1"])
def test_what_is_not_public_has_no_place_even_where_the_file_says_so(city_file: Path, text: str) -> None:
    address = canonicalise(text)
    assert not isinstance(address, Reason)
    assert classify(address) is not Kind.PUBLIC
    with open_geo(city_file) as geo:
        assert geo.lookup(text) is None


def test_provenance_says_which_database_it_was(bundled_file: Path) -> None:
    with open_geo(bundled_file) as geo:
        assert geo.provenance.path == bundled_file
        assert geo.provenance.database_type == "GeoLite2-City"
        assert geo.provenance.build == datetime(2019, 12, 24, 17, 41, 41, tzinfo=UTC)


def test_the_bundled_database_knows_an_address(bundled_file: Path) -> None:
    with open_geo(bundled_file) as geo:
        assert geo.lookup("81.2.69.160") == {
            "city": "Gamlingay",
            "continent_code": "EU",
            "country_code3": "GBR",
            "country_code": "GB",
            "country_name": "United Kingdom",
            "region": "ENG",
            "latitude": 52.1398,
            "longitude": -0.2399,
        }


def test_the_bundled_database_gives_no_other_key_and_no_null(bundled_file: Path) -> None:
    with open_geo(bundled_file) as geo:
        for first in range(1, 224):
            found = geo.lookup(f"{first}.{first}.{first}.1") or {}
            assert set(found) <= set(KEYS)
            assert all(isinstance(value, str | float) for value in found.values())


@pytest.mark.parametrize("kind", ["GeoIP2-City", "GeoIP2-City-North-America", "DBIP-City-Lite"])
def test_other_city_databases_open(tmp_path: Path, kind: str) -> None:
    with open_geo(write_database(tmp_path / "city.mmdb", RECORDS, kind)) as geo:
        assert geo.provenance.database_type == kind
        assert geo.lookup("1.2.3.4") == FULL_GEO


def test_one_address_by_geoip2_is_what_a_run_reads_for_all(bundled_file: Path, tmp_path: Path) -> None:
    random = Random(1)
    texts = [str(IPv4Address(random.randrange(2**32))) for _ in range(2_000)]
    texts += [f"2{random.randrange(4096):03x}:{random.randrange(65536):x}::1" for _ in range(2_000)]
    with open_geo(bundled_file) as geo:
        both = [(geo.lookup(text), geo.look(ip_address(text))[0]) for text in texts]
    assert [one for one, _ in both] == [every for _, every in both]
    assert sum(one is not None for one, _ in both) > 1_000


# What other publishers write: their records are MaxMind's in part, or not at all.
ODD: list[dict[str, Any]] = [
    {"country_code": "CH", "city": "Geneva"},
    {"city": "Geneva", "country": {"iso_code": "CH"}},
    {"country": "CH", "continent": {"code": "EU"}},
    {"subdivisions": ["GE"], "country": {"iso_code": "CH"}},
    {"subdivisions": {"iso_code": "GE"}, "country": {"iso_code": "CH"}},
    {"location": [1, 2], "country": {"iso_code": "CH"}},
    {"location": {"latitude": "46.2", "longitude": 6.1, "altitude": 375}},
    {"country": {"iso_code": 41, "names": {"en": "Switzerland"}}},
    {"city": {"names": "Geneva"}, "country": {"iso_code": "CH"}},
    {"city": {"names": {"de": "Genf"}}, "country": {"iso_code": "CH", "names": {"en": ""}}},
    {"names": {"en": "x"}, "locales": ["de"], "ip_address": "1.1.1.1", "country": {"iso_code": "CH"}},
    {"traits": "none", "country": {"iso_code": "CH"}},
]


def test_records_of_another_shape_are_read_alike(tmp_path: Path) -> None:
    records = {f"1.2.{number}.0/24": record for number, record in enumerate(ODD)}
    with open_geo(write_database(tmp_path / "odd.mmdb", records)) as geo:
        for number, record in enumerate(ODD):
            address = ip_address(f"1.2.{number}.1")
            assert geo.lookup(address) == geo.look(address)[0] == eight_fields(record), record


def test_a_file_that_is_replaced_while_it_is_opened_is_not_read_twice(
    city_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "city.mmdb"
    path.write_bytes(city_file.read_bytes())
    newer = write_database(tmp_path / "newer.mmdb", RECORDS | {"9.9.9.0/24": FULL})
    opens = maxminddb.open_database

    def opened(*words: Any) -> Any:
        reader = opens(*words)
        if newer.exists():
            newer.replace(path)  # as geoipupdate does
        return reader

    monkeypatch.setattr(maxminddb, "open_database", opened)
    refused(path, "replaced while it was opened")


def test_a_database_of_ipv4_only_answers_none_for_ipv6(tmp_path: Path) -> None:
    path = write_database(tmp_path / "city.mmdb", {"1.2.3.0/24": FULL}, ip_version=4)
    with open_geo(path) as geo:
        assert geo.lookup("2a00:1450::1") is None
        assert geo.lookup("1.2.3.4") == FULL_GEO


def damaged(content: bytes) -> bytes:
    """The data section overwritten, index and metadata intact."""
    first, last = int(len(content) * 0.7), int(len(content) * 0.95)
    return content[:first] + b"\xff" * (last - first) + content[last:]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (lambda whole: b"", "not a complete MaxMind database"),
        (lambda whole: b"<!doctype html>" * 1000, "not a complete MaxMind database"),
        (lambda whole: whole[: len(whole) // 2], "not a complete MaxMind database"),
        (lambda whole: whole[:-100], "not a complete MaxMind database"),
        (lambda whole: whole[len(whole) // 2 :], "damaged"),
        (damaged, "damaged"),
    ],
    ids=["empty", "a web page", "half", "the end cut off", "the beginning cut off", "damaged inside"],
)
def test_a_bad_file_is_refused_when_it_is_opened(
    tmp_path: Path, bundled_file: Path, content, problem
) -> None:
    path = tmp_path / "bad.mmdb"
    path.write_bytes(content(bundled_file.read_bytes()))
    refused(path, problem)


def test_a_file_of_another_type_is_refused(tmp_path: Path) -> None:
    refused(write_database(tmp_path / "c.mmdb", {}, "GeoLite2-Country"), "'GeoLite2-Country', not City")
    refused(
        write_database(tmp_path / "a.mmdb", {"1.2.3.0/24": {"autonomous_system_number": 1}}, "GeoLite2-ASN"),
        "ASN",
    )


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "missing.mmdb", "No such file")
    refused(tmp_path, "not a file")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "not a file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_is_refused(city_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "forbidden.mmdb"
    path.write_bytes(city_file.read_bytes())
    path.chmod(0)
    refused(path, "Permission denied")


def refused(path: Path, problem: str) -> None:
    with pytest.raises(GeoFileUnusable) as caught:
        open_geo(path)
    message = str(caught.value)
    assert problem in message
    assert str(path) in message
    assert "\n" not in message


def test_closing_twice_does_nothing(city_file: Path) -> None:
    geo = open_geo(city_file)
    geo.close()
    geo.close()


def test_an_address_is_known_exactly_when_a_lookup_finds_something(tmp_path: Path) -> None:
    path = tmp_path / "city.mmdb"
    sparse = {
        "1.2.6.0/24": {"city": {"names": {"en": "Nowhere"}}},
        "1.2.7.0/24": {"location": {"latitude": "?"}},
    }
    write_database(path, RECORDS | sparse)
    with open_geo(path) as geo:
        texts = (
            "1.2.3.4",
            "1.2.4.4",
            "1.2.5.4",
            "1.2.6.4",
            "1.2.7.4",
            "9.9.9.9",
            "10.1.1.1",
            "192.0.2.1",
            "2a00:1450::1",
            "fd00::1",
        )
        found = {text: geo.knows(ip_address(text)) for text in texts}
        assert found == {text: geo.lookup(text) is not None for text in texts}
        assert set(found.values()) == {True, False}
