"""Let the database keep file_events covered: guard trigger and CHECK."""

from backfill.gates import guard_links, unguard_links

revision = "0003a_file_events"
down_revision = "0003a_project_events"


def upgrade() -> None:
    guard_links("file_events")


def downgrade() -> None:
    unguard_links("file_events")
