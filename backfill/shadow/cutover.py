"""Cutover: replay the rest, ask once more, swap; afterwards drop the old table, or before, the copy."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill import escaping
from backfill.database.columns import has_column
from backfill.database.connection import execute, value
from backfill.database.error_text import DRIVER_ERRORS
from backfill.database.lock_retry import lock_was_refused, patiently, say_busy, with_referenced
from backfill.database.nullable import discardable, to_settle
from backfill.database.quoting import quoted_table, table
from backfill.errors import CutoverPostponed, NoShadow, ShadowDiffers, ShadowExists
from backfill.jobs.resolver import Resolver
from backfill.jobs.row_needs import unlinked
from backfill.ledger import address_map, batches, coverage, quarantine, runs, shadow_copies
from backfill.ledger.counts import Count
from backfill.ledger.coverage_record import CoverageRecord, Evidence, Kind
from backfill.ledger.phases import COPY
from backfill.ledger.run_state import UNFINISHED, RunState
from backfill.ledger.shadow_copies import Stage
from backfill.plan import LinkJob, Plan
from backfill.shadow import blockers, capture, compare, expected_rows, names, replay, swap, table_definition
from backfill.shadow.classification import BLOCKERS
from backfill.shadow.expected_rows import ExpectedRows
from backfill.shadow.table_definition import TableDefinition

LAST_NOTES = 2_000  # under the lock: more of them, and we let go and catch up first


@dataclass(frozen=True)
class Cutover:
    """What a cut-over needs to know."""

    engine: Engine
    schema: str
    plan: Plan
    fingerprint: str  # of the plan: what proofs and gates go by
    resolver: Resolver
    lock_timeout_ms: int
    tell: Callable[[str], None]
    workers: int = 1  # sessions that compare

    def serves(self, job: LinkJob) -> bool:
        """Whether the copy has taken the original's place. Raises ``NoShadow``."""
        with self.engine.begin() as connection:
            entry = shadow_copies.shadow_of(connection, job)
        if entry is None:
            raise NoShadow(table=job.label, state="")
        return bool(entry.stage == Stage.SWAPPED)

    def prepare(
        self, job: LinkJob, expected: ExpectedRows, advance: Callable[[int], object] = lambda rows: None
    ) -> compare.Counts:
        """Catch up and compare every row; returns the counts, also kept in the ledger. Raises ``ShadowDiffers``."""
        run_id = self._run(job)
        with self.engine.begin() as connection:
            definition = table_definition.read_definition(connection, job)
            replay.ensure_map(connection, self.schema, self.plan.addresses, run_id)
        self._catch_up(job, definition, run_id)
        counts = compare.compare(
            self.engine,
            self.schema,
            self.plan.addresses,
            job,
            definition,
            expected,
            advance,
            workers=self.workers,
        )
        if compare.faults(counts):
            raise ShadowDiffers(table=job.label, faults=_words(compare.faults(counts)))
        with self.engine.begin() as connection:
            shadow_copies.compared(connection, job, counts)
        return counts

    def run(self, job: LinkJob) -> None:
        """Swap *job*'s table. Raises ``CutoverPostponed`` when something has to be settled, or the lock is not to be had."""
        run_id = self._run(job)
        with self.engine.begin() as connection:
            entry = shadow_copies.shadow_of(connection, job)
            counts = dict(entry.counts) if entry is not None and entry.stage == Stage.COMPARED else None
            definition = table_definition.read_definition(connection, job)
            replay.ensure_map(connection, self.schema, self.plan.addresses, run_id)
        if counts is None:
            with ExpectedRows(self.engine, self.schema, self.resolver) as expected:
                counts = self.prepare(job, expected)
        self._catch_up(job, definition, run_id)
        with self.engine.begin() as connection:
            asked = blockers.ask_again(connection, self.schema, job)
        if asked:
            self._catch_up(job, definition, run_id)
        counts = self._settled(job, counts)
        again: list[str] = []
        for _ in range(LAST_TRIES):
            try:
                patiently(
                    self.engine,
                    self.lock_timeout_ms,
                    lambda connection: self._swap(connection, job, definition, run_id, dict(counts)),
                    swap.locked(job, definition),
                    busy=say_busy(job.label, self.tell),
                )
                break
            except _Behind:
                again.append(job.label)
                self._catch_up(job, definition, run_id)
            except DRIVER_ERRORS as error:
                if lock_was_refused(error):
                    raise CutoverPostponed(
                        table=job.label,
                        reason=f"its lock was not granted within {self.lock_timeout_ms} ms, however often asked for",
                        fix=f"Try `backfill cutover {escaping.word(job.label)}` again.",
                    ) from error
                raise
        else:
            raise CutoverPostponed(
                table=job.label,
                reason="it changes faster than its changes can be replayed",
                fix=f"Try `backfill cutover {escaping.word(job.label)}` at a quieter time.",
            )
        self._after(job, definition)

    def finish(self, job: LinkJob) -> bool:
        """Drop the old table; False where that was done before. Raises ``NoShadow``."""
        with self.engine.begin() as connection:
            entry = shadow_copies.shadow_of(connection, job)
            gone = not has_column(connection, job, job.raw)
        if entry is None and gone:
            return False
        if entry is None or entry.stage != Stage.SWAPPED:
            raise NoShadow(table=job.label, state=" that serves")

        def drop(connection: Connection) -> None:
            execute(connection, sql.SQL("drop table {}").format(table(names.before(job))))
            shadow_copies.forget(connection, job)

        patiently(self.engine, self.lock_timeout_ms, drop, with_referenced(self.engine, names.before(job)))
        return True

    def _run(self, job: LinkJob) -> int:
        with self.engine.begin() as connection:
            entry = shadow_copies.shadow_of(connection, job)
        if entry is None or entry.stage == Stage.SWAPPED:
            raise NoShadow(table=job.label, state=" that waits")
        return int(entry.run_id)

    def _catch_up(self, job: LinkJob, definition: TableDefinition, run_id: int) -> None:
        try:
            replay.catch_up(
                self.engine, self.schema, self.plan.addresses, job, definition, self.resolver, run_id
            )
        except replay.ReplayDiffers as difference:
            raise ShadowDiffers(table=job.label, faults=str(difference)) from None

    def _settled(self, job: LinkJob, counts: compare.Counts) -> compare.Counts:
        """The counts as they are after settlement. Raises ``CutoverPostponed``, ``ShadowDiffers``."""
        with self.engine.begin() as connection:
            quarantine.release_fixed(connection, self.schema, job, unlinked(job))
            waiting = len(quarantine.entries(connection, job.identity))
            now = compare.now(connection, self.schema, job)
            left = blockers.counts(connection, self.schema, job)
            discard = bool(waiting) and discardable(connection, job)
        again = f"then `backfill cutover {escaping.word(job.label)}`."
        if waiting:
            raise CutoverPostponed(
                table=job.label,
                reason=f"{escaping.counted(waiting, 'row holds', 'rows hold')} a text that is no address, and the copy would lose it",
                fix=f"{to_settle(job.label, waiting, discard=discard)}, {again}",
            )
        if compare.faults(now):
            raise ShadowDiffers(table=job.label, faults=_words(compare.faults(now)))
        if left:
            raise CutoverPostponed(
                table=job.label,
                reason=f"the proof of its links is not complete ({_words(left)})",
                fix=f"Run `backfill addresses merge`, or fix the rows that `backfill verify` names, {again}",
            )
        return counts | dict.fromkeys(BLOCKERS, 0) | now

    def _swap(
        self,
        connection: Connection,
        job: LinkJob,
        definition: TableDefinition,
        run_id: int,
        counts: compare.Counts,
    ) -> None:
        """The transaction. Whatever it raises leaves the original serving."""
        swap.lock(connection, job, definition)
        entry = shadow_copies.shadow_of(connection, job)
        if entry is None or entry.stage != Stage.COMPARED:
            raise NoShadow(table=job.label, state=" that is ready")
        if table_definition.read_definition(connection, job).fingerprint != entry.fingerprint:
            raise CutoverPostponed(
                table=job.label,
                reason="the table's definition was changed after the copy was begun",
                fix=f"`backfill run --abandon {escaping.word(job.label)}`, and begin again.",
            )
        if capture.waiting(connection, self.schema, job) > LAST_NOTES:
            raise _Behind
        try:
            replay.replay(
                connection,
                self.schema,
                self.plan.addresses,
                job,
                definition,
                self.resolver,
                run_id,
                limit=LAST_NOTES,
            )
        except replay.ReplayDiffers as difference:
            raise ShadowDiffers(table=job.label, faults=str(difference)) from None
        if quarantine.entries(connection, job.identity) or blockers.counts(connection, self.schema, job):
            raise CutoverPostponed(
                table=job.label,
                reason="rows with a text that is no address, or with a wrong link, were written in the last moment",
                fix=f"`backfill cutover {escaping.word(job.label)}` again says which.",
            )
        swap.swap(connection, self.schema, job, definition)
        shadow_copies.swapped(connection, job)
        record = CoverageRecord(
            job=job.identity,
            table=job.label,
            kind=Kind.EVENTS,
            covered=True,
            counts={
                Count.ROWS: counts["rows"],
                Count.NO_ADDRESS: counts["rows"] - counts["linked"],
                Count.RIGHT: counts["linked"],
            },
            raw_rows=counts["raw"],
            evidence=Evidence(shadow=dict(counts)),
        )
        coverage.enter(connection, record, self.fingerprint)

    def _after(self, job: LinkJob, definition: TableDefinition) -> None:
        """What need not be done under the lock."""
        for key in definition.incoming:
            if key.valid:
                check = partial(swap.validate, key=key)
                patiently(self.engine, self.lock_timeout_ms, check, [sql.SQL(key.table)])
        with self.engine.begin() as connection:
            if not shadow_copies.waiting(connection):
                address_map.drop(connection, self.schema)


