"""The environment becomes settings; what is wrong is named, what is secret is not shown."""

import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from backfill.engine.observers.hooks import Hook
from backfill.errors import SettingInvalid
from backfill.settings import BATCH_BLOCKS, Settings, environment_without_secrets

SECRET = "correct horse battery staple"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, field in Settings.model_fields.items():
        monkeypatch.delenv(str(field.validation_alias or f"BACKFILL_{name.upper()}"), raising=False)


def test_nothing_set_gives_the_defaults() -> None:
    settings = Settings.load()
    assert settings.database_url is None
    assert settings.home == Path(".backfill")
    assert settings.ledger_schema == "backfill"
    assert settings.batch_blocks == BATCH_BLOCKS


def test_the_environment_is_read_and_an_option_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKFILL_WORKERS", "3")
    monkeypatch.setenv("BACKFILL_SCHEMA", "ledger")
    monkeypatch.setenv("BACKFILL_GEOIP_DB", "/geo/City.mmdb")
    assert Settings.load(workers=None).workers == 3
    assert Settings.load(workers=5).workers == 5
    assert Settings.load().ledger_schema == "ledger"
    assert Settings.load().geoip_db == Path("/geo/City.mmdb")


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "IP_SALT", "WORKERS", "OBSERVE", "PLAN"):
        monkeypatch.setenv(f"BACKFILL_{name}", "")
    assert Settings.load() == Settings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BACKFILL_WORKERS", "many-secret"),
        ("BACKFILL_WORKERS", "0"),
        ("BACKFILL_OBSERVE", "-1"),
        ("BACKFILL_KEY_ID", "spaces and secret"),
        ("BACKFILL_SCHEMA", "Robert'); drop"),
        ("BACKFILL_PASSES", "65"),
        ("BACKFILL_BATCH_BLOCKS", "1e9"),
    ],
)
def test_a_bad_value_names_the_variable_and_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingInvalid) as caught:
        Settings.load()
    assert str(caught.value).startswith(f"{variable}: ")
    assert "\n" not in str(caught.value)
    if len(value) > 3:
        assert value not in "".join(traceback.format_exception(caught.value))


def test_a_bad_option_names_its_variable() -> None:
    with pytest.raises(SettingInvalid, match=r"^BACKFILL_WORKERS: "):
        Settings.load(workers=-1)


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKFILL_IP_SALT", SECRET)
    monkeypatch.setenv("BACKFILL_DATABASE_URL", f"postgresql://me:{SECRET}@host/db")
    settings = Settings.load()
    assert settings.ip_salt is not None
    assert settings.ip_salt.get_secret_value() == SECRET
    for shown in (repr(settings), str(settings), settings.model_dump_json(), f"{settings.model_dump()}"):
        assert SECRET not in shown


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.load().workers = 4


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("BACKFILL_MAXLAG", "Did you mean BACKFILL_MAX_LAG?"),
        ("BACKFILL_TARGET_SECOND", "Did you mean BACKFILL_TARGET_SECONDS?"),
        ("BACKFILL_LEDGER_SCHEMA", "Did you mean BACKFILL_SCHEMA?"),  # the field's name is not the variable's
        ("backfill_workerz", "Did you mean BACKFILL_WORKERS?"),
        ("BACKFIL_WORKERS", "Did you mean BACKFILL_WORKERS?"),
        ("BACKFILLWORKERS", "Did you mean BACKFILL_WORKERS?"),
        ("BACKFILL_ZZZ", "`backfill config` lists those that are"),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, variable: str, meant: str
) -> None:
    monkeypatch.setenv(variable, SECRET)
    with pytest.raises(SettingInvalid) as caught:
        Settings.load()
    assert str(caught.value).startswith(f"{variable}: there is no such setting. {meant}")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("BACKFILL_ZZZ", ""), ("BACKFILL_TEST_DATABASE_URL", "x"), ("BACKUP_PLAN", "x"), ("FILL_NICE", "x")],
)
def test_variables_of_others_are_their_own(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    Settings.load()


@pytest.mark.parametrize(
    "name", ["DATABASE_URL", "IP_SALT", "KEY_ID", "RESTORE_POINT", "THROTTLE_QUERY", "DASK"]
)
def test_bytes_that_are_no_text_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"BACKFILL_{name}", "\udcff")
    with pytest.raises(SettingInvalid, match=f"BACKFILL_{name}: its bytes are not UTF-8"):
        Settings.load()


def test_a_file_may_be_called_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKFILL_HOME", "/var/\udcff")
    assert Settings.load().home == Path("/var/\udcff")


@pytest.mark.parametrize("spelled", [str.upper, str.lower, str.title])
def test_no_program_that_is_not_ours_gets_a_secret_in_whatever_case_it_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spelled: Callable[[str], str]
) -> None:
    for name in ("BACKFILL_IP_SALT", "BACKFILL_DATABASE_URL", "BACKFILL_STANDBY_URLS"):
        monkeypatch.setenv(spelled(name), SECRET)
    monkeypatch.setenv("BACKFILL_WORKERS", "3")
    assert Settings.load().ip_salt is not None
    script, seen = tmp_path / "hook", tmp_path / "seen"
    script.write_text(f"#!/bin/sh\nenv > {seen}\n")
    script.chmod(0o755)
    Hook(script, dict, print)("started")
    assert SECRET not in seen.read_text()
    assert "BACKFILL_WORKERS=3" in seen.read_text()
    assert SECRET not in environment_without_secrets().values()
