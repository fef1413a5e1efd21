"""Let PostgreSQL check every row of team_events."""

from backfill.gates import unvalidate_links, validate_links

revision = "0003b_team_events"
down_revision = "0003b_organization_events"


def upgrade() -> None:
    validate_links("team_events")


def downgrade() -> None:
    unvalidate_links("team_events")
