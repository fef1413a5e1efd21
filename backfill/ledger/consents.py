"""Consents: that a job may rewrite values in place, given once for each definition, with a restore point and a count.

Each is a decision, and holds for the database in which it was given. A run notes the definitions by which it
rewrites; each batch asks, in its own transaction, whether consent to its run's definition is on record.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Connection, func, select, update

from backfill.database.connection import rows, value
from backfill.database.preflight.redefined import Rewritten
from backfill.database.server_identity import database_identity, identity_expression
from backfill.errors import ConsentMissing
from backfill.job_id import JobId
from backfill.ledger import decisions
from backfill.ledger.tables import batches, runs
from backfill.ledger.tables import decisions as table
from backfill.plan import InPlaceJob, Job, Plan, Widths

KIND = "rewrite"

GIVEN = sql.SQL("""
    select exists (select from {decisions} as given join {runs} as run on run.id = {run}
                    where given.kind = {kind} and given.job = {job}
                      and given.detail ->> 'definition' = run.rewrites ->> {job}
                      and given.detail ->> 'database' = {database})
""")


STANDS = sql.SQL("""
    select exists (select from pg_attribute as a join pg_class as c on c.oid = a.attrelid
                     join pg_namespace as n on n.oid = c.relnamespace
                    where n.nspname = %s and c.relname = 'runs' and a.attname = 'rewrites')
""")
# By the runs that noted the definition: what their batches wrote is counted in the transactions that wrote it.
REWRITTEN = sql.SQL("""
    select given.job, given.detail, sum(batch.written)
      from (select distinct on (job, detail ->> 'definition') job, detail
              from {decisions} where kind = {kind} order by job, detail ->> 'definition', id desc) as given
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
    return [
        Rewritten(
            JobId(job),
            int(number),
            detail["keys"]["becomes"],
            Widths(**detail["keys"]["widths"]),
            detail["keys"]["constant"],
            detail["key id"],
            (detail["key id"], detail["scheme"]) == (key_id, plan.hash.scheme),
            detail["restore point"],
        )
        for job, detail, number in rows(connection, statement)
        if now.get(JobId(job)) != detail["definition"]
    ]


def given(connection: Connection, job: Job, definition: str) -> bool:
    """Whether one to that definition is on record, about this database."""
    statement = select(func.count()).where(
        table.c.kind == KIND,
        table.c.job == job.identity,
        table.c.detail["definition"].astext == definition,
        table.c.detail["database"].astext == database_identity(connection),
    )
    return bool(connection.execute(statement).scalar())


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
            "database": database_identity(connection),
            "keys": job.model_dump(mode="json", by_alias=True),
        },
    )


def enter(connection: Connection, run_id: int, plan: Plan, jobs: Sequence[Job], key_id: str) -> None:
    """Note by which definitions the run rewrites. Raises ``ConsentMissing`` where one of them has no consent."""
    definitions: dict[JobId, str] = {}
    for job in jobs:
        if isinstance(job, InPlaceJob):
            definitions[job.identity] = plan.definition(job, key_id)
            if not given(connection, job, definitions[job.identity]):
                raise ConsentMissing(job=job.label)
    connection.execute(update(runs).where(runs.c.id == run_id).values(rewrites=definitions))


def fence(connection: Connection, schema: str, job: Job, run_id: int) -> None:
    """In a batch's transaction, before it writes. Raises ``ConsentMissing``."""
    if not isinstance(job, InPlaceJob):
        return
    statement = GIVEN.format(
        decisions=sql.Identifier(schema, table.name),
        runs=sql.Identifier(schema, runs.name),
        run=sql.Literal(run_id),
        kind=sql.Literal(KIND),
        job=sql.Literal(job.identity),
        database=sql.SQL(identity_expression(connection)),
    )
    if not value(connection, statement):
        raise ConsentMissing(job=job.label)
