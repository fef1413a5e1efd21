"""Upsert and ban check by hash, on PyPI's tables: every release beside the next, before and after the last drop."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import create_engine, make_url, select, text

from backfill.hashing.salt import Salt
from backfill.web import Client, Key, Pseudonymizer
from examples.application.clients import (
    ban,
    is_banned,
    is_banned_by_address,
    row,
    row_by_address,
    row_by_hash,
)
from examples.application.limiter import Limiter
from examples.application.tables import ip_addresses
from tests.demo_template import SALT

CURRENT = Key("2025", Salt("another salt, of some length", source="test"))
EARLIER = Key("2023", Salt(SALT, source="test"))


def client(address: str, *keys: Key, keep: bool = True, **place: str) -> Client:
    """As the middleware makes it."""
    hashes = Pseudonymizer(*(keys or (EARLIER,))).hashes(address)
    return Client(tuple(hashes.values()), place, address=address if keep else None)


@pytest.fixture
def engine(operator_of):
    engine = create_engine(make_url(operator_of("demo").url).set(drivername="postgresql+psycopg2"))
    yield engine
    engine.dispose()


def stored(connection, key):
    """Hash and place of a row."""
    return connection.execute(select(row.hashed_ip_address, row.geoip_info).where(row.id == key)).one()


def test_every_release_finds_the_row_of_the_other(engine):
    seen = client("198.51.100.77", city="berlin")
    with engine.begin() as connection:
        connection.execute(text("alter table ip_addresses alter ip_address drop not null"))  # 0005a
        first = row_by_address(connection, seen)
        assert row_by_hash(connection, seen) == first
        assert row_by_hash(connection, replace(seen, address=None, place={})) == first
        assert stored(connection, first) == (seen.hash, {"city": "berlin"})  # no place is no news
        moved = replace(seen, place={"city": "paris"})
        assert row_by_hash(connection, moved) == first
        assert stored(connection, first) == (seen.hash, {"city": "paris"})
        second = client("198.51.100.78")
        made = row_by_hash(connection, second)
        assert row_by_address(connection, second) == made


def test_a_row_from_before_the_backfill_gets_its_hash(engine):
    with engine.begin() as connection:
        connection.execute(text("insert into ip_addresses (ip_address) values ('198.51.100.79')"))
        seen = client("198.51.100.79")
        assert stored(connection, row_by_hash(connection, seen)).hashed_ip_address == seen.hash


def test_a_ban_holds_for_every_release_and_key_id(engine):
    seen = client("198.51.100.80")
    with engine.begin() as connection:
        assert not is_banned(connection, seen)
        ban(connection, seen)
        ban(connection, seen)  # twice is once
        assert is_banned(connection, seen)
        assert is_banned_by_address(connection, seen)
        assert is_banned(connection, client("198.51.100.80", CURRENT, EARLIER, keep=False))
        assert not is_banned(
            connection, client("198.51.100.80", CURRENT, keep=False)
        )  # its salt is not there
        assert not is_banned(connection, Client())


def test_without_the_address_column_everything_goes_by_hash(engine):
    seen = client("198.51.100.81", keep=False)
    with engine.begin() as connection:
        ban(connection, client("198.51.100.81"))
        connection.execute(text("alter table ip_addresses drop column ip_address"))
        assert is_banned(connection, seen)
        assert row_by_hash(connection, seen) == row_by_hash(connection, seen)
        ban(connection, client("198.51.100.82", keep=False))  # never seen
        assert is_banned(connection, client("198.51.100.82", keep=False))


@pytest.mark.parametrize("other", [row_by_hash, row_by_address])
def test_two_requests_of_a_new_client_at_once_make_one_row(engine, other):
    seen = client("198.51.100.83")
    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as connection:
            first = other(connection, seen)

            def second():
                with engine.begin() as connection:
                    return row_by_hash(connection, seen)

            waiting = pool.submit(second)  # for the end of our transaction
        assert waiting.result(timeout=30) == first
    with engine.connect() as connection:
        hashes = select(ip_addresses.c.id).where(row.hashed_ip_address == seen.hash)
        assert connection.scalars(hashes).all() == [first]


def test_a_limiter_counts_by_hash_and_keeps_no_address():
    limiter = Limiter("2/hour")
    one, other = client("198.51.100.84"), client("198.51.100.85")
    assert [limiter.admits(one, "login") for _ in range(3)] == [True, True, False]
    assert limiter.admits(other, "login")
    assert [limiter.admits(Client(), "login") for _ in range(3)] == [True, True, False]
    assert any(one.hash in key for key in limiter.storage.storage)
    assert not [key for key in limiter.storage.storage if "198.51.100" in key]
