"""Server identity: which database this is, as far as the server can tell; a name can be given to any."""

from sqlalchemy import Connection, text

# The same text in a gate and in the script that a DBA pastes. A file-level copy of the cluster keeps
# both numbers, and is the same data; a dump restored elsewhere gets others.
IDENTITY = (
    "(select control.system_identifier || '/' || base.oid from pg_control_system() as control,"
    " pg_database as base where base.datname = current_database())"
)
# Where pg_control_system() is not ours to call (a managed server may revoke it).
WEAK_IDENTITY = "(select 'unknown/' || oid from pg_database where datname = current_database())"


def identity_expression(connection: Connection) -> str:
    """``IDENTITY``, or the weak one where the role may not ask for more."""
    allowed = connection.execute(
        text("select has_function_privilege('pg_catalog.pg_control_system()', 'execute')")
    ).scalar()
    return IDENTITY if allowed else WEAK_IDENTITY


def database_identity(connection: Connection) -> str:
    """System identifier and number of this database."""
    return str(connection.execute(text(f"select {identity_expression(connection)}")).scalar())
