"""Into repair: hashes beside raw values that are not theirs become the right ones, on record, by exact count."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from psycopg2 import sql
from sqlalchemy import Engine

from backfill.database.blocks import Range
from backfill.database.connection import execute, rows
from backfill.database.quoting import table
from backfill.database.row_key import row_key
from backfill.database.write_check import collisions_told, now_at, require_taken
from backfill.database.writing import writes
from backfill.errors import RepairUnsafe
from backfill.escaping import counted
from backfill.ledger.counts import Count
from backfill.ledger.decisions import Decision
from backfill.plan import IntoJob
from backfill.verify.confirmation import UNCONFIRMED
from backfill.verify.into import IntoJudge, has_form
from backfill.verify.repair import Repair, require_count
from backfill.verify.staged_rows import FIX, is_named, lock, restage, spans, stage

STAGED = ("key", "hash")
UNGUARD = (
    "Where the chain has guarded the table, that is refused: first take back the revision with guard_links by `alembic "
    "downgrade`; upgrade again after `backfill verify`."
)
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
        return {Repair.HASH: self._seen[1]}

    def objection(self) -> RepairUnsafe | None:
        """Why they may not be replaced, by what stands in the column now: then the salt, or the scheme, may be wrong."""
        return self._objection(*self._seen)

    def repair(self, count: int) -> int:
        """Replace all wrong hashes; returns how many. Raises ``WrongCount``, ``RepairUnsafe``, ``SchemaUnfit``."""
        found = self._spans()
        wrong, right = self._wrong_and_right(found)
        require_count(self.job.label, Repair.HASH, count, wrong)
        if (unsafe := self._objection(found, wrong, right)) is not None:
            raise unsafe
        decision = Decision("repair", self.job.identity, {"what": Repair.HASH.value})
        return sum(self._repair(span, decision) for span in found) if wrong else 0

    @cached_property
    def _seen(self) -> tuple[list[Range], int, int]:
        """The table, and its wrong and right hashes, at the first look; a repair looks again."""
        found = self._spans()
        return (found, *self._wrong_and_right(found))

    def _spans(self) -> list[Range]:
        found = spans(self.engine, self.job)
        with self.engine.begin() as connection:
            self.judge.begin(connection)
        return found

    def _wrong_and_right(self, found: Iterable[Range]) -> tuple[int, int]:
        wrong = right = 0
        for span in found:
            with self.engine.begin() as connection:
                for row in self.judge.hashed_rows(connection, span.holds("event")):
                    wrong += row.found is Count.HASH_WRONG
                    right += row.found is Count.RIGHT
        return wrong, right

    def _objection(self, found: Iterable[Range], wrong: int, right: int) -> RepairUnsafe | None:
        """Hashes that the application wrote itself into this column speak for the salt, or against it: another column
        may have another one.
        """
        confirmation = self.judge.confirmation
        with self.engine.begin() as connection:
            if wrong <= confirmation.of_column(connection, self.job, right):
                return None
        against, formless = self._unexplained(found)
        with self.engine.begin() as connection:
            own = confirmation.of_column(connection, self.job, right + wrong - against - formless)
        if own:
            if against <= own:
                return None
            why = (
                f"as far as the ledger can tell, salt and scheme explain {counted(own, 'hash', 'hashes')} that the application wrote itself, and "
                f"{against:,} others are of no address of the table under them"
            )
        else:  # the application may have a form of its own
            against += formless
            if not against:
                return None
            why = f"in this column, {UNCONFIRMED}, and {counted(against, 'hash is', 'hashes are')} of something else"
        return RepairUnsafe(
            part=self.job.label, why=why, column=f"{self.job.name}.{self.job.into}", first=UNGUARD
        )

    def _unexplained(self, found: Iterable[Range]) -> tuple[int, int]:
        """Rows whose hash has the form of one, and is that of no text of the table, as a stale hash often is; and rows
        whose hash has not.
        """
        others: Counter[str] = Counter()
        ours: set[str] = set()
        formless = 0
        for first in (True, False):
            for span in found:
                with self.engine.begin() as connection:
                    for row in self.judge.hashed_rows(connection, span.holds("event")):
                        if first and row.found is Count.HASH_WRONG:
                            if has_form(row.hashed):
                                others[row.hashed] += 1
                            else:
                                formless += 1
                        elif not first and row.right is not None and row.right in others:
                            ours.add(row.right)
        return others.total() - sum(others[hashed] for hashed in ours), formless

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
