"""Drop organization_events.ip_address_string, once its coverage is proved."""

from backfill.gates import drop_raw_column, restore_raw_column

revision = "0004_organization_events"
down_revision = "0004_file_events"


def upgrade() -> None:
    drop_raw_column("organization_events")


def downgrade() -> None:
    restore_raw_column("organization_events", "varchar")
