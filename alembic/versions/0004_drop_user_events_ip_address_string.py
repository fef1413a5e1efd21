"""Drop user_events.ip_address_string, once its coverage is proved."""

from backfill.gates import drop_raw_column, restore_raw_column

revision = "0004_user_events"
down_revision = "0003b_team_events"


def upgrade() -> None:
    drop_raw_column("user_events")


def downgrade() -> None:
    restore_raw_column("user_events", "varchar")
