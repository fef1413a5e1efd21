"""Acceptances: what preflight found and the operator accepted by name, on record as decisions."""

from collections.abc import Sequence

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import rows, value
from backfill.job_id import JobId
from backfill.ledger import decisions

KIND = "accept"

EXISTS = sql.SQL("""
    select exists (select from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
                    where n.nspname = %s and c.relname = %s)
""")
NAMES = sql.SQL("select distinct detail ->> 'finding' from {} where kind = %s")


def recorded(connection: Connection, schema: str) -> list[str]:
    """Names of accepted findings; none where there is no ledger yet."""
    if not value(connection, EXISTS, (schema, "decisions")):
        return []
    found = rows(connection, NAMES.format(sql.Identifier(schema, "decisions")), (KIND,))
    return [name for (name,) in found if name]


def began(connection: Connection, schema: str, fingerprint: str) -> bool:
    """Whether a run of that plan began: the places that it wrote are among the live ones now."""
    if not value(connection, EXISTS, (schema, "runs")):
        return False
    statement = sql.SQL("select exists (select from {} where plan_fingerprint = %s)")
    return bool(value(connection, statement.format(sql.Identifier(schema, "runs")), (fingerprint,)))


def record(connection: Connection, schema: str, names: Sequence[str]) -> None:
    """Put those on record that are not yet."""
    known = set(recorded(connection, schema))
    for name in dict.fromkeys(names):
        if name not in known:
            decisions.record(connection, KIND, JobId(name.partition(":")[2]), 0, finding=name)
