"""ip_addresses.ip_address may be empty: now deploy upserts keyed by hash."""

from backfill.gates import make_address_optional, restore_address_required

revision = "0005a_ip_address_optional"
down_revision = "0004_team_events"


def upgrade() -> None:
    make_address_optional()


def downgrade() -> None:
    restore_address_required()
