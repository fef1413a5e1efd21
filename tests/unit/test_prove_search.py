"""The byte search: every reading of a place, whatever stands beside it."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.prove import files, inline_values, page, toast
from backfill.prove.recognise import NOBODY
from backfill.prove.search import MARGIN, groups

V4 = st.integers(2**24, 2**32 - 1).map(lambda number: str(IPv4Address(number)))
V6 = st.integers(0x2001 << 112, 0x2002 << 112).map(lambda number: str(IPv6Address(number)))
# What may stand next to a value in a page: another value, without a separator.
NEIGHBOUR = st.binary(max_size=20)


def texts(piece: bytes) -> set[str]:
    return {text for group in groups(piece) for text in group}


@given(NEIGHBOUR, st.one_of(V4, V6), NEIGHBOUR)
def test_an_address_is_found_between_any_neighbours_or_continues_in_them(before, address, after):
    # A dot or colon next to it makes another text of it; the margin has to hold the rest.
    piece = before.rstrip(b".:") + b"|" + address.encode() + b"|" + after.lstrip(b".:")
    assert address in texts(piece)


@given(V4, st.sampled_from("0123456789"), st.sampled_from("0123456789"))
def test_digits_of_a_neighbour_do_not_hide_an_ipv4_address(address, before, after):
    assert address in texts(f"x{address}{after}{after}x".encode())
    if len(address.split(".")[0]) < 3:
        assert address in texts(f"x{before}{address}x".encode())


@given(V6, st.text("0123456789abcdefACE", max_size=6), st.text("0123456789abcdef", max_size=6))
def test_hex_digits_of_a_neighbour_do_not_hide_an_ipv6_address(address, before, after):
    assert address in texts(f"x{before}{address}{after}x".encode())


@pytest.mark.parametrize(
    ("stored", "address"),
    [
        (b"\x0f\x02\x20\xcb\x00\x71\x09", "203.0.113.9"),
        (b"\x28\0\0\0\x02\x20\xcb\x00\x71\x09", "203.0.113.9"),
        (b"\x27\x03\x80" + IPv6Address("2001:db8::9").packed, "2001:db8::9"),
        (b"\x58\0\0\0\x03\x80" + IPv6Address("2001:db8::9").packed, "2001:db8::9"),
        # Mapped, with a mask, as keys of GiST, and in extended statistics, as PostgreSQL 18 and 15 store them.
        (b"\x27\x03\x80" + IPv6Address("::ffff:203.0.113.9").packed, "203.0.113.9"),
        (b"\x27\x03\x78" + IPv6Address("::ffff:203.0.113.9").packed, "203.0.113.9"),
        (b"\x0f\x02\x18\xcb\x00\x71\x09", "203.0.113.9"),
        (b"\x28\0\0\0\x02\x18\xcb\x00\x71\x09", "203.0.113.9"),
        (b"\x58\0\0\0\x03\x40" + IPv6Address("2001:db8::9").packed, "2001:db8::9"),
        (b"\x06\0\0\0\x02\x20\xcb\x00\x71\x09", "203.0.113.9"),
        (b"\x12\0\0\0\x03\x80" + IPv6Address("2001:db8::9").packed, "2001:db8::9"),
        (b"\x11\x02\x20\x20\xcb\x00\x71\x09", "203.0.113.9"),
        (b"\x29\x03\x40\x80" + IPv6Address("2001:db8::9").packed, "2001:db8::9"),
        (b"::FFFF:203.0.113.9", "203.0.113.9"),
        (b"2001:0DB8:0000:0000:0000:0000:0000:0009", "2001:db8::9"),
    ],
)
def test_binary_and_odd_spellings_are_found(stored, address):
    assert address in texts(b"\xff" * 9 + stored + b"\xff" * 9)


def test_a_value_with_a_mask_counts_for_nothing_unless_it_is_recognised():
    """Random bytes look so."""
    (full,), (masked,) = (
        list(groups(b"\x0f\x02" + bits + b"\xcb\x00\x71\x09")) for bits in (b"\x20", b"\x18")
    )
    assert full[0] == "203.0.113.9"
    assert masked[0] in NOBODY


@pytest.mark.parametrize(
    "innocent",
    [b"10:11:12.131415", b"2023-05-01 10:11:12", b"aa:bb:cc:dd:ee:ff", b"1.2.3", b"1.2.999.3", b"..::"],
)
def test_times_macs_and_short_versions_are_none(innocent):
    assert texts(innocent) <= {"::"}


def test_each_hit_of_a_large_file_is_counted_once_wherever_the_pieces_end(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PIECE", 4 * MARGIN)
    content = b"".join(
        b"%d.7.8.9" % (number % 200 + 1) + b"." * (number % 7) + b"|" * 40 for number in range(500)
    )
    content = content.replace(b".|", b"|")
    (tmp_path / "file").write_bytes(content)
    whole = sum(1 for _ in groups(content))
    folder = files.LocalFiles(tmp_path)
    in_pieces = sum(
        1 for piece, first, last in files.pieces(folder, "file") for _ in groups(piece, first, last)
    )
    assert whole > 400
    assert in_pieces == whole


@given(st.binary(max_size=3 * page.SIZE))
def test_rubbish_in_a_page_is_read_without_a_word(data):
    list(page.tuples(data))
    list(toast.values(data))


@given(st.binary(max_size=200))
def test_rubbish_that_looks_compressed_comes_back_as_it_is_or_as_long_as_it_says(data):
    found = toast.decompressed(data)
    assert found == data or len(found) == int.from_bytes(data[:4], "little") & 0x3FFFFFFF


# '203.0.1 0.113.9 seen from 203.0.113.9 nothing of the kind; …' (878 bytes), as PostgreSQL 18 and 15 laid it
# into the row; the address itself is in neither.
COMPRESSED = {
    "pglz": "2e0100006e030000003230332e302e312000302e3131332e3920007365656e2066726f0c6d20041a02166e6f74680069"
    "6e67206f662074006865206b696e643b070f15ff0f15ff0f15ff20",
    "lz4": "2e0100006e030040f30b3230332e302e3120302e3131332e39207365656e2066726f6d201a00011600ff056e6f746869"
    "6e67206f6620746865206b696e643b1500ffffff1f50696e643b20",
}


@pytest.mark.parametrize("method", COMPRESSED)
@given(before=st.binary(max_size=40), after=st.binary(max_size=40))
def test_a_value_compressed_in_its_row_is_found_at_any_place(method, before, after):
    stored = bytes.fromhex(COMPRESSED[method])
    assert b"203.0.113.9" not in stored
    piece = before + stored + after
    found = [
        inline_values.value(piece, at, length)
        for at, length in inline_values.candidates(piece, 0, len(piece))
    ]
    assert any("203.0.113.9" in texts(value) for value in found if value)


@pytest.mark.parametrize("method", COMPRESSED)
def test_a_compressed_value_that_is_cut_or_changed_is_none(method):
    stored = bytes.fromhex(COMPRESSED[method])
    length = len(stored)
    assert inline_values.value(stored[:-1], 0, length) is None
    assert inline_values.value(stored[:4] + b"\xff" + stored[5:], 0, length) is None
    assert list(inline_values.candidates(stored, 1, length)) == []


@given(st.binary(max_size=3 * page.SIZE))
def test_rubbish_is_searched_for_compressed_values_without_a_word(data):
    for at, length in inline_values.candidates(data, 0, len(data)):
        inline_values.value(data, at, length)
