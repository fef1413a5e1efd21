"""Every row of ip_addresses carries a hash."""

from backfill.gates import make_hash_required, restore_hash_optional

revision = "0005c_hash_required"
down_revision = "0005b_propose_hash_required"


def upgrade() -> None:
    make_hash_required()


def downgrade() -> None:
    restore_hash_optional()
