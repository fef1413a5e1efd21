"""Prefix: the byte that marks pseudonyms of the key id, before any is made under it."""

import click

from backfill.cli.context import Session
from backfill.errors import PrefixAmbiguous, SaltMissing, SaltUnusable
from backfill.hashing.pseudonym import prefix_text
from backfill.jobs import prefixes_in_use
from backfill.ledger import prefixes


def ensure(session: Session) -> int:
    """The byte on record; else the one that the data's own pseudonyms have; else one that is drawn. Under the run's lock."""
    known, living = _known_or_living(session)
    if known is not None:
        return known
    with session.engine.begin() as connection:
        return prefixes.allot(connection, session.settings.key_id, living)


def recognise(session: Session) -> None:
    """Put on record what the data's own pseudonyms have, so that a dry run tells them from addresses. Under the run's lock."""
    _known_or_living(session)


def _known_or_living(session: Session) -> tuple[int | None, set[int]]:
    """The byte on record by now; where there is none, all that live in the data."""
    key_id = session.settings.key_id
    with session.engine.begin() as connection:
        known = prefixes.prefix_of(connection, key_id)
    if known is not None:
        return known, set()
    living = prefixes_in_use.living(session.engine, session.plan.parts) - {prefixes.NEVER}
    if not living:
        return None, living
    try:
        salt = session.salt
    except (SaltMissing, SaltUnusable):  # a dry run needs none; without it nobody can tell
        return None, living
    marked = prefixes_in_use.marked(session.engine, session.plan.parts, living, salt.pseudonyms)
    if len(marked) > 1:
        raise PrefixAmbiguous(prefixes=", ".join(prefix_text(byte) for byte in sorted(marked)))
    for byte in marked:
        with session.engine.begin() as connection:
            prefixes.enter(connection, key_id, byte)
        click.echo(
            f"Values that begin with {prefix_text(byte)} are pseudonyms of this salt, by their tags: made before this "
            "ledger was. They stay, and that prefix is on record now."
        )
        return byte, living
    return None, living
