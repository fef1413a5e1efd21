"""The parts of the demo that need no database."""

from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import islice
from random import Random
from uuid import UUID

import pytest

from backfill.addresses import Reason, canonical_text, canonicalise
from backfill.database import binary_copy
from backfill.plan import EVENT_TABLES as PLANNED
from backfill.pypi.demo import words
from backfill.pypi.demo.clock import generator, moment, new_uuid
from backfill.pypi.demo.extras import EVENT_TABLES, close_document, shares
from backfill.pypi.demo.pool import MIN_ADDRESSES, Pool
from backfill.pypi.demo.population import normalized
from backfill.pypi.demo.specials import LIVE_ZONE, OLD_ZONE, Long, Twin, place
from backfill.pypi.demo.spellings import LONG_TEXT_BYTES, MALFORMED, ODD, Malformed, Odd, long_text

V4, V6 = "198.51.100.7", "2001:db8::ab:1"


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.kind)
def test_an_odd_spelling_still_means_the_address(odd: Odd) -> None:
    address = V4 if odd.version == 4 else V6
    spelled = odd.write(address)
    assert spelled != address
    assert canonicalise(spelled) == ip_address(address)


@pytest.mark.parametrize("malformed", MALFORMED, ids=lambda malformed: malformed.kind)
def test_a_malformed_text_means_none(malformed: Malformed) -> None:
    for seed in range(50):
        text = malformed.write(Random(seed), V4, V6)
        assert isinstance(canonicalise(text), Reason)
        assert "\0" not in text  # PostgreSQL could not store it


def test_the_long_text_is_as_long_as_it_says() -> None:
    assert len(long_text(V4, V6).encode()) == LONG_TEXT_BYTES


def test_fields_are_a_length_and_a_value() -> None:
    assert binary_copy.text("é") == b"\0\0\0\2\xc3\xa9"
    assert binary_copy.text("") == b"\0\0\0\0"
    assert binary_copy.jsonb(b"{}") == b"\0\0\0\3\1{}"
    assert binary_copy.integer(-1) == b"\0\0\0\4\xff\xff\xff\xff"
    assert binary_copy.timestamp(1) == b"\0\0\0\x08" + bytes(7) + b"\1"
    assert (
        binary_copy.row(binary_copy.NULL, binary_copy.TRUE) == b"\0\2" + b"\xff\xff\xff\xff" + b"\0\0\0\1\1"
    )


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_stream_is_the_same_bytes_however_it_is_read(size: int) -> None:
    rows = [binary_copy.row(binary_copy.integer(number)) for number in range(100)]
    stream = binary_copy.Stream(rows)
    chunks = list(iter(lambda: stream.read(size), b""))
    assert b"".join(chunks) == binary_copy.SIGNATURE + b"".join(rows) + binary_copy.TRAILER
    assert max(map(len, chunks)) <= size
    assert stream.count == 100


def test_uuids_are_version_4_and_time_goes_on() -> None:
    made = UUID(bytes=new_uuid(generator(1, "x")))
    assert made.version == 4
    assert made.bytes == new_uuid(generator(1, "x")) != new_uuid(generator(1, "y"))
    assert moment(0) < moment(0.1) < moment(1)


@pytest.mark.parametrize("events", [1, 19, 1_000, 200_000])
def test_shares_add_up(events: int) -> None:
    assert sum(shares(events).values()) == events
    assert tuple(shares(events)) == PLANNED


@pytest.mark.parametrize("rows", [600, 120_000])
def test_every_kind_has_its_place(rows: int) -> None:
    placed = place(rows, every_kind=True, rng=Random(1))
    for what in (*MALFORMED, *ODD, *Twin, Long.TEXT):
        assert any(special.what == what for special in placed.values()), what
    for malformed in MALFORMED:
        assert {special.live for special in placed.values() if special.what == malformed} == {True, False}
    for row, special in placed.items():
        first, last = LIVE_ZONE if special.live else OLD_ZONE
        assert first * rows <= row < last * rows
    if rows > 100_000:
        assert sum(special.what in MALFORMED for special in placed.values()) == 120


def test_a_table_too_small_for_specials_has_none() -> None:
    assert place(0, every_kind=True, rng=Random(1)) == {}


def test_a_pool_ends_even_when_nothing_resolves() -> None:
    pool = Pool(100, lambda address: None, Random(1))
    assert pool.size >= MIN_ADDRESSES
    assert len(set(pool.texts)) == len(pool.texts) == len(pool.ids) == len(pool.raws)
    assert not any(pool.geos)
    assert all(canonical_text(ip_address(text)) == text for text in pool.texts)


def test_a_pool_gives_the_family_asked_for() -> None:
    pool = Pool(3_333, lambda address: {"country_code": "NL"}, Random(1))
    rng = Random(2)
    for version, family in ((4, IPv4Address), (6, IPv6Address)):
        for _ in range(1_000):
            assert isinstance(ip_address(pool.texts[pool.pick_version(rng, version)]), family)


def test_names_are_unique() -> None:
    rng = Random(1)
    people = [name for name, _ in islice(words.people(rng), 5_000)]
    projects = [normalized(name) for name in islice(words.projects(rng), 5_000)]
    organizations = [name for name, _ in islice(words.organizations(rng), 5_000)]
    assert [len(set(names)) for names in (people, projects, organizations)] == [5_000] * 3


def test_geo_joins_a_document_whether_or_not_it_is_empty() -> None:
    assert close_document(b"{", None) == binary_copy.jsonb(b"{}")
    assert close_document(b"{", b"{}") == binary_copy.jsonb(b'{"geoip_info": {}}')
    assert close_document(b'{"a": 1', b"{}") == binary_copy.jsonb(b'{"a": 1, "geoip_info": {}}')


def test_each_event_table_has_documents_and_tags() -> None:
    assert all(table.tags and table.objects for table in EVENT_TABLES)
