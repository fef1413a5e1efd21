"""Columns whose values are rewritten in place, judged: rows written by plain SQL, right, wrong, foreign and odd ones."""

import tomllib
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from threading import Event

import pytest
from sqlalchemy import make_url

from backfill.database.connection import make_engine
from backfill.hashing.pseudonym import Pseudonyms
from backfill.hashing.salt import Salt
from backfill.ledger import coverage
from backfill.ledger.counts import IN_PLACE_CLASSES, Count
from backfill.ledger.coverage_record import CoverageRecord, Kind
from backfill.ledger.tables import metadata
from backfill.plan import Plan
from backfill.report.coverage import as_json
from backfill.verify.in_place import InPlaceJudge
from backfill.verify.verifier import Verifier
from tests.databases import Databases, connect, query
from tests.demo_template import SALT, live_hash

OURS = Salt(SALT, source="test").pseudonyms(0x4A)
MADE = OURS.pseudonym("1.2.3.4")
FOREIGN = f"{MADE[:-1]}{'0' if MADE[-1] != '0' else '1'}"  # a bit of the tag is wrong
LIST = "1.2.3.4, 10.0.0.1"


class Young(str):
    """A value with a time of its own."""

    def __new__(cls, text: str, at: str | None = "now") -> "Young":
        made = super().__new__(cls, text)
        made.at = at
        return made


# Column, its type, the job's keys, and by class the values that are in it. No value is in two columns by chance:
# what a text becomes, its column says.
COLUMNS = {
    "as_text": (
        "text",
        'becomes = "pseudonym"\nunreadable = "refuse"\ntime = "at"',
        {
            Count.NO_ADDRESS: [None],
            Count.IN_FORM: [MADE, OURS.pseudonym("2001:db8::1"), MADE, f"{MADE[:4].upper()}{MADE[4:]}"],
            Count.FOREIGN_PREFIX: [FOREIGN, "fd4a::1"],
            Count.STILL_RAW: ["1.2.3.4", "fd4b::1", " 5.6.7.8 ", "::ffff:1.2.3.4"],
            Count.QUARANTINED: [LIST, "fd4a:junk", "fd4a::1, 1.2.3.4", "10.0.0.0/8", "x" * 3_000, live_hash("a")],
        },
    ),
    "as_inet": (
        "public.ip",  # a domain over inet
        'becomes = "pseudonym"\nunreadable = "keep"',
        {
            Count.NO_ADDRESS: [None, None],
            Count.IN_FORM: [MADE],
            Count.FOREIGN_PREFIX: [FOREIGN],
            Count.STILL_RAW: ["1.2.3.4", "::ffff:1.2.3.4"],
            Count.KEPT_UNREADABLE: ["10.0.0.0/8", "fd4a::/16"],
        },
    ),
    "hashed": (
        "varchar(64)",
        'becomes = "hash"\nunreadable = "keep"',
        {
            Count.IN_FORM: [live_hash("1.2.3.4"), "0" * 64],
            Count.STILL_RAW: ["1.2.3.4"],
            Count.KEPT_UNREADABLE: [live_hash("1.2.3.4").upper(), "0" * 63, LIST, ""],
        },
    ),
    "cut": (
        "inet",
        'becomes = "network"\nunreadable = "refuse"\nwidths = { v4 = 16, v6 = 104 }',
        {
            Count.IN_FORM: ["1.2.0.0", "2001:db8::", "::", "::1.0.0.0", "::ffff:1.2.0.0"],
            Count.STILL_RAW: ["1.2.3.0", "2001:db8::1", "::1.2.0.0", "::ffff:1.2.3.0"],
            Count.QUARANTINED: ["1.2.0.0/16"],
        },
    ),
    "cut_text": (
        "public.citext",
        'becomes = "network"\nunreadable = "nothing"\nconstant = "gone"',
        {
            Count.IN_FORM: ["1.2.3.0", "2001:DB8:1::", "gone", " 1.2.3.0"],
            Count.STILL_RAW: ["1.2.3.4", "2001:db8:1:2::", "unknown", "GONE", "1.2.3.0/24", "1.2.3.0:8080", "[2001:db8:1::]:443", "fe80::%eth0"],
        },
    ),
    "emptied": (
        "char(40)",
        'becomes = "nothing"\nthen = "keep"\nunreadable = "keep"\nconstant = "0.0.0.0"',
        {
            Count.NO_ADDRESS: [None],
            Count.IN_FORM: ["0.0.0.0"],  # noqa: S104
            Count.STILL_RAW: ["1.2.3.4", "0.0.0.1", MADE],
            Count.KEPT_UNREADABLE: ["unknown"],
        },
    ),
    "aged": (
        "text",
        'becomes = "pseudonym"\nunreadable = "refuse"\ntime = "at"',
        {
            Count.IN_FORM: [MADE],
            Count.NOT_DUE: [Young("1.2.3.4"), Young(FOREIGN), Young(LIST), Young("1.2.3.4", "infinity")],
            Count.WITHOUT_TIME: [Young("1.2.3.4", None)],
            Count.STILL_RAW: ["1.2.3.4"],
            Count.FOREIGN_PREFIX: [FOREIGN],
            Count.QUARANTINED: [LIST],
        },
    ),
    "covered": (
        "text",
        'becomes = "pseudonym"\nunreadable = "keep"',
        {Count.NO_ADDRESS: [None], Count.IN_FORM: [MADE], Count.KEPT_UNREADABLE: [LIST]},
    ),
}  # fmt: skip


