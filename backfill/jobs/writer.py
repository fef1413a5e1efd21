"""Writer: what a kind of job knows of writing. One object a job; ``kinds`` lists them.

The rest is the same for every kind: lease, passes and counts (``apply``), the batch map, the quarantine, the
closing count, the rows that a trigger keeps.

All SQL may stand in a statement that writes the application's table, under the application's search_path:
operators, functions and types are qualified. The row is ``event``, its entry in the map is ``map``.
"""

from collections.abc import Sequence
from typing import Protocol

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.jobs.passes import Pass
from backfill.ledger.batches import Batch
from backfill.plan import Job, Plan


class Writer(Protocol):
    """Writes the rows of one job."""

    @property
    def job(self) -> Job:
        """Whose rows."""
        ...

    @property
    def schema(self) -> str:
        """Of the ledger, where the map is."""
        ...

    @property
    def carries(self) -> Sequence[sql.Composable]:
        """What ``write`` takes from an entry of the map beside its text, as columns of a batch map."""
        ...

    @property
    def unfinished(self) -> sql.Composable:
        """The row holds a raw value and has not what the job asks for. Never NULL; false once it was written."""
        ...

    @property
    def finished(self) -> sql.Composable:
        """The row holds a raw value and has what the job asks for. Never NULL. Neither is it, where it is not due."""
        ...

    @property
    def needs_text(self) -> sql.Composable:
        """The row holds a raw value, and to write it its text is looked up in the map."""
        ...

    @property
    def usable(self) -> sql.Composable:
        """The entry of the map says what to write; false for a text that is no address."""
        ...

    @property
    def assignment(self) -> sql.Composable:
        """What SET says, from the entry, of a row that is unfinished."""
        ...

    def more(self, connection: Connection, plan: Plan) -> sql.Composable:
        """A sweep could do something about the row, although it is not unfinished; ``false`` where that never is."""
        ...

    def write(self, connection: Connection, plan: Plan | None, batch: Batch, now: Pass) -> int:
        """Write the rows of one pass, in *connection*'s transaction; returns their number.

        The map is complete, the table is locked against changes of its shape and is what preflight saw.
        """
        ...
