"""The chain of revisions, driven from within: a run brings the first one itself."""

import io
from pathlib import Path

from alembic.config import Config
from sqlalchemy import Engine

from alembic import command
from backfill.errors import MigrationsMissing
from backfill.settings import Settings

EXPAND = "0001_expand"
SCRIPTS = Path(__file__).resolve().parent.parent.parent / "alembic"


def expand(settings: Settings, engine: Engine) -> None:
    """Create the ledger where it is not yet. Raises ``MigrationsMissing``."""
    if not (SCRIPTS / "env.py").exists():
        raise MigrationsMissing(path=SCRIPTS)
    config = Config(stdout=io.StringIO())
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["settings"] = settings
    config.attributes["engine"] = engine
    command.upgrade(config, EXPAND)
