"""Lost fields: parts of places that the database cannot hold, by row of the address table; never by value."""

from sqlalchemy import Connection, func, select

from backfill.ledger.tables import lost_fields

KEYS_SHOWN = 5


def summary(connection: Connection) -> list[tuple[str, int, list[str]]]:
    """Field, number of rows that lack it, and the keys of the first of them."""
    found = []
    fields = (
        select(lost_fields.c.field, func.count()).group_by(lost_fields.c.field).order_by(lost_fields.c.field)
    )
    for field, number in connection.execute(fields):
        keys = (
            select(lost_fields.c.address_key)
            .where(lost_fields.c.field == field)
            .order_by(lost_fields.c.address_key)
            .limit(KEYS_SHOWN)
        )
        found.append((field, number, [key for (key,) in connection.execute(keys)]))
    return found
