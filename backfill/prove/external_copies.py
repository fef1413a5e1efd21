"""External copies: copies that no command here reaches. One line each: state, who has to act, until when.

What PostgreSQL knows of is stated as it stands; what it cannot know of is named all the same, since
silence would read as "there is none".
"""

from collections.abc import Iterator, Mapping, Sequence

from psycopg2 import sql
from sqlalchemy import Connection, select
from sqlalchemy.pool import NullPool

from backfill.database.connection import make_engine, rows, value
from backfill.database.error_text import DRIVER_ERRORS
from backfill.database.urls import parse, place
from backfill.erase import snapshot_holders
from backfill.erase.erase import STATISTICS, WAL
from backfill.errors import BackfillError
from backfill.ledger import erasures
from backfill.ledger.tables import decisions
from backfill.plan import Plan
from backfill.prove.finding import ExternalCopy

UNKNOWN = "unknown"  # said with the command that states it
SALT = "the salt"
ADMIN, PRIVACY = "database administrator", "privacy officer"

ARCHIVE = sql.SQL("""
    select current_setting('archive_mode'),
           (select coalesce('last archived ' || last_archived_time::timestamp(0), 'none archived yet') from pg_stat_archiver)
""")
STANDBYS = sql.SQL("""
    select coalesce(nullif(application_name, ''), 'a standby'), state, replay_lsn >= %s::pg_lsn
      from pg_stat_replication where state is distinct from 'backup' and not exists (
           select from pg_replication_slots where active_pid = pid and slot_type = 'logical') order by 1
""")
PUBLISHED = sql.SQL("""
    select distinct pubname, format('%%s', tablename) from pg_publication_tables
     where (schemaname, tablename) in (select * from unnest(%s::text[], %s::text[])) order by 1, 2
""")


def search_external_copies(
    connection: Connection, plan: Plan, standbys: Sequence[str], expires: Mapping[str, str]
) -> tuple[ExternalCopy, ...]:
    """Every line; *expires* has the operator's word on until when a named one lasts."""
    since = _erased_at(connection)
    lines = [
        *_left_by_erase(connection),
        *_archive(connection),
        *(ExternalCopy(f"slot {line.split()[2]}", line, ADMIN, "it is read or dropped") for line in snapshot_holders.find_pins(connection).wal),
        *_standbys(connection, since),
        *(_asked(url, since) for url in standbys),
        *_subscribers(connection, plan),
        *_restore_points(connection),
        ExternalCopy("base backups", "each holds the data folder as it was", ADMIN, UNKNOWN),
        ExternalCopy("dumps", "each holds the raw columns, if made before they were dropped", ADMIN, UNKNOWN),
        ExternalCopy("file-system snapshots", "each holds the data folder as it was", ADMIN, UNKNOWN),
        ExternalCopy(
            "free blocks of the disk",
            "files that were removed stay readable there until they are overwritten",
            ADMIN,
            "overwritten or trimmed; on an encrypted disk, its key is destroyed",
        ),
        ExternalCopy(
            "server logs", "statements and errors of the time may quote addresses", ADMIN, "their rotation"
        ),
        ExternalCopy(SALT, "who has it can try all IPv4 addresses against the hashes", PRIVACY, "it is destroyed"),
    ]  # fmt: skip
    return tuple(
        ExternalCopy(
            line.name,
            line.state,
            line.who,
            expires.get(line.name, _until(line)),
        )
        for line in lines
    )


def _until(line: ExternalCopy) -> str:
    if line.until != UNKNOWN:
        return line.until
    return f'{UNKNOWN}. Record it with `backfill prove --expires "{line.name}=DATE"`'


def _erased_at(connection: Connection) -> str:
    done = [row.lsn for row in erasures.standing(connection)]
    return done[-1] if done else erasures.current_lsn(connection)


