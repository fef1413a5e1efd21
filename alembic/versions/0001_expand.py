"""Expand: the ledger, in a schema of its own. Nothing of the application is touched.

Frozen: what later versions of the ledger need comes in later revisions.
"""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op
from backfill.gates import require_no_guard

revision = "0001_expand"
down_revision = None


def upgrade() -> None:
    schema = op.get_context().version_table_schema
    op.create_table(
        "coverage",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("becomes", sa.Text(), nullable=True),
        sa.Column("plan_fingerprint", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("covered", sa.Boolean(), nullable=False),
        sa.Column("counts", postgresql.JSONB(), nullable=False),
        sa.Column("quarantined", postgresql.JSONB(), nullable=False),
        sa.Column("reasons", postgresql.JSONB(), nullable=False),
        sa.Column("notes", postgresql.JSONB(), nullable=False),
        sa.Column("raw_rows", sa.BigInteger(), nullable=True),
        sa.Column("newest_raw", sa.Text(), nullable=True),
        sa.Column("since_run", sa.BigInteger(), nullable=True),
        sa.Column("wrong_keys", postgresql.JSONB(), nullable=False),
        sa.Column("proved", sa.DateTime(timezone=True), nullable=True),
        sa.Column("confirmed_by", sa.BigInteger(), nullable=True),
        sa.Column("geo_builds", postgresql.JSONB(), nullable=False),
        sa.Column("other_spellings", sa.Text(), nullable=True),
        sa.Column("hash_checksum", sa.Text(), nullable=True),
        sa.Column("snapshot", sa.Text(), nullable=True),
        sa.Column("raw_column", sa.Text(), nullable=True),
        sa.Column("shadow", postgresql.JSONB(), nullable=True),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("verification", sa.BigInteger(), nullable=True),
        sa.Column("percent", sa.Numeric(), nullable=True),
        sa.Column("geo_type", sa.Text(), nullable=True),
        sa.Column("geo_build", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("started", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("database", sa.Text(), nullable=True),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        schema=schema,
    )
    op.create_table(
        "decisions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("detail", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=False),
        sa.Column("decided", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        schema=schema,
    )
    op.create_table(
        "dry_runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("raw_column", sa.Text(), nullable=True),
        sa.Column("rewrites", sa.BigInteger(), nullable=False),
        sa.Column("counts", postgresql.JSONB(), nullable=False),
        sa.Column("counted_by", sa.Text(), nullable=False),
        sa.Column("finished", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        schema=schema,
    )
    op.create_table(
        "geo_lookups",
        sa.Column("address_key", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("build", sa.DateTime(timezone=True), nullable=False),
        sa.Column("found", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("address_key", "source", "build"),
        schema=schema,
    )
    op.create_table(
        "lost_fields",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("row_key", sa.Text(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.PrimaryKeyConstraint("job", "row_key", "field"),
        schema=schema,
    )
    op.create_table(
        "keys",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("nonce", sa.LargeBinary(), nullable=False),
        sa.Column("verifier", sa.LargeBinary(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("key_id"),
        schema=schema,
    )
    op.create_table(
        "pseudonym_prefixes",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Integer(), nullable=False),
        sa.Column("allotted", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("key_id"),
        sa.UniqueConstraint("prefix"),
        schema=schema,
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("jobs", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("strategy", sa.Text(), server_default=sa.text("'in-place'"), nullable=False),
        sa.Column("plan_name", sa.Text(), nullable=False),
        sa.Column("plan_fingerprint", sa.Text(), nullable=False),
        sa.Column("scheme", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("geo_type", sa.Text(), nullable=True),
        sa.Column("geo_build", sa.DateTime(timezone=True), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("mismatches", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("confirmed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("map_rows", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "horizon",
            sa.Text(),
            server_default=sa.text("pg_snapshot_xmin(pg_current_snapshot())::text"),
            nullable=False,
        ),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("throttled", sa.Text(), nullable=True),
        sa.Column("pinned", sa.Text(), nullable=True),
        sa.Column("batch_blocks", sa.BigInteger(), nullable=True),
        sa.Column("retries", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("definitions", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("rewrites", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("forecast", postgresql.JSONB(), nullable=True),
        sa.Column("outcome", postgresql.JSONB(), nullable=True),
        sa.Column("throttled_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("heartbeat", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        schema=schema,
    )
    op.create_table(
        "batches",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("first_block", sa.BigInteger(), nullable=False),
        sa.Column("last_block", sa.BigInteger(), nullable=False),
        sa.Column("passes", sa.Integer(), nullable=False),
        sa.Column("passes_done", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("retries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("rows", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("already_linked", sa.BigInteger(), nullable=True),
        sa.Column("written", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("quarantined", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("deleted", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("placed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("placed_alone", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("own_places", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("seconds", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("longest", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("lease", sa.UUID(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claimed", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], [f"{schema}.runs.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("run_id", "phase", "job", "first_block"),
        schema=schema,
    )
    op.create_table(
        "quarantine",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("row_key", sa.Text(), nullable=False),
        sa.Column("key_columns", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("decision_id", sa.BigInteger(), nullable=True),
        sa.Column("noticed", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["decision_id"], [f"{schema}.decisions.id"]),
        sa.ForeignKeyConstraint(["run_id"], [f"{schema}.runs.id"]),
        sa.PrimaryKeyConstraint("job", "row_key"),
        schema=schema,
    )
    op.create_table(
        "run_tables",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("filenode", sa.BigInteger(), nullable=False),
        sa.Column("blocks", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("linked", sa.BigInteger(), nullable=True),
        sa.Column("already_linked", sa.BigInteger(), nullable=True),
        sa.Column("no_address", sa.BigInteger(), nullable=True),
        sa.Column("quarantined", sa.BigInteger(), nullable=True),
        sa.Column("left_to_live", sa.BigInteger(), nullable=True),
        sa.Column("not_due", sa.BigInteger(), nullable=True),
        sa.Column("kept", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], [f"{schema}.runs.id"]),
        sa.PrimaryKeyConstraint("run_id", "job"),
        schema=schema,
    )
    op.create_table(
        "shadows",
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("counts", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("begun", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("swapped", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], [f"{schema}.runs.id"]),
        sa.PrimaryKeyConstraint("table_name"),
        schema=schema,
    )
    op.create_table(
        "canaries",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", "hash"),
        schema=schema,
    )
    op.create_table(
        "erasures",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("lsn", sa.Text(), nullable=False),
        sa.Column("filenode_before", sa.BigInteger(), nullable=True),
        sa.Column("filenode", sa.BigInteger(), nullable=True),
        sa.Column("bytes_before", sa.BigInteger(), nullable=True),
        sa.Column("bytes_after", sa.BigInteger(), nullable=True),
        sa.Column("detail", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("erased_by", sa.Text(), nullable=False),
        sa.Column("started", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        schema=schema,
    )
    op.create_table(
        "erasure_checks",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("plan_fingerprint", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("depth", sa.Text(), nullable=False),
        sa.Column("findings", postgresql.JSONB(), nullable=False),
        sa.Column("external_copies", postgresql.JSONB(), nullable=False),
        sa.Column("finished", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        schema=schema,
    )
    op.create_table(
        "verifications",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("ground", postgresql.JSONB(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("first_transaction", sa.Text(), nullable=False),
        sa.Column(
            "snapshot", sa.Text(), server_default=sa.text("pg_current_snapshot()::text"), nullable=False
        ),
        sa.Column("rows", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("started", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        schema=schema,
    )
    op.create_table(
        "verification_ranges",
        sa.Column("verification_id", sa.BigInteger(), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("first_block", sa.BigInteger(), nullable=False),
        sa.Column("last_block", sa.BigInteger(), nullable=False),
        sa.Column("counts", postgresql.JSONB(), nullable=True),
        sa.Column("hashes_known", sa.Boolean(), nullable=True),
        sa.ForeignKeyConstraint(["verification_id"], [f"{schema}.verifications.id"]),
        sa.PrimaryKeyConstraint("verification_id", "job", "first_block"),
        schema=schema,
    )
    op.create_table(
        "verification_addresses",
        sa.Column("verification_id", sa.BigInteger(), nullable=False),
        sa.Column("address_key", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("odd", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["verification_id"], [f"{schema}.verifications.id"]),
        sa.PrimaryKeyConstraint("verification_id", "address_key"),
        schema=schema,
    )
    op.create_table(
        "seals",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("column_name", sa.Text(), nullable=False),
        sa.Column("decision_id", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["decision_id"], [f"{schema}.decisions.id"]),
        sa.PrimaryKeyConstraint("job"),
        schema=schema,
    )
    op.create_table(
        "let_in",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("transaction", sa.Text(), nullable=False),
        schema=schema,
    )


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    require_no_guard()
    op.drop_table("let_in", schema=schema)
    op.drop_table("pseudonym_prefixes", schema=schema)
    op.drop_table("dry_runs", schema=schema)
    op.drop_table("shadows", schema=schema)
    op.drop_table("seals", schema=schema)
    op.drop_table("verification_addresses", schema=schema)
    op.drop_table("verification_ranges", schema=schema)
    op.drop_table("verifications", schema=schema)
    op.drop_table("erasure_checks", schema=schema)
    op.drop_table("erasures", schema=schema)
    op.drop_table("canaries", schema=schema)
    op.drop_table("run_tables", schema=schema)
    op.drop_table("quarantine", schema=schema)
    op.drop_table("batches", schema=schema)
    op.drop_table("runs", schema=schema)
    op.drop_table("keys", schema=schema)
    op.drop_table("lost_fields", schema=schema)
    op.drop_table("geo_lookups", schema=schema)
    op.drop_table("decisions", schema=schema)
    op.drop_table("coverage", schema=schema)
