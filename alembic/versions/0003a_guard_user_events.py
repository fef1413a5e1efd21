"""Let the database keep user_events covered: guard trigger and CHECK."""

from backfill.gates import guard_links, unguard_links

revision = "0003a_user_events"
down_revision = "0002_journals"


def upgrade() -> None:
    guard_links("user_events")


def downgrade() -> None:
    unguard_links("user_events")
