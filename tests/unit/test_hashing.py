"""The formulas of the live application, and a salt that does not show itself."""

import copy
import hashlib
import hmac
import os
import pickle
import stat
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.errors import SaltUnusable
from backfill.hashing.hmac_sha256 import HMAC_SHA256
from backfill.hashing.salt import MIN_SALT_BYTES, Salt, make_salt_file, read_salt_file
from backfill.hashing.schemes import scheme_names
from backfill.hashing.sha256 import SHA256_PREFIX, SHA256_SUFFIX, SHA256_UNSALTED

SECRET = "correct horse battery staple"
PEPA = Salt("pepa", source="test", allow_weak=True)

GOLDEN = [  # as the live application computes them
    (SHA256_SUFFIX.name, "1.2.3.4", "a69a49383d81404e4b1df297c7baa28e1cd6c4ee1495ed5d0ab165a63a147763"),
    (SHA256_SUFFIX.name, "2001:db8::1", "30ea73bfd8ed312fad4f49e6d574e7539a4e7fbae9adb1719d449209e1ca2840"),
    (SHA256_UNSALTED.name, "1.2.3.4", "6694f83c9f476da31f5df6bcc520034e7e57d421d247b9d34f49edbfc84a764c"),
]


@pytest.mark.parametrize(("scheme", "text", "digest"), GOLDEN)
def test_a_scheme_gives_the_hash_that_the_live_application_stored(
    scheme: str, text: str, digest: str
) -> None:
    assert PEPA.hasher(scheme)(text) == digest


@given(st.ip_addresses().map(str), st.text(st.characters(codec="utf-8"), min_size=1))
def test_every_scheme_is_its_formula(text: str, value: str) -> None:
    salt = Salt(value, source="test", allow_weak=True, exact=True)
    expected = {
        SHA256_SUFFIX.name: hashlib.sha256((text + value).encode()).hexdigest(),
        SHA256_PREFIX.name: hashlib.sha256((value + text).encode()).hexdigest(),
        SHA256_UNSALTED.name: hashlib.sha256(text.encode()).hexdigest(),
        HMAC_SHA256.name: hmac.new(value.encode(), text.encode(), "sha256").hexdigest(),
    }
    assert {scheme: salt.hasher(scheme)(text) for scheme in scheme_names()} == expected


def test_a_salt_shows_itself_nowhere() -> None:
    salt = Salt(SECRET, source="test")
    shown = [
        repr(salt),
        str(salt),
        f"{salt}",
        f"{salt!r:>40}",
        f"{[salt]}",
        repr(salt.hasher(HMAC_SHA256.name)),
    ]
    assert not [text for text in shown if SECRET in text]
    assert not hasattr(salt, "__dict__")


