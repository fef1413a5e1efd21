"""By which form the writers know a result: compared, for every sort of text, with what Python makes of it."""

import ipaddress
import random

import pytest
from psycopg2 import sql

from backfill.jobs import address_forms
from backfill.raw_column import Widths
from backfill.verify import forms
from tests.databases import query

PREFIX = "fd5a:"
JUNK = ("", "::", "9.0.0.0", "1.2.3", "1.2.3.0/24", "01.2.3.0", "256.1.1.0", "1.2.3.0 ", "fe80::%eth0", "::ffff:1.2.3.0", "::1.2.3.0", "::01.2.3.0", "::256.1.1.0", "::1.2.3", "::1.2.3.0.0", "::1:1.2.3.0", "0::1.2.3.0", "fd5a:", "fd5a::",
        "fd5a:zz", "FD5A::1", "fd5a:1:2:3", "fd5a:1:2:3:4:5:6:7:8", "fd5a::1, fd5a::2", "fd5a;", "fd5b::1", "x.0", "\\x2e30", "1.2.3.0\\", "é:0",
        "fd5a:1:2:3:4:5:6:" + "9" * 60)  # fmt: skip


def texts() -> list[str]:
    draw = random.Random(5)
    found = list(JUNK)
    for _ in range(400):
        v4 = ipaddress.IPv4Address(draw.getrandbits(32) & draw.choice((0xFFFFFFFF, 0xFFFFFF00, 0xFFFF0000)))
        bits = 128 - draw.choice((0, 16, 32, 64, 80, 112, 128))
        v6 = ipaddress.IPv6Address(
            (draw.getrandbits(128) >> bits << bits) & ~(0xFFFF << draw.choice((0, 32, 96)))
        )
        ours = ipaddress.IPv6Address(
            (0xFD5A << 112) | (draw.getrandbits(112) & ~(0xFFFF << draw.choice((0, 48, 80))))
        )
        six_to_four = ipaddress.IPv6Address((int(v6) & (1 << 112) - 1) | 0x2002 << 112)
        for address in (v4, v6, ours, six_to_four):
            text = str(address)
            found += [text, text.upper(), text[:-1], text + draw.choice("0:/. f"), address.exploded]
    return [text for text in dict.fromkeys(found) if "." not in text or ":" not in text or text in JUNK]


def canonical(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return address if str(address) == text and "%" not in text else None


@pytest.mark.parametrize(("v4", "v6"), [(24, 48), (8, 80), (20, 44)])
def test_a_network_is_known_and_nothing_else_is_taken_for_one(database: str, v4: int, v6: int) -> None:
    asked = texts()
    text = sql.SQL('(text collate "C")')
    statement = sql.SQL("select text, {} from unnest({}::text[]) as text").format(
        address_forms.is_network(text, Widths(v4=v4, v6=v6)), sql.Literal(asked)
    )
    found = dict(query(database, statement))
    assert len(found) == len(asked)
    for one in asked:
        address = canonical(one)
        bits = 0 if address is None else v4 if address.version == 4 else v6
        if one.startswith("2002:"):
            bits = min(v6, 16 + v4)
        expected = (
            address is not None
            and address == ipaddress.ip_network(f"{address}/{bits}", strict=False).network_address
        )
        assert found[one] == expected, one


def test_what_begins_as_pseudonyms_do_is_known_and_has_to_be_an_address(database: str) -> None:
    asked = texts()
    statement = sql.SQL("select text, {} from unnest({}::text[]) as text").format(
        address_forms.begins(sql.SQL('(text collate "C")'), sql.Literal(PREFIX)), sql.Literal(asked)
    )
    found = dict(query(database, statement))
    for one in asked:
        lower = one == one.lower() and "." not in one
        try:
            ipaddress.IPv6Address(one)
        except ValueError:
            lower = False
        assert found[one] == (lower and one.startswith(PREFIX)), one
    assert sum(found.values()) > 300


def test_what_a_host_becomes_is_a_network_however_the_server_prints_it(database: str) -> None:
    """Of what has nothing but zeros before its last two groups, hosts and networks are printed with dots."""
    draw = random.Random(6)
    low = [draw.getrandbits(draw.choice((1, 8, 16, 32, 48))) & draw.choice((-1, -256, -65536)) for _ in range(200)]  # fmt: skip
    hosts = [str(ipaddress.IPv6Address(number)) for number in low if number >> 32 != 0xFFFF]
    for v6 in (97, 112, 122, 127):
        result, host = sql.SQL('(result collate "C")'), sql.SQL("host(host::inet)")
        widths = Widths(v6=v6)
        statement = sql.SQL(
            "select host, result, {}, {}, {} from unnest({}::text[]) as host cross join lateral (select {} as result) as becomes"
        ).format(
            address_forms.is_network(result, widths),
            forms.is_network(result, widths.v4, widths.v6),
            address_forms.is_network(host, widths),
            sql.Literal(hosts),
            address_forms.network(sql.SQL("host::inet"), widths),
        )
        found = query(database, statement)
        assert len(found) == len(hosts)
        assert v6 < 112 or any("." in result for _, result, *_ in found)
        for host, result, known, judged, host_known in found:
            network = ipaddress.ip_network(f"{host}/{v6}", strict=False).network_address
            assert ipaddress.ip_address(result) == network
            assert (known, judged) == (True, True), result
            assert host_known == (ipaddress.ip_address(host) == network), host
