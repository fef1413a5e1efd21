"""The chain of revisions, driven from within: a run brings the first one itself."""

import io
from pathlib import Path

from sqlalchemy import Engine

from backfill.errors import BackfillError, ChainUnfit, MigrationsMissing
from backfill.settings import Settings

EXPAND = "0001_expand"
SCRIPTS = Path(__file__).resolve().parent.parent.parent / "alembic"


def expand(settings: Settings, engine: Engine) -> None:
    """Create the ledger where it is not yet. Raises ``ChainBusy``, ``ChainUnfit``, ``MigrationsMissing``."""
    # Imported here: Alembic brings Mako and Pygments along, a fifth of every command's start.
    from alembic.config import Config
    from alembic.util import CommandError

    from alembic import command

    if not (SCRIPTS / "env.py").exists():
        raise MigrationsMissing(path=SCRIPTS)
    config = Config(stdout=io.StringIO())
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["settings"] = settings
    config.attributes["engine"] = engine
    try:
        command.upgrade(config, EXPAND)
    except CommandError as error:
        if isinstance(error, BackfillError):
            raise
        where = f"{settings.ledger_schema}.alembic_version"
        raise ChainUnfit(where=where, problem=f"{str(error).rstrip('.')}.") from error
