"""Consents: that a job may rewrite values in place, given once for each definition, with a restore point and a count.

Each is a decision, and holds for the database in which it was given. A run notes the definitions by which it
rewrites; each batch asks, in its own transaction, whether consent to its run's definition is on record.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Connection, update

from backfill.database.connection import rows, value
from backfill.database.preflight.redefined import Rewritten
from backfill.database.server_identity import WEAK_IDENTITY, database_identity, identity_expression
from backfill.errors import ConsentMissing
from backfill.job_id import JobId
from backfill.ledger import decisions, raw_columns
from backfill.ledger.tables import batches, runs
from backfill.ledger.tables import decisions as table
from backfill.plan import InPlaceJob, Job, Plan
from backfill.raw_column import Widths

KIND = "rewrite"

GIVEN = sql.SQL("""
    select exists (select from {decisions} as given
                    where given.kind = {kind} and given.job = {job} and given.detail ->> 'definition' = {definition}
                      and {here} and (given.detail ->> 'raw column' is null or given.detail ->> 'raw column' = {place}))
""")
# About the column that stood there then: another one that has its name since may hold anything.
# By the run, in a batch: it has what the driver noted.
OF_RUN = sql.SQL("(select run.rewrites ->> {job} from {runs} as run where run.id = {run})")
# Roles that may not ask for the system's identifier (some managed servers) know the database's number alone.
HERE = sql.SQL("given.detail ->> 'database' in ({identity}, {weak})")
HERE_BY_NUMBER = sql.SQL("split_part(given.detail ->> 'database', '/', 2) = split_part({weak}, '/', 2)")
STANDS = sql.SQL("""
    select exists (select from pg_attribute as a join pg_class as c on c.oid = a.attrelid
                     join pg_namespace as n on n.oid = c.relnamespace
                    where n.nspname = %s and c.relname = 'runs' and a.attname = 'rewrites')
""")
# By the runs that noted the definition: what their batches wrote is counted in the transactions that wrote it.
REWRITTEN = sql.SQL("""
    select given.job, given.detail, sum(batch.written)
      from (select distinct on (job, detail ->> 'definition', detail ->> 'raw column') job, detail
              from {decisions} where kind = {kind}
             order by job, detail ->> 'definition', detail ->> 'raw column', id desc) as given
      join {runs} as run on run.rewrites ->> given.job = given.detail ->> 'definition'
      join {batches} as batch on batch.run_id = run.id and batch.job = given.job and batch.phase ~ '(^|-)link$'
     group by given.job, given.detail
    having sum(batch.written) > 0
     order by 1
""")


@dataclass(frozen=True)
class Consent:
    """What the operator confirmed."""

    definition: str
    key_id: str
    scheme: str
    count: int
    restore_point: str
    dry_run: int
    deletes: int = 0  # rows, as duplicates of others


def rewritten(connection: Connection, schema: str, plan: Plan, key_id: str) -> list[Rewritten]:
    """What runs rewrote by other definitions than those of *plan* and *key_id*; nothing where there is no ledger."""
    if value(connection, STANDS, (schema,)) is not True:
        return []
    statement = REWRITTEN.format(
        decisions=sql.Identifier(schema, table.name),
        runs=sql.Identifier(schema, runs.name),
        batches=sql.Identifier(schema, batches.name),
        kind=sql.Literal(KIND),
    )
    now = {job.identity: plan.definition(job, key_id) for job in plan.jobs}
    # Under another name it is the same column: told by its numbers in the catalog.
    places = {raw_columns.place(connection, job): job.identity for job in plan.jobs}
    return [
        Rewritten(
            owner,
            int(number),
            detail["keys"]["becomes"],
            Widths(**detail["keys"]["widths"]),
            detail["keys"]["constant"],
            detail["key id"],
            (detail["key id"], detail["scheme"]) == (key_id, plan.hash.scheme),
            detail["restore point"],
            detail["keys"].get("geo"),
            JobId(job),
        )
        for job, detail, number in rows(connection, statement)
        if now.get(owner := places.get(detail.get("raw column") or "", JobId(job))) != detail["definition"]
    ]


def given(connection: Connection, schema: str, job: Job, definition: str) -> bool:
    """Whether one to that definition is on record, about this database."""
    return _given(connection, schema, job, sql.Literal(definition))


def _given(connection: Connection, schema: str, job: Job, definition: sql.Composable) -> bool:
    weak, known = sql.SQL(WEAK_IDENTITY), identity_expression(connection)
    statement = GIVEN.format(
        decisions=sql.Identifier(schema, table.name),
        kind=sql.Literal(KIND),
        job=sql.Literal(job.identity),
        definition=definition,
        place=raw_columns.place_expression(job),
        here=HERE_BY_NUMBER.format(weak=weak)
        if known == WEAK_IDENTITY
        else HERE.format(identity=sql.SQL(known), weak=weak),
    )
    return bool(value(connection, statement))


def record(connection: Connection, job: InPlaceJob, consent: Consent) -> int:
    """Enter one, and return the decision's number."""
    return decisions.record(
        connection,
        KIND,
        job.identity,
        consent.count,
        **{
            "restore point": consent.restore_point,
            "what": f"as {job.becomes}",
            "definition": consent.definition,
            "key id": consent.key_id,
            "scheme": consent.scheme,
            "dry run": consent.dry_run,
            **({"deletes": consent.deletes} if consent.deletes else {}),
            "database": database_identity(connection),
            "raw column": raw_columns.place(connection, job),
            "keys": job.model_dump(mode="json", by_alias=True),
        },
    )


def enter(
    connection: Connection, schema: str, run_id: int, plan: Plan, jobs: Sequence[Job], key_id: str
) -> None:
    """Note by which definitions the run rewrites. Raises ``ConsentMissing`` where one of them has no consent."""
    definitions: dict[JobId, str] = {}
    for job in jobs:
        if isinstance(job, InPlaceJob):
            definitions[job.identity] = plan.definition(job, key_id)
            if not given(connection, schema, job, definitions[job.identity]):
                raise ConsentMissing(job=job.label)
    connection.execute(update(runs).where(runs.c.id == run_id).values(rewrites=definitions))


def fence(connection: Connection, schema: str, job: Job, run_id: int) -> None:
    """In a batch's transaction, before it writes. Raises ``ConsentMissing``."""
    if not isinstance(job, InPlaceJob):
        return
    definition = OF_RUN.format(
        job=sql.Literal(job.identity), runs=sql.Identifier(schema, runs.name), run=sql.Literal(run_id)
    )
    if not _given(connection, schema, job, definition):
        raise ConsentMissing(job=job.label)
