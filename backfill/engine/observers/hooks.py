"""Hooks: an executable of the operator's, told when a run started, paused, failed, finished.

The event is its first argument, the status JSON its standard input. What it does, and whether it
fails, is never the run's business.
"""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backfill.errors import SettingInvalid
from backfill.escaping import command
from backfill.settings import environment_without_secrets

EVENTS = frozenset({"started", "paused", "failed", "finished", "cancelled"})
HOOK_SECONDS = 30.0


def require_executable(path: Path) -> None:
    """Before a run begins. Raises ``SettingInvalid``."""
    if not path.is_file():
        problem = "there is no such file"
    elif not os.access(path, os.X_OK):
        problem = f"it may not be executed: {command('chmod', '+x', path)}"
    else:
        return
    raise SettingInvalid(setting=f"BACKFILL_HOOK, {path}", problem=problem)


class Hook:
    """Runs *executable* for the events that are worth telling."""

    def __init__(
        self, executable: Path, status: Callable[[], dict[str, Any]], tell: Callable[[str], None]
    ) -> None:
        self._executable, self._status, self._tell = executable, status, tell

    def __call__(self, event: str) -> None:
        """Tell it, and wait for it, half a minute at most."""
        if event not in EVENTS:
            return
        try:
            document = {"event": event, **self._status()}
        except Exception as error:
            document = {"event": event, "status_unknown": type(error).__name__}
        try:
            done = subprocess.run(
                [os.fspath(self._executable.absolute()), event],
                input=json.dumps(document, default=str),
                text=True,
                env=environment_without_secrets(),
                timeout=HOOK_SECONDS,
                check=False,
            )
            if done.returncode:
                self._tell(f"The hook ended with exit code {done.returncode} at {event}.")
        except (OSError, subprocess.TimeoutExpired) as error:
            problem = (
                "took longer than 30 s" if isinstance(error, subprocess.TimeoutExpired) else error.strerror
            )
            self._tell(f"The hook could not be told of {event}: {problem}.")
