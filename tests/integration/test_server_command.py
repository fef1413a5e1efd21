"""``backfill server``, through click, on a real server."""

import json
import subprocess

import pytest
from click.testing import CliRunner

from backfill.cli.server import server
from backfill.embedded import EmbeddedServer
from backfill.embedded.binaries import Binaries
from backfill.errors import OwnServerInUse
from tests.conftest import temporary_home
from tests.databases import query


@pytest.fixture
def home(monkeypatch):
    with temporary_home() as folder:
        monkeypatch.setenv("BACKFILL_HOME", str(folder))
        yield folder


@pytest.fixture
def own_server(monkeypatch, home):
    monkeypatch.setenv("BACKFILL_DATABASE_URL", "postgresql://me:hush@db.example/app?password=hush2")


def run(*words):
    result = CliRunner().invoke(server, words)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_start_status_url_stop(home):
    before = run("status")
    assert (before.exit_code, before.output.split()[0]) == (1, "stopped")
    assert "running: PostgreSQL 18" in run("start").output
    found = run("status", "--format", "json")
    assert found.exit_code == 0
    content = json.loads(found.output)
    assert content["running"]
    assert content["in_use"]
    assert content["log"] == str(home.resolve() / "postgres" / "server.log")
    assert content["pid"] == EmbeddedServer(home).status().pid
    assert query(run("url").output.strip(), "select current_database()") == [("backfill",)]
    assert run("stop").output == "stopped\n"
    assert run("stop").output == "was not running\n"
    assert run("status").exit_code == 1


def test_stop_can_take_the_data_along(home):
    run("start")
    run("stop", "--delete")
    assert list(home.iterdir()) == []


@pytest.mark.usefixtures("own_server")
def test_with_an_own_server_nothing_is_embedded(home):
    with pytest.raises(OwnServerInUse, match="nothing is embedded") as refusal:
        run("start")
    assert refusal.value.exit_code == 2
    found = run("status")
    assert found.exit_code == 1
    assert "your own server" in found.output
    assert not json.loads(run("status", "--format", "json").output)["in_use"]
    assert "your own server" in run("stop").output
    url = run("url").output
    assert "db.example" in url
    assert "hush" not in url
    assert not home.exists()


def test_the_programs_of_the_wheel_open_the_url_that_is_printed(home):
    run("start")
    psql = Binaries.find().folder / "psql"
    url = run("url").output.strip()
    said = subprocess.run([psql, url, "-Atc", "select 42"], capture_output=True, text=True, check=True)
    assert said.stdout == "42\n"
