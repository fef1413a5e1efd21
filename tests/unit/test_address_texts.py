"""Which texts in a line are taken for addresses: examples, and what holds for any text."""

import re
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill.addresses import Reason, canonicalise
from backfill.web import address_hashes
from backfill.web.address_hashes import AddressHashes
from backfill.web.address_texts import UNCLEAR, AddressTexts


def texts() -> AddressTexts:
    """A finder that writes <address> in the place of a hash: what is read in the tests is what was meant."""
    return AddressTexts(AddressHashes(lambda text: f"<{text}>"))


REPLACED = [
    (b"1.2.3.4", b"<1.2.3.4>"),
    (b"from 1.2.3.4. Then 1.2.3.4:80, [1.2.3.4]", b"from <1.2.3.4>. Then <1.2.3.4>:80, [<1.2.3.4>]"),
    (b"1.2.3.4,5.6.7.8;1.2.3.4-1.2.3.9", b"<1.2.3.4>,<5.6.7.8>;<1.2.3.4>-<1.2.3.9>"),
    (b"/lookup/1.2.3.4?ip=1.2.3.4&x 10.0.0.0/8", b"/lookup/<1.2.3.4>?ip=<1.2.3.4>&x <10.0.0.0>/8"),
    (b"host.1.2.3.4.example ip_1.2.3.4_x", b"host.<1.2.3.4>.example ip_<1.2.3.4>_x"),
    (b"\xff1.2.3.4\xfe", b"\xff<1.2.3.4>\xfe"),
    (b"\x001.2.3.4\x00", b"\x00<1.2.3.4>\x00"),
    # Escapes of URLs, nginx, JSON, C and terminals end in letters and digits of their own.
    (b"u%3D1.2.3.4%20", b"u%3D<1.2.3.4>%20"),
    (b"%3D21.2.3.4 %1.2.3.4", b"%3D<21.2.3.4> %<1.2.3.4>"),
    (rb"\x221.2.3.4\x22", rb"\x22<1.2.3.4>\x22"),
    (rb"\x22100.2.3.4\x2c5.6.7.8", rb"\x22<100.2.3.4>\x2c<5.6.7.8>"),
    (rb"a\n1.2.3.4\t5.6.7.8 \u00a09.9.9.9", rb"a\n<1.2.3.4>\t<5.6.7.8> \u00a0<9.9.9.9>"),
    (b"\x1b[31m1.2.3.4\x1b[0m", b"\x1b[31m<1.2.3.4>\x1b[0m"),
    (b"2001:DB8:0::1 [2001:db8::1]:443", b"<2001:db8::1> [<2001:db8::1>]:443"),
    (b"from 2001:db8::1: gone 2001:db8::2.", b"from <2001:db8::1>: gone <2001:db8::2>."),
    (b"::ffff:1.2.3.4 64:ff9b::1.2.3.4", b"<1.2.3.4> <64:ff9b::102:304>"),
    (b"0:0:0:0:0:ffff:1.2.3.4 64:ff9b:0:0:0:0:1.2.3.4", b"<1.2.3.4> <64:ff9b::102:304>"),
    (b"fe80::1%eth0 2001:db8::/32", b"<fe80::1>%eth0 <2001:db8::>/32"),
    (b"1:2:3:4:5:6:7:8", b"<1:2:3:4:5:6:7:8>"),
    (b"ip:2001:db8::1 node:2001:db8::1", b"ip:<2001:db8::1> node:<2001:db8::1>"),
    (b"src:2001:db8::1:dst:2001:db8::2", b"src:<2001:db8::1>:dst:<2001:db8::2>"),
    (b"ip=2001%3Adb8%3a%3A1&x=1", b"ip=<2001:db8::1>&x=1"),
    (rb"\x222001:db8::1\x22 %222001:db8::1%22", rb"\x22<2001:db8::1>\x22 %22<2001:db8::1>%22"),
    (b"12:34:56:1.2.3.4", b"12:34:56:<1.2.3.4>"),
    # Some read 010 as eight: it has no one hash, and it does not stay.
    (b"at 010.1.2.3 and ::ffff:010.1.2.3", b"at " + UNCLEAR + b" and " + UNCLEAR),
]

