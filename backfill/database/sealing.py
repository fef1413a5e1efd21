"""Sealing: the names and the SQL of a trigger that discards raw values in new rows."""

import hashlib

from sqlalchemy.dialects.postgresql.base import PGDialect

from backfill.plan import Table

_DIALECT = PGDialect()  # type: ignore[no-untyped-call]


def seal_name(part: Table) -> str:
    """What function and counting sequence of that table's seal are called, in the ledger's schema."""
    name = f"seal_{part.schema_}_{part.table}"
    if len(name.encode()) <= 63:
        return name
    return f"seal_{hashlib.sha256(name.encode()).hexdigest()[:40]}"  # PostgreSQL would cut two names to one


def quoted(*names: str) -> str:
    """``"schema"."name"``."""
    return ".".join(_DIALECT.identifier_preparer.quote_identifier(name) for name in names)


def seal_removal(schema: str, part: Table) -> list[str]:
    """What removes a seal once its trigger is gone; the count stays in the ledger's table."""
    name = quoted(schema, seal_name(part))
    return [f"drop function if exists {name}()", f"drop sequence if exists {name}"]