@pytest.mark.parametrize("travel", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_salt_does_not_travel(travel) -> None:
    with pytest.raises(TypeError, match="does not travel") as caught:
        travel(Salt(SECRET, source="test"))
    assert SECRET not in with_locals(caught.value)


def with_locals(error: BaseException) -> str:
    """The traceback with the local variables of our own frames, causes and contexts included."""
    return "".join(
        line
        for line in traceback.TracebackException.from_exception(error, capture_locals=True).format()
        if __file__ not in line  # the test itself knows the secret
    )


def test_a_traceback_with_local_variables_does_not_show_the_salt(tmp_path: Path) -> None:
    not_text = tmp_path / "salt"
    not_text.write_bytes(SECRET.encode() + b"\xff")
    not_text.chmod(0o600)
    short = tmp_path / "short"
    short.write_text(SECRET[:7])
    short.chmod(0o600)
    odd = tmp_path / "odd"
    odd.write_text(f" {SECRET}")
    odd.chmod(0o644)
    for fails, shown in [
        (lambda: Salt(SECRET[:7], source="test"), SECRET[:7]),
        (lambda: Salt(SECRET + "\udcff", source="test"), SECRET),
        (lambda: read_salt_file(not_text), SECRET),
        (lambda: read_salt_file(short), SECRET[:7]),
        (lambda: read_salt_file(odd), SECRET),
        (lambda: Salt(f'"{SECRET}"', source="test"), SECRET),
        *(
            (lambda s=scheme: Salt(SECRET, source="test").hasher(s)("\ud800"), SECRET)
            for scheme in scheme_names()
        ),
    ]:
        with pytest.raises((SaltUnusable, UnicodeEncodeError)) as caught:
            fails()
        assert shown not in with_locals(caught.value)


@pytest.mark.parametrize(
    ("value", "problem"),
    [("", "empty"), ("x" * (MIN_SALT_BYTES - 1), "shorter"), ("\udcff" * 20, "not UTF-8")],
)
def test_an_unusable_salt_is_refused_with_its_source_and_not_with_its_value(value: str, problem: str) -> None:
    with pytest.raises(SaltUnusable, match=problem) as caught:
        Salt(value, source="BACKFILL_IP_SALT")
    assert "BACKFILL_IP_SALT" in str(caught.value)
    assert not value or value not in str(caught.value)


def test_a_weak_salt_is_taken_when_the_operator_says_so_and_an_empty_one_never() -> None:
    assert Salt("short", source="test", allow_weak=True)
    with pytest.raises(SaltUnusable):
        Salt("", source="test", allow_weak=True)


def test_length_is_counted_in_bytes() -> None:
    assert Salt("ä" * (MIN_SALT_BYTES // 2), source="test")


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"%s", "%s"),
        (b"%s\n", "%s"),
        (b"%s\r\n", "%s"),
        (b"%s\n\n", "%s\n"),  # one line end, no more
        (b" %s ", " %s "),  # spaces may be part of it, where the operator says so
        (b"a\r\nb%s\n", "a\r\nb%s"),  # inside, bytes are left as they are
    ],
)
def test_a_salt_file_loses_one_line_end_and_nothing_else(tmp_path: Path, content: bytes, value: str) -> None:
    path = tmp_path / "salt"
    path.write_bytes(content % SECRET.encode())
    path.chmod(0o600)
    expected = Salt(value % SECRET, source="test", exact=True).hasher(SHA256_SUFFIX.name)("1.2.3.4")
    assert read_salt_file(path, exact=True).hasher(SHA256_SUFFIX.name)("1.2.3.4") == expected


def test_an_unreadable_salt_file_is_one_line_that_names_it(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    for path in (tmp_path, tmp_path / "missing", empty):
        with pytest.raises(SaltUnusable) as caught:
            read_salt_file(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_made_salt_is_private_random_and_kept(tmp_path: Path) -> None:
    path, other = tmp_path / "home" / "salt", tmp_path / "other"
    before = os.umask(0)
    try:
        first = make_salt_file(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_text().strip()) == 64
    hashed = first.hasher(SHA256_SUFFIX.name)("1.2.3.4")
    assert make_salt_file(path).hasher(SHA256_SUFFIX.name)("1.2.3.4") == hashed
    assert make_salt_file(other).hasher(SHA256_SUFFIX.name)("1.2.3.4") != hashed
    assert sorted(os.listdir(path.parent)) == [".gitignore", "salt"]  # noqa: PTH208


def test_two_commands_at_once_get_the_same_made_salt(tmp_path: Path) -> None:
    path = tmp_path / "salt"
    with ThreadPoolExecutor(8) as pool:
        salts = list(pool.map(lambda _: make_salt_file(path), range(32)))
    assert len({salt.hasher(SHA256_SUFFIX.name)("1.2.3.4") for salt in salts}) == 1


def test_a_made_salt_with_no_place_to_go_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SaltUnusable, match="Not a directory"):
        make_salt_file(tmp_path / "file" / "salt")


def test_the_verifier_tells_salts_apart_and_depends_on_the_nonce() -> None:
    salt, same, other = (Salt(value, source="test") for value in (SECRET, SECRET, SECRET + "!"))
    verifier = salt.verifier(b"nonce")
    assert len(verifier) == 32
    assert same.verifier(b"nonce") == verifier
    assert other.verifier(b"nonce") != verifier
    assert salt.verifier(b"another") != verifier
