"""Drop journals.submitted_from, which nobody uses and nothing keeps."""

from backfill.gates import drop_discarded_column, restore_column

revision = "0002_journals"
down_revision = "0001_expand"


def upgrade() -> None:
    drop_discarded_column("journals")


def downgrade() -> None:
    restore_column("journals", "text")
