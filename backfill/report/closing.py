"""The closing count of a run, as a table that adds up."""

from collections.abc import Callable, Sequence

from tabulate import tabulate

from backfill.ledger.runs import TableCount

COLUMNS = ("rows", "linked", "already_linked", "no_address", "quarantined", "left_to_live")


def as_text(counts: Sequence[TableCount], label: Callable[[str], str]) -> str:
    """rows = linked + already linked + no address + quarantined + left to the live application. *label*: what people call a job."""
    header = [
        "table",
        "rows",
        "= linked",
        "+ already linked",
        "+ no address",
        "+ quarantined",
        "+ left to live",
    ]
    body = [[label(count.job), *(getattr(count, name) for name in COLUMNS)] for count in counts]
    body.append(["all", *(sum(getattr(count, name) for count in counts) for name in COLUMNS)])
    return tabulate(body, header, tablefmt="simple", intfmt=",")
