"""Logs: what happens to a run, as events; readable on a terminal, JSON where a machine reads.

Fields are numbers, names of tables and sentences of ours; no value of a row and no salt ever is one.
"""

import sys
from contextlib import suppress
from typing import Any

import structlog

from backfill import escaping
from backfill.settings import LogFormat


class Log:
    """Events of one command, on standard error."""

    def __init__(self, form: LogFormat) -> None:
        render: Any = (
            structlog.processors.JSONRenderer()
            if form is LogFormat.JSON
            else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
        )
        self._logger = structlog.wrap_logger(
            structlog.PrintLogger(escaping.unfiltered(sys.stderr)),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                _safe,
                render,
            ],
        )

    def __call__(self, event: str, **fields: Any) -> None:
        """One event; ``failed`` and its like are errors."""
        level = (
            "error" if event in {"failed", "batch-failed"} else "warning" if event == "throttled" else "info"
        )
        with suppress(OSError):  # a full disk under a log is not the run's business
            getattr(self._logger, level)(
                event, **{name: value for name, value in fields.items() if value != ""}
            )


def _safe(_logger: Any, _level: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Names of tables and roles are somebody else's: on one line, and without what a terminal obeys."""
    return {name: escaping.name(value) if isinstance(value, str) else value for name, value in fields.items()}
