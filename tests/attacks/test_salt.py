"""A salt that others can read, and a salt that is not quite the live one: refused by name, never taken silently."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from backfill.errors import SaltUnusable
from backfill.hashing.salt import Salt, read_salt_file
from backfill.hashing.sha256 import SHA256_SUFFIX
from tests.operator import Operator

SECRET = "correct horse battery staple"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path):
    """A salt file as it should be."""
    path = tmp_path / "the salt"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    return path


def refused(path, **accepted):
    with pytest.raises(SaltUnusable) as caught:
        read_salt_file(path, **accepted)
    text = str(caught.value)
    assert str(path) in text
    assert "horse" not in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o444, 0o440])
def test_a_file_that_others_may_read_is_refused_unless_a_setting_accepts_it(file, mode):
    file.chmod(mode)
    text = refused(file)
    assert f"chmod 600 '{file}'" in text
    assert "BACKFILL_ACCEPT_OPEN_SALT_FILE=1" in text
    assert read_salt_file(file, accept_open=True)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o660])
def test_a_file_that_others_may_write_is_refused_whatever_is_accepted(file, mode):
    file.chmod(mode)
    assert "may write it" in refused(file, accept_open=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can read another user's private file")
def test_a_file_of_another_user_is_refused_unless_a_setting_accepts_it(file):
    os.chown(file, 65_534, 65_534)
    text = refused(file)
    assert "belongs to user id 65534" in text
    assert f"chown 0 '{file}'" in text
    assert read_salt_file(file, accept_open=True)


def test_a_link_is_followed_and_the_files_own_mode_counts(file, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(file)
    assert read_salt_file(link)
    file.chmod(0o644)
    assert "may read it" in refused(link)


def a_pipe(path):
    os.mkfifo(path, 0o600)


def a_folder(path):
    path.mkdir()


def a_link_to_nowhere(path):
    path.symlink_to(path.with_name("gone"))


def a_link_to_itself(path):
    path.symlink_to(path)


def a_device(path):
    path.symlink_to("/dev/zero")


def a_huge_file(path):
    with path.open("wb") as sparse:
        sparse.truncate(1 << 40)
    path.chmod(0o600)


def a_file_of_proc_without_a_size(path):
    path.symlink_to("/proc/self/smaps")


def a_socket(path):
    import socket

    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


KINDS = [
    (a_pipe, "named pipe"),
    (a_folder, "folder"),
    (a_link_to_nowhere, "leads nowhere"),
    (a_link_to_itself, "circle"),
    (a_device, "device"),
    (a_huge_file, "1,099,511,627,776 bytes"),
    (a_file_of_proc_without_a_size, "longer than 4,096 bytes"),
    (a_socket, "socket"),
]


@pytest.mark.parametrize(("make", "said"), KINDS, ids=[make.__name__ for make, _ in KINDS])
def test_what_is_no_plain_file_is_named_at_once(tmp_path, make, said):
    path = tmp_path / "salt"
    make(path)
    # In a process of its own: where this hangs, it hangs for good.
    script = (
        "import sys; from pathlib import Path; from backfill.hashing.salt import read_salt_file\n"
        "try: read_salt_file(Path(sys.argv[1]), accept_open=True)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.startswith("SaltUnusable")
    assert said in done.stdout
    assert done.stderr == ""


ODD = {
    "byte order mark": (b"\xef\xbb\xbf%s\n", "byte order mark"),
    "UTF-16": (b"\xff\xfe%s", "not UTF-8"),
    "UTF-16 without a mark": (b"\0".join(bytes([byte]) for byte in b"correct horse battery"), "NUL"),
    "space before": (b" %s\n", "space"),
    "space behind": (b"%s \n", "space"),
    "no-break space behind": (b"%s\xc2\xa0\n", "space"),
    "tab behind": (b"%s\t\n", "control character"),
    "second line": (b"%s\nsecond\n", "more than one line"),
    "empty second line": (b"%s\n\n", "more than one line"),
    "line ends of a Mac": (b"%s\rsecond", "more than one line"),
    "empty line before": (b"\n%s\n", "more than one line"),
    "NUL behind": (b"%s\0", "NUL"),
    "escape": (b"\x1b[1m%s\n", "control character"),
    "zero-width space": (b"%s\xe2\x80\x8b\n", "invisible"),
    "double quotes": (b'"%s"\n', "quotation marks"),
    "single quotes": (b"'%s'\n", "quotation marks"),
    "typographic quotes": ("“%s”\n".encode(), "quotation marks"),
    "assignment": (b"BACKFILL_IP_SALT=%s\n", "assignment"),
    "export": (b"export WAREHOUSE_IP_SALT=%s\n", "assignment"),
    "template": (b"${THE_SALT_OF_PRODUCTION}\n", "nobody filled in"),
    "template of Jinja": (b"{{ vault.the.salt }}\n", "nobody filled in"),
    "placeholder": (b"<put the salt here>\n", "nobody filled in"),
    "Latin-1": (b"%s\xe4\n", "not UTF-8"),
    "nothing": (b"\n", "empty"),
}


def filled(content):
    return content % SECRET.encode() if b"%s" in content else content


@pytest.mark.parametrize(("content", "said"), ODD.values(), ids=ODD)
def test_a_text_that_is_not_quite_the_salt_is_refused_by_name(file, content, said):
    file.write_bytes(filled(content))
    assert said in refused(file)


@pytest.mark.parametrize(("content", "said"), ODD.values(), ids=ODD)
def test_the_same_in_the_variable(content, said):
    text = filled(content)
    if b"\0" in text or said in ("not UTF-8", "empty"):
        pytest.skip("no variable can hold it, or it is tested elsewhere")
    value = text.decode().removesuffix("\n")
    with pytest.raises(SaltUnusable, match=said) as caught:
        Salt(value, source="BACKFILL_IP_SALT")
    assert "BACKFILL_IP_SALT" in str(caught.value)
    assert "horse" not in str(caught.value)
    assert Salt(value, source="BACKFILL_IP_SALT", exact=True)


def test_a_line_end_behind_the_variable_is_named_as_well():
    for end in ("\n", "\r\n"):
        with pytest.raises(SaltUnusable, match="more than one line"):
            Salt(SECRET + end, source="BACKFILL_IP_SALT")


def test_an_exact_salt_is_taken_to_the_byte(file):
    file.write_bytes(f' "{SECRET}" \n'.encode())
    taken = read_salt_file(file, exact=True).hasher(SHA256_SUFFIX.name)("1.2.3.4")
    assert taken == Salt(f' "{SECRET}" ', source="tests", exact=True).hasher(SHA256_SUFFIX.name)("1.2.3.4")
    assert taken != Salt(SECRET, source="tests").hasher(SHA256_SUFFIX.name)("1.2.3.4")


def test_the_command_says_so_and_the_settings_help(fresh_demo: Operator, file):
    file.write_text(fresh_demo.variables["BACKFILL_IP_SALT"] + "\n")
    file.chmod(0o444)
    with_file = fresh_demo.having(ip_salt="", ip_salt_file=str(file))
    said = with_file.types("calibrate", expect=2)
    assert f"chmod 600 '{file}'" in said.err
    with_file.having(accept_open_salt_file="1").types("calibrate")
    file.chmod(0o600)
    with_file.types("calibrate")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
