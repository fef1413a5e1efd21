"""The ledger's tables as SQLAlchemy Core; revision 1 holds the same DDL, frozen (a test compares).

The schema is left open here and filled in by the engine's ``schema_translate_map``, since the
operator may name it.
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
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

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
    Column("geo_type", Text, nullable=False),
    Column("geo_build", DateTime(timezone=True), nullable=False),
    Column("status", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column(
        "strays", BigInteger, nullable=False, server_default=text("0")
    ),  # live hashes accepted unexplained
    Column("map_rows", BigInteger, nullable=False, server_default=text("0")),  # logged; the map itself is not
    Column("holder", Text),  # who drives it: host and process
    Column("attempts", Integer, nullable=False, server_default=text("1")),
    Column("error", Text),
    _moment("created", default=True),
    _moment("heartbeat", default=True),
    _moment("finished"),
)

# One row a run and table: where its blocks were when the run was planned, and the closing count.
run_tables = Table(
    "run_tables",
    metadata,
    Column("run_id", BigInteger, ForeignKey(runs.c.id), nullable=False),
    Column("table_name", Text, nullable=False),
    Column("filenode", BigInteger, nullable=False),
    Column("blocks", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),  # the planner's estimate, then the closing count
    Column("linked", BigInteger),
    Column("already_linked", BigInteger),
    Column("no_address", BigInteger),
    Column("quarantined", BigInteger),
    Column("left_to_live", BigInteger),
    PrimaryKeyConstraint("run_id", "table_name"),
)

batches = Table(
    "batches",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("run_id", BigInteger, ForeignKey(runs.c.id), nullable=False),
    Column("phase", Text, nullable=False),
    Column("table_name", Text, nullable=False),
    Column("first_block", BigInteger, nullable=False),
    Column("last_block", BigInteger, nullable=False),
    Column("passes", Integer, nullable=False),
    Column("passes_done", Integer, nullable=False, server_default=text("0")),
    Column("status", Text, nullable=False, server_default=text("'pending'")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("rows", BigInteger, nullable=False, server_default=text("0")),  # rows or texts looked at
    Column("already_linked", BigInteger),  # before the run; null: not counted
    Column("written", BigInteger, nullable=False, server_default=text("0")),
    Column("quarantined", BigInteger, nullable=False, server_default=text("0")),
    Column("seconds", Double, nullable=False, server_default=text("0")),
    Column("longest", Double, nullable=False, server_default=text("0")),  # longest transaction, seconds
    Column("error", Text),
    Column("worker", Text),
    Column("lease", UUID(as_uuid=True)),  # whoever holds it may write; anybody else is too late
    _moment("lease_until"),
    _moment("finished"),
    UniqueConstraint("run_id", "phase", "table_name", "first_block"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("kind", Text, nullable=False),  # settle, merge, restore-point, drop, …
    Column("table_name", Text, nullable=False),
    Column("detail", JSONB, nullable=False, server_default=text("'{}'")),
    Column("count", BigInteger, nullable=False),
    Column("decided_by", Text, nullable=False),
    _moment("decided", default=True),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("table_name", Text, nullable=False),
    Column("row_key", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("run_id", BigInteger, ForeignKey(runs.c.id), nullable=False),
    Column("decision_id", BigInteger, ForeignKey(decisions.c.id)),
    _moment("noticed", default=True),
    PrimaryKeyConstraint("table_name", "row_key"),
)

# So that "looked up, not in the database" is not "never looked up". The key is text: an application
# may number its addresses.
geo_lookups = Table(
    "geo_lookups",
    metadata,
    Column("address_key", Text, nullable=False),
    Column("build", DateTime(timezone=True), nullable=False),
    Column("found", Boolean, nullable=False),
    PrimaryKeyConstraint("address_key", "build"),
)

# Shadow copies: from the moment that changes are captured until the old table is dropped.
shadows = Table(
    "shadows",
    metadata,
    Column("table_name", Text, primary_key=True),
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

coverage = Table(
    "coverage",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("table_name", Text, nullable=False),
    Column("kind", Text, nullable=False),  # events, addresses, discard
    Column("plan_fingerprint", Text, nullable=False),
    Column("method", Text, nullable=False),  # full or sample
    Column("covered", Boolean, nullable=False),
    Column("counts", JSONB, nullable=False),
    Column("reasons", JSONB, nullable=False),
    Column("raw_rows", BigInteger),  # rows with a raw value, and the newest of them: the write check
    Column("newest_raw", Text),
    Column("detail", JSONB, nullable=False, server_default=text("'{}'")),  # provenance
    _moment("started", default=True),
    _moment("finished", default=True),
)
