"""Decisions: what an operator settled, merged, confirmed; with the exact count, who and when."""

import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, update

from backfill.job_id import JobId
from backfill.ledger.tables import decisions


def operator() -> str:
    """The operating system's name for whoever typed the command."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in many containers
        return f"uid {os.getuid()}"


@dataclass
class Decision:
    """One decision, entered with the first of its effects; each further transaction adds to its count."""

    kind: str
    job: JobId
    detail: Mapping[str, Any]
    id: int | None = None

    def took(self, connection: Connection, count: int) -> int:
        """*count* rows more, in the transaction that changes them; returns the decision's number."""
        if self.id is None:
            self.id = record(connection, self.kind, self.job, count, **self.detail)
        else:
            connection.execute(
                update(decisions).where(decisions.c.id == self.id).values(count=decisions.c["count"] + count)
            )
        return self.id


def record(connection: Connection, kind: str, job: JobId, count: int, **detail: Any) -> int:
    """Enter a decision and return its number."""
    who = connection.execute(select(func.concat(operator(), " as ", func.current_user()))).scalar()
    number: int = connection.execute(
        decisions.insert()
        .values(kind=kind, job=job, count=count, detail=detail, decided_by=who)
        .returning(decisions.c.id)
    ).scalar_one()
    return number
