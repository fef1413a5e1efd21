"""Swap: one short transaction in which the copy takes the original's name and all that hangs on it."""

import hashlib

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import execute, rows
from backfill.database.quoting import quoted_table, table
from backfill.plan import LinkJob
from backfill.shadow import capture, names
from backfill.shadow.table_definition import ForeignKey, TableDefinition


def locked(job: LinkJob, definition: TableDefinition) -> list[sql.Composable]:
    """The table, and those that point at it."""
    return [table(job), *(sql.SQL(name) for name in sorted({key.table for key in definition.incoming}))]


def lock(connection: Connection, job: LinkJob, definition: TableDefinition) -> None:
    """Nobody reads or writes the table, nor the tables that point at it, until the transaction ends."""
    for one in locked(job, definition):
        execute(connection, sql.SQL("lock table {} in access exclusive mode").format(one))


def swap(connection: Connection, schema: str, job: LinkJob, definition: TableDefinition) -> None:
    """Everything that is quick; needs ``lock`` before. Incoming foreign keys come back not valid."""
    shadow, before = names.shadow(job), names.before(job)
    capture.stop(connection, schema, job)
    for key in definition.incoming:
        _on(connection, sql.SQL(key.table), sql.SQL("drop constraint {}"), key.name)
    for publication in definition.publications:
        statement = sql.SQL("alter publication {} drop table {}")
        execute(connection, statement.format(sql.SQL(publication), table(job)))
    _carry_identities(connection, job, definition)
    for whole, name in definition.statistics:
        statement = sql.SQL("alter statistics {} rename to {}")
        execute(connection, statement.format(sql.SQL(whole), sql.Identifier(_old_statistics(name))))
    for index in definition.indexes:  # the constraint that stands on an index follows its name
        _rename(connection, "index", job.schema_, index.name, names.old_index(index.oid))
    _rename(connection, "table", job.schema_, job.table, before.table)
    _rename(connection, "table", job.schema_, shadow.table, job.table)
    for index in definition.indexes:
        _rename(connection, "index", job.schema_, names.new_index(index.oid), index.name)
        if index.comment is not None:
            statement = sql.SQL("comment on index {} is {}")
            execute(
                connection,
                statement.format(sql.Identifier(job.schema_, index.name), sql.Literal(index.comment)),
            )
    for text in definition.after_swap:
        execute(connection, sql.SQL(text))
    for key in definition.incoming:
        constraint = sql.SQL(key.definition.removesuffix(" NOT VALID") + " not valid")
        statement = sql.SQL("alter table {} add constraint {} {}")
        execute(connection, statement.format(sql.SQL(key.table), sql.Identifier(key.name), constraint))


def validate(connection: Connection, key: ForeignKey) -> None:
    """Check an incoming foreign key, in a transaction of its own: readers and writers go on."""
    _on(connection, sql.SQL(key.table), sql.SQL("validate constraint {}"), key.name)


def _carry_identities(connection: Connection, job: LinkJob, definition: TableDefinition) -> None:
    """The copy's identity sequences go on where the original's stand, under their names."""
    shadow = names.shadow(job)
    for column, sequence in definition.identities:
        statement = sql.SQL("select pg_get_serial_sequence(%s, %s)")
        ((copied,),) = rows(connection, statement, (quoted_table(shadow), column))
        execute(
            connection,
            sql.SQL("select setval({}, last_value, is_called) from {}").format(
                sql.Literal(copied), sql.SQL(sequence)
            ),
        )
        plain = sql.SQL("select relname from pg_class where oid = {}::regclass")
        ((name,),) = rows(connection, plain.format(sql.Literal(sequence)))
        ((copied_name,),) = rows(connection, plain.format(sql.Literal(copied)))
        _rename(connection, "sequence", job.schema_, name, _old_statistics(name))
        _rename(connection, "sequence", job.schema_, copied_name, name)


def _old_statistics(name: str) -> str:
    """A name for what the old table keeps: short enough, and nobody else's."""
    return f"backfill_old_{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _rename(connection: Connection, what: str, schema: str, name: str, new: str) -> None:
    statement = sql.SQL("alter " + what + " {} rename to {}")
    execute(connection, statement.format(sql.Identifier(schema, name), sql.Identifier(new)))


def _on(connection: Connection, where: sql.Composable, what: sql.SQL, name: str) -> None:
    execute(connection, sql.SQL("alter table {} {}").format(where, what.format(sql.Identifier(name))))
