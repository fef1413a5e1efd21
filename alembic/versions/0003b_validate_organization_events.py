"""Let PostgreSQL check every row of organization_events."""

from backfill.gates import unvalidate_links, validate_links

revision = "0003b_organization_events"
down_revision = "0003b_file_events"


def upgrade() -> None:
    validate_links("organization_events")


def downgrade() -> None:
    unvalidate_links("organization_events")
