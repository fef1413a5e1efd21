"""Which sensors the operator's settings ask for; a new one is one new file and one line here."""

from backfill.database.urls import parse
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


def sensors(settings: Settings) -> list[Sensor]:
    """In the order in which they are asked: what hurts readers first, then the server, then its load."""
    chosen: list[Sensor] = []
    if settings.max_lag:
        chosen.append(ReplayLag(settings.max_lag))
        urls = [
            parse(url, "BACKFILL_STANDBY_URLS")
            for url in (settings.standby_urls.get_secret_value().split() if settings.standby_urls else [])
        ]
        if urls:
            chosen.append(StandbyHeartbeat(urls, settings.ledger_schema, settings.max_lag))
    if settings.max_lock_waiters is not None:
        chosen.append(LockWaiters(settings.max_lock_waiters))
    if settings.max_archive_backlog is not None:
        chosen.append(ArchiveBacklog(settings.max_archive_backlog))
    if settings.max_wal_rate is not None:
        chosen.append(WalRate(settings.max_wal_rate))
    if settings.max_active_sessions is not None:
        chosen.append(ActiveSessions(settings.max_active_sessions))
    if settings.throttle_query:
        chosen.append(OperatorQuery(settings.throttle_query))
    return chosen


def snapshot(settings: Settings) -> OldSnapshot | None:
    """The look at old snapshots, unless it is switched off."""
    return OldSnapshot(settings.snapshot_seconds) if settings.snapshot_seconds else None
