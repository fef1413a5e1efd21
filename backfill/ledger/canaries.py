"""Canaries: salted hashes of addresses whose column goes without being kept, to recognise them by later."""

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from backfill.ledger.tables import canaries


def keep(connection: Connection, key_id: str, hashes: Iterable[str]) -> int:
    """Keep those hashes; returns their number."""
    rows = [{"key_id": key_id, "hash": bytes.fromhex(hashed)} for hashed in hashes]
    if rows:
        connection.execute(insert(canaries).on_conflict_do_nothing(), rows)
    return len(rows)


def known(connection: Connection, key_id: str, hashes: Sequence[str]) -> set[str]:
    """Those of *hashes* that were kept."""
    wanted = list(map(bytes.fromhex, hashes))
    found = connection.execute(
        select(canaries.c.hash).where(canaries.c.key_id == key_id, canaries.c.hash.in_(wanted))
    ).scalars()
    return {bytes(value).hex() for value in found}
