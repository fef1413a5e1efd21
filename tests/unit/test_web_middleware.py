"""Whose request it is: nothing that a client sends changes that, and nothing behind the middleware can store an address."""

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.addresses import canonical_text, canonicalise
from backfill.errors import SettingInvalid
from backfill.hashing.salt import Salt
from backfill.hashing.sha256 import SHA256_UNSALTED
from backfill.web import AsgiMiddleware, Client, Edge, Event, Key, Pseudonymizer, WsgiMiddleware
from backfill.web.removal import carries_address

PSEUDONYMIZER = Pseudonymizer(
    Key("2025", Salt("correct horse battery staple", source="test")),
    Key("2023", Salt("pepa", source="test", allow_weak=True)),
)
README = Path(__file__).resolve().parents[2] / "README.md"
TOKEN = "the-token-of-the-edge"
EDGE = Edge(TOKEN)
CLIENT, OTHER, PROXY = "198.51.100.7", "203.0.113.9", "10.0.0.1"
HASH = PSEUDONYMIZER.hash(CLIENT)


@dataclass
class Seen:
    """What the application behind the middleware sees."""

    client: Client
    rest: dict[str, object]  # header or key → value
    events: Counter[Event] = field(default_factory=Counter)


def by_wsgi(headers, peer=PROXY, **options) -> Seen:
    """The request of those headers, as a WSGI server passes it on: one key a name, duplicates joined."""
    environ = {"REQUEST_METHOD": "GET", "REMOTE_ADDR": peer, "REMOTE_PORT": "4711", "PROXY_ADDR": peer}
    for name, value in headers:
        key = f"HTTP_{name.upper().replace('-', '_')}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    events: Counter[Event] = Counter()
    seen = []
    WsgiMiddleware(
        lambda environ, start: seen.append(environ) or [b""],
        PSEUDONYMIZER,
        count=lambda event: events.update([event]),
        **options,
    )(environ, lambda *_: None)
    (rest,) = seen
    return Seen(rest.pop("backfill.client"), rest, events)


def by_asgi(headers, peer=PROXY, **options) -> Seen:
    """The same as an ASGI server does: a list of pairs of bytes."""
    scope = {
        "type": "http",
        "client": (peer, 4711) if peer else None,
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
    }
    before = {**scope, "headers": list(scope["headers"])}
    events: Counter[Event] = Counter()
    seen = []

    async def app(scope, receive, send):
        seen.append(scope)

    middleware = AsgiMiddleware(app, PSEUDONYMIZER, count=lambda event: events.update([event]), **options)
    run(middleware(scope, None, None))
    assert scope == before  # the server's own is left as it was
    ((client, rest),) = [(one.pop("backfill.client"), one) for one in seen]
    rest |= {name.decode(): value.decode("latin-1") for name, value in rest.pop("headers")}
    return Seen(client, rest, events)


def run(coroutine):
    """It waits for nothing, so it needs no event loop."""
    with pytest.raises(StopIteration):
        coroutine.send(None)


both = pytest.mark.parametrize("ask", [by_wsgi, by_asgi])


def edge_sends(address=CLIENT, digest=HASH, token=TOKEN, **place):
    """The headers of an edge; None leaves one out."""
    headers = {"Warehouse-Token": token, "Warehouse-IP": address, "Warehouse-Hashed-IP": digest, **place}
    return [(name.replace("_", "-"), value) for name, value in headers.items() if value is not None]


# The edge


@both
def test_the_edge_is_believed_by_its_token(ask):
    seen = ask(
        [*edge_sends(Warehouse_City="berlin", Warehouse_Country_Code="DE"), ("Accept", "*/*")], edge=EDGE
    )
    assert seen.client.hash == HASH
    assert seen.client.hashes == tuple(PSEUDONYMIZER.hashes(CLIENT).values())
    assert seen.client.place == {"city": "berlin", "country_code": "DE"}
    assert seen.client.by_edge
    assert seen.client.address is None  # nobody asked for it
    assert not any("warehouse" in name.lower() for name in seen.rest)
    assert {name.lower(): value for name, value in seen.rest.items()}.keys() & {"http_accept", "accept"}
    assert seen.events == {Event.EDGE: 1}


