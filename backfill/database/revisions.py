"""The chain of revisions, driven from within: where it lies, and how a command of ours runs it."""

import io
import re
from argparse import Namespace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from psycopg2 import sql
from sqlalchemy import Engine

from backfill.database.connection import driver, value
from backfill.database.error_text import DRIVER_ERRORS
from backfill.database.lock_retry import lock_was_refused
from backfill.errors import BackfillError, ChainUnfit, LockNotObtained, MigrationsMissing, RevisionUnreachable
from backfill.settings import Settings

if TYPE_CHECKING:
    from alembic.config import Config

EXPAND = "0001_expand"
PACKAGE = Path(__file__).resolve().parent.parent
PACKAGED = PACKAGE / "chain"  # in a wheel
BESIDE = PACKAGE.parent / "alembic"  # in a checkout, of which an editable install is one
WORDS = {"head", "heads", "base", ""}  # "+1" names no revision at all
REVISION = re.compile(r'^revision = "(.+)"$', re.MULTILINE)
LEFT = (
    "A revision that was under way is not recorded: `backfill gates` says where the chain stands, and the "
    "same command goes on from there."
)


def folder() -> Path:
    """The folder of the chain. Raises ``MigrationsMissing``.

    The folder beside an installed package is the library of the same name: it has none of our revisions.
    """
    for place in (BESIDE, PACKAGED):
        if (place / "env.py").is_file() and (place / "versions" / f"{EXPAND}.py").is_file():
            return place
    raise MigrationsMissing(packaged=PACKAGED, beside=BESIDE)


@cache
def names() -> frozenset[str]:
    """Every revision of the chain, as its file says it: Alembic, which would tell, takes longer to import than this."""
    files = (folder() / "versions").glob("*.py")
    return frozenset(found[1] for file in files if (found := REVISION.search(file.read_text("utf-8"))))


def expand(settings: Settings, engine: Engine) -> None:
    """Create the ledger where it is not yet. Raises ``ChainBusy``, ``ChainUnfit``, ``MigrationsMissing``."""
    # Imported here and below: Alembic brings Mako and Pygments along, a fifth of every command's start.
    from alembic.util import CommandError

    from alembic import command

    config = _config(settings, stdout=io.StringIO())
    config.attributes["engine"] = engine
    try:
        command.upgrade(config, EXPAND)
    except CommandError as error:
        raise _as_ours(error, settings, engine, EXPAND) from error


def migrate(
    settings: Settings,
    engine: Engine,
    revision: str,
    *,
    down: bool = False,
    restore_point: str | None = None,
    stdout: TextIO,
) -> str | None:
    """Upgrade or downgrade to *revision*; the revision at which the chain then stands, none for no revision.

    Raises what a gate raises, ``RevisionUnreachable``, ``LockNotObtained``, ``ChainBusy``, ``ChainUnfit``.
    """
    from alembic.util import CommandError

    from alembic import command

    config = _config(settings, stdout=stdout, restore_point=restore_point)
    _require_known(config, revision, span=False)
    config.attributes["engine"] = engine
    try:
        (command.downgrade if down else command.upgrade)(config, revision)
    except CommandError as error:
        raise _as_ours(error, settings, engine, revision) from error
    except DRIVER_ERRORS as error:
        if not lock_was_refused(error):
            raise
        raise LockNotObtained from error
    return current_revision(settings, engine)


def script(
    settings: Settings, revisions: str, *, down: bool = False, restore_point: str | None = None
) -> str:
    """What ``alembic upgrade REVISIONS --sql`` prints, gates included; *revisions* may be a span, ``from:to``.

    Raises ``RevisionUnreachable``. No database is asked.
    """
    from alembic.util import CommandError

    from alembic import command

    written = io.StringIO()
    config = _config(settings, output_buffer=written, restore_point=restore_point)
    _require_known(config, revisions, span=True)
    try:
        (command.downgrade if down else command.upgrade)(config, revisions, sql=True)
    except CommandError as error:
        if isinstance(error, BackfillError):
            raise
        raise RevisionUnreachable(revision=revisions, problem=_sentence(error)) from error
    return written.getvalue()


def current_revision(settings: Settings, engine: Engine) -> str | None:
    """The newest revision that has run here; ``None``: none has."""
    name = sql.Identifier(settings.ledger_schema, "alembic_version")
    with engine.connect() as connection:
        if (
            value(connection, sql.SQL("select to_regclass(%s)"), (name.as_string(driver(connection)),))
            is None
        ):
            return None
        found = value(connection, sql.SQL("select version_num from {} order by 1 desc limit 1").format(name))
    return None if found is None else str(found)


def _config(
    settings: Settings,
    *,
    stdout: TextIO | None = None,
    output_buffer: TextIO | None = None,
    restore_point: str | None = None,
) -> "Config":
    """Alembic's configuration, as alembic.ini of a checkout says it."""
    from alembic.config import Config

    options = Namespace(x=[f"restore_point={restore_point}"]) if restore_point else None
    config = Config(stdout=stdout or io.StringIO(), output_buffer=output_buffer, cmd_opts=options)
    config.set_main_option("script_location", str(folder()).replace("%", "%%"))
    config.attributes["settings"] = settings
    return config


def _require_known(config: "Config", revisions: str, *, span: bool) -> None:
    """Refuse a revision that the chain does not have before a database is asked: afterwards, the same words of
    Alembic's mean that the database stands at one."""
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    chain = ScriptDirectory.from_config(config)
    try:
        for revision in revisions.split(":") if span else [revisions]:
            named, _steps = re.fullmatch(r"(.*?)([+-]\d+)?", revision, re.DOTALL).groups()  # type: ignore[union-attr]
            if named not in WORDS or named == "head":
                chain.get_revisions(named)
    except CommandError as error:
        raise RevisionUnreachable(revision=revisions, problem=_sentence(error)) from error


def _as_ours(error: Exception, settings: Settings, engine: Engine, revision: str) -> BackfillError:
    """Alembic's refusal, told apart: a revision that cannot be gone to, or a database at one that is not here."""
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    if isinstance(error, BackfillError):
        return error
    try:
        if (at := current_revision(settings, engine)) is not None:
            ScriptDirectory(str(folder())).get_revisions(at)
    except CommandError:
        return ChainUnfit(where=f"{settings.ledger_schema}.alembic_version", problem=_sentence(error))
    return RevisionUnreachable(revision=revision, problem=_sentence(error))


def _sentence(error: Exception) -> str:
    return f"{str(error).rstrip('.')}."
