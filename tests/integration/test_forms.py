"""The forms of values that were changed in place, as SQL, against Python's idea of them; and a pseudonym as inet prints it."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg2 import sql

from backfill.addresses import Reason, canonical_text, canonicalise, network_text
from backfill.hashing.salt import Salt
from backfill.verify import forms
from tests.databases import connect, query
from tests.integration.test_canonical_against_postgres import addresses, spellings
from tests.integration.test_undecodable import DAMAGED, encoded  # noqa: F401

SALT = Salt("correct horse battery staple", source="test")
OURS = SALT.pseudonyms(0x4A)
RELAXED = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
junk = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=70)
looks_like = st.from_regex(
    r"([0-9a-fA-F]{0,5}:){0,9}([0-9]{0,3}\.){0,4}[0-9a-f]{0,4}(%[a-z0-9]{0,3})?(/[0-9]{0,3})?", fullmatch=True
)
bits = st.tuples(st.integers(0, 32), st.integers(0, 128))
texts = st.lists(
    st.one_of(
        spellings,
        looks_like,
        junk,
        st.from_regex(r"[0-9a-f]{63,65}\n?", fullmatch=True),
        st.none(),
        st.builds(lambda address, widths: network_text(address, *widths), addresses, bits),
        st.builds(lambda address: f"::ffff:{network_text(address, 16, 16)}", st.ip_addresses(v=4)),
        addresses.map(lambda address: OURS.pseudonym(str(address))),
    ),
    min_size=1,
    max_size=50,
)


@pytest.fixture
def asked(database: str) -> Iterator:
    """Asks the server for expressions over ``event.raw``, for each of those texts."""
    with closing(connect(database)) as connection:

        def ask(values: list[str | None], *expressions: sql.Composable, type_: str = "text") -> list[tuple]:
            statement = sql.SQL(
                "select {} from (select raw::{} from unnest(%s::text[]) with ordinality as given (raw, place)"
                " order by place offset 0) as event"
            ).format(sql.SQL(", ").join(expressions), sql.SQL(type_))
            with connection.cursor() as cursor:
                cursor.execute(statement, (values,))
                return cursor.fetchall()

        yield ask


RAW = sql.Identifier("event", "raw")


@RELAXED
@given(texts=texts, widths=bits)
def test_a_form_is_what_python_says_it_is_for_any_text(asked, texts, widths) -> None:
    """What the server calls a network has no host bits; and each network as Python or the server prints it is called one."""
    rows = asked(
        texts, forms.is_network(RAW, *widths), forms.is_hash(RAW), forms.has_prefix(RAW, OURS.prefix)
    )
    for text, (network, hashed, inside) in zip(texts, rows, strict=True):
        address = Reason.EMPTY if text is None else canonicalise(text)
        spells = not isinstance(address, Reason)
        without_host_bits = spells and network_text(address, *widths) == canonical_text(address)
        assert not network or without_host_bits, text
        if without_host_bits and text == canonical_text(address):
            assert network, text
        assert hashed is (text is not None and len(text) == 64 and not set(text) - set("0123456789abcdef"))
        assert inside is (
            text is not None and text.startswith("fd4a:") and len(text.encode()) <= forms.LONGEST
        )


@RELAXED
@given(given_addresses=st.lists(addresses, min_size=1, max_size=50), widths=bits)
def test_inet_prints_what_was_made_and_calls_it_what_it_is(asked, given_addresses, widths) -> None:
    made = [OURS.pseudonym(canonical_text(address)) for address in given_addresses]
    text = sql.SQL("abbrev(event.raw)")
    back = asked(made, sql.SQL("host(event.raw)"), text, forms.has_prefix(text, OURS.prefix), type_="inet")
    assert back == [(one, one, True) for one in made]
    networks = [network_text(canonicalise(str(address)), *widths) for address in given_addresses]
    printed = asked(networks, forms.is_network(text, *widths), type_="inet")
    assert printed == [(True,)] * len(networks)


def test_bytes_that_nobody_can_read_are_in_no_form(encoded) -> None:  # noqa: F811 (a fixture)
    place = encoded("UTF8")
    query(place.url, "create table t (raw text)")
    samples = [*DAMAGED, b"\xff" * 64, b"fd4a:\xff", b"1.2.3.0\xc3", b"a\\101" * 16]
    for text in samples:
        place.put("insert into t values (%s)", text)
    conditions = (forms.is_network(RAW, 24, 48), forms.is_hash(RAW), forms.has_prefix(RAW, 0x4A))
    asked = sql.SQL("select {} from t as event").format(sql.SQL(", ").join(conditions))
    assert query(place.url, asked) == [(False, False, False)] * len(samples)
