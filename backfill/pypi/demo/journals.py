"""Rows of ``journals``: PyPI's log of changes, whose ``submitted_from`` nothing ever read."""

from collections.abc import Iterator
from random import Random

from backfill.database import binary_copy
from backfill.pypi.demo.clock import moment
from backfill.pypi.demo.pool import Pool
from backfill.pypi.demo.population import Things
from backfill.pypi.demo.specials import RETIRED_FROM

COLUMNS = ("id", "name", "version", "action", "submitted_date", "submitted_by", "submitted_from")
EVENTS_PER_JOURNAL = 10
NO_ADDRESS = 0.03  # entries made by background tasks
ACTIONS = (
    "create",
    "new release",
    "new release",
    "new release",
    "add py3 file",
    "remove release",
    "add Owner",
)


def journal_rows(
    count: int, projects: Things, users: Things, last_serials: list[int], pool: Pool, rng: Random
) -> Iterator[bytes]:
    """*count* rows of COLUMNS, oldest first; writes each project's newest serial into *last_serials*."""
    names = [binary_copy.text(name) for name in projects.names]
    usernames = [binary_copy.text(name) for name in users.names]
    for number in range(count):
        progress = number / count
        project = int(len(names) * progress * rng.random())
        user = int(len(usernames) * progress * rng.random())
        action = ACTIONS[int(len(ACTIONS) * rng.random())]
        version = binary_copy.text(f"{number % 3}.{number % 17}") if "release" in action else binary_copy.NULL
        action += f" {users.names[user]}" if action == "add Owner" else ""
        has_address = progress < RETIRED_FROM and rng.random() >= NO_ADDRESS
        last_serials[project] = number + 1
        yield binary_copy.row(
            binary_copy.integer(number + 1),
            names[project],
            version,
            binary_copy.text(action),
            binary_copy.timestamp(moment(progress)),
            usernames[user],
            pool.raws[pool.pick(rng)] if has_address else binary_copy.NULL,
        )
