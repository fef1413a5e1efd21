"""New rows of ip_addresses carry a hash."""

from backfill.gates import propose_hash_required, unpropose_hash_required

revision = "0005b_propose_hash_required"
down_revision = "0005a_ip_address_optional"


def upgrade() -> None:
    propose_hash_required()


def downgrade() -> None:
    unpropose_hash_required()
