"""Results appear whole under their name or not at all; input is read within bounds."""

import json
import os
import stat
import threading
import tomllib
from pathlib import Path

import pytest

from backfill import files
from backfill.errors import InputUnreadable, OutputUnwritable
from backfill.files import read_text, read_toml, require_suffix, write_whole


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_new_file_has_the_mode_of_any_new_file_and_an_old_one_keeps_its_own(tmp_path):
    mask = os.umask(0o027)
    try:
        write_whole(tmp_path / "new", "one")
    finally:
        os.umask(mask)
    old = tmp_path / "old"
    old.write_text("before")
    old.chmod(0o604)
    write_whole(old, "after")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    assert (old.read_text(), stat.S_IMODE(old.stat().st_mode)) == ("after", 0o604)
    assert names(tmp_path) == ["new", "old"]


def test_a_link_is_followed_and_stays_also_one_to_a_file_that_is_not_there_yet(tmp_path):
    for name in ("there", "not-yet"):
        link = tmp_path / f"to-{name}"
        link.symlink_to(tmp_path / name)
        if name == "there":
            (tmp_path / name).write_text("before")
        write_whole(link, "after")
        assert link.is_symlink()
        assert (tmp_path / name).read_text() == "after"


def test_an_open_file_of_before_is_not_written_into(tmp_path):
    path = tmp_path / "report"
    path.write_text("before")
    with path.open() as reader:
        write_whole(path, "after" * 1000)
        assert reader.read() == "before"


def test_what_fails_in_the_middle_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "report"
    path.write_text("before")
    monkeypatch.setattr(
        files.os, "fsync", lambda _descriptor: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(OutputUnwritable, match="No space left"):
        write_whole(path, "after")
    with pytest.raises(OutputUnwritable, match="No space left"):
        write_whole(tmp_path / "private", "after", private=True)
    assert path.read_text() == "before"
    assert names(tmp_path) == ["report"]


def test_a_private_file_is_its_owners_and_never_takes_the_place_of_another(tmp_path):
    path = tmp_path / "rows"
    write_whole(path, "one", private=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(OutputUnwritable, match="is there already"):
        write_whole(path, "two", private=True)
    (tmp_path / "elsewhere").write_text("theirs")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputUnwritable, match="is there already"):
        write_whole(tmp_path / "link", "two", private=True)
    assert (path.read_text(), (tmp_path / "elsewhere").read_text()) == ("one", "theirs")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("nowhere/report", "there is no folder"),
        ("", "it is a folder"),
        ("file/report", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("nul\0byte", "no file can have that name"),
    ],
)
def test_a_place_that_cannot_be_is_named(tmp_path, name, problem):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputUnwritable, match=problem):
        write_whole(tmp_path / name, "text")
    assert names(tmp_path) == ["file"]


def test_a_device_and_a_pipe_are_written_as_they_are(tmp_path):
    write_whole(Path(os.devnull), "text")
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    heard: list[str] = []
    reader = threading.Thread(target=lambda: heard.append(pipe.read_text()))
    reader.start()
    write_whole(pipe, "text")
    reader.join()
    assert heard == ["text"]


def test_a_suffix_that_promises_another_format_is_refused_with_those_that_are_known():
    with pytest.raises(
        OutputUnwritable, match=r"\.pdf is not a format that is written; known are \.html, \.md"
    ):
        require_suffix(Path("a.pdf"), [".html", ".md"])
    require_suffix(Path("a.md"), [".html", ".md"])
    require_suffix(Path("/dev/stdout"), [".html", ".md"])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a=" + b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b"a=" + b"9" * 5_000, "out of range"),
        (b"a=2024-02-31", "not TOML"),
        (bytes(range(256)), "byte 129 is not UTF-8"),
        (b'a = "\0"', "not TOML"),
        (b"\xff\xfea\0=\x001\0", "byte 1 is not UTF-8"),  # UTF-16, as some editors save it
    ],
)
def test_odd_toml_is_one_error(tmp_path, content, problem):
    (tmp_path / "odd.toml").write_bytes(content)
    with pytest.raises(InputUnreadable, match=problem):
        read_toml(tmp_path / "odd.toml")


def test_a_byte_order_mark_is_no_content(tmp_path):
    (tmp_path / "marked.toml").write_bytes(b"\xef\xbb\xbfa = 1")
    assert read_toml(tmp_path / "marked.toml") == tomllib.loads("a = 1")


def test_a_folder_a_device_a_huge_file_and_a_silent_pipe_are_no_input(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PIPE_SECONDS", 0.2)
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(files.LARGEST_INPUT + 1)
    os.mkfifo(tmp_path / "silent")
    keeps_open = os.open(tmp_path / "silent", os.O_RDWR)
    for path, problem in (
        (tmp_path, "Is a directory|a folder"),
        (Path("/dev/zero"), "neither a file nor a pipe"),
        (tmp_path / "huge", "more than 64 MiB"),
        (tmp_path / "silent", "nobody wrote to it"),
        (tmp_path / "nowhere", "No such file"),
    ):
        with pytest.raises(InputUnreadable, match=problem):
            read_text(path)
    os.close(keeps_open)


def test_a_pipe_whose_writer_takes_its_time_is_read_to_its_end(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    keeps_open = os.open(pipe, os.O_RDWR)
    timer = threading.Timer(
        0.3, lambda: (os.write(keeps_open, json.dumps([1]).encode()), os.close(keeps_open))
    )
    timer.start()
    assert read_text(pipe) == "[1]"
    timer.join()
