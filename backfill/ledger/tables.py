"""The ledger's tables as SQLAlchemy Core; revision 1 holds the same DDL, frozen (a test compares).

The schema is left open here and filled in by the engine's ``schema_translate_map``, since the
operator may name it. A column ``job`` holds an identity (``backfill.job_id``): schema, table and
raw column, of a job, of the address table or of a discard.
"""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

from backfill.ledger.phases import PhaseName

metadata = MetaData()


def _moment(name: str, *, default: bool = False) -> Column[object]:
    return Column(
        name, DateTime(timezone=True), nullable=not default, server_default=func.now() if default else None
    )


runs = Table(
    "runs",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("jobs", ARRAY(Text), nullable=False),
    Column("strategy", Text, nullable=False, server_default=text("'in-place'")),
    Column("plan_name", Text, nullable=False),
    Column("plan_fingerprint", Text, nullable=False),
    Column("scheme", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("geo_type", Text),  # null: no place is looked up
    Column("geo_build", DateTime(timezone=True)),
    Column("status", Text, nullable=False),
    Column("phase", PhaseName, nullable=False),
    Column(
        "mismatches", BigInteger, nullable=False, server_default=text("0")
    ),  # live hashes accepted unexplained
    # Live hashes that confirmed salt and scheme before any of ours was written; 0: none did.
    Column("confirmed", BigInteger, nullable=False, server_default=text("0")),
    Column("map_rows", BigInteger, nullable=False, server_default=text("0")),  # logged; the map itself is not
    # Whoever came before it is seen by every statement of the run: xid8, as text.
    Column(
        "horizon", Text, nullable=False, server_default=text("pg_snapshot_xmin(pg_current_snapshot())::text")
    ),
    Column("holder", Text),  # who drives it: host and process
    Column("attempts", Integer, nullable=False, server_default=text("1")),
    Column("error", Text),
    Column("reason", Text),  # why it stopped or was told to stop
    Column("throttled", Text),  # what the run waits for, in words; null: for nothing
    Column("pinned", Text),  # who holds the old snapshot that makes passes useless
    Column("batch_blocks", BigInteger),  # size of the next batch
    Column("retries", JSONB, nullable=False, server_default=text("'{}'")),  # by kind of error
    Column("definitions", JSONB, nullable=False, server_default=text("'{}'")),  # by job: what preflight saw
    Column("rewrites", JSONB, nullable=False, server_default=text("'{}'")),  # by job in place: its definition
    Column("forecast", JSONB(none_as_null=True)),  # seconds, bytes of WAL and of growth, when it began
    Column("outcome", JSONB(none_as_null=True)),  # the same, as it came
    _moment("throttled_since"),
    _moment("created", default=True),
    _moment("heartbeat", default=True),
    _moment("finished"),
)

# One row a run and table: where its blocks were when the run was planned, and the closing count.
run_tables = Table(
    "run_tables",
    metadata,
    Column("run_id", BigInteger, ForeignKey(runs.c.id), nullable=False),
    Column("job", Text, nullable=False),
    Column("filenode", BigInteger, nullable=False),
    Column("blocks", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),  # the planner's estimate, then the closing count
    Column("linked", BigInteger),
    Column("already_linked", BigInteger),
    Column("no_address", BigInteger),
    Column("quarantined", BigInteger),
    Column("left_to_live", BigInteger),
    Column("not_due", BigInteger),  # raw, and not old enough
    Column("kept", BigInteger),  # by a trigger of the application, of those that were looked at
    PrimaryKeyConstraint("run_id", "job"),
)

batches = Table(
    "batches",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("run_id", BigInteger, ForeignKey(runs.c.id), nullable=False),
    Column("phase", PhaseName, nullable=False),
    Column("job", Text, nullable=False),
    Column("first_block", BigInteger, nullable=False),
    Column("last_block", BigInteger, nullable=False),
    Column("passes", Integer, nullable=False),
    Column("passes_done", Integer, nullable=False, server_default=text("0")),
    Column("status", Text, nullable=False, server_default=text("'pending'")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("retries", Integer, nullable=False, server_default=text("0")),
    Column("rows", BigInteger, nullable=False, server_default=text("0")),  # rows or texts looked at
    Column("already_linked", BigInteger),  # before the run; null: not counted
    Column("written", BigInteger, nullable=False, server_default=text("0")),
    Column("quarantined", BigInteger, nullable=False, server_default=text("0")),
    Column("deleted", BigInteger, nullable=False, server_default=text("0")),  # as duplicates of other rows
    Column(
        "placed", BigInteger, nullable=False, server_default=text("0")
    ),  # written with the place of their address
    Column(
        "placed_alone", BigInteger, nullable=False, server_default=text("0")
    ),  # of these: nothing else written
    Column(
        "own_places", BigInteger, nullable=False, server_default=text("0")
    ),  # written, and kept a place of their own
    Column("seconds", Double, nullable=False, server_default=text("0")),
    Column("longest", Double, nullable=False, server_default=text("0")),  # longest transaction, seconds
    Column("error", Text),
    Column("worker", Text),
    Column("lease", UUID(as_uuid=True)),  # whoever holds it may write; anybody else is too late
    _moment("lease_until"),
    _moment("claimed"),
    _moment("finished"),
    UniqueConstraint("run_id", "phase", "job", "first_block"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("kind", Text, nullable=False),  # settle, merge, restore-point, drop, …
    Column("job", Text, nullable=False),
    Column("detail", JSONB, nullable=False, server_default=text("'{}'")),
    Column("count", BigInteger, nullable=False),
    Column("decided_by", Text, nullable=False),
    _moment("decided", default=True),
)

# What jobs in place would rewrite, as it was counted before the first row: a consent names one.
dry_runs = Table(
    "dry_runs",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("job", Text, nullable=False),
    Column("definition", Text, nullable=False),
    Column("raw_column", Text),  # its numbers in the catalog
    Column("rewrites", BigInteger, nullable=False),
    Column("counts", JSONB, nullable=False),
    Column("counted_by", Text, nullable=False),
    _moment("finished", default=True),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("job", Text, nullable=False),
    Column("row_key", Text, nullable=False),  # the reason, where no column names a row
    Column(
        "key_columns", ARRAY(Text), nullable=False
    ),  # whose text it is: none, where rows are counted and not named
    Column("reason", Text, nullable=False),
    Column("rows", BigInteger, nullable=False, server_default=text("1")),
    Column("run_id", BigInteger, ForeignKey(runs.c.id), nullable=False),
    Column("decision_id", BigInteger, ForeignKey(decisions.c.id)),
    _moment("noticed", default=True),
    PrimaryKeyConstraint("job", "row_key"),
)

# So that "looked up, not in the database" is not "never looked up". The key is text: an application
# may number its addresses.
geo_lookups = Table(
    "geo_lookups",
    metadata,
    Column("address_key", Text, nullable=False),
    Column("source", Text, nullable=False),  # "GeoLite2-City": two sources may be built at one moment
    Column("build", DateTime(timezone=True), nullable=False),
    Column("found", Boolean, nullable=False),
    PrimaryKeyConstraint("address_key", "source", "build"),
)

# Fields of places that the database cannot hold: left out, and nothing but them. By row of the table that has the
# place: the address table, or that of a job; of rows without a key, the number.
lost_fields = Table(
    "lost_fields",
    metadata,
    Column("job", Text, nullable=False),
    Column("row_key", Text, nullable=False),
    Column("field", Text, nullable=False),
    Column("rows", BigInteger, nullable=False, server_default=text("1")),
    PrimaryKeyConstraint("job", "row_key", "field"),
)

# Shadow copies: from the moment that changes are captured until the old table is dropped.
shadows = Table(
    "shadows",
    metadata,
    Column("table_name", Text, primary_key=True),  # one copy a table
    Column("job", Text, nullable=False),  # whose raw column the copy is without
    Column("run_id", BigInteger, ForeignKey(runs.c.id), nullable=False),
    Column("stage", Text, nullable=False),  # copying, compared, swapped
    Column("fingerprint", Text, nullable=False),  # of the table's definition when the copy was begun
    Column("counts", JSONB, nullable=False, server_default=text("'{}'")),  # of the comparison
    _moment("begun", default=True),
    _moment("swapped"),
)

keys = Table(
    "keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("nonce", LargeBinary, nullable=False),
    Column("verifier", LargeBinary, nullable=False),
    _moment("created", default=True),
)

# The fields of ``coverage_record``, and what only the ledger knows of a record.
coverage = Table(
    "coverage",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("job", Text, nullable=False),
    Column("kind", Text, nullable=False),  # events, addresses, discard, in_place
    Column("becomes", Text),  # in place: what the values become
    Column("plan_fingerprint", Text, nullable=False),
    Column("method", Text, nullable=False),  # full or sample
    Column("covered", Boolean, nullable=False),
    Column("counts", JSONB, nullable=False),
    Column("quarantined", JSONB, nullable=False),
    Column("reasons", JSONB, nullable=False),
    Column("notes", JSONB, nullable=False),
    Column("raw_rows", BigInteger),  # rows with a raw value, and the newest of them: the write check
    Column("newest_raw", Text),
    Column("since_run", BigInteger),
    Column("wrong_keys", JSONB, nullable=False),
    _moment("proved"),
    Column("confirmed_by", BigInteger),
    Column("geo_builds", JSONB, nullable=False),
    Column("other_spellings", Text),
    Column("hash_checksum", Text),
    Column("snapshot", Text),
    Column("raw_column", Text),
    Column("shadow", JSONB(none_as_null=True)),
    Column("key_id", Text),
    Column("verification", BigInteger),
    Column("percent", Numeric(asdecimal=False)),
    Column("geo_type", Text),
    _moment("geo_build"),
    Column("version", Text),
    _moment("started", default=True),
    _moment("finished", default=True),
    Column("database", Text),  # which database was looked at: a dump restored elsewhere opens no gate
    Column("digest", Text),  # over all other columns: see docs/threat-model.md for what it is worth
)

# A verification that was interrupted goes on from its ranges, as long as its ground has not moved.
verifications = Table(
    "verifications",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("ground", JSONB, nullable=False),  # what must be the same for its counts to be of use
    Column("status", Text, nullable=False),  # running, done, abandoned
    Column("first_transaction", Text, nullable=False),  # address rows changed since are read once more
    # Taken before any range is read: whatever it does not show came after the proof.
    Column("snapshot", Text, nullable=False, server_default=text("pg_current_snapshot()::text")),
    Column("rows", BigInteger, nullable=False, server_default=text("0")),
    _moment("started", default=True),
    _moment("finished"),
)

verification_ranges = Table(
    "verification_ranges",
    metadata,
    Column("verification_id", BigInteger, ForeignKey(verifications.c.id), nullable=False),
    Column("job", Text, nullable=False),
    Column("first_block", BigInteger, nullable=False),
    Column("last_block", BigInteger, nullable=False),
    Column("counts", JSONB),  # null: not read yet
    Column("hashes_known", Boolean),  # whether all hashes had been judged when it was read
    PrimaryKeyConstraint("verification_id", "job", "first_block"),
)

# Address rows that are not plainly right, by key; what else is said of an address is in its row.
verification_addresses = Table(
    "verification_addresses",
    metadata,
    Column("verification_id", BigInteger, ForeignKey(verifications.c.id), nullable=False),
    Column("address_key", Text, nullable=False),
    Column("hash", Text, nullable=False),  # right, wrong, missing
    Column("odd", Boolean, nullable=False),  # not the canonical spelling of its address
    PrimaryKeyConstraint("verification_id", "address_key"),
)

# One row a sealed column; what its trigger discards is counted by a sequence, which makes nobody wait.
seals = Table(
    "seals",
    metadata,
    Column("job", Text, primary_key=True),
    Column("column_name", Text, nullable=False),
    Column("decision_id", BigInteger, ForeignKey(decisions.c.id), nullable=False),
    _moment("since", default=True),
)

# One row for each row that a guard let in, by its transaction: what came after a proof is counted by them.
# Without a key: writers of the application insert here, and must not meet.
let_in = Table(
    "let_in",
    metadata,
    Column("job", Text, nullable=False),
    Column("transaction", Text, nullable=False),  # xid8
)

# What `erase` did, a row a step: written before it begins, so that a killed one is found.
erasures = Table(
    "erasures",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("kind", Text, nullable=False),  # table, statistics, scratch, wal
    Column("target", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("status", Text, nullable=False),  # running, done, left, failed
    Column("lsn", Text, nullable=False),  # where the WAL stood: no page of the new file is older
    Column("filenode_before", BigInteger),
    Column("filenode", BigInteger),
    Column("bytes_before", BigInteger),
    Column("bytes_after", BigInteger),
    Column("detail", JSONB, nullable=False, server_default=text("'{}'")),
    Column("erased_by", Text, nullable=False),
    _moment("started", default=True),
    _moment("finished"),
)

# What `prove` found, and what is left outside its reach; the reports read the newest.
erasure_checks = Table(
    "erasure_checks",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("plan_fingerprint", Text, nullable=False),
    Column("verdict", Text, nullable=False),  # gone, found, unproved
    Column("depth", Text, nullable=False),  # the deepest that was reached
    Column("findings", JSONB, nullable=False),
    Column("external_copies", JSONB, nullable=False),
    _moment("finished", default=True),
)

# Salted hashes of addresses that the address table never had (a discarded column's), taken before
# the drop: bytes found later are recognised by them. The others are recognised by the address table.
canaries = Table(
    "canaries",
    metadata,
    Column("key_id", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    PrimaryKeyConstraint("key_id", "hash"),
)

# The byte after "fd" that marks the pseudonyms of a key id; as int, which every driver and "to_hex" know.
pseudonym_prefixes = Table(
    "pseudonym_prefixes",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("prefix", Integer, nullable=False, unique=True),
    _moment("allotted", default=True),
)

# Session locks of our commands: the number of each, drawn anew whenever it is taken.
locks = Table(
    "locks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("key", BigInteger, nullable=False),
)