def plan_of(columns: dict[str, str]) -> Plan:
    jobs = "".join(f'[[jobs]]\ntable = "{name}"\nraw = "raw"\n{keys}\n' for name, keys in columns.items())
    plan = Plan.model_validate(tomllib.loads(f'name = "in place"\n{jobs}'))
    aged = [
        job.model_copy(update={"after": timedelta(days=365)}) if job.table == "aged" else job
        for job in plan.jobs
    ]
    return plan.model_copy(update={"jobs": tuple(aged)})


def verified(url: str, plan: Plan, pseudonyms: Pseudonyms | None = OURS) -> list[CoverageRecord]:
    engine = make_engine(make_url(url).set(drivername="postgresql+psycopg2"), ledger_schema="backfill")
    try:
        return Verifier(
            engine=engine,
            schema="backfill",
            plan=plan,
            fingerprint=plan.fingerprint("default"),
            hasher=live_hash,
            geo=None,
            tell=lambda line: None,
            blocks=2,
            pseudonyms=pseudonyms,
            workers=2,
        ).verify()
    finally:
        engine.dispose()


@pytest.fixture(scope="module")
def place(databases: Databases) -> Iterator[str]:
    """A table for each column, three times as long as a range, and a ledger."""
    url = databases.create()
    query(
        url, "create extension citext schema public; create domain public.ip as inet; create schema backfill"
    )
    engine = make_engine(make_url(url).set(drivername="postgresql+psycopg2"), ledger_schema="backfill")
    metadata.create_all(engine)
    engine.dispose()
    with closing(connect(url)) as connection, connection.cursor() as cursor:
        for name, (kind, _, values) in COLUMNS.items():
            cursor.execute(
                f"create table public.{name} (id serial primary key, raw {kind}, at timestamptz, filler text)"
            )
            for texts in values.values():
                for text in texts:
                    cursor.execute(
                        f"insert into public.{name} (raw, at, filler) values (%s, %s, repeat('x', 1900))",
                        (None if text is None else str(text), getattr(text, "at", "2024-01-01")),
                    )
    yield url
    databases.drop(url)


@pytest.fixture(scope="module")
def records(place: str) -> dict[str, CoverageRecord]:
    plan = plan_of({name: keys for name, (_, keys, _) in COLUMNS.items()})
    return {record.table: record for record in verified(place, plan)}


@pytest.mark.parametrize("name", COLUMNS)
def test_every_row_is_in_the_class_that_its_value_says(records, name) -> None:
    counts = records[name].counts
    expected = {count: len(texts) for count, texts in COLUMNS[name][2].items()}
    assert {count: counts[count] for count in IN_PLACE_CLASSES if counts[count]} == expected
    assert counts[Count.ROWS] == sum(expected.values())
    assert records[name].kind is Kind.IN_PLACE
    assert records[name].becomes in COLUMNS[name][1]