@both
def test_the_address_is_there_only_where_it_is_asked_for_and_never_shown(ask):
    seen = ask(edge_sends(), edge=EDGE, keep_address=True)
    assert seen.client.address == CLIENT
    assert CLIENT not in repr(seen.client) + str(seen.client)
    assert str(seen.client) == HASH
    assert str(Client()) == "-"


MEETINGS = [  # address, hash → what becomes of them, and what is counted
    (CLIENT, None, HASH, Event.HASH_MISSING),
    (CLIENT, "", HASH, Event.HASH_MISSING),
    (CLIENT, HASH.upper(), HASH, Event.HASH_MALFORMED),
    (CLIENT, f"{HASH},{HASH}", HASH, Event.HASH_MALFORMED),
    (CLIENT, "0" * 63, HASH, Event.HASH_MALFORMED),
    (CLIENT, "0" * 64, HASH, Event.HASH_MISMATCH),
    (CLIENT, PSEUDONYMIZER.hash(OTHER), HASH, Event.HASH_MISMATCH),
    (CLIENT, SHA256_UNSALTED.digest(CLIENT.encode(), b""), HASH, Event.HASH_UNSALTED),
    (CLIENT, PSEUDONYMIZER.hash(CLIENT, "2023"), HASH, Event.HASH_OLDER_KEY),
    (f"::ffff:{CLIENT}", HASH, HASH, None),
    (f"[::FFFF:{CLIENT}]:443", HASH, HASH, None),
    ("fe80::1%eth0", None, PSEUDONYMIZER.hash("fe80::1"), Event.HASH_MISSING),
    (None, "0" * 64, "0" * 64, Event.HASH_UNCHECKED),
    (None, None, None, Event.ADDRESS_MISSING),
    ("", HASH, None, Event.ADDRESS_MISSING),
    (f"{CLIENT}, {OTHER}", HASH, None, Event.ADDRESS_LIST),
    (f"{CLIENT}," * 700, HASH, None, Event.ADDRESS_LIST),
    ("unknown", HASH, None, Event.ADDRESS_UNREADABLE),
    ("10.0.0.0/8", HASH, None, Event.ADDRESS_UNREADABLE),
    ("\xff\xfe" * 99, HASH, None, Event.ADDRESS_UNREADABLE),
]


@both
@pytest.mark.parametrize(("address", "digest", "expected", "event"), MEETINGS)
def test_what_the_edge_gets_wrong_is_defined_and_counted(ask, address, digest, expected, event):
    forwarded = [("X-Forwarded-For", OTHER)]  # which the edge's word outranks, however wrong
    seen = ask([*edge_sends(address, digest), *forwarded], edge=EDGE, proxies=1)
    assert seen.client.hash == expected
    assert event is None or seen.events[event] == 1


@both
@pytest.mark.parametrize(
    "token", ["", "x", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), TOKEN[:-1] + "é", "x," * 4_000]
)
def test_a_wrong_token_makes_the_edges_headers_worthless(ask, token):
    seen = ask([*edge_sends(OTHER, "0" * 64, token), ("X-Forwarded-For", CLIENT)], edge=EDGE, proxies=1)
    assert seen.client == Client(tuple(PSEUDONYMIZER.hashes(CLIENT).values()))
    assert seen.events == {Event.TOKEN_WRONG: 1}
    assert not any("warehouse" in name.lower() for name in seen.rest)


def test_a_token_that_a_client_spelled_with_underscores_does_not_hide_the_edges():
    spoofed = [("Warehouse_Token", "x" * 21), *edge_sends(), ("Warehouse_Token", "y" * 21)]
    assert by_wsgi(spoofed, edge=EDGE).client.hash == HASH
    # An address so spelled makes a list, and of a list nobody is taken.
    assert by_wsgi([*edge_sends(), ("Warehouse_IP", OTHER)], edge=EDGE).client.hash is None
    seen = by_asgi([("warehouse_ip", OTHER), ("x_forwarded_for", OTHER), *edge_sends()], edge=EDGE)
    assert seen.client.hash == HASH
    assert OTHER not in seen.rest.values()


