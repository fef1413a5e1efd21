"""Sensor monitor: asks every sensor once a second and writes into the ledger what it found.

The ledger is what holds the workers: each asks it in the transaction in which it would write.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence

import psycopg2
from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.database.connection import execute, make_engine, problem_of
from backfill.database.error_text import DRIVER_ERRORS
from backfill.database.transient import LOST, transient_error_of
from backfill.engine.throttle.old_snapshot import OldSnapshot
from backfill.engine.throttle.sensor import Breach, Sensor
from backfill.ledger import runs

EVERY_SECONDS = 1.0
SENSOR_SECONDS = 3  # a look that takes longer is no look
BLIND_SECONDS = 5.0  # without a look for so long, the run is throttled: nobody would see what hurts


def decide(sensors: Sequence[Sensor], connection: Connection) -> Breach | None:
    """The first breach; a sensor that fails is one."""
    for sensor in sensors:
        try:
            breach = sensor.check(connection)
        except DRIVER_ERRORS as error:
            if transient_error_of(error) in LOST:
                raise
            breach = Breach(sensor.name, f"sensor {sensor.name} cannot look: {problem_of(error)}")
        except Exception as error:
            breach = Breach(sensor.name, f"sensor {sensor.name} cannot look: {type(error).__name__}")
        connection.rollback()
        if breach is not None:
            return breach
    return None


class SensorMonitor:
    """Holds and lets go; tells *observe* when that changes."""

    def __init__(
        self,
        engine: Engine,
        schema: str,
        sensors: Sequence[Sensor],
        snapshot: OldSnapshot | None,
        observe: Callable[[str, str], None] = lambda event, text: None,
    ) -> None:
        self._engine = make_engine(engine.url, ledger_schema=schema)  # nobody cancels its statements
        self._driver, self._looked = engine, time.monotonic()
        self._sensors, self._snapshot, self._observe = sensors, snapshot, observe
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self.throttled: str | None = None
        self.pinned: str | None = None

    def start(self, run_id: int) -> None:
        """Look once, so that nothing begins before anybody looked; then every second. Once is enough."""
        if self._thread is not None:
            return
        self._done.clear()
        self.look(run_id)
        self._thread = threading.Thread(target=self._loop, args=(run_id,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No more looks."""
        self._done.set()
        if self._thread is not None:
            self._thread.join(SENSOR_SECONDS)  # it may be connecting to a server that says nothing
            self._thread = None
        self._engine.dispose()

    def _loop(self, run_id: int) -> None:
        while not self._done.wait(EVERY_SECONDS):
            try:
                self.look(run_id)
            except Exception as error:  # whatever it is, the next look is due
                if not self._done.is_set():
                    self.blind(run_id, error)

    def blind(self, run_id: int, error: Exception) -> None:
        """Hold the run, where the watch alone is cut off: by a driver's connection, since ours does not serve.

        Without a server nothing is written either, and the driver recovers from that.
        """
        if time.monotonic() - self._looked < BLIND_SECONDS:
            return
        problem = problem_of(error) if isinstance(error, DRIVER_ERRORS) else type(error).__name__
        reason = f"the sensors could not be asked for {BLIND_SECONDS:g} s: {problem}"
        with contextlib.suppress(*DRIVER_ERRORS), self._driver.begin() as connection:
            runs.throttle(connection, run_id, reason)
            known, self.throttled = self.throttled, reason  # the next look that succeeds lets go
            if known is None:
                self._observe("throttled", reason)

    def look(self, run_id: int) -> None:
        """Ask all, and note what has changed."""
        with self._engine.connect() as connection:
            execute(
                connection, sql.SQL("set statement_timeout = {}").format(sql.Literal(SENSOR_SECONDS * 1000))
            )
            connection.commit()
            breach = decide(self._sensors, connection)
            pinned = None
            if self._snapshot is not None:
                # Only the wording depends on it: a role that may not see sessions loses nothing else.
                with contextlib.suppress(psycopg2.Error):
                    pinned = self._snapshot.holder(connection)
                connection.rollback()
            if self._done.is_set():
                return  # the run has ended meanwhile: nothing holds it
            throttled = breach.reason if breach else None
            # Also where we remember nothing: after a fail-over the ledger may know of a hold that is over.
            runs.throttle(connection, run_id, throttled)
            if pinned != self.pinned:
                runs.note(connection, run_id, pinned=pinned)
            connection.commit()
        self._looked = time.monotonic()
        if (throttled is None) != (self.throttled is None):
            self._observe("throttled" if throttled else "released", throttled or "")
        self.throttled, self.pinned = throttled, pinned
