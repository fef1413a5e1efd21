"""Let PostgreSQL check every row of file_events."""

from backfill.gates import unvalidate_links, validate_links

revision = "0003b_file_events"
down_revision = "0003b_project_events"


def upgrade() -> None:
    validate_links("file_events")


def downgrade() -> None:
    unvalidate_links("file_events")
