"""Build: the copy's table, its rows by block range, then its indexes, then its foreign keys."""

import time
import uuid
from collections.abc import Callable
from functools import partial

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.database.columns import column_type
from backfill.database.connection import ASYNCHRONOUS, execute, rows, value
from backfill.database.lock_retry import patiently, with_referenced
from backfill.database.quoting import regclass, table
from backfill.database.timeouts import Timeouts
from backfill.database.writing import writes
from backfill.engine.in_flight import in_threads
from backfill.jobs import apply, batch_map
from backfill.ledger import address_map, claims, shadow_copies
from backfill.ledger.batches import Batch, PassCounts
from backfill.plan import LinkJob, Plan
from backfill.shadow import capture, names, table_definition
from backfill.shadow import rows as rows_of_copy
from backfill.shadow.table_definition import ForeignKey, Index, TableDefinition

# Memory for each index build: what a maintenance window can spare; sorting 2 million uuids takes 100 MB.
MAINTENANCE_WORK_MEM = "128MB"

# LIKE copies types, defaults, generated columns, identities, NOT NULL, CHECK, storage and comments.
CREATE = sql.SQL("""
    create {unlogged} table {shadow} (like {table} including all excluding indexes excluding statistics)
""")


def begin(connection: Connection, schema: str, job: LinkJob, run_id: int) -> TableDefinition:
    """Make the empty copy, start the capture, and enter it in the ledger: one transaction."""
    definition = table_definition.read_definition(connection, job)
    shadow = table(names.shadow(job))
    create = CREATE.format(
        unlogged=sql.SQL("unlogged" if definition.unlogged else ""), shadow=shadow, table=table(job)
    )
    execute(connection, create)
    execute(connection, sql.SQL("alter table {} drop column {}").format(shadow, sql.Identifier(job.raw)))
    for column in definition.columns:
        for setting in column.settings:
            execute(connection, sql.SQL("alter table {} {}").format(shadow, sql.SQL(setting)))
    if definition.storage:
        options = sql.SQL(", ").join(map(sql.SQL, definition.storage))
        execute(connection, sql.SQL("alter table {} set ({})").format(shadow, options))
    _revoke_defaults(connection, job)
    execute(connection, sql.SQL("alter table {} owner to {}").format(shadow, sql.SQL(definition.owner)))
    capture.start(connection, schema, job, column_type(connection, job, names.key(job)).name)
    shadow_copies.begin(
        connection, job, run_id, table_definition.read_definition(connection, job).fingerprint
    )
    return definition


def _revoke_defaults(connection: Connection, job: LinkJob) -> None:
    """ALTER DEFAULT PRIVILEGES may have given the copy grants that the original does not have."""
    shadow = names.shadow(job)
    statement = sql.SQL("""
        select distinct case when grantee = 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end
          from pg_class as c, aclexplode(c.relacl) where c.oid = {} and grantee <> c.relowner
    """).format(regclass(shadow))
    for (role,) in rows(connection, statement):
        execute(connection, sql.SQL("revoke all on table {} from {}").format(table(shadow), sql.SQL(role)))


def load(
    engine: Engine,
    schema: str,
    job: LinkJob,
    definition: TableDefinition,
    batch: Batch,
    lease: uuid.UUID,
    filenode: int,
    timeouts: Timeouts,
    plan: Plan,
) -> PassCounts:
    """Copy one range, and put what cannot be linked on record.

    Raises ``LeaseLost``, ``MapIncomplete``, ``TableRewritten``; nothing is written then.
    """
    started = time.monotonic()
    with engine.begin() as connection:
        timeouts.apply(connection)
        execute(connection, ASYNCHRONOUS)
        if claims.fence(connection, batch, lease) >= batch.passes:
            return PassCounts()
        address_map.require_complete(connection, schema, batch.run_id)
        apply.check_filenode(connection, job, filenode)
        blocks = batch.range.last - batch.range.first
        batch_map.choose_join(connection, schema, job, blocks, texts_only=False)
        known = rows_of_copy.known(connection, plan.addresses, plan.geo.keys)
        copy = rows_of_copy.insert(schema, job, definition, batch.range.holds("event"), known)
        with writes(connection, job, names.shadow(job)), execute(connection, copy) as cursor:
            written = cursor.rowcount
        capture.note_unknown(connection, schema, job, batch.run_id, batch.range.holds("event"))
        quarantined = apply.quarantine_rows(connection, schema, job, batch.run_id, batch.range.holds("event"))
        counts = PassCounts(written=written, quarantined=quarantined, seconds=time.monotonic() - started)
        claims.count_pass(connection, batch.id, counts, seconds=counts.seconds)
    return counts


