"""Other people's folders where ours would be: nothing in them is changed, and the refusal names them."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from backfill.cli.server import server
from backfill.embedded import EmbeddedServer
from backfill.errors import EmbeddedServerFailed, FolderNotOurs
from backfill.hashing.salt import make_salt_file
from tests.conftest import temporary_home
from tests.databases import query
from tests.operator import BIN

AS_ROOT = os.geteuid() == 0
NOBODY = 65_534
MARKER = ".made-by-backfill"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def home():
    """A home in which somebody else was before us."""
    with tempfile.TemporaryDirectory(prefix="backfill-test-") as folder:
        Path(folder).chmod(0o711)
        place = Path(folder) / "home"
        place.mkdir()
        yield place


@pytest.fixture(scope="module")
def running():
    """A server of ours that runs."""
    with temporary_home() as folder:
        embedded = EmbeddedServer(folder)
        embedded.ensure()
        yield embedded


def snapshot(folder):
    """Every entry below *folder* with what a change would show."""
    found = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        entry = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(entry.st_mode) else None
        found[str(path)] = (entry.st_mode, entry.st_uid, entry.st_gid, entry.st_ino, content)
    return found


def docker_compose(home):
    """The layout of a compose file with a volume for PostgreSQL, its data not initialised by us."""
    data = home / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "important").write_text("the only copy\n")


def docker_compose_of_our_major(home):
    docker_compose(home)
    (home / "postgres" / "data" / "PG_VERSION").write_text("18\n")


def empty_data(home):
    (home / "postgres" / "data").mkdir(parents=True)
    (home / "postgres" / "data.backup").mkdir()


def a_file(home):
    (home / "postgres").write_text("notes\n")


def a_pipe(home):
    os.mkfifo(home / "postgres")


def a_link_to_a_folder(home):
    (home / "elsewhere").mkdir(mode=0o755)
    (home / "elsewhere" / "important").write_text("the only copy\n")
    (home / "postgres").symlink_to(home / "elsewhere")


def a_link_to_nowhere(home):
    (home / "postgres").symlink_to(home / "gone")


def a_link_to_a_folder_with_a_forged_marker(home):
    a_link_to_a_folder(home)
    (home / "elsewhere" / MARKER).write_text(genuine_marker(home))


def a_marker_that_is_a_link(home):
    docker_compose(home)
    (home / "forged").write_text(genuine_marker(home))
    (home / "postgres" / MARKER).symlink_to(home / "forged")


def a_marker_that_is_a_pipe(home):
    docker_compose(home)
    os.mkfifo(home / "postgres" / MARKER)


def a_marker_that_others_may_write(home):
    docker_compose(home)
    (home / "postgres" / MARKER).write_text(genuine_marker(home))
    (home / "postgres" / MARKER).chmod(0o666)


def a_marker_with_other_words(home):
    docker_compose(home)
    (home / "postgres" / MARKER).write_text("\n")


def a_folder_of_another_user(home):
    docker_compose(home)
    (home / "postgres" / MARKER).write_text(genuine_marker(home))
    os.chown(home / "postgres", NOBODY, NOBODY)


def genuine_marker(home):
    first = "Made by Backfill for its embedded PostgreSQL. Do not copy this file into other folders."
    return f"{first}\n{json.dumps(str(home / 'postgres'))}\n"


FOREIGN = [
    docker_compose,
    docker_compose_of_our_major,
    empty_data,
    a_file,
    a_pipe,
    a_link_to_a_folder,
    a_link_to_nowhere,
    a_link_to_a_folder_with_a_forged_marker,
    a_marker_that_is_a_link,
    a_marker_that_is_a_pipe,
    a_marker_that_others_may_write,
    a_marker_with_other_words,
    pytest.param(
        a_folder_of_another_user,
        marks=pytest.mark.skipif(not AS_ROOT, reason="only root can give folders away"),
    ),
]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_a_foreign_folder_is_named_and_stays_as_it_was(home, foreign, monkeypatch):
    foreign(home)
    before = snapshot(home)
    embedded = EmbeddedServer(home)
    for act in (embedded.ensure, embedded.stop, embedded.remove, embedded.url, embedded.status):
        with pytest.raises((FolderNotOurs, EmbeddedServerFailed)) as refusal:
            act()
        assert str(home / "postgres") in str(refusal.value)
        assert "BACKFILL_HOME" in str(refusal.value)
        assert "\n" not in str(refusal.value)
    monkeypatch.setenv("BACKFILL_HOME", str(home))
    assert CliRunner().invoke(server, ["stop", "--delete"]).exit_code != 0
    assert snapshot(home) == before


def test_an_empty_folder_is_taken_and_marked(home):
    (home / "postgres").mkdir(mode=0o755)
    embedded = EmbeddedServer(home)
    embedded.url()
    assert (home / "postgres" / MARKER).is_file()
    embedded.remove()
    assert list(home.iterdir()) == []


def test_a_home_that_every_user_may_write_to_is_refused(home):
    home.chmod(0o777)
    with pytest.raises(EmbeddedServerFailed, match="every user may write"):
        EmbeddedServer(home).url()
    home.chmod(0o1777)  # as /tmp is: nobody can take away what is ours
    EmbeddedServer(home).url()


@pytest.mark.skipif(not AS_ROOT, reason="only root can give folders away")
def test_a_home_of_another_user_is_refused(home):
    os.chown(home, NOBODY, NOBODY)
    with pytest.raises(EmbeddedServerFailed, match=f"belongs to user id {NOBODY}"):
        EmbeddedServer(home).url()
    assert list(home.iterdir()) == []


def test_a_home_that_is_a_link_is_the_operators_choice(home):
    link = home.parent / "link"
    link.symlink_to(home)
    EmbeddedServer(link).url()
    EmbeddedServer(home).remove()


@pytest.mark.parametrize("name", ["data", "socket", "lock", "binaries", "annex"])
def test_links_inside_our_folder_are_not_followed(home, name):
    """Root handed ``socket`` and ``data`` to the server's user, whatever they led to."""
    other = home.parent / "other"
    other.mkdir(mode=0o755)
    (other / "important").write_text("the only copy\n")
    embedded = EmbeddedServer(home)
    embedded.url()
    own = home / "postgres"
    if (own / name).is_dir():
        shutil.rmtree(own / name)
    (own / name).unlink(missing_ok=True)
    (own / name).symlink_to(other / "important" if name == "lock" else other)
    before = snapshot(other)
    if name != "annex":  # that one is a link by nature; where it leads carries the marker or is not used
        with pytest.raises((FolderNotOurs, EmbeddedServerFailed)):
            embedded.ensure() if name != "binaries" else _copy_binaries(own / name)
    assert snapshot(other) == before
    (own / name).unlink()
    embedded.remove()
    assert snapshot(other) == before


