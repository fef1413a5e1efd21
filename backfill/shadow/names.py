"""Names: what a shadow copy and its parts are called. All of them can be found again after a crash."""

from psycopg2 import sql

from backfill.plan import Job, Table

LONGEST = 63 - len("_before_backfill")  # bytes of a table's name; PostgreSQL would cut a longer one


def shadow(job: Job) -> Table:
    """The copy in the making."""
    return Table(table=f"{job.table}_shadow", schema=job.schema_, key=job.key)


def before(job: Job) -> Table:
    """The original, once the copy has taken its name."""
    return Table(table=f"{job.table}_before_backfill", schema=job.schema_, key=job.key)


def log(schema: str, job: Job) -> sql.Identifier:
    """The table of noted keys."""
    return sql.Identifier(schema, f"changes_{job.table}")


def flaws(schema: str, job: Job) -> sql.Identifier:
    """The table of keys of rows that have to be mended before the swap."""
    return sql.Identifier(schema, f"flaws_{job.table}")


def note_function(schema: str, job: Job) -> sql.Identifier:
    """The trigger function that notes keys."""
    return sql.Identifier(schema, f"note_{job.table}")


NOTE_ROW, NOTE_TRUNCATE = "zz_backfill_note", "zz_backfill_note_truncate"  # fire last: triggers go by name
TRIGGERS = (NOTE_ROW, NOTE_TRUNCATE)


def new_index(oid: int) -> str:
    """The copy's index in the place of the original's *oid*, until the swap."""
    return f"backfill_new_{oid}"


def old_index(oid: int) -> str:
    """The original's index *oid* after the swap."""
    return f"backfill_old_{oid}"
