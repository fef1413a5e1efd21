"""Drop file_events.ip_address_string, once its coverage is proved."""

from backfill.gates import drop_raw_column, restore_raw_column

revision = "0004_file_events"
down_revision = "0004_project_events"


def upgrade() -> None:
    drop_raw_column("file_events")


def downgrade() -> None:
    restore_raw_column("file_events", "varchar")
