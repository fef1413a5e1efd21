"""Into repair: hashes beside raw values that are not theirs become the right ones, on record, by exact count."""

from collections.abc import Iterable
from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Engine

from backfill.database.blocks import Range
from backfill.database.connection import execute, rows
from backfill.database.quoting import table
from backfill.database.row_key import row_key
from backfill.database.write_check import collisions_told, now_at, require_taken
from backfill.database.writing import writes
from backfill.errors import SchemaUnfit
from backfill.ledger.counts import Count
from backfill.ledger.decisions import Decision
from backfill.plan import IntoJob
from backfill.verify.into import IntoJudge
from backfill.verify.repair import Repair, require_count
from backfill.verify.staged_rows import FIX, is_named, lock, restage, spans, stage

STAGED = ("key", "hash")
# Under the application's search_path: all is qualified.
SET = sql.SQL(
    "update {table} as event set {into} = fix.hash from {fix} as fix where {named} returning event.ctid"
)


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
        found = self._spans()
        wrong, right = self._wrong_and_right(found)
        require_count(self.job.label, Repair.HASH, count, wrong)
        if wrong > right:  # then it is the salt, or the scheme, that is wrong
            raise SchemaUnfit(
                problem=f"{wrong:,} hashes of {self.job.name} are wrong and {right:,} right: that is not damage, but another "
                "salt or scheme than that of the application. Look at BACKFILL_IP_SALT, and at scheme in the plan."
            )
        decision = Decision("repair", self.job.identity, {"what": Repair.HASH.value})
        return sum(self._repair(span, decision) for span in found) if wrong else 0

    def _spans(self) -> list[Range]:
        found = spans(self.engine, self.job)
        with self.engine.begin() as connection:
            self.judge.begin(connection)
        return found

    def _wrong_and_right(self, found: Iterable[Range]) -> tuple[int, int]:
        wrong = right = 0
        for span in found:
            with self.engine.begin() as connection:
                for _, count, _ in self.judge.hashed_rows(connection, span.holds("event")):
                    wrong, right = wrong + (count is Count.HASH_WRONG), right + (count is Count.RIGHT)
        return wrong, right

    def _repair(self, span: Range, decision: Decision) -> int:
        with self.engine.begin() as connection:
            amiss = list(self.judge.amiss(connection, span.holds("event")))
            if not amiss:
                return 0
            stage(connection, STAGED, amiss)
            tried = lock(connection, self.job)
            # Judged once more, under the lock: one that changed meanwhile gets the hash of the text that it has now.
            locked = list(self.judge.amiss(connection, now_at(self.job, tried, ())))
            restage(connection, STAGED, locked)
            statement = SET.format(
                table=table(self.job),
                into=sql.Identifier(self.job.into),
                fix=FIX,
                named=is_named(connection, self.job),
            )
            # A guarded table lets only this through.
            execute(connection, sql.SQL("set local backfill.repairing = 'on'")).close()
            with (
                collisions_told(self.job, self.job.into),
                writes(connection, self.job),
            ):
                written = [place for (place,) in rows(connection, statement)]
            named = bool(row_key(connection, self.job).columns)
            kept = [
                handle if named else None
                for handle, _ in self.judge.amiss(connection, now_at(self.job, tried, written))
            ]
            require_taken(connection, self.judge.schema, self.job, self.job.into, kept, len(locked))
            if written:
                decision.took(connection, len(written))
            return len(written)
