"""The closing count of a run, as a table that adds up."""

from collections.abc import Callable, Sequence

from backfill import escaping
from backfill.ledger.runs import TableCount

COLUMNS = ("rows", "linked", "already_linked", "no_address", "quarantined", "left_to_live", "not_due", "kept")


def as_text(counts: Sequence[TableCount], label: Callable[[str], str], done: str = "linked") -> str:
    """rows = linked + already linked + no address + quarantined + left to the live application. *label*: what people call a job; *done*: what became of its rows."""
    columns: tuple[str, ...] = COLUMNS
    header = [
        "table",
        "rows",
        f"= {done}",
        f"+ already {done}",
        "+ no address",
        "+ quarantined",
        "+ left to live",
        "+ not due",
        "+ kept",
    ]
    # Hardly ever: a trigger of the application keeps rows as they are.
    for name in ("kept", "not_due"):
        if not any(getattr(count, name) for count in counts):
            place = columns.index(name)
            columns, header = columns[:place] + columns[place + 1 :], header[:place] + header[place + 1 :]
    body = [[label(count.job), *(getattr(count, name) for name in columns)] for count in counts]
    body.append(["all", *(sum(getattr(count, name) for count in counts) for name in columns)])
    return escaping.table(body, header, tablefmt="simple", intfmt=",")
