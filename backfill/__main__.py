"""``python -m backfill`` is the ``backfill`` command."""

from backfill.cli.main import main

main()