def drop_noted(connection: Connection, schema: str, job: LinkJob) -> int:
    """Drop the rows that changed during the load: the replay brings them, once each.

    A row that moved while the load went over the table may have been met twice, and no unique index
    could be built over that.
    """
    statement = sql.SQL("delete from {shadow} as copy using {log} as note where note.key = copy.{key}")
    names_ = {
        "shadow": table(names.shadow(job)),
        "log": names.log(schema, job),
        "key": sql.Identifier(names.key(job)),
    }
    with execute(connection, statement.format(**names_)) as cursor:
        return cursor.rowcount


def build_indexes(engine: Engine, job: LinkJob, definition: TableDefinition, workers: int) -> None:
    """All indexes that are not there yet, *workers* at a time, then the constraints that stand on them."""
    plain = [index for index in definition.indexes if index.constraint_type != "x"]
    for _ in in_threads(workers, partial(_build, engine, job), plain, name="index"):
        pass
    for index in definition.indexes:
        if index.constraint is not None:
            with engine.begin() as connection:
                _constrain(connection, job, index)


def _build(engine: Engine, job: LinkJob, index: Index) -> None:
    with engine.begin() as connection:
        if _exists(connection, job, index):
            return
        execute(
            connection,
            sql.SQL("set local maintenance_work_mem = {}").format(sql.Literal(MAINTENANCE_WORK_MEM)),
        )
        statement = sql.SQL("create {unique}index {name} on {shadow} {rest}")
        execute(
            connection,
            statement.format(
                unique=sql.SQL(index.unique),
                name=sql.Identifier(names.new_index(index.oid)),
                shadow=table(names.shadow(job)),
                rest=sql.SQL(index.rest),
            ),
        )


def _exists(connection: Connection, job: LinkJob, index: Index) -> bool:
    statement = sql.SQL("""
        select exists (select from pg_index join pg_class as c on c.oid = indexrelid
                        where indrelid = {} and relname = %s)
    """).format(regclass(names.shadow(job)))
    return bool(value(connection, statement, (names.new_index(index.oid),)))


def _constrain(connection: Connection, job: LinkJob, index: Index) -> None:
    """The constraint bears its index's name until the swap; then both get theirs."""
    shadow, name = names.shadow(job), names.new_index(index.oid)
    known = sql.SQL("select exists (select from pg_constraint where conrelid = {} and conname = %s)")
    if value(connection, known.format(regclass(shadow)), (name,)):
        return
    if index.constraint_type == "x":
        what: sql.Composable = sql.SQL(index.definition or "")
    else:
        kind = "primary key" if index.constraint_type == "p" else "unique"
        what = sql.SQL(kind + " using index {}" + index.attributes).format(sql.Identifier(name))
    statement = sql.SQL("alter table {} add constraint {} {}")
    execute(connection, statement.format(table(shadow), sql.Identifier(name), what))


def add_foreign_keys(
    engine: Engine,
    job: LinkJob,
    definition: TableDefinition,
    lock_timeout_ms: int,
    sleep: Callable[[float], None] | None = None,
) -> None:
    """Each foreign key NOT VALID, which asks the other table for a moment's lock; then validated."""
    tables = with_referenced(engine, job)
    for key in definition.outgoing:
        add = partial(_add_foreign_key, job=job, key=key)
        if not patiently(engine, lock_timeout_ms, add, tables, sleep=sleep) and key.valid:
            with engine.begin() as connection:
                statement = sql.SQL("alter table {} validate constraint {}")
                execute(connection, statement.format(table(names.shadow(job)), sql.Identifier(key.name)))


def _add_foreign_key(connection: Connection, job: LinkJob, key: ForeignKey) -> bool:
    """Whether it is valid already; adds it where it is missing."""
    shadow = names.shadow(job)
    known = sql.SQL("select convalidated from pg_constraint where conrelid = {} and conname = %s")
    state = value(connection, known.format(regclass(shadow)), (key.name,))
    if state is None:
        definition = key.definition.removesuffix(" NOT VALID") + " not valid"
        statement = sql.SQL("alter table {} add constraint {} {}")
        execute(connection, statement.format(table(shadow), sql.Identifier(key.name), sql.SQL(definition)))
    return bool(state)
