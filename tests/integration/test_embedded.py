"""The embedded server's life, on real processes that are really killed."""

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from backfill.embedded import EmbeddedServer
from backfill.embedded.binaries import Binaries
from backfill.embedded.user import ServerUser
from backfill.errors import EmbeddedServerFailed, EmbeddedServerMissing
from tests.conftest import temporary_home
from tests.databases import connect, query
from tests.faults.stage import stretched

AS_ROOT = os.geteuid() == 0
ENSURE = """
import sys
from pathlib import Path
from backfill.embedded import EmbeddedServer
print(EmbeddedServer(Path(sys.argv[1])).ensure(), flush=True)
"""


@pytest.fixture
def home():
    """A home that nothing was ever started in."""
    with temporary_home() as folder:
        yield folder


@pytest.fixture(scope="module")
def shared():
    """A server that many tests stop, kill and start: creating one takes longer than all of that."""
    with temporary_home() as folder:
        yield EmbeddedServer(folder)


@pytest.fixture
def running(shared):
    """A running server."""
    shared.ensure()
    return shared


@pytest.fixture
def stopped(running):
    """A server that ran and was stopped."""
    running.stop()
    return running


def client(home, script=ENSURE, **options):
    """A real process that runs *script* on *home*."""
    return subprocess.Popen(
        [sys.executable, "-c", script, str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        **options,
    )


def finished(process):
    """What a client printed; fails the test when it failed."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.strip()


def wait_until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.002)


def appeared(folder, pattern):
    """Whether something of that name is there; a draft may be renamed while glob looks into it."""
    try:
        return any(folder.glob(pattern))
    except FileNotFoundError:
        return False


def as_server(found, *command):
    """What *command* says when the server's own user runs it: a container's root may not look."""
    owner = found.data.stat()
    user = ServerUser(owner.st_uid, owner.st_gid) if AS_ROOT else ServerUser()
    return user.run(*command).stdout


def starts(embedded):
    """How many servers began to start, by the log."""
    return embedded.status().log.read_text().count("starting PostgreSQL")


def test_it_starts_once_stops_once_and_keeps_its_data(home):
    embedded = EmbeddedServer(home)
    url = embedded.ensure()
    query(url, "create table kept as select 1 as one")
    first = embedded.status()
    assert first.running
    assert first.version.startswith("18")
    assert embedded.ensure() == url == embedded.url()
    assert embedded.status() == first
    assert (embedded.stop(), embedded.stop()) == (True, False)
    stopped = embedded.status()
    assert (stopped.running, stopped.pid, stopped.version) == (False, None, "18")
    assert query(embedded.ensure(), "select one from kept") == [(1,)]


def test_looking_at_a_home_creates_nothing(home):
    embedded = EmbeddedServer(home)
    assert not embedded.status().running
    assert not embedded.stop()
    assert not home.exists()


@pytest.mark.parametrize("clients", [2, 3])
def test_first_starts_at_the_same_moment_share_one_server(home, clients):
    processes = [client(home) for _ in range(clients)]
    urls = {finished(process) for process in processes}
    assert urls == {EmbeddedServer(home).url()}
    assert starts(EmbeddedServer(home)) == 1


@pytest.mark.parametrize("moment", ["data*", "data*/global/pg_control", "data/postmaster.pid"])
def test_a_client_killed_while_it_creates_or_starts_is_made_good_by_the_next(home, moment):
    killed = client(home)
    wait_until(lambda: appeared(home / "postgres", moment))
    killed.kill()
    killed.communicate()
    embedded = EmbeddedServer(home)
    assert query(embedded.ensure(), "select current_database()") == [("backfill",)]
    assert [path.name for path in (home / "postgres").glob("data*")] == ["data"]


BUSY = """
import sys
from contextlib import closing
from pathlib import Path
from backfill.embedded import EmbeddedServer
from tests.databases import connect
with closing(connect(EmbeddedServer(Path(sys.argv[1])).url())) as connection, connection.cursor() as cursor:
    cursor.execute("select count(*) from generate_series(1, 40) a, generate_series(1, 100000000) busy")
"""


def test_a_killed_server_comes_back_with_its_data_although_a_session_was_busy(running):
    url, pid = running.url(), running.status().pid
    query(url, "drop table if exists kept; create table kept as select 1 as one")
    busy = client(running.home, BUSY)
    activity = "select 1 from pg_stat_activity where query like '%busy' and pid <> pg_backend_pid()"
    wait_until(lambda: query(url, activity))
    os.kill(pid, signal.SIGKILL)
    assert query(running.ensure(), "select one from kept") == [(1,)]
    assert running.status().pid != pid
    assert "server closed the connection unexpectedly" in busy.communicate(timeout=stretched(20))[1]


@pytest.mark.parametrize("file", ["postmaster.pid", "socket lock"])
def test_a_stranger_with_the_number_of_a_dead_server_is_neither_believed_nor_killed(stopped, file):
    found = stopped.status()
    owner = found.data.stat()
    identity = {"user": owner.st_uid, "group": owner.st_gid} if AS_ROOT else {}
    stranger = subprocess.Popen(["sleep", "60"], **identity)
    try:
        lock = found.data / file if file == "postmaster.pid" else found.socket / ".s.PGSQL.5432.lock"
        lock.write_text(f"{stranger.pid}\n{found.data}\n1700000000\n5432\n{found.socket}\n\n  1 2\nready\n")
        assert not stopped.status().running
        assert not stopped.stop()
        assert query(stopped.ensure(), "select 1") == [(1,)]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("content", ["", "no number\n"])
def test_a_spoilt_lock_file_is_no_obstacle(stopped, content):
    (stopped.status().data / "postmaster.pid").write_text(content)
    assert query(stopped.ensure(), "select 1") == [(1,)]


def test_an_interrupt_at_the_terminal_of_its_first_client_leaves_it_running(stopped):
    first = client(
        stopped.home,
        ENSURE + "import time; time.sleep(60)",
        start_new_session=True,
        # Where the tests run in the background of a shell, SIGINT is ignored from birth.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    url = first.stdout.readline().strip()
    os.killpg(first.pid, signal.SIGINT)
    first.communicate(timeout=stretched(10))
    assert first.returncode != 0
    assert query(url, "select 1") == [(1,)]
    assert os.getsid(stopped.status().pid) not in (os.getsid(0), first.pid)


def test_no_tcp_port_is_opened(running):
    assert query(running.url(), "show listen_addresses") == [("",)]
    found = running.status()
    sockets = set(re.findall(r"socket:\[(\d+)\]", as_server(found, "ls", "-l", f"/proc/{found.pid}/fd")))
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    tcp = {line.split()[9] for table in tables if table.exists() for line in table.read_text().splitlines()}
    assert sockets
    assert not sockets & tcp


def test_the_server_is_given_neither_salt_nor_url(stopped, monkeypatch):
    monkeypatch.setenv("BACKFILL_IP_SALT", "a salt that nobody should see")
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGDATA", "/nowhere")
    assert query(stopped.ensure(), "show port") == [("5432",)]
    environment = as_server(stopped.status(), "cat", f"/proc/{stopped.status().pid}/environ")
    assert "LC_ALL=C" in environment
    assert "BACKFILL_" not in environment


def test_only_its_own_user_passes_to_the_socket(running):
    found = running.status()
    assert stat.S_IMODE(found.socket.stat().st_mode) == 0o700
    gate = found.data.parent.stat()
    assert gate.st_uid == os.geteuid()
    assert stat.S_IMODE(gate.st_mode) == (0o710 if AS_ROOT else 0o700)
    if AS_ROOT:  # another process of the account that the server borrowed
        stranger = ServerUser(found.data.stat().st_uid, 65_000)
        assert not stranger.reaches(found.socket)


def test_permissions_outside_its_home_stay_as_they_were(home):
    package = Binaries.find().package
    outside = [*home.parents, package, *package.parents, package / "pginstall" / "bin"]
    before = [path.stat() for path in outside]
    EmbeddedServer(home).ensure()
    for then, now in zip(before, (path.stat() for path in outside), strict=True):
        assert (now.st_mode, now.st_uid, now.st_gid) == (then.st_mode, then.st_uid, then.st_gid)


@pytest.mark.parametrize("name", ["with space, comma and 'quote' 100%", "long/" + "/".join(["x" * 60] * 4)])
def test_it_lives_in_a_folder_of_any_name(home, name):
    embedded = EmbeddedServer(home / name)
    try:
        assert query(embedded.ensure(), "select current_database()") == [("backfill",)]
        found = embedded.status()
        assert (home / name) in found.data.parents
        assert len(str(found.socket)) < 90
        embedded.stop()
        assert not (found.socket.exists() and home not in found.socket.parents)  # nothing is left in /tmp
    finally:
        embedded.remove()


def test_a_relative_home_is_the_same_server_from_anywhere(home, monkeypatch, tmp_path):
    monkeypatch.chdir(home.parent)
    url = EmbeddedServer(Path(home.name)).url()
    monkeypatch.chdir(tmp_path)
    assert EmbeddedServer(home).url() == url


@pytest.mark.skipif(not AS_ROOT, reason="an ordinary user runs the server as itself")
def test_root_runs_it_although_home_and_programs_are_out_of_the_servers_reach(tmp_path):
    tmp_path.chmod(0o700)
    site = tmp_path / "site-packages"
    package = Binaries.find().package
    for name in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.with_name(name), site / name, ignore=shutil.ignore_patterns("include"))
    home = tmp_path / "home"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    embedded = EmbeddedServer(home)
    try:
        url = finished(client(home, env=environment))
        query(url, "create table kept as select 1 as one")
        found = embedded.status()
        assert tmp_path not in found.data.parents
        assert tmp_path in found.log.parents
        program = Path(psutil.Process(found.pid).cmdline()[0])
        assert found.data.parent in program.parents  # a copy
        embedded.stop()
        assert query(embedded.ensure(), "select one from kept") == [(1,)]
    finally:
        embedded.remove()
    assert not found.data.parent.exists()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


AS_NOBODY = """
import os, sys
from pathlib import Path
from backfill.embedded import EmbeddedServer
from tests.databases import query
os.setgroups([]), os.setgid(65534), os.setuid(65534)
embedded = EmbeddedServer(Path(sys.argv[1]))
print(query(embedded.ensure(), "select 6 * 7")[0][0])
print(embedded.status().data.stat().st_uid, embedded.stop())
"""


@pytest.mark.skipif(not AS_ROOT, reason="every other test shows it")
def test_an_ordinary_user_runs_it_as_itself_and_root_keeps_out(home):
    nobody = ServerUser(65_534, 65_534)
    if not nobody.reaches(Binaries.find().folder):
        pytest.skip("the virtual environment lies where an ordinary user cannot go")
    home.mkdir()
    os.chown(home, 65_534, 65_534)
    try:
        assert finished(client(home, AS_NOBODY)).split() == ["42", "65534", "True"]
        with pytest.raises(EmbeddedServerFailed, match="belongs to user id 65534"):
            EmbeddedServer(home).ensure()
    finally:
        shutil.rmtree(home)
        home.mkdir()


def test_data_of_another_major_version_is_refused_and_left_alone(home):
    EmbeddedServer(home).ensure()
    EmbeddedServer(home).stop()
    data = home / "postgres" / "data"
    (data / "PG_VERSION").write_text("13\n")
    with pytest.raises(EmbeddedServerFailed, match=r"holds data of PostgreSQL 13.*18\.") as refusal:
        EmbeddedServer(home).ensure()
    assert "\n" not in str(refusal.value)
    assert (data / "PG_VERSION").exists()


def test_a_server_that_cannot_start_says_why_in_one_line(stopped):
    conf = stopped.status().data / "postgresql.conf"
    good = conf.read_text()
    conf.write_text("no_such_setting = 1\n")
    with pytest.raises(EmbeddedServerFailed, match=r"does not start: .*server\.log") as refusal:
        stopped.ensure()
    conf.write_text(good)
    assert "\n" not in str(refusal.value)


def test_a_home_that_cannot_be_written_is_one_line(home):
    home.write_text("a file, not a folder")
    with pytest.raises(EmbeddedServerFailed, match="cannot be used: ") as refusal:
        EmbeddedServer(home).ensure()
    home.unlink()
    assert "\n" not in str(refusal.value)


def test_recreating_the_database_empties_it_and_ends_its_sessions(running):
    url = running.ensure()
    query(url, "create table gone ()")
    with closing(connect(url)):
        running.recreate_database()
    assert query(url, "select to_regclass('gone')") == [(None,)]


@pytest.fixture
def no_wheel(monkeypatch, tmp_path):
    """No wheel, and a PATH that holds only this folder."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def program(path, says):
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)


def test_without_the_wheel_the_error_says_what_to_install(home, no_wheel):
    with pytest.raises(EmbeddedServerMissing, match=r"pip install 'backfill\[demo\]'.*BACKFILL_DATABASE_URL"):
        EmbeddedServer(home).ensure()


@pytest.mark.parametrize(("version", "found"), [("13.22", None), ("14.19 (Debian 14.19-1)", "14.19")])
def test_without_the_wheel_an_installed_postgresql_will_do_if_it_is_new_enough(no_wheel, version, found):
    program(no_wheel / "pg_config", no_wheel)
    program(no_wheel / "postgres", f"postgres (PostgreSQL) {version}")
    program(no_wheel / "initdb", "")
    if found:
        assert Binaries.find() == Binaries(no_wheel, found)
    else:
        with pytest.raises(EmbeddedServerMissing):
            Binaries.find()
