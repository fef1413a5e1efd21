"""Capture: from its trigger on, the key of every changed row is noted; never a value.

A note says "look at this row again", no more, so that it does not matter how often or in which order
notes are read. It is written in the transaction of the change itself: notes and rows that a snapshot
shows belong together.
"""

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import execute, value
from backfill.database.quoting import table
from backfill.jobs.row_needs import lacks_geo, may_be_address, raw_text
from backfill.ledger import address_map
from backfill.plan import LinkJob
from backfill.shadow import names

# A key of NULL means that the table was truncated. The function runs as its owner: whoever writes the
# table need not know our schema.
START = sql.SQL("""
    create table {log} (id bigint generated always as identity, key {key_type});
    create table {blockers} (key {key_type}, kind text);
    create function {function}() returns trigger language plpgsql security definer
        set search_path = pg_catalog, pg_temp as $note$
    begin
        if tg_op = 'TRUNCATE' then
            insert into {log} (key) values (null);
            return null;
        end if;
        if tg_op <> 'INSERT' then
            insert into {log} (key) values (old.{key});
        end if;
        if tg_op = 'INSERT' or (tg_op = 'UPDATE' and new.{key} is distinct from old.{key}) then
            insert into {log} (key) values (new.{key});
        end if;
        return null;
    end $note$;
    create trigger {note_row} after insert or update or delete on {table}
        for each row execute function {function}();
    create trigger {note_truncate} after truncate on {table}
        for each statement execute function {function}();
    -- "always": replication and session_replication_role = replica write rows as well
    alter table {table} enable always trigger {note_row};
    alter table {table} enable always trigger {note_truncate}
""")


def start(connection: Connection, schema: str, job: LinkJob, key_type: str) -> None:
    """Note changes from this transaction on. Waits for every writer of the table, once."""
    execute(
        connection,
        START.format(
            log=names.log(schema, job),
            blockers=names.blockers(schema, job),
            function=names.note_function(schema, job),
            key=sql.Identifier(names.key(job)),
            key_type=sql.SQL(key_type),
            table=table(job),
            note_row=sql.Identifier(names.NOTE_ROW),
            note_truncate=sql.Identifier(names.NOTE_TRUNCATE),
        ),
    )


# Rows that came after the texts were resolved and before the first note: written by a transaction
# that was not over when the run began, which costs a look at each row and a join for a few of them.
# A frozen row may show any number: it is joined in vain.
NOTE_UNKNOWN = sql.SQL("""
    insert into {log} (key)
    select event.{key} from {table} as event
     where {which}
       and age(event.xmin) <= (select age(run.horizon::xid8::xid) from {runs} as run where run.id = {run})
       and event.{raw} is not null and {may_be_address}
       and (event.{link} is null or {lacks_geo})
       and not exists (select from {map} as map where map.raw = {text})
""")


def note_unknown(
    connection: Connection, schema: str, job: LinkJob, run_id: int, which: sql.Composable
) -> int:
    """Note those rows (``event``) whose text the map lacks, so that the replay resolves it; returns their number."""
    statement = NOTE_UNKNOWN.format(
        log=names.log(schema, job),
        key=sql.Identifier(names.key(job)),
        table=table(job),
        which=which,
        runs=sql.Identifier(schema, "runs"),
        run=sql.Literal(run_id),
        raw=sql.Identifier(job.raw),
        text=raw_text(job),
        may_be_address=may_be_address(raw_text(job)),
        link=sql.Identifier(job.link),
        lacks_geo=lacks_geo(job),
        map=address_map.name(schema),
    )
    with execute(connection, statement) as cursor:
        return cursor.rowcount


def stop(connection: Connection, schema: str, job: LinkJob) -> None:
    """Note no more, and forget what was noted. Locks the table for a moment."""
    for trigger in names.TRIGGERS:
        statement = sql.SQL("drop trigger if exists {} on {}")
        execute(connection, statement.format(sql.Identifier(trigger), table(job)))
    execute(connection, sql.SQL("drop function if exists {}()").format(names.note_function(schema, job)))
    for one in (names.log(schema, job), names.blockers(schema, job)):
        execute(connection, sql.SQL("drop table if exists {}").format(one))


def waiting(connection: Connection, schema: str, job: LinkJob) -> int:
    """Notes that were not read yet."""
    return int(value(connection, sql.SQL("select count(*) from {}").format(names.log(schema, job))))
