"""Settings from a file: the environment wins, and a file that is not ours alone is refused."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from backfill import settings_file
from backfill.cli.config import HIDDEN, config_command
from backfill.errors import SettingInvalid
from backfill.settings import Settings, sources, variables

SECRET = "correct horse battery staple"
URL = "postgresql://me:pass@word@db.example:5432/app?password=hidden"

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in variables():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A settings file, private unless told otherwise."""

    def writes(text: str, *, name: str = settings_file.NAME, mode: int = 0o600) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    return writes


def refusal() -> str:
    with pytest.raises(SettingInvalid) as caught:
        Settings.load()
    return str(caught.value)


def test_an_option_wins_over_the_environment_and_that_over_the_file(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write('workers = 3\nnice = 2\nmax_lag = 5.5\nschema = "ledger"\n')
    monkeypatch.setenv("BACKFILL_NICE", "4")
    monkeypatch.setenv("BACKFILL_MAX_LAG", "")  # unset
    settings = Settings.load(workers=7)
    assert (settings.workers, settings.nice, settings.max_lag) == (7, 4.0, 5.5)
    assert settings.ledger_schema == "ledger"
    found = sources()
    assert found["nice"] == "environment"
    assert found["max_lag"] == found["ledger_schema"] == "backfill.toml"
    assert found["config"] == "working directory"
    assert found["key_id"] == "default"


def test_a_file_is_named_and_its_paths_are_meant_from_where_it_lies(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write("workers = 3")
    named = write('geoip_db = "City.mmdb"\nplan = "/plans/ours.toml"\n', name="etc/window.toml")
    monkeypatch.setenv("BACKFILL_CONFIG", str(named))
    settings = Settings.load()
    assert settings.workers == 2  # the other file is not read
    assert settings.geoip_db == tmp_path / "etc" / "City.mmdb"
    assert settings.plan == Path("/plans/ours.toml")
    monkeypatch.setenv("BACKFILL_CONFIG", "nowhere.toml")
    assert refusal() == "nowhere.toml: No such file or directory."


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("worker = 3", "worker in backfill.toml: there is no such setting. Did you mean workers?"),
        (
            "BACKFILL_WORKERS = 3",
            "BACKFILL_WORKERS in backfill.toml: there is no such setting. Did you mean workers?",
        ),
        ("zzz = 3", "zzz in backfill.toml: there is no such setting. `backfill config` lists"),
        ('config = "other.toml"', "config in backfill.toml: there is no such setting."),
        ("[pace]\nworkers = 3", "pace in backfill.toml: settings stand in the file by themselves"),
        ("workers = [3]", "workers in backfill.toml: one value is wanted"),
        ("workers = 1979-05-27", "workers in backfill.toml: Input should be a valid integer"),
        ("workers = 0", "workers in backfill.toml: Input should be greater than or equal to 1"),
        ('schema = "Robert; drop"', "schema in backfill.toml: String should match"),
        ('key_id = "\\ud800"', "backfill.toml: not TOML:"),
        (f'ip_salt = "{SECRET}', "backfill.toml: not TOML: "),
        (f'ip_salt = "{SECRET}"\nip_salt = "{SECRET}"', "backfill.toml: not TOML: "),
        ("x = " + "[" * 20_000, "backfill.toml: not TOML that can be read"),
        ("x = " + "9" * 10_000, "backfill.toml: not TOML that can be read"),
    ],
)
def test_what_is_wrong_is_named_with_its_place_and_never_shown(write: Write, text: str, problem: str) -> None:
    write(text)
    said = refusal()
    assert said.startswith(problem)
    assert SECRET not in said


def test_a_wrong_variable_is_not_blamed_on_the_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("workers = 3")
    monkeypatch.setenv("BACKFILL_WORKERS", "many")
    assert refusal().startswith("BACKFILL_WORKERS: ")


@pytest.mark.parametrize(
    ("text", "mode", "problem"),
    [
        ("workers = 3", 0o666, "other users may write it. Type `chmod go-w backfill.toml`"),
        ("workers = 3", 0o620, "other users may write it"),
        (f'database_url = "{URL}"', 0o644, "other users may read it, and it holds database_url"),
        (f'ip_salt = "{SECRET}"', 0o640, "other users may read it, and it holds ip_salt"),
    ],
)
def test_a_file_of_others_is_refused(write: Write, text: str, mode: int, problem: str) -> None:
    write(text, mode=mode)
    assert problem in refusal()


def test_a_mode_that_a_platform_chose_can_be_accepted(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write(f'ip_salt = "{SECRET}"', mode=0o644)
    monkeypatch.setenv("BACKFILL_ACCEPT_OPEN_SALT_FILE", "1")
    assert Settings.load().ip_salt is not None
    write(f'ip_salt = "{SECRET}"', mode=0o666)  # but not that others may change it
    assert "other users may write it" in refusal()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_that_belongs_to_somebody_else_is_refused(write: Write) -> None:
    os.chown(write("workers = 3"), 12345, -1)
    assert "belongs to user id 12345" in refusal()


@pytest.mark.parametrize("made", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, made: Callable[[Path], None]) -> None:
    made(tmp_path / settings_file.NAME)
    assert refusal().startswith("backfill.toml: it is a")


def test_config_shows_every_setting_and_no_secret(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write(f'database_url = "{URL}"\nip_salt = "{SECRET}"\nhook = "hook.sh"\n')
    monkeypatch.setenv("BACKFILL_STANDBY_URLS", URL)
    shown = CliRunner().invoke(config_command)
    machine = CliRunner().invoke(config_command, ["--format", "json"])
    for said in (shown, machine):
        assert said.exit_code == 0
        assert not any(secret in said.output for secret in (SECRET, "pass@", "hidden"))
        assert all(variable in said.output for variable in variables())
    found = {one["variable"]: one for one in json.loads(machine.output)["settings"]}
    assert found["BACKFILL_IP_SALT"] == {
        "group": "Hashes and places",
        "variable": "BACKFILL_IP_SALT",
        "value": HIDDEN,
        "source": "backfill.toml",
    }
    assert found["BACKFILL_DATABASE_URL"]["value"].endswith("db.example:5432/app?password=***")
    assert found["BACKFILL_STANDBY_URLS"]["source"] == "environment"
    assert found["BACKFILL_WORKERS"]["value"] == 2


@given(st.binary(max_size=200))
def test_no_content_ends_in_anything_but_settings_or_a_refusal(content: bytes) -> None:
    path = Path(settings_file.NAME)
    path.write_bytes(content)
    path.chmod(0o600)
    try:
        Settings.load()
    except SettingInvalid:
        pass
    finally:
        path.unlink()
