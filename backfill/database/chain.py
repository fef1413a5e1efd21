"""The chain of revisions, driven from within: a run brings the first one itself."""

import io
from pathlib import Path

from sqlalchemy import Engine

from backfill.database.engine import sqlstate_of
from backfill.errors import BackfillError, ChainBusy, ChainUnfit, MigrationsMissing
from backfill.settings import Settings

LOCK_NOT_AVAILABLE = "55P03"
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
        if isinstance(error.__cause__, BackfillError):  # env.py tells Alembic's own command line
            raise error.__cause__ from None
        if error.__cause__ is not None and sqlstate_of(error.__cause__) == LOCK_NOT_AVAILABLE:
            raise ChainBusy from error
        where = f"{settings.ledger_schema}.alembic_version"
        raise ChainUnfit(where=where, problem=f"{str(error).rstrip('.')}.") from error
