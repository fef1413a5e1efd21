"""Disk: whether there is room for the second copy that a rewrite makes, where that can be known."""

from collections.abc import Sequence

from sqlalchemy import Connection

from backfill.database.disk import free_bytes
from backfill.erase.targets import Target
from backfill.errors import DiskTooSmall

MARGIN = 1.1  # the new copy, and WAL beside it


def require_room(connection: Connection, targets: Sequence[Target]) -> bool:
    """Whether room is known to be there; one table at a time, since each frees its old copy at its end.

    Raises ``DiskTooSmall``.
    """
    known = True
    for target in targets:
        needed = int(target.size * MARGIN)
        there = free_bytes(connection, target.tablespace)
        if there is None:
            known = False
        elif there < needed:
            raise DiskTooSmall(
                table=target.name, needed=f"{needed / 2**20:,.0f}", free=f"{there / 2**20:,.0f}"
            )
    return known
