"""The canonical form agrees with ``host(inet)``, except where docs/addresses.md says so.

Texts go to the server in batches, as an array: asking for one text at a time would spend the whole
test on round trips.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import psycopg2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill.addresses import Reason, canonical_text, canonicalise
from tests.databases import connect

DOCUMENT = Path(__file__).parents[2] / "docs" / "addresses.md"
BATCH = 50  # texts an example

# pg_input_is_valid exists from 16 on only, so the server is taught to say "no" instead of failing.
HOST_OR_NULL = """
    create function pg_temp.host_or_null(spelled text) returns text language plpgsql as $$
    begin
        return host(spelled::inet);
    exception when invalid_text_representation then
        return null;
    end $$
"""

plain_v6 = st.ip_addresses(v=6)
sparse_v6 = st.lists(st.sampled_from([0, 0, 0, 1, 0xFFFF, 0x0DB8]), min_size=8, max_size=8).map(
    lambda groups: IPv6Address(sum(group << 16 * place for place, group in enumerate(groups)))
)
special_v6 = st.builds(
    lambda high, low: IPv6Address((high << 32) + low), st.sampled_from([0, 0xFFFF]), st.integers(0, 2**32 - 1)
)
addresses = st.one_of(st.ip_addresses(v=4), plain_v6, sparse_v6, special_v6)
spellings = st.one_of(
    addresses.map(str),
    addresses.map(lambda address: address.exploded),
    addresses.map(lambda address: str(address).upper()),
    addresses.map(lambda address: f"{address}/{address.max_prefixlen}"),
    st.ip_addresses(v=4).map(lambda address: f"::ffff:{address}"),
    st.ip_addresses(v=4).map(lambda address: f"::{address}"),
    st.builds(lambda address, length: f"{address}/{length}", addresses, st.integers(0, 130)),
    st.lists(st.integers(0, 300).map(lambda number: f"{number:03}"), min_size=4, max_size=4).map(".".join),
    st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,2}/[0-9]{1,2}", fullmatch=True),
    st.text("0123456789abcfF.:/", max_size=40),
)


@pytest.fixture
def connection(database: str) -> Iterator[psycopg2.extensions.connection]:
    connection = connect(database, autocommit=False)
    try:
        with connection.cursor() as cursor:
            cursor.execute(HOST_OR_NULL)
        yield connection
    finally:
        connection.close()


def hosts(connection: psycopg2.extensions.connection, texts: list[str]) -> list[str | None]:
    """What ``host(text::inet)`` makes of each text; None where the server rejects it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select pg_temp.host_or_null(spelled) from unnest(%s::text[]) with ordinality as given(spelled, place)"
            " order by place",
            (texts,),
        )
        return [row[0] for row in cursor]


def expected(host: str) -> str:
    """*host* under the documented exceptions: mapped becomes IPv4, compatible loses its dotted tail."""
    if "." in host and ":" in host:
        tail = IPv4Address(host.rpartition(":")[2])
        return str(tail) if host.startswith("::ffff:") else canonical_text(IPv6Address(int(tail)))
    return host


@settings(
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(texts=st.lists(spellings, min_size=1, max_size=BATCH))
def test_where_both_accept_a_text_they_agree_on_it(
    connection: psycopg2.extensions.connection, texts: list[str]
) -> None:
    for text, host in zip(texts, hosts(connection, texts), strict=True):
        found = canonicalise(text)
        if not isinstance(found, Reason):
            assert host is not None, f"we accept {text!r}, the server does not"
            assert canonical_text(found) == expected(host)
        elif host is not None:
            # The server reads on where we do not guess: padding as decimal, a suffix as one to leave out.
            assert found in (Reason.ZERO_PADDED, Reason.NETWORK), text


@settings(
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(some=st.lists(addresses, min_size=1, max_size=BATCH))
def test_our_form_is_one_the_server_reads_back_as_the_same_address(
    connection: psycopg2.extensions.connection, some: list[IPv4Address | IPv6Address]
) -> None:
    canonical = [canonicalise(str(address)) for address in some]
    texts = [canonical_text(found) for found in canonical if not isinstance(found, Reason)]
    assert len(texts) == len(some)
    again = [canonicalise(host or "") for host in hosts(connection, texts)]
    assert again == canonical


def test_the_documented_differences_are_the_server_s(connection: psycopg2.extensions.connection) -> None:
    section = DOCUMENT.read_text(encoding="utf-8").split("## How it differs from `host(inet)`")[1]
    rows = [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("| `")
    ]
    assert rows
    assert hosts(connection, [row[0] for row in rows]) == [row[2] for row in rows]
