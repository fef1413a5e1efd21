"""The database as a whole: encoding, standby, read-only roles, temporary tables, event triggers."""

from collections.abc import Iterator

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import rows, value
from backfill.database.preflight.finding import Finding, blocks, note
from backfill.database.preflight.target import Purpose

ENCODING = blocks("sql-ascii")
STANDBY = blocks("standby")
READ_ONLY = blocks("read-only")
LEDGER = blocks("ledger-schema")
TEMPORARY = blocks("temporary-tables")
EVENT_TRIGGER = note("event-trigger")
REPLICA_ROLE = blocks("replica-role")

MAY_CREATE = sql.SQL("""
    select coalesce((select has_schema_privilege(oid, 'usage') and has_schema_privilege(oid, 'create')
                       from pg_namespace where nspname = %s),
                    has_database_privilege(current_database(), 'create'))
""")
EVENT_TRIGGERS = sql.SQL("""
    select t.evtname, t.evtevent, format('%I.%I', n.nspname, p.proname)
      from pg_event_trigger as t
      join pg_proc as p on p.oid = t.evtfoid
      join pg_namespace as n on n.oid = p.pronamespace
     where t.evtenabled in ('O', 'A') and t.evtevent <> 'login'
     order by 1
""")


def check(connection: Connection, ledger_schema: str, purpose: Purpose) -> Iterator[Finding]:
    """What no table is to blame for."""
    user, name = rows(connection, sql.SQL("select current_user, current_database()"))[0]
    if value(connection, sql.SQL("select current_setting('server_encoding')")) == "SQL_ASCII":
        yield ENCODING(
            name,
            "The database encoding is SQL_ASCII, so its text has no meaning.",
            "Convert it to UTF8 first.",
        )
    if value(connection, sql.SQL("select pg_is_in_recovery()")):
        yield STANDBY(
            name, "This server is a standby and read-only.", "Name the primary in BACKFILL_DATABASE_URL."
        )
    elif value(connection, sql.SQL("select current_setting('transaction_read_only')::boolean")):
        yield READ_ONLY(
            user,
            f"Transactions of role {user} are read-only here.",
            f"alter role {user} set default_transaction_read_only = off; or use another role.",
        )
    if value(connection, sql.SQL("select current_setting('session_replication_role')")) == "replica":
        yield REPLICA_ROLE(
            user,
            "session_replication_role is replica: foreign keys are not checked, and ordinary triggers do not fire.",
            f"alter role {user} reset session_replication_role; (or of the database)",
        )
    if not value(connection, MAY_CREATE, (ledger_schema,)):
        yield LEDGER(
            ledger_schema,
            f"Role {user} may not create schema {ledger_schema}, or nothing in it.",
            f"Grant it: grant create on database {name} to {user}; or have the schema created and owned by it.",
        )
    if not value(connection, sql.SQL("select has_database_privilege(current_database(), 'temporary')")):
        yield TEMPORARY(
            name,
            "Temporary tables are not allowed here.",
            f"Grant it: grant temporary on database {name} to {user};",
        )
    if purpose is Purpose.PLAN:
        for trigger, event, function in rows(connection, EVENT_TRIGGERS):
            yield EVENT_TRIGGER(
                trigger,
                f"Event trigger {trigger} runs {function} at {event}: it may refuse what the ledger and the migration create or drop.",
                "Look at it before `backfill run`; the migration is refused whole or done whole.",
            )
