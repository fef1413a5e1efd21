"""The closing count of a run, as a table that adds up."""

from collections.abc import Callable, Sequence

from backfill.ledger.runs import TableCount
from backfill.report.document import Table, table

COLUMNS = ("rows", "linked", "already_linked", "no_address", "quarantined", "left_to_live", "not_due", "kept")


def counted(counts: Sequence[TableCount], label: Callable[[str], str], done: str = "linked") -> Table:
    """Rows are the sum of the columns beside them, the last row the sum of those above. *label*: what people call a job;
    *done*: what became of its rows."""
    columns: tuple[str, ...] = COLUMNS
    header = [
        "table",
        "rows",
        f"= {done}",
        f"+ already {done}",
        "+ no raw value",
        "+ quarantined",
        "+ left to the application",
        "+ not due",
        "+ kept by a trigger",
    ]
    # Hardly ever: a trigger of the application keeps rows as they are.
    for name in ("kept", "not_due"):
        if not any(getattr(count, name) for count in counts):
            place = columns.index(name)
            columns, header = (
                columns[:place] + columns[place + 1 :],
                header[: place + 1] + header[place + 2 :],
            )
    body = [[label(count.job), *(getattr(count, name) for name in columns)] for count in counts]
    body.append(["all", *(sum(getattr(count, name) for count in counts) for name in columns)])
    return table(header, body)