@both
def test_a_place_loses_what_says_nothing_and_is_read_as_utf_8(ask):
    place = {
        "Warehouse_City": "são paulo".encode().decode("latin-1"),
        "Warehouse_Region": "?",
        "Warehouse_Continent": "",
        "Warehouse_Country_Name": "c\xf4te d'ivoire",  # Latin-1
        "Warehouse_Country_Code": "x" * 300,
        "Warehouse_Country_Code3": "a\x7f",
    }
    seen = ask(edge_sends(**place), edge=EDGE)
    assert seen.client.place == {"city": "são paulo", "country_name": "côte d'ivoire"}
    assert seen.events[Event.PLACE_MALFORMED] == 2


@both
def test_headers_have_the_names_that_the_operator_gives(ask):
    edge = Edge(TOKEN, "X-Edge", "CF-Connecting-IP", None, {"country_code": "CF-IPCountry"})
    headers = [
        ("X-Edge", TOKEN),
        ("CF-Connecting-IP", CLIENT),
        ("CF-IPCountry", "DE"),
        ("Warehouse-IP", OTHER),
    ]
    seen = ask(headers, edge=edge)
    assert (seen.client.hash, seen.client.place) == (HASH, {"country_code": "DE"})
    assert seen.events == {Event.EDGE: 1}
    only_hash = Edge(TOKEN, address_header=None)
    assert ask(edge_sends(), edge=only_hash).events == {Event.EDGE: 1, Event.HASH_UNCHECKED: 1}


@pytest.mark.parametrize(
    "options",
    [
        {"token": ""},
        {"token": "short"},
        {"token": "a token with spaces in it"},
        {"token": "ein-schlüssel-der-kante"},
        {"token": TOKEN, "token_header": "Warehouse Token"},
        {"token": TOKEN, "token_header": "Warehouse_Token"},
        {"token": TOKEN, "address_header": "warehouse-token"},
        {"token": TOKEN, "address_header": None, "hash_header": None},
    ],
)
def test_an_edge_that_cannot_work_is_refused_without_its_token(options):
    with pytest.raises(SettingInvalid) as caught:
        Edge(**options)
    assert not options["token"] or options["token"] not in str(caught.value)


def test_the_token_is_not_shown():
    assert TOKEN not in repr(EDGE)
    assert TOKEN not in repr(WsgiMiddleware(None, PSEUDONYMIZER, edge=EDGE))


@pytest.mark.parametrize("proxies", [-1, "1", True, 1.0])
def test_the_number_of_proxies_is_a_number(proxies):
    with pytest.raises(SettingInvalid):
        WsgiMiddleware(None, PSEUDONYMIZER, proxies=proxies)


# X-Forwarded-For


@both
@pytest.mark.parametrize(
    ("proxies", "values", "expected", "event"),
    [
        (0, [OTHER], PROXY, None),  # nobody is trusted: the peer
        (1, [f"{OTHER}, {CLIENT}"], CLIENT, None),
        (1, [OTHER, CLIENT], CLIENT, None),  # two headers
        (2, [f"{OTHER}, {CLIENT}", PROXY], CLIENT, None),
        (2, [f"{OTHER},{CLIENT}:5678,,"], None, Event.ADDRESS_MISSING),  # an empty entry is an entry
        (2, [CLIENT], None, Event.FORWARDED_SHORT),
        (1, [], None, Event.FORWARDED_SHORT),
        (1, [""], None, Event.ADDRESS_MISSING),
        (1, [f"{CLIENT}, unknown"], None, Event.ADDRESS_UNREADABLE),  # and not the one to its left
        (1, [f"{OTHER}, {CLIENT}:5678"], CLIENT, None),
        (1, [f"{OTHER}, fe80::1%eth0"], "fe80::1", None),
        (1, [f"{OTHER}," * 800 + CLIENT], CLIENT, None),  # 8 kB
        (3, ["," * 8_192], None, Event.ADDRESS_MISSING),
        (1, [f"{OTHER}, {CLIENT}\xa0"], CLIENT, None),
        (1, ["１９８.51.100.7".encode().decode("latin-1")], None, Event.ADDRESS_UNREADABLE),
    ],
)
def test_the_nth_entry_from_the_right_counts_and_no_other(ask, proxies, values, expected, event):
    seen = ask([("X-Forwarded-For", value) for value in values], proxies=proxies)
    assert seen.client.hash == (expected and PSEUDONYMIZER.hash(expected))
    assert seen.events == ({event: 1} if event else {})
    assert not any("FORWARDED" in name.upper() for name in seen.rest)


