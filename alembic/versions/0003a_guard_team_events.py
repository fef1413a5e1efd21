"""Let the database keep team_events covered: guard trigger and CHECK."""

from backfill.gates import guard_links, unguard_links

revision = "0003a_team_events"
down_revision = "0003a_organization_events"


def upgrade() -> None:
    guard_links("team_events")


def downgrade() -> None:
    unguard_links("team_events")
