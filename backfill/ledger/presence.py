"""Whether the ledger is there already, so that a command need not run the chain to bring it."""

from psycopg2 import sql
from sqlalchemy import Engine

from backfill.database import revisions
from backfill.database.connection import value
from backfill.database.owners import require_trusted_ledger
from backfill.ledger import locks
from backfill.settings import Settings

NAME = sql.SQL("select to_regclass(format('%%I.alembic_version', %s::text)) is not null")
AT = sql.SQL("select array_agg(version_num::text) from {}")


def is_there(settings: Settings, engine: Engine) -> bool:
    """The chain has come to a revision that we know, and nobody is at it. Raises ``LedgerUntrusted``.

    The first revision brings the ledger, and every other one stands on it. Whatever else is found is Alembic's to tell.
    """
    schema = settings.ledger_schema
    with engine.connect() as connection:
        if not value(connection, NAME, (schema,)):
            return False
        require_trusted_ledger(connection, schema, settings.ledger_owner)
        found = value(connection, AT.format(sql.Identifier(schema, "alembic_version"))) or []
        return (
            len(found) == 1
            and found[0] in revisions.names()
            and bool(value(connection, locks.EXISTS, (schema,)))
            and locks.holder(connection, schema, locks.CHAIN) is None
        )
