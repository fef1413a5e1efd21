"""Seal trigger: the names and the SQL of a trigger that discards raw values in new rows."""

from backfill.database.quoting import quoted
from backfill.job_id import helper_name
from backfill.raw_column import RawColumn


def seal_name(part: RawColumn) -> str:
    """What function and counting sequence of that column's seal are called, in the ledger's schema."""
    return helper_name("seal", part.table, part.identity)


def seal_trigger(part: RawColumn) -> str:
    """Its trigger; triggers fire in the order of their names: before our guard."""
    return helper_name("zy_backfill_seal", part.raw_column, part.identity)


def seal_removal(schema: str, part: RawColumn) -> list[str]:
    """What removes a seal once its trigger is gone; the count stays in the ledger's table."""
    name = quoted(schema, seal_name(part))
    return [f"drop function if exists {name}()", f"drop sequence if exists {name}"]