def _copy_binaries(copies):
    from backfill.embedded.binaries import Binaries
    from backfill.embedded.user import ServerUser

    class Nobody(ServerUser):
        """Reaches nothing, so that a copy has to be made."""

        def run(self, *command, stderr=subprocess.PIPE):
            return subprocess.run(["false"], check=False, capture_output=True, text=True)

    Binaries.find().within_reach_of(Nobody(), copies)


def test_removal_does_not_follow_links_in_the_data(home):
    embedded = EmbeddedServer(home)
    embedded.url()
    other = home.parent / "other"
    other.mkdir()
    (other / "important").write_text("the only copy\n")
    inner = home / "postgres" / "data.making-x"
    inner.mkdir()
    (inner / "to").symlink_to(other)
    os.link(other / "important", inner / "hard")
    embedded.remove()
    assert (other / "important").read_text() == "the only copy\n"


def test_a_copy_of_the_data_beside_it_survives_a_new_start(home):
    """What begins with "data." was removed unasked before initdb."""
    embedded = EmbeddedServer(home)
    embedded.url()
    kept = home / "postgres" / "data.backup"
    kept.mkdir()
    (kept / "important").write_text("the only copy\n")
    half = home / "postgres" / "data.making-dead"
    half.mkdir()
    try:
        embedded.ensure()
        assert (kept / "important").exists()
        assert not half.exists()
    finally:
        embedded.remove()


