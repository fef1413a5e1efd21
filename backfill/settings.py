"""Options, environment and settings file, as one frozen ``Settings``; of two values the first of these wins.

Every field is read from ``BACKFILL_<NAME>``; an empty variable counts as unset. Secrets are
``SecretStr`` and are never printed, nor is a rejected value.
"""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any, Self, get_args

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from backfill import escaping, settings_file
from backfill.errors import SettingInvalid
from backfill.hashing.salt import DEFAULT_KEY_ID, KEY_ID

OBSERVE_SECONDS = 600.0  # how long a raw column must stay unwritten before it may be dropped
BATCH_BLOCKS = 8_000  # 64 MB of heap: 8 passes of it stayed under 0.6 s each at 2 million events
PASSES = 8  # a pass an eighth of the rows: 40-70 % heap-only updates instead of none
DDL_LOCK_TIMEOUT_MS = 300  # a waiting ACCESS EXCLUSIVE lock queues every writer behind it


PREFIX = "BACKFILL_"
FOR_TESTS = "BACKFILL_TEST_"  # read by the test suite alone


class Vacuum(StrEnum):
    """Whether we vacuum the tables that we are changing."""

    AUTO = "auto"  # where autovacuum is switched off, or does not come
    ON = "on"
    OFF = "off"


class LogFormat(StrEnum):
    """Who reads the log."""

    HUMAN = "human"
    JSON = "json"


