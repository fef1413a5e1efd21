"""Settings file: settings as TOML, so that a shell needs no list of variables. The environment wins.

``backfill.toml`` in the working directory, or the file that BACKFILL_CONFIG names. Its keys are the names of the
variables without BACKFILL_, in lower case. It can name a program to run (``hook``) and hold secrets, so it has to be
ours: nobody else may write it, and nobody else may read one with a secret in it.
"""

import os
import shlex
import stat
import tomllib
from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from backfill.errors import SettingInvalid
from backfill.files import NotPlain, read_plain

NAME = "backfill.toml"
LARGEST = 256 << 10  # bytes: some hundred times what all settings need


def find(named: str | None) -> Path | None:
    """The file to read: the *named* one, or ``backfill.toml`` here; ``None`` where there is none of that name."""
    if named:
        return Path(named)
    here = Path(NAME)
    return here if os.path.lexists(here) else None


def read(path: Path, known: Collection[str], secret: Collection[str], *, accept_open: bool) -> dict[str, Any]:
    """The values in the file, by key. Raises ``SettingInvalid``, which shows no value.

    *known* are the keys that there are, *secret* those of them whose values nobody else may read, unless
    *accept_open* says that mode and owner of the file are not ours to choose.
    """
    try:
        content, found = read_plain(path, LARGEST)
    except NotPlain as error:
        raise SettingInvalid(setting=path, problem=f"{error}; settings are read from a file") from None
    except OSError as error:
        raise SettingInvalid(setting=path, problem=error.strerror or "it cannot be read") from None
    _require_ours(path, found, accept_open=accept_open)
    values = _parse(path, content)
    for key, value in values.items():
        if key not in known:
            raise SettingInvalid(setting=_place(key, path), problem=_unknown(key, value, known))
        if isinstance(value, dict | list):
            raise SettingInvalid(
                setting=_place(key, path), problem="one value is wanted, and no list or table"
            )
    readable = found.st_mode & (stat.S_IRGRP | stat.S_IROTH)
    if readable and not accept_open and (held := sorted(values.keys() & set(secret))):
        raise SettingInvalid(
            setting=path,
            problem=f"other users may read it, and it holds {', '.join(held)}. Type `chmod 600 {shlex.quote(str(path))}`; "
            "where a container platform sets the mode of its secrets, set BACKFILL_ACCEPT_OPEN_SALT_FILE=1",
        )
    return values


def _unknown(key: str, value: object, known: Collection[str]) -> str:
    if isinstance(value, dict):
        return "settings stand in the file by themselves, without a [table] around them"
    near = get_close_matches(key.lower().removeprefix("backfill_"), known, n=1)
    meant = f"Did you mean {near[0]}?" if near else "`backfill config` lists those that are."
    return f"there is no such setting. {meant} Correct it, or take it out"


def _require_ours(path: Path, found: os.stat_result, *, accept_open: bool) -> None:
    """Whoever can write the file chooses the database, and the program that a run calls."""
    if found.st_uid not in (os.geteuid(), 0) and not accept_open:
        raise SettingInvalid(
            setting=path,
            problem=f"it belongs to user id {found.st_uid}, who may change it. Type `chown {os.geteuid()} "
            f"{shlex.quote(str(path))}`, or move it away",
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SettingInvalid(
            setting=path, problem=f"other users may write it. Type `chmod go-w {shlex.quote(str(path))}`"
        )


def _parse(path: Path, content: bytes) -> dict[str, Any]:
    problem = None
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        problem = f"byte {error.start + 1} is not UTF-8"
    except tomllib.TOMLDecodeError as error:
        # Its words name a place ("at line 3, column 9"), and can repeat a key, never a value.
        problem = f"not TOML: {error}"
    except (RecursionError, ValueError):
        problem = "not TOML that can be read: it is nested too deeply, or a value is out of range"
    # Outside of the handlers: the errors hold the text, secrets and all.
    raise SettingInvalid(setting=path, problem=problem)


def _place(key: str, path: Path) -> str:
    return f"{key} in {path}"
