"""Drop ip_addresses.ip_address, after an observation period without a new value."""

from backfill.gates import drop_address_column, restore_address_column

revision = "0005d_drop_ip_address"
down_revision = "0005c_hash_required"


def upgrade() -> None:
    drop_address_column()


def downgrade() -> None:
    restore_address_column("inet")