class Settings(BaseSettings):
    """What the operator chose. Field descriptions are the documentation of the variables."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    config: Path | None = Field(
        None,
        description="TOML file of settings; unset: `backfill.toml` in the working directory, if it exists",
    )
    database_url: SecretStr | None = Field(
        None, description="PostgreSQL to work on; unset: an embedded one under BACKFILL_HOME"
    )
    ip_salt: SecretStr | None = Field(None, description="the live application's salt")
    ip_salt_file: Path | None = Field(None, description="a file that holds the salt")
    accept_open_salt_file: bool = Field(
        False,
        description="accept a salt file that other users may read or own, where a container platform sets that",
    )
    salt_exact: bool = Field(
        False,
        description="use the salt exactly as it is written, with surrounding spaces, quotes and control characters",
    )
    key_id: str = Field(
        DEFAULT_KEY_ID, pattern=KEY_ID, description="your name for this salt, recorded in the ledger"
    )
    geoip_db: Path | None = Field(None, description="GeoLite2-City or GeoIP2-City database file")
    plan: Path | None = Field(None, description="TOML plan file; unset: the built-in plan for PyPI's schema")
    home: Path = Field(
        Path(".backfill"), description="directory of the embedded server and of the demo's salt"
    )
    ledger_schema: str = Field(
        "backfill",
        pattern=r"^[a-z_][a-z0-9_]{0,62}$",
        validation_alias="BACKFILL_SCHEMA",
        description="schema of the ledger in the target database",
    )
    ledger_owner: str | None = Field(
        None,
        description="role that prepared the ledger, where that is neither this role nor one it is a member of",
    )
    restore_point: str | None = Field(
        None, description="name of the backup that you could go back to; gates require it"
    )
    observe: float | None = Field(
        None,
        ge=0,
        description=f"seconds a raw column must stay unwritten before its drop; default {OBSERVE_SECONDS:.0f}, 0 on a demo database",
    )
    batch_blocks: int = Field(
        BATCH_BLOCKS, ge=1, le=1_000_000, description="largest batch in heap blocks (8 kB)"
    )
    passes: int = Field(PASSES, ge=1, le=64, description="passes over each batch; a power of two")
    workers: int = Field(2, ge=1, le=64, description="worker processes for the link phase")
    target_seconds: float = Field(
        1.0, gt=0, le=30, description="longest transaction, in seconds; the batch size is adapted to it"
    )
    timeout_seconds: float = Field(
        30.0,
        gt=0,
        le=55,
        description="statement timeout in seconds; a batch that reaches it three times is halved",
    )
    patience: float = Field(
        600.0, ge=0, description="seconds to wait for a lost server, a fail-over, or a locked table"
    )
    silence: float = Field(
        60.0, gt=0, description="close our sessions when the server has not answered for this many seconds"
    )
    nice: float = Field(
        0.0, ge=0, le=100, description="pause after each transaction, as a multiple of its duration"
    )
    max_lag: float = Field(
        10.0, ge=0, description="pause while a standby lags by more than this many seconds; 0 disables"
    )
    standby_urls: SecretStr | None = Field(
        None, description="URLs of standbys that are asked directly, separated by spaces"
    )
    max_lock_waiters: int | None = Field(
        5, ge=0, description="pause while more than this many sessions wait for our locks"
    )
    max_archive_backlog: int | None = Field(
        None, ge=0, description="pause while more than this many WAL files wait for the archiver"
    )
    max_wal_rate: float | None = Field(
        None, gt=0, description="pause while the server writes more than this many MB of WAL per second"
    )
    max_active_sessions: int | None = Field(
        None, ge=0, description="pause while more than this many other sessions are active"
    )
    throttle_query: str | None = Field(None, description="a query that returns true to pause the run")
    snapshot_seconds: float = Field(
        60.0,
        ge=0,
        description="make one pass per batch while a snapshot is older than this many seconds; 0 disables",
    )
    vacuum: Vacuum = Field(
        Vacuum.AUTO,
        description="vacuum tables while linking: on, off, or auto (only where autovacuum is off or late)",
    )
    hook: Path | None = Field(
        None,
        description="executable for started, paused, failed, finished; status JSON on its standard input",
    )
    log_format: LogFormat | None = Field(
        None, description="events on standard error: human or json; unset, only the command's own lines"
    )
    metrics_port: int | None = Field(
        None, ge=0, le=65535, description="serve Prometheus metrics on this loopback port"
    )
    metrics_file: Path | None = Field(None, description="write Prometheus metrics to this file")
    dask: str | None = Field(
        None, description="a Dask scheduler, such as tls://host:8786, for the link phase"
    )
    lock_timeout_ms: int = Field(
        DDL_LOCK_TIMEOUT_MS, ge=1, description="longest wait of a schema change for its lock, in milliseconds"
    )

    @field_validator("passes")
    @classmethod
    def _power_of_two(cls, passes: int) -> int:
        if passes & (passes - 1):
            raise ValueError(
                "must be a power of two: a pass takes the rows whose hash has its number in the low bits"
            )
        return passes

    @classmethod
    def _field_of(cls, variable: str) -> str:
        return next(name for name in cls.model_fields if variable_of(name) == variable)

    @classmethod
    def load(cls, **options: object) -> Self:
        """Read file and environment; *options* given (not None) win. Raises ``SettingInvalid``."""
        _require_known()
        path, values = _from_file()
        given = values | {name: value for name, value in options.items() if value is not None}
        try:
            settings = cls(**given)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            # One of our fields, by its name or by that of its variable.
            place = str(first["loc"][0])
            name = place if place in cls.model_fields else cls._field_of(place)
            from_file = name in values and given[name] is values[name]
            variable = f"{_key(name)} in {path}" if from_file else variable_of(name)
            problem = "its bytes are not UTF-8" if first["type"] == "string_unicode" else first["msg"]
            raise SettingInvalid(setting=variable, problem=problem) from None
        _require_text(settings)
        return settings


# Every setting, by what it is for: the order of ``backfill config`` and of docs/settings.md.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "Connection": ("config", "database_url", "home", "silence", "patience"),
    "Hashes and places": (
        "ip_salt",
        "ip_salt_file",
        "accept_open_salt_file",
        "salt_exact",
        "key_id",
        "geoip_db",
    ),
    "Plan, ledger and gates": (
        "plan",
        "ledger_schema",
        "ledger_owner",
        "restore_point",
        "observe",
        "lock_timeout_ms",
    ),
    "Pace": (
        "workers",
        "dask",
        "batch_blocks",
        "passes",
        "target_seconds",
        "timeout_seconds",
        "nice",
        "vacuum",
    ),
    "Throttle": (
        "max_lag",
        "standby_urls",
        "max_lock_waiters",
        "max_archive_backlog",
        "max_wal_rate",
        "max_active_sessions",
        "snapshot_seconds",
        "throttle_query",
    ),
    "Observers": ("hook", "log_format", "metrics_port", "metrics_file"),
}

LETTERS = set(PREFIX)
# A name that is nine tenths one of ours lacks no more; to compare takes longer.
LEAST_LETTERS = len(LETTERS) - 4

ENVIRONMENT, DEFAULT, HERE = "environment", "default", "working directory"


def variable_of(name: str) -> str:
    """The variable of the field of that name."""
    return str(Settings.model_fields[name].validation_alias or f"{PREFIX}{name.upper()}")


def variables() -> list[str]:
    """Every variable that is a setting."""
    return list(map(variable_of, Settings.model_fields))


def is_secret(name: str) -> bool:
    """Whether the value of that field is never shown."""
    return SecretStr in get_args(Settings.model_fields[name].annotation)


def sources() -> dict[str, str]:
    """Where the value of each field comes from: ``environment``, the settings file by its path, or ``default``.

    The file itself: ``working directory`` where no variable names it.
    """
    path, values = _from_file()
    given = {name.upper() for name, value in os.environ.items() if value}
    found = {
        name: ENVIRONMENT if variable_of(name) in given else str(path) if name in values else DEFAULT
        for name in Settings.model_fields
    }
    return found | ({"config": HERE} if found["config"] == str(path) else {})


def _key(name: str) -> str:
    """What the settings file calls the field."""
    return variable_of(name).removeprefix(PREFIX).lower()


def _from_file() -> tuple[Path | None, dict[str, Any]]:
    """The settings file, and its values by field; none of those that the environment has. Raises ``SettingInvalid``."""
    environment = {name.upper(): value for name, value in os.environ.items() if value}
    path = settings_file.find(environment.get(variable_of("config")))
    if path is None:
        return None, {}
    fields = {_key(name): name for name in Settings.model_fields if name != "config"}
    secret = [key for key, name in fields.items() if is_secret(name)]
    accept = environment.get(variable_of("accept_open_salt_file"), "").lower() in ("1", "true", "yes", "on")
    found = settings_file.read(path, fields.keys(), secret, accept_open=accept)
    values = {
        fields[key]: value for key, value in found.items() if variable_of(fields[key]) not in environment
    }
    for name, value in values.items():
        annotation = Settings.model_fields[name].annotation
        if isinstance(value, str) and Path in (annotation, *get_args(annotation)):
            values[name] = path.parent / value  # as the file means it, wherever the command is typed
    if variable_of("config") not in environment:
        values["config"] = path
    return path, values


def environment_without_secrets() -> dict[str, str]:
    """The environment for a program that is not ours: without salt and URLs, in whatever case their names are written,
    as settings are read so too."""
    secret = {variable_of(name) for name in Settings.model_fields if is_secret(name)}
    return {name: value for name, value in os.environ.items() if name.upper() not in secret}


def _require_known() -> None:
    """A misspelt limit is no limit: whatever is called as a setting of ours must be one. Raises ``SettingInvalid``."""
    known = variables()
    for name, value in os.environ.items():
        given = name.upper()  # as pydantic reads them
        if not value or given in known or given.startswith(FOR_TESTS):
            continue
        # "BACKFIL_WORKERS" and "BACKFILLWORKERS" are meant for us, "BACKUP_PLAN" is not.
        if given.startswith(PREFIX):
            rest = given.removeprefix(PREFIX)
            near = get_close_matches(rest, [one.removeprefix(PREFIX) for one in known], n=1)
            near = [PREFIX + one for one in near]
            if rest.lower() in Settings.model_fields:  # the field is not called as its variable is
                near = [str(Settings.model_fields[rest.lower()].validation_alias)]
        elif len(LETTERS & set(given)) < LEAST_LETTERS or not (
            near := get_close_matches(given, known, n=1, cutoff=0.9)
        ):
            continue
        meant = f"Did you mean {near[0]}?" if near else "`backfill config` lists those that are."
        raise SettingInvalid(
            setting=escaping.name(name),
            problem=f"there is no such setting. {meant} Correct it, or unset it",
        )


def _require_text(settings: Settings) -> None:
    """Bytes that are no UTF-8 can be part of a file's name, and of nothing else. Raises ``SettingInvalid``."""
    for name, variable in zip(Settings.model_fields, variables(), strict=True):
        value = getattr(settings, name)
        value = value.get_secret_value() if isinstance(value, SecretStr) else value
        if isinstance(value, str) and _is_broken(value):
            raise SettingInvalid(setting=variable, problem="its bytes are not UTF-8")


def _is_broken(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return True
    return False
