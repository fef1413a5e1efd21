"""Lines of access logs: the client address becomes its hash, every other byte stays."""

import gzip
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill.addresses import Reason, canonicalise
from backfill.errors import LogLineRefused, LogUnreadable
from backfill.web import log_source
from backfill.web.access_log import LogFormat, Unreadable, rewriter
from backfill.web.address_hashes import AddressHashes
from backfill.web.json_members import NotJson, member_spans
from backfill.web.log_source import LogSource

HASH = b"a69a49383d81404e4b1df297c7baa28e1cd6c4ee1495ed5d0ab165a63a147763"
TAIL = b' - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 5'


def log(form=LogFormat.COMBINED, unreadable=Unreadable.PASS, members=(), country=None, digest="<{}>".format):
    return rewriter(form, AddressHashes(digest, country), unreadable, members)


def hidden(_text: str) -> str:
    return HASH.decode()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"1.2.3.4" + TAIL, b"<1.2.3.4>" + TAIL),
        (b"1.2.3.4" + TAIL + b"\r", b"<1.2.3.4>" + TAIL + b"\r"),
        (b"2001:DB8::1" + TAIL, b"<2001:db8::1>" + TAIL),
        (b"::ffff:1.2.3.4" + TAIL, b"<1.2.3.4>" + TAIL),
        (b"1.2.3.4:5678 x\xff\x00", b"<1.2.3.4> x\xff\x00"),
        (b"[2001:db8::1]:80\tx", b"<2001:db8::1>\tx"),
        (b"fe80::1%eth0 x", b"<fe80::1> x"),
        (b"1.2.3.4", b"<1.2.3.4>"),
        (b"1.2.3.4\r", b"<1.2.3.4>\r"),
        (HASH + TAIL, HASH + TAIL),
        # No address where one is expected: passed on, and no address is in it any more.
        (b"-" + TAIL, b"-" + TAIL),
        (b"", b""),
        (b"\r", b"\r"),
        (b"1.2.3.4, 5.6.7.8" + TAIL, b"<1.2.3.4>, <5.6.7.8>" + TAIL),
        (b'"1.2.3.4"' + TAIL, b'"<1.2.3.4>"' + TAIL),
        (b" 1.2.3.4" + TAIL, b" <1.2.3.4>" + TAIL),
        (b"\xef\xbb\xbf1.2.3.4" + TAIL, b"\xef\xbb\xbf<1.2.3.4>" + TAIL),
        (b"\0\0\0" + b"1.2.3.4" + TAIL, b"\0\0\0" + b"<1.2.3.4>" + TAIL),
        (b"10.0.0.0/8 x", b"<10.0.0.0>/8 x"),
        (b"010.1.2.3 x", b"unclear-address x"),
        (b"upstream failed, client: 1.2.3.4, server: x", b"upstream failed, client: <1.2.3.4>, server: x"),
    ],
)
def test_a_line_of_the_combined_format(line, expected):
    for end in (b"", b"\n"):
        assert log().block(line + end) == expected + end


def test_lines_are_counted_by_what_was_found_in_them():
    kept = log(digest=hidden)
    kept.block(b"1.2.3.4 x 9.9.9.9\n" + HASH + b" x\n- x\n1.2.3.4, 5.6.7.8 x\nhost.example x\n\n")
    counts = kept.counts
    assert (counts.lines, counts.hashed, counts.hash_already, counts.dropped) == (6, 1, 1, 0)
    assert counts.without_address == {"unknown": 1, "forwarded-list": 1, "host-name": 1, "empty": 1}
    assert (counts.addresses_anywhere, counts.left) == (2, 1)


def test_a_second_address_outside_the_client_field_is_left_and_counted_also_ipv6():
    kept = log(digest=hidden)
    lines = b'%b "2001:db8::5"\n%b "5.6.7.8"\n'
    assert kept.block(lines % (b"1.2.3.4", b"1.2.3.4")) == lines % (HASH, HASH)
    assert kept.counts.left == 2


def test_lines_without_an_address_are_dropped_when_that_is_asked():
    kept = log(unreadable=Unreadable.DROP)
    assert kept.block(b"- x\n1.2.3.4 x\n\n") == b"<1.2.3.4> x\n"
    assert kept.block(b"- x\n") == b""
    assert kept.block(b"5.6.7.8 x\n- x") == b"<5.6.7.8> x"
    assert (kept.counts.lines, kept.counts.hashed, kept.counts.dropped) == (6, 2, 4)


