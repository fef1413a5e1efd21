"""Pseudonyms: the formula of the document, an address that prints as PostgreSQL prints it, a tag that tells ours from others."""

import copy
import hmac
import pickle
import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.addresses import Kind, canonicalise, classify, network_text
from backfill.errors import NoAddress, SettingInvalid, UnknownKeyId
from backfill.hashing.hmac_sha256 import HMAC_SHA256
from backfill.hashing.pseudonym import Pseudonyms, prefix_text
from backfill.hashing.salt import Salt
from backfill.web import Key, Pseudonymizer

DOCUMENT = (Path(__file__).parents[2] / "docs" / "hashing.md").read_text(encoding="utf-8")
PEPA = Salt("pepa", source="test", allow_weak=True)
SECRET = "correct horse battery staple"
OURS = PEPA.pseudonyms(0x4A)

VECTORS = [
    ("1.2.3.4", "fd4a:8fdc:4745:e75e:17c0:dc41:8a8:a29b"),
    ("2001:db8::1", "fd4a:b356:2023:7250:5059:6158:1d24:7b48"),
]

addresses = st.ip_addresses().map(str)


def by_hand(salt: bytes, prefix: int, text: str) -> IPv6Address:
    """The formula as the document has it."""
    key = hmac.new(salt, b"backfill:pseudonym:1", "sha256").digest()
    body = hmac.new(key, b"address:" + text.encode(), "sha256").digest()[:10]
    tag = hmac.new(key, b"tag:" + body, "sha256").digest()[:4]
    return IPv6Address(b"\xfd" + bytes([prefix]) + body + tag)


@pytest.mark.parametrize(("text", "pseudonym"), VECTORS)
def test_the_vectors_of_the_document_hold_for_backfill_and_application(text, pseudonym):
    assert OURS.pseudonym(text) == pseudonym
    application = Pseudonymizer(Key("default", PEPA, prefix=0x4A))
    assert application.pseudonym(text) == pseudonym
    assert application.pseudonym(f" {text.upper()}\t") == pseudonym  # an odd spelling is the same address
    assert f"| `{text}` | `{pseudonym}` |" in DOCUMENT


@given(addresses, st.text(st.characters(codec="utf-8"), min_size=1), st.integers(1, 255))
def test_a_pseudonym_is_its_formula_in_canonical_form(text, value, prefix):
    ours = Salt(value, source="test", allow_weak=True, exact=True).pseudonyms(prefix)
    made = ours.pseudonym(text)
    expected = by_hand(value.encode(), prefix, text)
    assert made == str(expected)
    assert made.startswith(prefix_text(prefix))
    assert canonicalise(made) == expected
    assert classify(expected) is Kind.PRIVATE
    assert ours.is_ours(made)
    assert ours.is_ours(expected.exploded.upper())


@given(addresses, st.integers(0, 127))
def test_one_bit_makes_it_foreign(text, bit):
    made = IPv6Address(OURS.pseudonym(text))
    assert not OURS.is_ours(str(IPv6Address(int(made) ^ 1 << bit)))


@given(
    st.one_of(
        addresses,
        st.text(),
        st.integers(0, 2**112 - 1).map(lambda low: str(IPv6Address(0xFD4A << 112 | low))),
    )
)
def test_what_somebody_else_wrote_is_foreign_and_raises_nothing(text):
    assert not OURS.is_ours(text)


@given(addresses)
def test_another_salt_or_prefix_recognises_nothing(text):
    made = OURS.pseudonym(text)
    assert not PEPA.pseudonyms(0x4B).is_ours(made)
    assert not Salt(SECRET, source="test").pseudonyms(0x4A).is_ours(made)
    for odd in (f"{made}/128", f"{made}%eth0", f" {made}", f"{made}\n", f"{made}\0", f"[{made}]"):
        assert not OURS.is_ours(odd)


def test_the_stored_hash_says_nothing_about_it():
    """Not even that of the scheme with the same primitive, for what that would be asked."""
    digests = {HMAC_SHA256.digest(text, b"pepa") for text in (b"1.2.3.4", b"address:1.2.3.4")}
    body = IPv6Address(VECTORS[0][1]).packed[2:12].hex()
    assert not [digest for digest in digests if body in digest]


@pytest.mark.parametrize("prefix", [0, 256, -1, "4a", None])
def test_a_prefix_is_one_byte_and_not_the_one_that_people_take(prefix):
    with pytest.raises(SettingInvalid, match="1 to 255"):
        PEPA.pseudonyms(prefix)


@pytest.mark.parametrize("travel", [pickle.dumps, copy.copy, copy.deepcopy])
def test_the_key_does_not_travel_or_show(travel):
    made = Salt(SECRET, source="test").pseudonyms(0x4A)
    assert repr(made) == "Pseudonyms(fd4a:…)"
    assert not hasattr(made, "__dict__")
    with pytest.raises(TypeError, match="do not travel"):
        travel(made)


def test_keys_side_by_side_each_have_their_prefix():
    current, older = Key("2025", Salt(SECRET, source="test"), prefix=7), Key("2023", PEPA, prefix=0x4A)
    application = Pseudonymizer(current, older, Key("2020", PEPA))
    assert application.pseudonyms("1.2.3.4") == {
        "2025": Pseudonyms(SECRET.encode(), 7).pseudonym("1.2.3.4"),
        "2023": VECTORS[0][1],
    }
    assert application.pseudonym("1.2.3.4") == application.pseudonym("1.2.3.4", "2025")
    assert application.pseudonym("1.2.3.4", "2023") == VECTORS[0][1]
    with pytest.raises(SettingInvalid, match="the key 2020"):
        application.pseudonym("1.2.3.4", "2020")
    with pytest.raises(UnknownKeyId):
        application.pseudonym("1.2.3.4", "2019")
    for refused in (application.pseudonym, application.pseudonyms, application.network):
        with pytest.raises(NoAddress) as caught:
            refused("1.2.3.4, 5.6.7.8")
        assert "5.6" not in str(caught.value)


@given(st.ip_addresses(), st.integers(0, 32), st.integers(0, 128))
def test_a_network_has_its_leading_bits_and_no_mask(address, v4_bits, v6_bits):
    made = network_text(address, v4_bits, v6_bits)
    bits = v4_bits if isinstance(address, IPv4Address) else v6_bits
    if getattr(address, "sixtofour", None):
        bits = min(v6_bits, 16 + v4_bits)
    assert ip_address(made) == ip_network((address, bits), strict=False).network_address
    assert network_text(ip_address(made), v4_bits, v6_bits) == made
    assert not re.search("/", made)


@pytest.mark.parametrize(
    ("v4_bits", "v6_bits", "made"),
    [(24, 48, "2002:102:300::"), (24, 32, "2002:102::"), (31, 127, "2002:102:304::"), (0, 48, "2002::")],
)
def test_of_6to4_no_more_is_kept_than_of_the_ipv4_address_in_it(v4_bits, v6_bits, made):
    assert network_text(ip_address("2002:102:305:1::5"), v4_bits, v6_bits) == made


def test_the_application_has_the_same_networks():
    assert Pseudonymizer.network("::ffff:1.2.3.4") == "1.2.3.0"
    assert Pseudonymizer.network("[2001:DB8:1:2::3]:443") == "2001:db8:1::"
    assert Pseudonymizer.network("2001:db8:1:2::3", 16, 32) == "2001:db8::"
    with pytest.raises(SettingInvalid):
        Pseudonymizer.network("1.2.3.4", 33)
