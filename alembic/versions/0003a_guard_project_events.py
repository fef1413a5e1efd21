"""Let the database keep project_events covered: guard trigger and CHECK."""

from backfill.gates import guard_links, unguard_links

revision = "0003a_project_events"
down_revision = "0003a_user_events"


def upgrade() -> None:
    guard_links("project_events")


def downgrade() -> None:
    unguard_links("project_events")