def test_a_refusal_names_the_line_and_shows_nothing_of_it():
    kept = log(unreadable=Unreadable.REFUSE)
    kept.block(b"1.2.3.4 x\n" * 3)
    with pytest.raises(LogLineRefused) as refusal:
        kept.block(b"1.2.3.4 x\n7.7.7.7, 8.8.8.8 secret\n")
    assert "Line 5 " in str(refusal.value)
    assert "7.7" not in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_the_client_of_a_virtual_hosts_log_is_the_second_field():
    kept = log(LogFormat.VHOST_COMBINED)
    assert kept.block(b"a.example:443 1.2.3.4 - -\nalone\n") == b"a.example:443 <1.2.3.4> - -\nalone\n"
    assert kept.counts.hashed == 1


def test_a_country_is_the_last_field_and_comes_once():
    def place(address):
        return "DE" if str(address) == "1.2.3.4" else None

    kept = log(country=place)
    assert kept.block(b"1.2.3.4 x\r\n5.6.7.8 x\n- x") == b'<1.2.3.4> x "DE"\r\n<5.6.7.8> x "-"\n- x'
    again = log(country=place)
    assert again.block(HASH + b' x "DE"\n') == HASH + b' x "DE"\n'
    members = log(LogFormat.JSON, members=["ip"], country=place)
    assert members.block(b'{"ip":"1.2.3.4"} \n{"ip":"5.6.7.8"}\n{"country":"x","ip":"1.2.3.4"}\n') == (
        b'{"ip":"<1.2.3.4>","country":"DE"} \n{"ip":"<5.6.7.8>","country":null}\n{"country":"x","ip":"<1.2.3.4>"}\n'
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"ip": "1.2.3.4", "x": [1, {"ip": "kept"}]}', '{"ip": "<1.2.3.4>", "x": [1, {"ip": "kept"}]}'),
        ('{"ip":"1.2.3.4","ip":"5.6.7.8"}', '{"ip":"<1.2.3.4>","ip":"<5.6.7.8>"}'),
        ('{"a":{"b":"1.2.3.4","c":1e400}}', '{"a":{"b":"<1.2.3.4>","c":1e400}}'),
        ('{"a.b":"1.2.3.4"}', '{"a.b":"<1.2.3.4>"}'),
        (r'{"i\u0070":"1\u002e2.3.4","n":"é"}', '{"ip":"<1.2.3.4>","n":"é"}'.replace('"ip"', r'"i\u0070"')),
        ('{"é":"1.2.3.4"}', '{"é":"<1.2.3.4>"}'),
        (r'{"\u00e9":"1.2.3.4"}', r'{"\u00e9":"<1.2.3.4>"}'),
        ('{"ip":"1.2.3.4","a":{"b":"-"}}', '{"ip":"<1.2.3.4>","a":{"b":"-"}}'),
        (r'{"x":"\"ip\":\"9.9.9.9\"","ip":"1.2.3.4"}', r'{"x":"\"ip\":\"9.9.9.9\"","ip":"<1.2.3.4>"}'),
        ('{"ip":"1.2.3.4","n":' + "9" * 5000 + "}", '{"ip":"<1.2.3.4>","n":' + "9" * 5000 + "}"),
        # passed on: every address in it is hashed
        ('{"ip":"1.2.3.4, 5.6.7.8","z":"7.7.7.7"}', '{"ip":"<1.2.3.4>, <5.6.7.8>","z":"<7.7.7.7>"}'),
        ('{"ip":["1.2.3.4"]}', '{"ip":["<1.2.3.4>"]}'),
        ('{"ip":null,"z":"7.7.7.7"}', '{"ip":null,"z":"<7.7.7.7>"}'),
        ('{"z":"7.7.7.7"}', '{"z":"<7.7.7.7>"}'),
        ('prefix {"ip":"1.2.3.4"}', 'prefix {"ip":"<1.2.3.4>"}'),
        ('{"ip":"1.2.3.4"', '{"ip":"<1.2.3.4>"'),
        ('{"ip":"1.2.3.4"}{}', '{"ip":"<1.2.3.4>"}{}'),
        ("[" * 100_000, "[" * 100_000),
        ('{"a":' * 5_000 + "1.2.3.4", '{"a":' * 5_000 + "<1.2.3.4>"),
    ],
)
def test_a_line_of_json(line, expected):
    kept = log(LogFormat.JSON, members=["ip", "a.b", "é"])
    assert kept.block(line.encode()).decode() == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abx.é"), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["a", "b", "a.b", "é"]), JSON, max_size=4), st.booleans())