def test_raw_foreign_and_undecided_values_uncover_and_kept_ones_are_named(records) -> None:
    assert [name for name, record in records.items() if record.covered] == ["covered"]
    assert records["as_text"].reasons == (
        "4 rows hold a raw address: `backfill run`",
        "2 rows hold an address that begins with fd4a: and is no pseudonym of this key: `backfill run` makes pseudonyms of them",
        "6 rows hold a text that is no address: correct them (`backfill quarantine list` has their keys), or set "
        'unreadable = "keep" or "nothing" in the plan, then `backfill run`',
    )
    assert records["as_text"].quarantined == {
        "forwarded-list": 2, "not-an-address": 2, "network": 1, "too-long": 1,
    }  # fmt: skip
    assert records["covered"].notes == (
        "recomputed from the text: 0 of 1, since the text is gone; each distinct pseudonym was recognised by its tag, "
        "which an address that somebody else wrote has once in 4 billion",
        '1 row keeps a text that is no address, as unreadable = "keep" wants, and it may hold a raw address: forwarded-list 1',
    )
    assert records["covered"].raw_rows == 1


def test_the_record_holds_no_address_and_comes_back_as_it_was(records, place) -> None:
    said = str(as_json(list(records.values())))
    assert not [text for text in ("1.2.3.4", "5.6.7.8", MADE, "10.0.0.1") if text in said]
    engine = make_engine(make_url(place).set(drivername="postgresql+psycopg2"), ledger_schema="backfill")
    plan = plan_of({name: keys for name, (_, keys, _) in COLUMNS.items()})
    with engine.connect() as connection:
        for job in plan.jobs:
            record, genuine = coverage.latest(connection, job, plan.fingerprint("default"))
            assert (genuine, record.counts, record.becomes) == (True, records[job.table].counts, job.becomes)
    engine.dispose()


def test_without_a_prefix_nothing_is_a_pseudonym(place) -> None:
    """No run was made: what looks like one is an address."""
    (record,) = verified(place, plan_of({"covered": COLUMNS["covered"][1]}), pseudonyms=None)
    assert not record.covered
    assert record.counts[Count.STILL_RAW] == 1


@pytest.mark.parametrize("value", ["1.2.3.4", MADE])
def test_a_row_that_moves_into_blocks_that_were_read_is_not_passed_over(place, monkeypatch, value) -> None:
    query(
        place,
        f"drop table if exists public.moving; create table public.moving (id serial primary key, raw text, filler text);"
        f"insert into public.moving (filler) select repeat('x', 1900) from generate_series(1, 23);"
        f"insert into public.moving (raw, filler) values ('{value}', repeat('x', 1900));"
        "delete from public.moving where id < 8",
    )
    query(place, "vacuum public.moving")
    where = "select (ctid::text::point)[0]::int from public.moving where raw is not null"
    assert query(place, where) == [(5,)]
    read, moved, places = InPlaceJudge.read, Event(), []

    def reading(judge, connection, span, slot, *, hashes_amiss):
        if span.first > 0:
            moved.wait(30)
        counts = read(judge, connection, span, slot, hashes_amiss=hashes_amiss)
        if span.first == 0 and not moved.is_set():
            query(place, "update public.moving set filler = repeat('y', 1900) where raw is not null")
            places.extend(query(place, where))
            moved.set()
        return counts

    monkeypatch.setattr(InPlaceJudge, "read", reading)
    plan = plan_of({"moving": 'becomes = "pseudonym"\nunreadable = "refuse"'})
    (record,) = verified(place, plan)
    assert places[0][0] < 2  # which were read
    assert record.counts[Count.ROWS] == 16  # it is not among them
    assert record.covered == (value == MADE)
    assert record.covered or record.reasons == (
        "1 row was written while moving was read, and holds no result: `backfill run`",
    )
    query(place, "drop table public.moving")