@both
@pytest.mark.parametrize("peer", ["", "unix:", None])
def test_a_peer_without_an_address_is_nobody(ask, peer):
    seen = ask([], peer=peer)
    assert seen.client == Client()
    assert sum(seen.events.values()) == 1


@both
def test_a_ban_is_found_under_every_key_id(ask):
    assert PSEUDONYMIZER.hash(CLIENT, "2023") in ask([], peer=CLIENT).client.hashes


NAMES = ["X-Forwarded-For", "Forwarded", "X-Real-IP", *EDGE.headers]
latin = st.text(st.characters(max_codepoint=255), max_size=60)
junk = st.one_of(
    st.ip_addresses().map(str),
    st.lists(st.ip_addresses().map(str), max_size=4).map(", ".join),
    st.just(TOKEN[:-1]),
    latin,
)
sent = st.lists(st.tuples(st.sampled_from(NAMES), junk), max_size=6)


@given(
    headers=sent,
    client=st.ip_addresses(),
    hops=st.lists(st.tuples(st.ip_addresses(), st.booleans()), max_size=4),
    edge=st.sampled_from([None, EDGE]),
)
def test_nothing_that_a_client_sends_changes_whose_address_is_stored(headers, client, hops, edge):
    """A client behind any number of proxies, each of which appends its peer to the header or adds one."""
    peer, passed = str(client), list(headers)
    for proxy, adds in hops:
        at = [number for number, (name, _) in enumerate(passed) if name == "X-Forwarded-For"]
        if adds or not at:
            passed.append(("X-Forwarded-For", peer))
        else:
            passed[at[-1]] = ("X-Forwarded-For", f"{passed[at[-1]][1]}, {peer}")
        peer = str(proxy)
    truth = PSEUDONYMIZER.hash(str(client))
    for ask in (by_wsgi, by_asgi):
        seen = ask(passed, peer, proxies=len(hops), edge=edge, hide_peer=True)
        assert seen.client.hash == truth
        assert not seen.client.by_edge
        assert not seen.client.place
        assert edge is None or not any(canonicalise(str(value)) == client for value in seen.rest.values())


@given(headers=sent, client=st.ip_addresses(), peer=st.ip_addresses(), proxies=st.integers(0, 4))
def test_nothing_that_a_client_sends_through_the_edge_changes_whose_address_is_stored(
    headers, client, peer, proxies
):
    """The edge replaces its own headers and lets everything else through."""
    own = set(EDGE.headers)
    passed = [pair for pair in headers if pair[0] not in own]
    passed += edge_sends(canonical_text(canonicalise(str(client))), PSEUDONYMIZER.hash(str(client)))
    for ask in (by_wsgi, by_asgi):
        seen = ask(passed, str(peer), proxies=proxies, edge=EDGE, hide_peer=True)
        assert seen.client == Client(tuple(PSEUDONYMIZER.hashes(str(client)).values()), {}, by_edge=True)
        assert seen.events == {Event.EDGE: 1}


# What is removed

CARRY = [
    "X-Forwarded-For",
    "X-Forwarded",
    "Forwarded-For",
    "Forwarded",
    "X-Real-IP",
    "X-Client-IP",
    "Client-IP",
    "X-Cluster-Client-IP",
    "X-Originating-IP",
    "X-Original-Forwarded-For",
    "X-Remote-IP",
    "X-Remote-Addr",
    "Remote-Addr",
    "Remote-Host",
    "CF-Connecting-IP",
    "CF-Connecting-IPv6",
    "CF-Pseudo-IPv4",
    "True-Client-IP",
    "Fastly-Client-IP",
    "Fly-Client-IP",
    "X-AppEngine-User-IP",
    "X-Azure-ClientIP",
    "X-Azure-SocketIP",
    "X-Vercel-Forwarded-For",
    "X-NF-Client-Connection-IP",
    "DO-Connecting-IP",
    "X-Sucuri-ClientIP",
    "Ali-CDN-Real-IP",
    "CDN-Src-IP",
    "WL-Proxy-Client-IP",
    "Proxy-Client-IP",
    "Incap-Client-IP",
    "X-Envoy-External-Address",
    "CloudFront-Viewer-Address",
    "X-ProxyUser-Ip",
    "X-Source-IP",
    "X-MS-Forwarded-Client-IP",
    "X-Http-Forwarded-For",
    "X-Coming-From",
]
KEPT = [
    "Host",
    "User-Agent",
    "Accept",
    "Cookie",
    "Authorization",
    "Referer",
    "Origin",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Requested-With",
    "Content-Type",
    "X-Zip-Code",
    "X-Shipping",
    "X-Email-Address",
    "X-Description",
    "X-Script",
    "Accept-Encoding",
    "If-Match",
    "X-Request-ID",
    "Via",
    "X-Ipsum",
    "Sec-Fetch-Dest",
    "X-Recipient",
    "Upgrade",
    "CF-IPCountry",
]