@settings(max_examples=60)
def test_members_are_found_where_a_parser_finds_them(document, escaped):
    line = json.dumps(document, ensure_ascii=escaped).encode().decode("latin-1")
    wanted = [document[name] for name in ("a", "é") if name in document]
    found = [
        json.loads(line[start:end].encode("latin-1")) for start, end, _ in member_spans(line, ["a", "é"])
    ]
    assert sorted(map(repr, found)) == sorted(map(repr, wanted))


@given(st.text(st.sampled_from('{}[]",:\\ a1'), max_size=20))
def test_no_text_of_any_shape_does_harm_as_json(line):
    try:
        document = json.loads(line)
    except ValueError:
        document = None
    try:
        found = member_spans(line, ["a"])
    except NotJson:
        assert not isinstance(document, dict)
    else:
        assert document is None or ("a" in document) == bool(found)


REST = st.binary(max_size=30).map(lambda rest: rest.replace(b"\n", b""))


@given(st.lists(st.tuples(st.ip_addresses(), REST, st.booleans()), min_size=1, max_size=5))
@settings(max_examples=60)
def test_no_client_address_survives_and_every_other_byte_stays(lines):
    given_, expected = [], []
    for address, rest, upper in lines:
        text = str(address).upper() if upper else str(address)
        given_.append(text.encode() + b" " + rest)
        expected.append(f"<{canonicalise(text)}>".encode() + b" " + rest)
    assert log().block(b"\n".join(given_)) == b"\n".join(expected)


@given(st.binary(max_size=300))
@settings(max_examples=60)
def test_of_any_bytes_no_field_that_is_an_address_is_left(content):
    for form in (LogFormat.COMBINED, LogFormat.VHOST_COMBINED):
        for line in log(form).block(content).split(b"\n"):
            client = line.split(b" ")[0 if form is LogFormat.COMBINED else 1 : 2][:1]
            assert all(
                not field.isascii() or isinstance(canonicalise(field.decode()), Reason) for field in client
            )


@given(st.binary(max_size=60), st.integers(1, 7), st.booleans())
@settings(max_examples=60)
def test_blocks_are_the_lines_that_were_written_wherever_they_were_cut(content, size, zipped):
    class Cut(io.BytesIO):
        def read1(self, _size=-1):
            return self.read(size)

    content = b"x" + content.replace(b"\0", b"")
    source = LogSource(Cut(gzip.compress(content) if zipped else content), "a log")
    blocks = list(source.blocks())
    assert b"".join(blocks) == content
    assert all(block.endswith(b"\n") for block in blocks[:-1])


def zipped(content: bytes) -> bytes:
    """Without the moment, which would make each worker collect a test of another name."""
    return gzip.compress(content, mtime=0)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"BZh91AY&SY", "bzip2"),
        (b"\xfd7zXZ\0\0", "xz"),
        (b"\x28\xb5\x2f\xfd\x04", "zstd"),
        (b"PK\x03\x04", "zip"),
        (zipped(zipped(b"1.2.3.4 x\n")), "gzip, twice"),
        (zipped(b"1.2.3.4 x\n")[:-5], "end too early"),
        (zipped(b"1.2.3.4 x\n" * 99)[:15], "end too early"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\0damaged" * 9, "damaged"),
        (zipped(b"1.2.3.4 x\n") + b"rubbish", "damaged"),
        ("1.2.3.4 x\n".encode("utf-16"), "UTF-16"),
        ("1.2.3.4 x\n".encode("utf-16-be"), "UTF-16"),
        (b"x" * 3_000, "a line of more than"),
    ],
)
def test_what_would_pass_through_unread_is_refused(content, problem, monkeypatch):
    monkeypatch.setattr(log_source, "MAX_LINE", 2_000)
    with pytest.raises(LogUnreadable, match=problem):
        list(LogSource(io.BytesIO(content), "a log").blocks())


def test_several_gzip_members_are_one_log():
    content = gzip.compress(b"a\n") + gzip.compress(b"b\n")
    assert b"".join(LogSource(io.BytesIO(content), "a log").blocks()) == b"a\nb\n"