def _left_by_erase(connection: Connection) -> Iterator[ExternalCopy]:
    for kind, name, what in (
        (WAL, "WAL on this server", "not cycled since the rewrite"),
        (STATISTICS, "planner statistics", "dead rows of pg_statistic not rewritten"),
    ):
        row = erasures.latest(connection, kind, "pg_wal" if kind == WAL else "pg_statistic")
        if row is None:
            yield ExternalCopy(name, what, ADMIN, "`backfill erase`")
        elif row.status != erasures.DONE:
            why = row.detail.get("why", row.status)
            until = (
                "max_wal_size of new WAL has gone by, twice" if kind == WAL else "a superuser rewrites them"
            )
            yield ExternalCopy(name, f"{what}: {why}", ADMIN, until)


def _archive(connection: Connection) -> Iterator[ExternalCopy]:
    ((mode, state),) = rows(connection, ARCHIVE)
    if mode != "off":
        yield ExternalCopy(
            "WAL archive", f"archive_mode is {mode}, {state}", ADMIN, "its retention has passed"
        )


def _standbys(connection: Connection, since: str) -> Iterator[ExternalCopy]:
    for name, state, replayed in rows(connection, STANDBYS, (since,)):
        what = {True: "it has replayed the rewrite: same pages", False: "it has NOT replayed the rewrite yet"}
        shown = what.get(replayed, f"{state or 'its state is hidden from this role'}")
        until = "its next restart points, for its own WAL" if replayed else "it has replayed"
        yield ExternalCopy(f"standby {name}", shown, ADMIN, until)


def _asked(url: str, since: str) -> ExternalCopy:
    """Ask a standby itself. Its URL, password and all, goes nowhere else."""
    try:
        address = parse(url, "standby")
        engine = make_engine(address, poolclass=NullPool)
        with engine.connect() as connection:
            ((standby, replayed),) = rows(
                connection,
                sql.SQL(
                    "select pg_is_in_recovery(), coalesce(pg_last_wal_replay_lsn() >= %s::pg_lsn, false)"
                ),
                (since,),
            )
    except (BackfillError, *DRIVER_ERRORS):
        return ExternalCopy("standby by URL", "could not be asked", ADMIN, "it has replayed (unproved)")
    name = f"standby {place(address)}"
    if not standby:
        return ExternalCopy(
            name, "is not a standby: a server of its own, with data of its own", ADMIN, UNKNOWN
        )
    state = "it has replayed the rewrite: same pages" if replayed else "it has NOT replayed the rewrite yet"
    return ExternalCopy(
        name, state, ADMIN, "its next restart points, for its own WAL" if replayed else "it has replayed"
    )


def _subscribers(connection: Connection, plan: Plan) -> Iterator[ExternalCopy]:
    parts = plan.parts
    names = ([part.schema_ for part in parts], [part.table for part in parts])
    published: dict[str, list[str]] = {}
    for publication, name in rows(connection, PUBLISHED, names):
        published.setdefault(publication, []).append(name)
    for publication, tables in published.items():
        what = f"publishes {', '.join(tables)}: subscribers have columns and files of their own"
        yield ExternalCopy(
            f"publication {publication}",
            what,
            "whoever runs the subscribers",
            "dropped and erased there",
        )


def _restore_points(connection: Connection) -> Iterator[ExternalCopy]:
    found = connection.execute(
        select(decisions).where(decisions.c.kind.in_(("drop", "rewrite"))).order_by(decisions.c.id)
    )
    named = dict.fromkeys(row.detail.get("restore point") for row in found)
    for name in filter(None, named):
        yield ExternalCopy("restore point", f"{name}: it still holds everything", ADMIN, UNKNOWN)


def database_count(connection: Connection) -> int:
    """Other databases of this cluster, which no proof here looks into."""
    return int(
        value(
            connection,
            sql.SQL(
                "select count(*) from pg_database where not datistemplate and datname <> current_database()"
            ),
        )
    )
