"""Into: the hash of a raw value goes into another column of its row; the raw column is dropped in the end.

A row is finished when that column holds anything: what the application wrote itself is never overwritten here, and
whether it is right, ``verify`` says. A text that is no address gets nothing, and waits in the quarantine.
"""

from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import rows
from backfill.database.quoting import table
from backfill.database.writing import writes
from backfill.errors import ResultChanged
from backfill.jobs import batch_map, index_hint
from backfill.jobs.in_pass import in_pass
from backfill.jobs.passes import Pass
from backfill.jobs.row_needs import linked, raw_text, unlinked
from backfill.ledger.batches import Batch
from backfill.plan import IntoJob, Plan

# Under the application's search_path, as all that writes its table: every operator and function is qualified.
# What RETURNING sees is the row as it is stored: after a BEFORE trigger, cut or padded by its type.
WRITE = sql.SQL("""
    with written as (
        update {table} as event
           set {assignments}
          from {map} as map
         where map.raw OPERATOR(pg_catalog.=) {text}
           and {usable}
           and {unfinished}
           and {in_range}
           and {in_pass}
        returning coalesce((event.{into}::pg_catalog.text collate pg_catalog."C") OPERATOR(pg_catalog.=) map.hash, false)
            as is_right
    )
    select pg_catalog.count(*), pg_catalog.count(*) filter (where is_right) from written
""")


@dataclass(frozen=True)
class IntoWriter:
    """Writes the hash beside the raw value."""

    job: IntoJob
    schema: str  # of the ledger
    carries = (sql.Identifier("map", "hash"),)

    @property
    def unfinished(self) -> sql.Composable:
        """A text and no hash."""
        return unlinked(self.job)

    @property
    def finished(self) -> sql.Composable:
        """A text and a hash, whoever wrote it."""
        return linked(self.job)

    @property
    def needs_text(self) -> sql.Composable:
        """No hash."""
        return self.unfinished

    @property
    def usable(self) -> sql.Composable:
        """It names an address."""
        return sql.SQL("map.hash is not null")

    @property
    def assignment(self) -> sql.Composable:
        """The hash; a text is assigned to any text-like type, and one that is too long is refused and not cut."""
        return sql.SQL("{} = map.hash").format(sql.Identifier(self.job.into))

    def more(self, connection: Connection, plan: Plan) -> sql.Composable:
        """Nothing besides."""
        return sql.SQL("false")

    def write(self, connection: Connection, plan: Plan | None, batch: Batch, now: Pass) -> int:
        """Hashes. Raises ``ResultChanged`` where a row does not hold what was written."""
        texts = batch_map.texts(connection, self, batch, now)
        unchanged = index_hint.unchanged(connection, self.job)
        assignments = [self.assignment, *index_hint.as_they_are(unchanged)]
        statement = WRITE.format(
            table=table(self.job),
            assignments=sql.SQL(", ").join(assignments),
            map=texts,
            text=raw_text(self.job),
            usable=self.usable,
            unfinished=self.unfinished,
            in_range=now.range.holds("event"),
            in_pass=in_pass(now),
            into=sql.Identifier(self.job.into),
        )
        with writes(connection, self.job):
            ((written, right),) = rows(connection, statement)
        if right < written:
            raise ResultChanged(job=self.job.label, changed=written - right, written=written)
        return int(written)
