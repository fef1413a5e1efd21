"""Let PostgreSQL check every row of user_events."""

from backfill.gates import unvalidate_links, validate_links

revision = "0003b_user_events"
down_revision = "0003a_team_events"


def upgrade() -> None:
    validate_links("user_events")


def downgrade() -> None:
    unvalidate_links("user_events")