class _Behind(Exception):
    """Too many notes to read under the lock."""


LAST_TRIES = 5


def abandon(engine: Engine, schema: str, job: LinkJob, lock_timeout_ms: int) -> None:
    """Remove every trace of a copy that does not serve yet. Raises ``NoShadow``, ``ShadowExists``."""
    with engine.begin() as connection:
        entry = shadow_copies.shadow_of(connection, job)
    if entry is None:
        raise NoShadow(table=job.label, state=" to abandon")
    if entry.stage == Stage.SWAPPED:
        raise ShadowExists(
            table=job.label,
            state="the copy serves already",
            fix=f"The old table is {quoted_table(names.before(job))}; going back to it, by renaming both by hand, loses "
            "what was written since the cut-over.",
        )

    def remove(connection: Connection) -> None:
        capture.stop(connection, schema, job)
        expected_rows.drop(connection, schema)
        execute(connection, sql.SQL("drop table if exists {}").format(table(names.shadow(job))))
        batches.forget(connection, entry.run_id, phase=COPY, job=job.identity)
        shadow_copies.forget(connection, job)
        run = runs.get(connection, entry.run_id)
        if run.status in UNFINISHED:
            runs.move(connection, run.id, RunState.CANCELLED, error=f"the copy of {job.label} was abandoned")
        if not shadow_copies.waiting(connection):
            address_map.drop(connection, schema)

    copy = with_referenced(engine, names.shadow(job))
    patiently(engine, lock_timeout_ms, remove, [table(job), *copy])


def discard(engine: Engine, schema: str, job: LinkJob, run_id: int, lock_timeout_ms: int) -> bool:
    """``abandon`` the copy of that run; False where it has none that waits."""
    with engine.begin() as connection:
        entry = shadow_copies.shadow_of(connection, job)
    if entry is None or entry.run_id != run_id or entry.stage == Stage.SWAPPED:
        return False
    abandon(engine, schema, job, lock_timeout_ms)
    return True


def is_ready(connection: Connection, job: LinkJob) -> bool:
    """Whether a run that has ended left a compared copy of this table behind."""
    entry = shadow_copies.shadow_of(connection, job)
    if entry is None or entry.stage != Stage.COMPARED:
        return False
    return runs.get(connection, entry.run_id).status is RunState.SUCCEEDED


def leftovers(connection: Connection, job: LinkJob) -> str | None:
    """The name of an old table that was not dropped yet."""
    before = quoted_table(names.before(job))
    return before if value(connection, sql.SQL("select to_regclass(%s) is not null"), (before,)) else None


def _words(counts: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items())
