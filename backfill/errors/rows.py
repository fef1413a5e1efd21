"""Errors of decisions about rows, and of rows that do not take what is written."""

from backfill.errors.base import BackfillError


class PseudonymKeyChanged(BackfillError):
    """Pseudonyms of key id {earlier} are in this database, and key id {key_id} cannot tell them from addresses:
    a change of the key is not supported by this version. Set BACKFILL_KEY_ID={earlier} and its salt."""


class PrefixesExhausted(BackfillError):
    """Every network from fd01::/16 to fdff::/16 occurs among the raw values: none is left for pseudonyms."""


class PrefixAmbiguous(BackfillError):
    """Values that begin with {prefixes} are pseudonyms of this salt, by their tags, and this ledger knows none of these
    prefixes: they were made under ledgers that are lost, and one key id has one prefix. Nothing was changed. Restore the
    schema of that ledger whose values are to stay, from a backup; the others are addresses to it."""


class ResultChanged(BackfillError):
    """{job}: {changed} of {written} rows do not hold what was written. A trigger or rule of the application
    changed them; the batch was rolled back. `backfill plan` names the triggers; disable the one that does it."""


class ValuesCopied(BackfillError):
    """{job}: a trigger writes rows with raw addresses in {column} when rows are rewritten, so the replaced values may be
    copied there. The batch was rolled back. Disable that trigger for the run; or make that column a job of the plan; or,
    if it may keep them, write accept = ["{code}:{column}"] into the plan."""


class DuplicateKept(BackfillError):
    """{job}: {problem} Nothing of the batch was written. A trigger or rule of the application changes what is written
    or deleted; `backfill plan` names the triggers; disable the one that does it."""


class DuplicatesRefused(BackfillError):
    """{job}: {rows} would become equal to another one in a unique index ({keys}), and the plan says on_duplicate =
    "refuse". Nothing was rewritten. Delete or change those that are not needed, or decide in the plan: "keep-newest"
    deletes the older one of two rows."""


class ChangeNotTaken(BackfillError):
    """{table}: {kept} of {asked} did not keep what was written to {column} ({which}), so {these}
    rolled back and nothing was decided. Triggers that fire there: {triggers}. Disable the one
    that changes the rows back (alter table … disable trigger …), and repeat the command with the remaining count."""


class RowsCollide(BackfillError):
    """{table}: {constraint} does not let two rows stand beside each other that would have the same {column}, so these were
    rolled back, and nothing was decided about them; what was decided before stays. Settle them as discard, if the raw column may be
    NULL; or delete or change the rows that are not needed; or drop {constraint}, repeat the command, and create it again
    afterwards."""


class CalibrationFailed(BackfillError):
    """{problem}"""


class RepairUnsafe(BackfillError):
    """Hashes of {part} are not replaced: {why}. Nothing was changed. Compare a hash in {column} with the one that the
    application makes of the same address. Where salt (BACKFILL_IP_SALT) and scheme (in the plan) are the application's,
    set {column} to NULL in the rows with another hash, then `backfill run`. Where they are not, set the right ones, the
    salt under another BACKFILL_KEY_ID, set {column} to NULL in all rows that a run has written, then `backfill run`. {first}"""


class UnknownUser(BackfillError):
    """No user is called {username} in this database: a data request about them returns nothing."""

    exit_code = 1


class CannotBan(BackfillError):
    """{problem} Nothing was changed."""


class CannotBeNull(BackfillError):
    """{column} cannot be NULL: {why}. Nothing was changed. {help}"""


class NotSealed(BackfillError):
    """{table} is not sealed. Nothing was changed."""


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
    database and the column that stands there now. Nothing of it was written. `backfill run` counts the rows, and says how to confirm."""
