"""A verification that was ended goes on at its place, unless something that matters has changed."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import make_url

from backfill.database.connection import make_engine
from backfill.errors import TableRewritten
from backfill.geo.geo_database import GeoDatabase
from backfill.geo.sources import open_geo
from backfill.hashing.salt import Salt
from backfill.hashing.sha256 import SHA256_SUFFIX
from backfill.ledger.coverage_record import CoverageRecord
from backfill.ledger.verification_ranges import RangeCounts
from backfill.plan import PYPI
from backfill.verify.addresses import AddressVerifier
from backfill.verify.events import EventVerifier
from backfill.verify.verifier import Verifier
from tests.databases import query
from tests.demo_template import GEO_PATH, SALT, TABLES
from tests.operator import Operator


@pytest.fixture
def geo() -> Iterator[GeoDatabase]:
    assert GEO_PATH
    with open_geo(GEO_PATH, PYPI.geo.keys) as opened:
        yield opened


@contextmanager
def verifier(operator: Operator, geo: GeoDatabase, said: list[str], **options: Any) -> Iterator[Verifier]:
    """One with ranges of two blocks: dozens of them in a small database."""
    url = make_url(operator.url).set(drivername="postgresql+psycopg2")
    engine = make_engine(url, ledger_schema="backfill")
    try:
        yield Verifier(
            engine=engine,
            schema="backfill",
            plan=PYPI,
            fingerprint=PYPI.fingerprint("default"),
            hasher=Salt(SALT, source="test").hasher(SHA256_SUFFIX.name),
            geo=geo,
            tell=said.append,
            blocks=2,
            **options,
        )
    finally:
        engine.dispose()


def end_after(monkeypatch: pytest.MonkeyPatch, ranges: int) -> None:
    """The process ends in the middle of the range after so many."""
    read, seen = EventVerifier.read, []

    def ending(*words: Any, **options: Any) -> RangeCounts:
        seen.append(1)
        if len(seen) > ranges:
            raise KeyboardInterrupt
        return read(*words, **options)

    monkeypatch.setattr(EventVerifier, "read", ending)


def interrupted(operator: Operator, geo: GeoDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        end_after(patched, 5)
        with verifier(operator, geo, [], workers=1) as ended, pytest.raises(KeyboardInterrupt):
            ended.verify()


def facts(records: list[CoverageRecord]) -> list[tuple[Any, ...]]:
    return [
        (
            r.table,
            r.covered,
            dict(r.counts),
            dict(r.quarantined),
            r.newest_raw,
            r.evidence.other_spellings,
            r.evidence.hash_checksum,
        )
        for r in records
    ]


def test_it_goes_on_at_its_place_and_finds_the_same(
    finished_run: Operator, geo: GeoDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with verifier(finished_run, geo, []) as undisturbed:
        expected = facts(undisturbed.verify())
    interrupted(finished_run, geo, monkeypatch)
    done = query(finished_run.url, "select count(*) from backfill.verification_ranges where counts is not null and job <> 'public.ip_addresses.ip_address'")  # fmt: skip
    assert done == [(5,)]
    assert query(finished_run.url, "select count(*) from backfill.coverage") == [(7,)]
    said: list[str] = []
    with verifier(finished_run, geo, said) as again:
        assert facts(again.verify()) == expected
    assert said[0].startswith("Going on with verification")
    assert query(finished_run.url, "select status from backfill.verifications order by id") == [
        ("done",),
        ("done",),
    ]
    assert query(finished_run.url, "select count(*) from backfill.verification_ranges") == [(0,)]
    assert query(finished_run.url, "select count(*) from backfill.verification_addresses") == [(0,)]


CHANGES: list[Callable[[Operator], Any]] = [
    lambda operator: operator.types("run", "--quiet"),
    lambda operator: operator.types("addresses", "merge", "--count", 1),
    lambda operator: query(operator.url, "cluster user_events using user_events_pkey"),
    lambda operator: query(
        operator.url, "update backfill.verifications set started = started - interval '25 hours'"
    ),
]


@pytest.mark.parametrize("change", CHANGES, ids=["run", "merge", "rewrite", "a day"])
def test_it_begins_anew_when_something_that_matters_has_changed(
    finished_run: Operator,
    geo: GeoDatabase,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Operator], Any],
) -> None:
    interrupted(finished_run, geo, monkeypatch)
    change(finished_run)
    said: list[str] = []
    with verifier(finished_run, geo, said) as again:
        again.verify()
    assert not any("Going on" in line for line in said)
    assert query(finished_run.url, "select status from backfill.verifications order by id") == [("abandoned",), ("done",)]  # fmt: skip


def test_a_table_that_is_rewritten_meanwhile_is_not_called_covered(
    settled_run: Operator, geo: GeoDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, seen = EventVerifier.read, []

    def rewriting(self: EventVerifier, *words: Any, **options: Any) -> RangeCounts:
        if not seen:
            seen.append(1)
            query(settled_run.url, "cluster project_events using project_events_pkey")
        return read(self, *words, **options)

    monkeypatch.setattr(EventVerifier, "read", rewriting)
    with (
        verifier(settled_run, geo, [], workers=1) as one,
        pytest.raises(TableRewritten, match="project_events"),
    ):
        one.verify()
    assert query(settled_run.url, "select count(*) from backfill.coverage") == [(0,)]


def test_an_address_row_that_changes_after_it_was_read_is_judged_again(
    settled_run: Operator, geo: GeoDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, seen = EventVerifier.read, []

    def spoiling(self: EventVerifier, *words: Any, **options: Any) -> RangeCounts:
        if not seen:
            seen.append(1)
            query(settled_run.url, "insert into ip_addresses (ip_address, hashed_ip_address) values ('198.51.100.201', repeat('0', 64))")  # fmt: skip
        return read(self, *words, **options)

    monkeypatch.setattr(EventVerifier, "read", spoiling)
    with verifier(settled_run, geo, [], workers=1) as one:
        records = {record.table: record for record in one.verify()}
    assert records["ip_addresses"].counts["hash_wrong"] == 1
    assert not records["ip_addresses"].covered


def test_events_that_were_read_before_a_hash_turned_out_amiss_are_read_again(
    settled_run: Operator, geo: GeoDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((key, events),) = query(
        settled_run.url,
        """select ip.id, count(*) from ip_addresses ip join user_events e on e.ip_address_id = ip.id
            where e.ip_address_string is not null group by 1 order by 2 desc limit 1""",
    )
    query(
        settled_run.url, "update ip_addresses set hashed_ip_address = repeat('0', 64) where id = %s", str(key)
    )
    read_events, read_addresses, some_read = EventVerifier.read, AddressVerifier.read, threading.Event()
    told: list[bool] = []

    def reading_events(self: EventVerifier, *words: Any, **options: Any) -> RangeCounts:
        told.append(options["hashes_amiss"])
        counts = read_events(self, *words, **options)
        some_read.set()
        return counts

    def reading_addresses(self: AddressVerifier, *words: Any) -> RangeCounts:
        assert some_read.wait(60)
        return read_addresses(self, *words)

    monkeypatch.setattr(EventVerifier, "read", reading_events)
    monkeypatch.setattr(AddressVerifier, "read", reading_addresses)
    with verifier(settled_run, geo, []) as one:
        records = {record.table: record for record in one.verify()}
    assert told[0] is False
    assert told[-1] is True
    assert records["ip_addresses"].counts["hash_wrong"] == 1
    assert records["user_events"].counts["hash_wrong"] == events
    total = sum(records[name].counts["rows"] for name in TABLES)
    assert total == sum(query(settled_run.url, f"select count(*) from {name}")[0][0] for name in TABLES)


def test_connections_make_no_difference_to_what_is_found(finished_run: Operator, geo: GeoDatabase) -> None:
    found = []
    for workers in (1, 4):
        with verifier(finished_run, geo, [], workers=workers) as one:
            found.append(facts(one.verify()))
    assert found[0] == found[1]