def test_a_copied_home_does_not_remove_the_annex_of_its_original():
    with temporary_home() as folder:
        home = folder / "with, comma"
        original = EmbeddedServer(home)
        original.url()
        annex = (home / "postgres" / "annex").readlink()
        (annex / "important").write_text("the only copy\n")
        copied = folder / "the copy"
        shutil.copytree(home, copied, symlinks=True)
        EmbeddedServer(copied).remove()
        assert (annex / "important").exists()
        original.remove()
        assert not annex.exists()


def test_there_is_no_way_in_over_tcp_and_none_without_a_name(running):
    rules = query(running.url(), "select type, auth_method, options::text from pg_hba_file_rules")
    assert {rule[0] for rule in rules} == {"local"}
    assert {rule[1] for rule in rules} == {"peer"}


@pytest.mark.skipif(not AS_ROOT, reason="takes two users")
def test_another_account_that_reaches_the_socket_is_turned_away(running):
    found = running.status()
    script = (
        "import os, sys, psycopg2; os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[3]));"
        "psycopg2.connect(host=sys.argv[1], user='backfill', dbname='postgres')"
    )
    gid = found.data.stat().st_gid
    modes = [
        (path, stat.S_IMODE(path.stat().st_mode)) for path in (found.socket, found.socket / ".s.PGSQL.5432")
    ]
    try:
        for path, _ in modes:
            path.chmod(0o777)  # as if the folder had been opened by mistake
        stranger = subprocess.run(
            [sys.executable, "-c", script, found.socket, str(gid), "1"],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        for path, mode in modes:
            path.chmod(mode)
    assert stranger.returncode != 0
    assert "authentication failed" in stranger.stderr


@pytest.mark.skipif(not AS_ROOT, reason="takes two users")
def test_a_process_of_another_user_under_our_servers_words_is_neither_believed_nor_signalled(running):
    running.stop()
    found = running.status()
    words = ["/fake/postgres", "-c", "read wait", "-D", str(found.data)]
    impostor = subprocess.Popen(
        words, executable="/bin/sh", user=1, group=1, extra_groups=[], stdin=subprocess.PIPE
    )
    try:
        (found.data / "postmaster.pid").write_text(f"{impostor.pid}\n{found.data}\n1700000000\n5432\n")
        assert running.status().pid is None
        assert not running.stop()
        assert impostor.poll() is None
        assert query(running.ensure(), "select 1") == [(1,)]
        assert impostor.poll() is None
    finally:
        impostor.kill()
        impostor.communicate()


def test_a_pipe_in_place_of_the_pid_file_stops_nobody(running):
    running.stop()
    pid_file = running.status().data / "postmaster.pid"
    os.mkfifo(pid_file)
    assert not running.status().running
    pid_file.unlink()


def test_make_clean_removes_what_make_made_and_stops_its_server(tmp_path):
    """What git would not track of a checkout in which everything was run: nothing is left."""
    home = tmp_path / ".backfill"
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    before = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if "__pycache__" not in path.parts}
    make_salt_file(home / "salt")
    EmbeddedServer(home).ensure()
    pid = EmbeddedServer(home).status().pid
    made = (
        "build/lib",
        "backfill.egg-info",
        ".cache/x",
        "backfill/__pycache__",
        "tests/unit/__pycache__",
        ".venv/bin",
    )
    for folder in (
        *made,
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".hypothesis",
        ".import_linter_cache",
    ):
        (tmp_path / folder).mkdir(parents=True)
    (home / "report.html").touch()
    (tmp_path / ".venv" / ".made-by-make").touch()
    (tmp_path / ".venv" / "bin" / "backfill").symlink_to(BIN / "backfill")
    done = subprocess.run(["make", "clean"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    left = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert left <= before
    assert not home.exists()
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_make_clean_leaves_what_make_did_not_make(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    for foreign in (".venv/lib/important", ".backfill/postgres/data/important", ".backfill/notes"):
        (tmp_path / foreign).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / foreign).write_text("the only copy\n")
    done = subprocess.run(["make", "clean"], cwd=tmp_path, capture_output=True, text=True, check=False)
    for foreign in (".venv/lib/important", ".backfill/postgres/data/important", ".backfill/notes"):
        assert (tmp_path / foreign).exists()
        assert str(Path(foreign).parts[0]) in done.stdout + done.stderr
