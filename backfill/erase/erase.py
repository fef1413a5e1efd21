"""Erase: tables, then statistics, then what we left ourselves, then the WAL that recorded all of it.

Each step is entered in the ledger before it begins. A step that is on record as done, with the very
file that it left still in place, is not done again; one that a kill interrupted is looked at.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine

from backfill.database.connection import problem_of
from backfill.database.error_text import DRIVER_ERRORS
from backfill.engine import signals
from backfill.erase import disk, leftovers, rewrite, snapshot_holders, statistics, targets, wal
from backfill.erase.rewrite import Method
from backfill.erase.targets import Skipped, Target
from backfill.errors import BackfillError
from backfill.ledger import erasures
from backfill.plan import Plan

TABLE, STATISTICS, SCRATCH, WAL = "table", "statistics", "scratch", "wal"


@dataclass(frozen=True)
class Intent:
    """What an erasure would do, known before it begins."""

    rewrite: tuple[Target, ...]
    done: tuple[Skipped, ...]  # rewritten before; the file is still that one
    adopted: tuple[tuple[int, Target], ...]  # steps whose client was killed while the server finished them
    skipped: tuple[Skipped, ...]
    repack: Path | None  # pg_repack's program, where it can be used
    room_known: bool
    holders: snapshot_holders.Pins
    leftovers: tuple[str, ...]

    @property
    def method(self) -> Method:
        """How tables are rewritten."""
        return Method.REPACK if self.repack else Method.VACUUM


@dataclass(frozen=True)
class Step:
    """What became of a step."""

    kind: str
    target: str
    method: str
    status: str
    note: str = ""


def intend(
    connection: Connection, schema: str, plan: Plan, names: Sequence[str], method: Method | None
) -> Intent:
    """Look, and change nothing. Raises ``NotErasable``, ``DiskTooSmall``."""
    found, skipped = targets.find_targets(connection, plan, names)
    todo, done, adopted = [], [], []
    for target in found:
        row = erasures.latest(connection, TABLE, target.name)
        since = row is not None and targets.rewritten_since(connection, plan, target, row.started)
        if not names and row is not None and _stands(row, target) and not since:
            done.append(Skipped(target.name, f"rewritten on {row.started:%Y-%m-%d %H:%M}"))
            if row.status == erasures.RUNNING:
                adopted.append((row.id, target))
        else:
            todo.append(target)
    return Intent(
        rewrite=tuple(todo),
        done=tuple(done),
        adopted=tuple(adopted),
        skipped=tuple(skipped),
        repack=None if method is Method.VACUUM else rewrite.repack_client(connection),
        room_known=disk.require_room(connection, todo),
        holders=snapshot_holders.find_pins(connection),
        leftovers=tuple(leftovers.count_leftovers(connection, schema)),
    )


def erase(
    engine: Engine,
    schema: str,
    intent: Intent,
    lock_timeout_ms: int,
    tell: Callable[[str], None],
    *,
    keep_wal: bool = False,
) -> Iterator[Step]:
    """Do it, a step at a time. Raises ``TableBusy``, ``NotRewritten``; what was done before stays done."""
    with engine.begin() as connection:
        for number, target in intent.adopted:
            erasures.end(connection, number, erasures.DONE, filenode=target.filenode, bytes_after=target.size)
    for target in intent.rewrite:
        yield _rewrite(engine, intent, target, lock_timeout_ms, tell)
    yield _scratch(engine, schema)
    yield _statistics(engine, lock_timeout_ms)
    yield _wal_kept(engine) if keep_wal else _wal(engine, tell)


def _stands(row: object, target: Target) -> bool:
    """Whether that record speaks of the file that is there now, and of all attributes dropped since.

    One still marked as running was interrupted: its client may be gone and its rewrite complete.
    """
    status, before, after = row.status, row.filenode_before, row.filenode  # type: ignore[attr-defined]
    dropped: int = row.detail.get("dropped", -1)  # type: ignore[attr-defined]
    if dropped != target.dropped:
        return False
    if status == erasures.DONE:
        return bool(after == target.filenode)
    return bool(status == erasures.RUNNING and before != target.filenode)


@contextmanager
def _autocommit(engine: Engine) -> Iterator[Connection]:
    """A connection for what cannot run in a transaction; its settings go with it."""
    with engine.connect() as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.invalidate()


@contextmanager
def _on_record(engine: Engine, kind: str, target: str, method: str, **values: object) -> Iterator[int]:
    with engine.begin() as connection:
        number = erasures.begin(connection, kind, target, method, **values)
    try:
        yield number
    except (BackfillError, *DRIVER_ERRORS) as error:
        problem = str(error) if isinstance(error, BackfillError) else problem_of(error)
        with engine.begin() as connection:
            erasures.end(connection, number, erasures.FAILED, detail={"problem": problem})
        raise


def _rewrite(
    engine: Engine, intent: Intent, target: Target, lock_timeout_ms: int, tell: Callable[[str], None]
) -> Step:
    detail = {"dropped": target.dropped, "unlogged": target.persistence == "u"}
    with (
        _on_record(
            engine,
            TABLE,
            target.name,
            intent.method,
            filenode_before=target.filenode,
            bytes_before=target.size,
            detail=detail,
        ) as number,
        _autocommit(engine) as connection,
    ):
        with signals.leaves(
            f"{target.name} was being rewritten: it is as it was, unless the server was done at that moment. "
            "What was rewritten before stays; `backfill erase` goes on from there."
        ):
            if intent.repack is not None:
                rewrite.repack(connection, target, intent.repack)
            else:
                rewrite.vacuum_full(connection, target, lock_timeout_ms, tell)
        (now,) = targets.relations(connection, target.schema, target.table)
        erasures.end(connection, number, erasures.DONE, filenode=now.filenode, bytes_after=now.size)
    saved = f"{target.size / 2**20:,.1f} MiB before, {now.size / 2**20:,.1f} after"
    return Step(TABLE, target.name, intent.method, erasures.DONE, saved)


def _scratch(engine: Engine, schema: str) -> Step:
    with _on_record(engine, SCRATCH, "scratch tables", "drop") as number, engine.begin() as connection:
        names = leftovers.drop(connection, schema)
        erasures.end(connection, number, erasures.DONE, detail={"dropped": names})
    return Step(SCRATCH, "scratch tables", "drop", erasures.DONE, ", ".join(names) or "none was left")


def _statistics(engine: Engine, lock_timeout_ms: int) -> Step:
    method = str(Method.VACUUM)
    with (
        _on_record(engine, STATISTICS, "pg_statistic", method) as number,
        _autocommit(engine) as connection,
    ):
        if not statistics.allowed(connection):
            why = "this role may not rewrite pg_statistic; a superuser may: vacuum full pg_statistic"
            erasures.end(connection, number, erasures.LEFT, detail={"why": why})
            return Step(STATISTICS, "pg_statistic", method, erasures.LEFT, why)
        statistics.rewrite(connection, lock_timeout_ms)
        erasures.end(connection, number, erasures.DONE)
    return Step(STATISTICS, "pg_statistic", method, erasures.DONE)


def _wal_kept(engine: Engine) -> Step:
    why = "kept, as told"
    with _on_record(engine, WAL, "pg_wal", "keep") as number, engine.begin() as connection:
        erasures.end(connection, number, erasures.LEFT, detail={"why": why})
    return Step(WAL, "pg_wal", "keep", erasures.LEFT, why)


def _wal(engine: Engine, tell: Callable[[str], None]) -> Step:
    with engine.connect() as connection:
        earlier = erasures.latest(connection, WAL, "pg_wal")
    with _on_record(engine, WAL, "pg_wal", "cycle") as number, _autocommit(engine) as connection:
        if earlier is not None and earlier.status == erasures.RUNNING:
            wal.put_back(connection, earlier.detail.get("before"))

        def note(before: object) -> None:
            erasures.end(
                connection,
                number,
                erasures.RUNNING,
                detail={"before": before},
            )

        with signals.leaves(
            "All tables are rewritten. The WAL was being cycled: wal_recycle may still be off, and "
            "`backfill erase` puts it back and goes on."
        ):
            cycled = wal.cycle(connection, tell, note)
        status = erasures.DONE if cycled.left == 0 else erasures.LEFT
        erasures.end(connection, number, status, detail={"left": cycled.left, "why": cycled.why})
    return Step(WAL, "pg_wal", "cycle", status, cycled.why)
