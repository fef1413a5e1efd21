"""Blockers: which rows of the copy have to be fixed, settled or repaired before the texts go.

The comparison puts their keys on record, and every replay keeps the record true of the rows that it takes
anew. What is fixed in the events is noted by the capture; what is fixed in the address table is not, so the
cut-over has these rows looked at once more. Comparing everything again took 14.8 of 49.5 s for three rows.
"""

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import execute, rows
from backfill.plan import Job
from backfill.shadow import names

REJECTED = "rejected"  # settling it changes the event itself


def clear(connection: Connection, schema: str, job: Job) -> None:
    """Forget all of them: every row is about to be judged."""
    execute(connection, sql.SQL("delete from {}").format(names.blockers(schema, job)))


def release(connection: Connection, schema: str, job: Job, keys: sql.Composable) -> None:
    """Forget those of *keys*, a table of them, which are about to be judged anew."""
    statement = sql.SQL("delete from {blockers} as flaw using {keys} as noted where noted.key = flaw.key")
    execute(connection, statement.format(blockers=names.blockers(schema, job), keys=keys))


def counts(connection: Connection, schema: str, job: Job) -> dict[str, int]:
    """Rows by kind of flaw."""
    statement = sql.SQL("select kind, count(*) from {} group by kind order by kind")
    return dict(rows(connection, statement.format(names.blockers(schema, job))))


def ask_again(connection: Connection, schema: str, job: Job) -> int:
    """Note those that may have been fixed outside of the table, so that a replay judges them anew; how many."""
    statement = sql.SQL(
        "insert into {log} (key) select distinct key from {blockers} where kind <> {rejected}"
    )
    parts = {
        "log": names.log(schema, job),
        "blockers": names.blockers(schema, job),
        "rejected": sql.Literal(REJECTED),
    }
    with execute(connection, statement.format(**parts)) as cursor:
        return cursor.rowcount
