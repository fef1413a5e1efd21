"""Who watches a run beside the operator: log, hook, metrics.

Log and metrics are imported where they are asked for: their libraries were a sixth of the imports of every run.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from backfill.cli.context import Session
from backfill.database.connection import make_engine
from backfill.engine.observers.hooks import Hook, require_executable
from backfill.errors import SettingInvalid
from backfill.files import require_writable
from backfill.ledger.run_status import RunStatus, run_status
from backfill.settings import LogFormat, Settings


def require_observers(settings: Settings) -> None:
    """Before a run does anything: whether its hook and its files can be. Raises ``SettingInvalid``, ``OutputUnwritable``."""
    if settings.hook is not None:
        require_executable(settings.hook)
    if settings.metrics_file is not None:
        require_writable(settings.metrics_file, what="BACKFILL_METRICS_FILE")


@contextmanager
def observed(session: Session) -> Iterator[Callable[..., None]]:
    """``observe(event, **fields)`` for a driver; what serves is closed at the end."""
    settings = session.settings
    engine = make_engine(session.engine.url, ledger_schema=settings.ledger_schema)

    def look() -> RunStatus:
        with engine.begin() as connection:
            return run_status(connection, settings.ledger_schema, session.plan)

    log = _log(settings.log_format) if settings.log_format else None
    hook = Hook(settings.hook, lambda: look().as_dict(), _warn) if settings.hook else None
    close_metrics = _metrics(look, settings)

    def observe(event: str, **fields: object) -> None:
        if log is not None:
            log(event, **fields)
        if hook is not None:
            hook(event)

    try:
        yield observe
    finally:
        close_metrics()
        engine.dispose()


def _log(form: LogFormat) -> Callable[..., None]:
    from backfill.engine.observers.logs import Log

    return Log(form)


def _metrics(look: Callable[[], RunStatus], settings: Settings) -> Callable[[], None]:
    """Serve and write what is asked for; returns what ends it."""
    if settings.metrics_port is None and settings.metrics_file is None:
        return lambda: None
    from backfill.engine.observers.metrics import Metrics

    try:
        return Metrics(look, settings.metrics_port, settings.metrics_file, _warn).close
    except OSError as error:
        raise SettingInvalid(
            setting="BACKFILL_METRICS_PORT", problem=f"cannot be served: {error.strerror}"
        ) from error


def _warn(line: str) -> None:
    click.echo(line, err=True)