@both
@pytest.mark.parametrize("spelled", [str, lambda name: name.replace("-", "_")])
def test_with_hide_peer_nothing_that_proxies_write_names_the_client(ask, spelled):
    seen = ask([(spelled(name), CLIENT) for name in CARRY], peer=CLIENT, hide_peer=True)
    assert seen.client.hash == HASH
    assert CLIENT not in str(seen.rest)
    assert "4711" not in str(seen.rest)


@both
def test_other_headers_stay(ask):
    seen = ask([(name, "kept") for name in KEPT], hide_peer=True)
    assert list(seen.rest.values()).count("kept") == len(KEPT)
    assert not [name for name in KEPT if carries_address(name.lower())]


@both
def test_without_hide_peer_the_peer_and_foreign_headers_stay(ask):
    seen = ask([("X-Real-IP", CLIENT), ("X-Own", CLIENT), ("X-Forwarded-For", CLIENT)], also_remove=["X-Own"])
    assert PROXY in str(seen.rest)
    assert str(seen.rest).count(CLIENT) == 1


def test_what_servers_add_for_the_peer_goes_as_well():
    environ = {
        "REMOTE_ADDR": CLIENT,
        "REMOTE_HOST": "a.example",
        "werkzeug.proxy_fix.orig": {"REMOTE_ADDR": CLIENT},
    }
    WsgiMiddleware(lambda *_: [b""], PSEUDONYMIZER, hide_peer=True)(environ, None)
    assert set(environ) == {"backfill.client"}  # in place: the server's access log sees no more


def test_web_sockets_are_requests_and_other_scopes_are_passed_on():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope)

    middleware = AsgiMiddleware(app, PSEUDONYMIZER)
    for scope in ({"type": "websocket", "headers": [], "client": (CLIENT, 1)}, {"type": "lifespan"}):
        run(middleware(scope, None, None))
    assert seen[0]["backfill.client"].hash == HASH
    assert seen[1] == {"type": "lifespan"}


def test_a_counter_that_fails_costs_no_request(caplog):
    def fails(event):
        raise ValueError(event)

    environ = {"REMOTE_ADDR": "junk"}
    assert WsgiMiddleware(lambda *_: [b"answer"], PSEUDONYMIZER, count=fails)(environ, None) == [b"answer"]
    assert "address-unreadable failed" in caplog.text


def test_the_ten_lines_of_the_readme_work_when_pasted(monkeypatch):
    section = (
        README.read_text(encoding="utf-8").partition("## The live application\n")[2].partition("\n## ")[0]
    )
    (code,) = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 10
    monkeypatch.setenv("BACKFILL_IP_SALT", "the live application's salt")
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102
    environ = {"REMOTE_ADDR": PROXY, "HTTP_X_FORWARDED_FOR": f"{OTHER}, {CLIENT}"}
    answer = b"".join(names["application"](environ, lambda *_: None)).decode()
    digest = hashlib.sha256(f"{CLIENT}the live application's salt".encode()).hexdigest()
    assert answer == f"hash {digest}, place {{}}\n"
    environ = {
        "HTTP_WAREHOUSE_TOKEN": names["edge"].token,
        "HTTP_WAREHOUSE_IP": CLIENT,
        "HTTP_WAREHOUSE_CITY": "berlin",
    }
    answer = b"".join(names["application"](environ, lambda *_: None)).decode()
    assert answer == f"hash {digest}, place {{'city': 'berlin'}}\n"
