"""Let the database keep organization_events covered: guard trigger and CHECK."""

from backfill.gates import guard_links, unguard_links

revision = "0003a_organization_events"
down_revision = "0003a_file_events"


def upgrade() -> None:
    guard_links("organization_events")


def downgrade() -> None:
    unguard_links("organization_events")
