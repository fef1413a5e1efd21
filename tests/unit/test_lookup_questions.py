"""Questions: what a line or an option asks about; hashes that a row about an address may carry."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.addresses import Reason, canonicalise
from backfill.errors import NoQuestion, NotAHash, NotAnAddress
from backfill.lookup.event_rows import fragments
from backfill.lookup.hash_keys import HashKey, HashKeys, Spelling, candidates, networks_around
from backfill.lookup.question import (
    INSTEAD,
    holds_address,
    questions_of_lines,
    questions_of_options,
    require_addresses,
)


def test_each_line_that_is_not_blank_is_a_question_with_its_number():
    found = questions_of_lines(b"\xef\xbb\xbf1.2.3.4\r\n\n  \n[2001:DB8::1]:443\n10.0.0.0/8\n\xff\n")
    assert [(one.number, one.address, one.problem) for one in found] == [
        (1, IPv4Address("1.2.3.4"), None),
        (4, IPv6Address("2001:db8::1"), None),
        (5, None, Reason.NETWORK),
        (6, None, Reason.UNDECODABLE),
    ]
    assert "1.2.3.4" not in repr(found)
    require_addresses(found, some=True)
    with pytest.raises(NotAnAddress, match=r"2 lines are no address, of 4.*line 5: it is a network.*line 6"):
        require_addresses(found, some=False)


@given(st.binary(max_size=300))
def test_no_bytes_are_a_traceback_or_are_repeated(content):
    said, found = "", []
    try:
        found = questions_of_lines(content)
        require_addresses(found, some=False)
    except (NoQuestion, NotAnAddress) as error:
        said, found = str(error), []
    assert all(one.address is not None for one in found)
    assert not [line for line in content.split() if len(line) > 12 and repr(line)[2:-1] in said]


def test_every_reason_has_words():
    assert set(INSTEAD) == set(Reason)


@pytest.mark.parametrize("given_", ["", "a" * 63, "a" * 65, "g" * 64, "1.2.3.4", "a" * 64 + "\n" + "a"])
def test_a_hash_has_64_digits(given_):
    with pytest.raises(NotAHash) as refusal:
        questions_of_options([given_], [])
    assert not given_ or given_ not in str(refusal.value)


def test_hashes_and_rows_are_numbered_on():
    found = questions_of_options(["A" * 64], ["x", "y"])
    assert [(one.number, one.kind, one.named) for one in found] == [(1, "hash", "a" * 64), (2, "row", "x"), (3, "row", "y")]  # fmt: skip


@pytest.mark.parametrize(
    "word",
    ["1.2.3.4", " 1.2.3.4", "::1", "2001:db8::1", "[2001:db8::1]:443", "1.2.3.4:80", "fe80::1%eth0", "10.0.0.0/8", "10/8",
     "--hash=1.2.3.4", "--x=2001:db8::1", "seen at 1.2.3.4", "1.2.3.4,5.6.7.8", "::ffff:1.2.3.4", "logs/1.2.3.4.json"],
)  # fmt: skip
def test_an_address_among_words_is_seen(word):
    assert holds_address(word)


@pytest.mark.parametrize(
    "word",
    ["--hash", "a" * 64, "--count", "12", "-", "", "authentication-attempts", "spam, bots", "2022=old.salt", "/run/old/salt",
     "95b1f8c4-0000-4000-8000-1234567890ab", "json", "report 12:30:45", "a/b", "v1.2"],
)  # fmt: skip
def test_other_words_are_let_through(word):
    assert not holds_address(word)


def spellings(address: IPv4Address | IPv6Address) -> st.SearchStrategy[str]:
    """Ways to write it that are read as that address."""
    plain = [str(address)]
    if isinstance(address, IPv4Address):
        number = int(address)
        high, low = number >> 16, number & 0xFFFF
        plain += [
            f"::ffff:{address}",
            f"::FFFF:{high:x}:{low:04X}",
            f"0:0:0:0:0:ffff:{high:04x}:{low:x}",
            f"{address}:1",
        ]
        plain += [f"[::ffff:{address}]:443", f"{address}/32"]
    else:
        groups = address.exploded.split(":")
        tail = IPv4Address(int(address) & 0xFFFFFFFF)
        plain += [
            address.exploded,
            ":".join(f"{int(one, 16):X}" for one in groups),
            f"[{address}]:1",
            f"{address}%eth0",
        ]
        plain += [":".join([*groups[:6], str(tail)]), f"{address}/128"]
    return st.sampled_from([*plain, *(f" {one}\u3000" for one in plain)])


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6), st.just(IPv6Address("::1"))), st.data())
def test_every_spelling_of_an_address_holds_one_of_its_fragments(drawn, data):
    address = canonicalise(str(drawn))
    assert not isinstance(address, Reason)
    text = data.draw(spellings(address))
    assert canonicalise(text) == address
    assert any(one in text.lower() for one in fragments(address))


def test_what_a_row_about_an_address_may_carry():
    keys = HashKeys("sha256-suffix", (HashKey("a", lambda text: f"a {text}", True), HashKey("b", lambda text: f"b {text}", False)), ())  # fmt: skip
    found = list(candidates(IPv4Address("1.2.3.4"), keys, networks=False))
    assert [(one.hash, one.key_id, one.spelling) for one in found[:4]] == [
        ("a 1.2.3.4", "a", Spelling.CANONICAL),
        ("a ::ffff:1.2.3.4", "a", Spelling.MAPPED),
        ("b 1.2.3.4", "b", Spelling.CANONICAL),
        ("b ::ffff:1.2.3.4", "b", Spelling.MAPPED),
    ]
    assert found[4].hash == "6694f83c9f476da31f5df6bcc520034e7e57d421d247b9d34f49edbfc84a764c"
    around = list(networks_around(IPv4Address("203.0.113.9")))
    assert (around[0], around[24], around[31], len(around)) == (
        "0.0.0.0/0",
        "203.0.113.0/24",
        "203.0.113.8/31",
        32,
    )
    assert "2001:db8::/32" in list(networks_around(IPv6Address("2001:db8::9")))
