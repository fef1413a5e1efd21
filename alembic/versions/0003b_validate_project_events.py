"""Let PostgreSQL check every row of project_events."""

from backfill.gates import unvalidate_links, validate_links

revision = "0003b_project_events"
down_revision = "0003b_user_events"


def upgrade() -> None:
    validate_links("project_events")


def downgrade() -> None:
    unvalidate_links("project_events")