LEFT = [
    b"1.2.3.4.5 1.3.6.1.2.1.9.9 v1.2.3.4 x1.2.3.4 1.2.3.4rc1 1.2.3 300.1.2.3 1.2.3.4567 2024.01.02.03",
    b"Chrome/120.0.0.0 OPR/106.0.0.0 YaBrowser/23.11.0.0 Edg/120.0.2210.91",
    b"[10/Oct/2000:13:55:36 -0700] 2026-11-26T20:52:06+00:00 12:34:56.789",
    b"aa:bb:cc:dd:ee:ff aa-bb-cc-dd-ee-ff 00:11:22:33:44:55:66:77",
    b"a69a49383d81404e4b1df297c7baa28e1cd6c4ee1495ed5d0ab165a63a147763",
    b"SHA1:" + b":".join([b"ab"] * 20) + b" std::string Foo::Bar [::]:80 :: http://x http%3A%2F%2Fx",
]


@pytest.mark.parametrize(("line", "expected"), REPLACED)
def test_an_address_anywhere_becomes_its_hash(line, expected):
    assert texts().replaced(line) == expected


@pytest.mark.parametrize("line", LEFT)
def test_what_only_looks_like_an_address_is_left(line):
    assert texts().replaced(line) == line


AROUND = st.sampled_from(
    [b"", b" ", b'"', b"=", b"/", b",", b"(", b"[", b"\t", b"\xc3\xa9", rb"\x22", b"%20", b"\x00"]
)
SPELLED = st.ip_addresses().flatmap(
    lambda address: st.sampled_from([str(address), str(address).upper(), address.exploded])
)


def test_an_address_with_a_dotted_end_is_counted_once():
    found = texts()
    found.replaced(b"::ffff:1.2.3.4 64:ff9b::1.2.3.4 5.6.7.8")
    assert (found.hashed, found.unclear) == (3, 0)
    found.replaced(b"::ffff:010.1.2.3 010.1.2.3")
    assert (found.hashed, found.unclear) == (3, 2)


@given(SPELLED.filter(lambda text: text != "::"), AROUND, AROUND)
def test_any_address_in_any_spelling_between_boundaries_is_found(text, before, after):
    found = texts()
    assert found.replaced(b"q " + before + text.encode() + after + b" z") == b"".join(
        [b"q ", before, b"<%b>" % str(canonicalise(text)).encode(), after, b" z"]
    )
    assert found.hashed == 1


@settings(max_examples=50)
@given(
    st.lists(
        st.one_of(SPELLED.map(str.encode), st.binary(max_size=12), st.from_regex(rb"[0-9a-f:.%x\\]{0,20}"))
    )
)
def test_a_second_time_nothing_changes_and_what_is_no_candidate_never_does(parts):
    line = b" ".join(parts)
    hashes = AddressHashes(lambda _text: "ab" * 32)
    once = AddressTexts(hashes).replaced(line)
    assert AddressTexts(hashes).replaced(once) == once
    for kept in re.split(rb"(?:ab){32}|unclear-address", once):
        assert kept in line


@given(st.ip_addresses(), st.integers(0, 65535))
def test_the_hash_of_a_text_is_that_of_its_canonical_form(address, port):
    hashes = AddressHashes(lambda text: f"<{text}>")
    canonical = str(address.ipv4_mapped or address) if address.version == 6 else str(address)
    spelled = f"[{address.exploded}]:{port}" if address.version == 6 else f"{address}:{port}"
    assert (
        hashes.hash_of(spelled.encode()) == hashes.hash_of(str(address).encode()) == f"<{canonical}>".encode()
    )


def test_the_cache_is_bounded_and_never_holds_a_long_text(monkeypatch):
    monkeypatch.setattr(address_hashes, "MAX_KNOWN", 20)
    hashes = AddressHashes(lambda text: text, country=lambda _address: "DE")
    for number in range(25):
        hashes.hash_of(str(ip_address(number)).encode())
    assert len(hashes.known) == 5
    assert hashes.hash_of(b"1" * 5_000_000) is Reason.TOO_LONG
    assert len(hashes.known) == 5
    assert hashes.country_of(b"0.0.0.1") == b"DE"  # forgotten, and found again


@pytest.mark.parametrize("said", [None, "", 'D"', "DEU", "D\n", "Ö1"])
def test_what_is_no_country_code_is_no_country(said):
    hashes = AddressHashes(lambda text: text, country=lambda _address: said)
    assert hashes.country_of(b"1.2.3.4") is None


@pytest.mark.parametrize("part", [b"a", b"a:", b":", b"1.", b"ab:cd:", b"%3A", b"12.34.", b"\\x22"])
def test_a_megabyte_without_end_takes_linear_time(part):
    line = part * (200_000 // len(part))
    assert isinstance(texts().replaced(line), bytes)
