"""Lost fields: parts of places that the database cannot hold, by row of the table that has the place; never by value."""

from collections.abc import Sequence

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert

from backfill.database.shown_key import shown_keys
from backfill.ledger.tables import lost_fields
from backfill.raw_column import RawColumn

KEYS_SHOWN = 5
MOST_NAMED = 1_000  # rows of a job and field; of a column that is too short for most, there may be millions


def note(connection: Connection, part: RawColumn, lost: Sequence[Sequence[str]]) -> None:
    """Enter rows of *part* by their key, each with the fields that it lacks, with commas.

    Rows without a key (``""``), and those over ``MOST_NAMED``, are counted.
    """
    if not lost:
        return
    named = _named(connection, part)
    counted: dict[tuple[str, str], int] = {}
    for key, fields in lost:
        for field in fields.split(","):
            name = key if named.get(field, 0) < MOST_NAMED else ""
            if name and (name, field) not in counted:
                named[field] = named.get(field, 0) + 1
            counted[name, field] = counted.get((name, field), 0) + 1
    entries = [
        {"job": part.identity, "row_key": key, "field": field, "rows": number if not key else 1}
        for (key, field), number in sorted(
            counted.items()
        )  # as every worker does: none waits for another in a circle
    ]
    statement = insert(lost_fields).values(entries)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["job", "row_key", "field"],
            set_={"rows": lost_fields.c.rows + statement.excluded.rows},
            where=lost_fields.c.row_key == "",  # any other row is named already
        )
    )


def _named(connection: Connection, part: RawColumn) -> dict[str, int]:
    """By field, how many rows of *part* are named."""
    statement = select(lost_fields.c.field, func.count()).where(
        lost_fields.c.job == part.identity, lost_fields.c.row_key != ""
    )
    found = connection.execute(statement.group_by(lost_fields.c.field))
    return {field: int(number) for field, number in found}


def summary(connection: Connection, part: RawColumn) -> list[tuple[str, int, list[str]]]:
    """Field, number of rows of *part* that lack it, and the keys of the first of them, where they have one."""
    of_part = lost_fields.c.job == part.identity
    found = []
    fields = (
        select(lost_fields.c.field, func.sum(lost_fields.c.rows))
        .where(of_part)
        .group_by(lost_fields.c.field)
        .order_by(lost_fields.c.field)
    )
    shows = shown_keys(connection, part)
    for field, number in connection.execute(fields):
        keys = (
            select(lost_fields.c.row_key)
            .where(of_part, lost_fields.c.field == field, lost_fields.c.row_key != "")
            .order_by(lost_fields.c.row_key)
            .limit(KEYS_SHOWN)
        )
        found.append((field, int(number), [shows(key) for (key,) in connection.execute(keys)]))
    return found
