"""What looks like an address: none of 100,000 spellings missed, hardly one of 500,000 other texts called sure."""

import json
import random
import re
import uuid
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address

import pytest

from backfill.pypi.demo.spellings import ODD
from backfill.scan.paths import texts
from backfill.scan.patterns import PREFILTER, Looks, Sureness, hits

MANY = 100_000
PREFILTERED = re.compile(PREFILTER)


def addresses(rng: random.Random, number: int = MANY):
    """Public addresses in every spelling of the demo, and plain."""
    for at in range(number):
        v4 = str(IPv4Address(rng.randrange(2**24, 224 * 2**24)))
        v6 = str(IPv6Address((0x2000 << 112) + rng.getrandbits(125) % (0x1FFF << 112)))
        if at % 3 == 0:
            v6 = str(IPv6Address((0x2A00 << 112) + (rng.getrandbits(32) << 80) + rng.getrandbits(16)))
        spelling = ODD[at % (len(ODD) + 2)] if at % (len(ODD) + 2) < len(ODD) else None
        if spelling is None:
            yield v4 if at % 2 else v6
        else:
            yield spelling.write(v4 if spelling.version == 4 else v6)


def versions(rng: random.Random):
    for _ in range(MANY):
        parts = [rng.choice((0, 1, 2, 3, rng.randrange(30))) for _ in range(rng.choice((2, 3, 3, 3, 4)))]
        if rng.random() < 0.3:
            parts[-1] = rng.randrange(200)
        yield (
            rng.choice(("", "", "v"))
            + ".".join(map(str, parts))
            + rng.choice(("", "", "", "rc1", ".dev0", ".post2"))
        )


def names(rng: random.Random):
    words = (
        "django",
        "zope.interface",
        "c++filt",
        "Acme::Cafe",
        "std::face",
        "py",
        "aiohttp",
        "ruamel.yaml",
        "dead-beef",
        "x.y.z",
    )
    for _ in range(MANY):
        yield f"{rng.choice(words)}-{rng.choice(words)}{rng.choice(('', f'-{rng.randrange(9)}.{rng.randrange(20)}.{rng.randrange(9)}.tar.gz'))}"


def times(rng: random.Random):
    for _ in range(MANY):
        clock = f"{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}"
        yield rng.choice(
            (
                clock,
                f"2023-05-{rng.randrange(1, 29):02} {clock}.{rng.randrange(10**6):06}+00",
                f"{clock}.{rng.randrange(1000)}",
            )
        )


def hashes(rng: random.Random):
    for number in range(MANY):
        digest = sha256(str(number).encode()).hexdigest()
        yield rng.choice(
            (
                digest,
                ":".join(digest[at : at + 2] for at in range(0, 40, 2)),
                ":".join(digest[at : at + 2] for at in range(0, 12, 2)),
            )
        )


def identifiers(rng: random.Random):
    for _ in range(MANY):
        yield str(uuid.UUID(int=rng.getrandbits(128)))


@pytest.mark.parametrize("kind", [names, versions, hashes, times, identifiers])
def test_of_100_000_other_texts_at_most_a_thousandth_is_called_sure(kind):
    sure = sum(any(hit.sureness is Sureness.SURE for hit in hits(text)) for text in kind(random.Random(7)))
    assert sure <= MANY / 1000


def test_of_100_000_spellings_none_is_missed_and_nearly_all_are_sure():
    best = dict.fromkeys(Sureness, 0)
    for text in addresses(random.Random(7)):
        assert PREFILTERED.search(text), text
        found = [hit.sureness for hit in hits(text)]
        assert found, text
        best[min(found, key=list(Sureness).index)] += 1
    assert best[Sureness.UNLIKELY] == 0
    assert best[Sureness.SURE] > 0.95 * MANY


@pytest.mark.parametrize(
    ("text", "looks", "sureness"),
    [
        ("1.2.3.4", Looks.ADDRESS, Sureness.LIKELY),
        ("v1.2.3.4", Looks.VERSION, Sureness.UNLIKELY),
        ("flask==1.2.3.4", Looks.VERSION, Sureness.UNLIKELY),
        ("flask-1.2.3.4.tar.gz", Looks.VERSION, Sureness.UNLIKELY),
        ("version 1.2.3.4", Looks.VERSION, Sureness.UNLIKELY),
        ("198.51.100.7", Looks.ADDRESS, Sureness.SURE),
        ("from 198.51.100.7:80.", Looks.ADDRESS, Sureness.SURE),
        ('{"ip": "198.51.100.7"}', Looks.ADDRESS, Sureness.SURE),
        ("198.51.100.0/24", Looks.NETWORK, Sureness.SURE),
        ("00:11:22:33:44:55:66:77", Looks.HARDWARE, Sureness.UNLIKELY),
        ("dead::beef", Looks.NAME, Sureness.UNLIKELY),
        ("seen 2a03:2880::1: bad", Looks.ADDRESS, Sureness.SURE),
    ],
)
def test_what_stands_beside_it_decides(text, looks, sureness):
    (hit,) = hits(text)
    assert (hit.looks, hit.sureness) == (looks, sureness)


@pytest.mark.parametrize(
    "text", ["10:11:12", "aa:bb:cc:dd:ee:ff", "1.2.3", "1.2.3.4.5", "std::abs", "999.1.1.1", ""]
)
def test_these_are_none(text):
    assert list(hits(text)) == []


def test_json_paths_name_places_and_never_repeat_keys_that_are_data():
    document = {
        "client": {"ip": "198.51.100.7"},
        "hops": ["a", {"by": "b"}],
        "198.51.100.7": "seen",
        "a1234": "x",
    }
    found = dict(texts(json.dumps(document)))
    assert found["$.client.ip"] == "198.51.100.7"
    assert set(found) == {
        "$.{keys}",
        "$.client.{keys}",
        "$.client.ip",
        "$.hops[*]",
        "$.hops[*].{keys}",
        "$.hops[*].by",
        "$.*",
    }
    assert not any("198" in path for path in found)


def test_a_document_nested_deeper_than_python_recurses_is_one_text():
    deep = '{"a":' * 100_000 + '"198.51.100.7"' + "}" * 100_000
    assert any(hits(text) for _, text in texts(deep))


def test_a_pseudonym_is_told_by_a_prefix_that_was_allotted_and_by_no_other() -> None:
    text = "seen from fd4a:bab6:c678:ce1a:4f66:18e2:99cd:21ee, FD4A::1 and fd4b::1:2:3"
    assert [hit.looks for hit in hits(text, {0x4A})] == [Looks.PSEUDONYM, Looks.PSEUDONYM, Looks.ADDRESS]
    assert [hit.looks for hit in hits(text)] == [Looks.ADDRESS] * 3
    assert all(hit.sureness is Sureness.UNLIKELY for hit in hits("fd4a:bab6:c678:ce1a::7", {0x4A}))
