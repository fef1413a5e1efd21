"""Names: what a shadow copy and its parts are called. All of them can be found again after a crash.

One copy a table, so they go by the table, not by the job.
"""

from psycopg2 import sql

from backfill.job_id import helper_name, name_beside
from backfill.plan import Job
from backfill.raw_column import Table

ABSENT_KEY = "id"  # where the plan names none


def key(job: Job) -> str:
    """The column by which rows of original and copy are told. Raises ``TypeError`` where it is not one: ``refusals`` come before."""
    if job.key is not None and not isinstance(job.key, str):
        raise TypeError("a copy needs a key of one column")
    return job.key or ABSENT_KEY


def shadow(job: Job) -> Table:
    """The copy in the making."""
    return Table(table=name_beside(job.table, "_shadow"), schema=job.schema_)


def before(job: Table) -> Table:
    """The original, once the copy has taken its name."""
    return Table(table=name_beside(job.table, "_before_backfill"), schema=job.schema_)


def log_name(job: Job) -> str:
    """The table of noted keys, in the ledger's schema."""
    return helper_name("changes", job.table, job.table_identity)


def blockers_name(job: Job) -> str:
    """The table of keys of rows that have to be fixed before the swap, in the ledger's schema."""
    return helper_name("blockers", job.table, job.table_identity)


def log(schema: str, job: Job) -> sql.Identifier:
    """``log_name`` as SQL."""
    return sql.Identifier(schema, log_name(job))


def blockers(schema: str, job: Job) -> sql.Identifier:
    """``blockers_name`` as SQL."""
    return sql.Identifier(schema, blockers_name(job))


def note_function(schema: str, job: Job) -> sql.Identifier:
    """The trigger function that notes keys."""
    return sql.Identifier(schema, helper_name("note", job.table, job.table_identity))


NOTE_ROW, NOTE_TRUNCATE = "zz_backfill_note", "zz_backfill_note_truncate"  # fire last: triggers go by name
TRIGGERS = (NOTE_ROW, NOTE_TRUNCATE)


def new_index(oid: int) -> str:
    """The copy's index in the place of the original's *oid*, until the swap."""
    return f"backfill_new_{oid}"


def old_index(oid: int) -> str:
    """The original's index *oid* after the swap."""
    return f"backfill_old_{oid}"
