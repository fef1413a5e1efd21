"""The canonical form: the table in the documentation, and what holds for every text."""

import re
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.addresses import (
    MAX_LENGTH,
    Address,
    Kind,
    Reason,
    canonical_text,
    canonicalise,
    classify,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "addresses.md"
SIGNS = str.maketrans({"␠": " ", "␤": "\n", "␀": "\0"})

any_address = st.one_of(
    st.ip_addresses(v=4),
    st.ip_addresses(v=6),
    st.integers(0, 2**32 - 1).map(lambda number: IPv6Address((0xFFFF << 32) + number)),
)
ports = st.integers(0, 65535)
white_space = st.text(" \t\r\n\v\f\u00a0\u2003", max_size=4)
zones = st.from_regex(r"[A-Za-z0-9._~-]{1,10}", fullmatch=True)
# What a column of addresses holds is never far from one; arbitrary text seldom gets past the first check.
address_like = st.text("0123456789abcfxABCF.:/%[], -\t\0", max_size=MAX_LENGTH + 2)


def spelling(found: Address | Reason) -> str:
    return found.value if isinstance(found, Reason) else canonical_text(found)


def documented(heading: str) -> list[tuple[str, ...]]:
    section = DOCUMENT.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    return [tuple(cell.strip().strip("`") for cell in row.strip("|").split("|")) for row in rows]


SPELLINGS = documented("What each odd spelling becomes")


@pytest.mark.parametrize(("text", "becomes"), [row[:2] for row in SPELLINGS])
def test_each_odd_spelling_becomes_what_the_documentation_says(text: str, becomes: str) -> None:
    assert spelling(canonicalise(text.translate(SIGNS))) == becomes


def test_the_documentation_has_every_reason_and_an_example_of_it() -> None:
    assert [row[0] for row in documented("Reasons")] == [reason.value for reason in Reason]
    # What cannot be decoded has no spelling, and is told by the server: tests/integration/test_undecodable.py.
    assert {row[1] for row in SPELLINGS} >= {reason.value for reason in Reason} - {Reason.UNDECODABLE.value}


def test_the_documentation_of_the_differences_to_postgresql_is_ours_at_least() -> None:
    for text, canonical, *_ in documented("How it differs from `host(inet)`"):
        assert spelling(canonicalise(text)) == canonical


@given(st.one_of(st.text(st.characters(codec=None, categories=None)), address_like))
def test_no_text_raises_and_every_address_is_its_own_canonical_form(text: str) -> None:
    found = canonicalise(text)
    if isinstance(found, Reason):
        return
    assert canonicalise(canonical_text(found)) == found
    assert re.fullmatch(r"[0-9.]+|[0-9a-f:]+", canonical_text(found))


@pytest.mark.parametrize("text", ["\ud800", "1.2.3.4\udcff", "\0", "\N{ARABIC-INDIC DIGIT ONE}.2.3.4", "²::"])
def test_odd_code_points_are_no_address(text: str) -> None:
    assert isinstance(canonicalise(text), Reason)


@given(
    st.one_of(
        st.text(st.characters(codec=None, categories=None)),
        st.text("0123456789.٣ x+-\0", max_size=16),
        st.lists(st.integers(0, 300).map(str), min_size=3, max_size=5).map(".".join),
    )
)
def test_a_bare_text_is_ipv4_exactly_where_python_says_so(text: str) -> None:
    try:
        expected: IPv4Address | None = IPv4Address(text.strip())
    except ValueError:
        expected = None
    found = canonicalise(text)
    if ":" not in text and "/" not in text:
        assert (None if isinstance(found, Reason) else found) == expected


@given(any_address, white_space, white_space)
def test_white_space_and_case_do_not_matter(address: Address, before: str, after: str) -> None:
    assert canonicalise(f"{before}{str(address).upper()}{after}") == canonicalise(str(address))


@given(any_address, ports)
def test_brackets_and_ports_do_not_matter(address: Address, port: int) -> None:
    plain = canonicalise(str(address))
    assert canonicalise(f"[{address}]") == plain
    assert canonicalise(f"[{address}]:{port}") == plain
    if address.version == 4:
        assert canonicalise(f"{address}:{port}") == plain


@given(any_address)
def test_the_suffix_of_a_single_host_does_not_matter(address: Address) -> None:
    assert canonicalise(f"{address}/{address.max_prefixlen}") == canonicalise(str(address))


@given(any_address, st.integers(0, 127))
def test_any_other_suffix_is_a_network(address: Address, length: int) -> None:
    if length != address.max_prefixlen:
        assert canonicalise(f"{address}/{length}") is Reason.NETWORK


@given(st.ip_addresses(v=6), zones, ports)
def test_zone_ids_do_not_matter(address: IPv6Address, zone: str, port: int) -> None:
    plain = canonicalise(str(address))
    assert canonicalise(f"{address}%{zone}") == plain
    assert canonicalise(f"[{address}%{zone}]:{port}") == plain


@given(st.ip_addresses(v=6))
def test_exploded_ipv6_is_the_compressed_one(address: IPv6Address) -> None:
    assert canonicalise(address.exploded) == canonicalise(address.compressed)


@given(st.ip_addresses(v=4))
def test_mapped_ipv6_is_ipv4_and_compatible_ipv6_is_not(address: IPv4Address) -> None:
    hexadecimal = f"{int(address) >> 16:x}:{int(address) & 0xFFFF:x}"
    assert canonicalise(f"::ffff:{address}") == address
    assert canonicalise(f"::ffff:{hexadecimal}") == address
    assert canonicalise(f"::{address}") == IPv6Address(int(address))


@given(st.ip_addresses(v=4), st.integers(0, 3), st.integers(1, 3))
def test_zero_padded_ipv4_is_not_guessed_at(address: IPv4Address, which: int, zeros: int) -> None:
    octets = str(address).split(".")
    octets[which] = "0" * zeros + octets[which]
    padded = ".".join(octets)
    assert canonicalise(padded) is Reason.ZERO_PADDED
    assert canonicalise(f"::ffff:{padded}") is Reason.ZERO_PADDED


@given(any_address, any_address)
def test_two_addresses_are_never_one(first: Address, second: Address) -> None:
    for between in (",", ", ", " ", ";", "\n"):
        assert isinstance(canonicalise(f"{first}{between}{second}"), Reason)


def test_length_is_counted_before_trimming_and_is_the_first_thing_looked_at() -> None:
    assert canonicalise("1.2.3.4".ljust(MAX_LENGTH)) == IPv4Address("1.2.3.4")
    assert canonicalise("1.2.3.4".ljust(MAX_LENGTH + 1)) is Reason.TOO_LONG
    assert canonicalise("\0" * 10_000_000) is Reason.TOO_LONG


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("1.1.1.1", Kind.PUBLIC),
        ("2a00:1450::1", Kind.PUBLIC),
        ("2002:102:304::1", Kind.PUBLIC),
        ("10.255.255.255", Kind.PRIVATE),
        ("11.0.0.0", Kind.PUBLIC),
        ("172.15.255.255", Kind.PUBLIC),
        ("172.16.0.0", Kind.PRIVATE),
        ("100.64.0.1", Kind.PRIVATE),
        ("fd00::1", Kind.PRIVATE),
        ("192.0.2.69", Kind.DOCUMENTATION),
        ("2001:db8::1", Kind.DOCUMENTATION),
        ("3fff::1", Kind.DOCUMENTATION),
        ("0.0.0.0", Kind.RESERVED),  # noqa: S104
        ("127.0.0.1", Kind.RESERVED),
        ("224.0.0.1", Kind.RESERVED),
        ("255.255.255.255", Kind.RESERVED),
        ("::", Kind.RESERVED),
        ("::1", Kind.RESERVED),
        ("::1.2.3.4", Kind.RESERVED),
        ("fe80::1", Kind.RESERVED),
        ("ff02::1", Kind.RESERVED),
        ("4000::1", Kind.RESERVED),
    ],
)
def test_an_address_has_its_kind(text: str, kind: Kind) -> None:
    address = canonicalise(text)
    assert not isinstance(address, Reason)
    assert classify(address) is kind


@given(st.ip_addresses(v=4))
def test_what_python_does_not_call_global_is_not_public_here(address: IPv4Address) -> None:
    if not address.is_global:
        assert classify(address) is not Kind.PUBLIC
