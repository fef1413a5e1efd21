"""Ledger shape: the ledger's tables as a gate reads and writes them; in another chain nobody has looked before it."""

from backfill.database.quoting import quoted
from backfill.gates.offline_script import literal
from backfill.ledger.tables import coverage, decisions, let_in, quarantine, runs, seals, shadows

TABLES = (coverage, runs, quarantine, decisions, seals, shadows, let_in)


def exists(schema: str) -> str:
    """Whether there is a ledger, as an SQL expression."""
    return f"to_regclass({literal(quoted(schema, coverage.name))}) is not null"


def odd_table(schema: str) -> str:
    """The first table whose columns are not those that this version knows, as an SQL expression; null: none."""
    expected = ", ".join(
        f"({literal(table.name)}, {literal(quoted(schema, table.name))},"
        f" {literal(' '.join(sorted(column.name for column in table.columns)))})"
        for table in TABLES
    )
    found = (
        "select string_agg(attname, ' ' order by attname) from pg_catalog.pg_attribute"
        " where attrelid = to_regclass(expected.place) and attnum > 0 and not attisdropped"
    )
    return (
        f"(select min(expected.name) from (values {expected}) as expected (name, place, columns)"
        f" where expected.columns is distinct from ({found}))"
    )
