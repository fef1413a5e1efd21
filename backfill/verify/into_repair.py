"""Into repair: hashes beside raw values that are not theirs become the right ones, on record, by exact count."""

from collections.abc import Iterable
from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.database.blocks import Range, heap_of, ranges
from backfill.database.columns import column_type, has_column
from backfill.database.connection import copy_in, execute
from backfill.database.quoting import table
from backfill.database.write_check import collisions_told, require_taken
from backfill.database.writing import writes
from backfill.errors import SchemaUnfit
from backfill.ledger.counts import Count
from backfill.ledger.decisions import Decision
from backfill.plan import IntoJob
from backfill.verify.into import IntoJudge
from backfill.verify.repair import BLOCKS, FIX, Repair, require_count

MAKE = sql.SQL("create temporary table {fix} (key text, hash text) on commit drop")
# By their keys: what was updated meanwhile may stand in another block.
STAGED = sql.SQL("exists (select from {fix} as fix where event.{key} {equals} fix.key::{key_type})")
LOCK = sql.SQL("select from {table} as event where {staged} order by event.{key} for update")
# Under the application's search_path: all is qualified.
SET = sql.SQL("""
    update {table} as event set {into} = fix.hash from {fix} as fix where event.{key} {equals} fix.key::{key_type}
""")


@dataclass(frozen=True)
class IntoRepair:
    """Repairs the hashes of one table."""

    engine: Engine
    judge: IntoJudge

    @property
    def job(self) -> IntoJob:
        """The table."""
        return self.judge.job

    def counts(self) -> dict[Repair, int]:
        """What the repair would find now."""
        return {Repair.HASH: self._wrong_and_right(self._spans())[0]}

    def repair(self, count: int) -> int:
        """Replace all wrong hashes; returns how many. Raises ``WrongCount``, ``SchemaUnfit``."""
        spans = self._spans()
        wrong, right = self._wrong_and_right(spans)
        require_count(self.job.label, Repair.HASH, count, wrong)
        if wrong > right:  # then it is the salt, or the scheme, that is wrong
            raise SchemaUnfit(
                problem=f"{wrong:,} hashes of {self.job.name} are wrong and {right:,} right: that is not damage, but another "
                "salt or scheme than that of the application. Look at BACKFILL_IP_SALT, and at scheme in the plan."
            )
        decision = Decision("repair", self.job.identity, {"what": Repair.HASH.value})
        return sum(self._repair(span, decision) for span in spans) if wrong else 0

    def _spans(self) -> list[Range]:
        with self.engine.begin() as connection:
            if not has_column(connection, self.job, self.job.raw):
                raise SchemaUnfit(
                    problem=f"{self.job.name}.{self.job.raw} is gone: nothing says what is right."
                )
            self.judge.begin(connection)
            return list(ranges(heap_of(connection, self.job).blocks, BLOCKS))

    def _wrong_and_right(self, spans: Iterable[Range]) -> tuple[int, int]:
        wrong = right = 0
        for span in spans:
            with self.engine.begin() as connection:
                for _, found, _ in self.judge.hashed_rows(connection, span.holds("event")):
                    wrong, right = wrong + (found is Count.HASH_WRONG), right + (found is Count.RIGHT)
        return wrong, right

    def _repair(self, span: Range, decision: Decision) -> int:
        with self.engine.begin() as connection:
            amiss = list(self.judge.amiss(connection, span.holds("event")))
            if not amiss:
                return 0
            key = column_type(connection, self.job, self.job.key)
            names = {
                "fix": FIX,
                "table": table(self.job),
                "key": sql.Identifier(self.job.key),
                "key_type": sql.SQL(key.name),
                "equals": key.equals,
                "into": sql.Identifier(self.job.into),
            }
            staged = STAGED.format(**names)
            _stage(connection, amiss, names)
            execute(connection, LOCK.format(staged=staged, **names)).close()
            # Judged once more, under the lock: one that changed meanwhile gets the hash of the text that it has now.
            locked = list(self.judge.amiss(connection, staged))
            execute(connection, sql.SQL("drop table {}").format(FIX)).close()
            _stage(connection, locked, names)
            # A guarded table lets only this through.
            execute(connection, sql.SQL("set local backfill.repairing = 'on'")).close()
            with (
                collisions_told(self.job, self.job.into),
                writes(connection, self.job),
                execute(connection, SET.format(**names)) as cursor,
            ):
                changed = cursor.rowcount
            kept = [key for key, _ in self.judge.amiss(connection, staged)]
            require_taken(connection, self.judge.schema, self.job, self.job.into, kept, len(locked))
            if changed:
                decision.took(connection, changed)
            return changed


def _stage(
    connection: Connection, found: Iterable[tuple[str, str | None]], names: dict[str, sql.Composable]
) -> None:
    execute(connection, MAKE.format(**names)).close()
    copy_in(connection, FIX, ["key", "hash"], found)
