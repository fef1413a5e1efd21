"""Which sensors the operator's settings ask for; a new one is one new file and one line here."""

from collections.abc import Callable

from backfill.engine.throttle.active_sessions import ActiveSessions
from backfill.engine.throttle.archive_backlog import ArchiveBacklog
from backfill.engine.throttle.lock_waiters import LockWaiters
from backfill.engine.throttle.old_snapshot import OldSnapshot
from backfill.engine.throttle.operator_query import OperatorQuery
from backfill.engine.throttle.replay_lag import ReplayLag
from backfill.engine.throttle.sensor import Sensor
from backfill.engine.throttle.standby_heartbeat import StandbyHeartbeat
from backfill.engine.throttle.wal_rate import WalRate
from backfill.settings import Settings

# In the order in which they are asked: what hurts readers first, then the server, then its load.
SENSORS: list[Callable[[Settings], Sensor | None]] = [
    ReplayLag.from_settings,
    StandbyHeartbeat.from_settings,
    LockWaiters.from_settings,
    ArchiveBacklog.from_settings,
    WalRate.from_settings,
    ActiveSessions.from_settings,
    OperatorQuery.from_settings,
]


def sensors(settings: Settings) -> list[Sensor]:
    """Those that the settings ask for."""
    return [sensor for make in SENSORS if (sensor := make(settings)) is not None]


def snapshot(settings: Settings) -> OldSnapshot | None:
    """The look at old snapshots, unless it is switched off."""
    return OldSnapshot(settings.snapshot_seconds) if settings.snapshot_seconds else None
