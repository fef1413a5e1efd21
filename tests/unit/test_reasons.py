"""Reasons why a table is not covered: each number with its noun and verb, each command one that can be pasted."""

import re
import shlex

import pytest

from backfill.ledger.counts import CLASSES, IN_PLACE_CLASSES, UNCOVERING, Count
from backfill.plan import PYPI, InPlaceJob
from backfill.verify import reasons

ODD = PYPI.addresses.model_copy(update={"table": "ip addresses; drop"})
EVENTS = dict.fromkeys(Count, 0)


IN_PLACE = InPlaceJob(table="logins", raw="ip", becomes="pseudonym", unreadable="refuse")


@pytest.mark.parametrize("count", UNCOVERING)
def test_numbers_agree_with_noun_and_verb(count: Count) -> None:
    said = {}
    for number in (0, 1, 2, 1_000):
        counts = {**EVENTS, count: number}
        said[number] = []
        if count in IN_PLACE_CLASSES:
            said[number] = reasons.of_in_place(IN_PLACE, counts, since=0, prefix="fd4a:")
        if count not in IN_PLACE_CLASSES or count in CLASSES:
            said[number] += reasons.of_events(PYPI.jobs[0], PYPI.addresses, counts, discard=True, listed=number, undecided=0)  # fmt: skip
    assert said[0] == []
    assert {tuple(reason.split(":")[0].split()[:2]) for reason in said[1]} == {("1", "row")}
    for one, two, many in zip(said[1], said[2], said[1_000], strict=True):
        assert re.search(r"^1 row .*?(has|is|holds|lacks) ", one)
        assert re.search(r"^2 rows .*?(have|are|hold|lack) ", two)
        assert many.startswith("1,000 rows")


def test_raw_values_that_came_after_the_last_run_are_said_to_be_the_applications() -> None:
    for since, said in (
        (0, "`backfill run`"),
        (1, "`backfill run` again; 1 was written"),
        (2, "again; 2 were written"),
    ):
        (reason,) = reasons.of_in_place(IN_PLACE, {**EVENTS, Count.STILL_RAW: 5}, since=since, prefix=None)
        assert said in reason


@pytest.mark.parametrize(
    ("count", "one", "two"),
    [
        (Count.NETWORKS, "1 row is a network, not an address", "2 rows are networks, not addresses"),
        (Count.DUPLICATES, "1 row is the same address as", "2 rows are the same address as"),
        (Count.HASH_MISSING, "1 row has no hash", "2 rows have no hash"),
        (Count.HASH_WRONG, "1 hash is not what", "2 hashes are not what"),
    ],
)
def test_numbers_of_addresses_agree_with_noun_and_verb(count: Count, one: str, two: str) -> None:
    for number, start in ((1, one), (2, two)):
        (reason,) = reasons.of_addresses(PYPI.addresses, {**EVENTS, count: number}, {})
        assert reason.startswith(start)


def test_names_in_commands_can_be_pasted() -> None:
    job = PYPI.jobs[0].model_copy(update={"table": "user events; drop"})
    counts = {**EVENTS, **dict.fromkeys(UNCOVERING, 3)}
    said = reasons.of_events(job, ODD, counts, discard=True, listed=3, undecided=0)
    said += reasons.of_addresses(ODD, {**EVENTS, Count.HASH_WRONG: 3}, {})
    commands = [shlex.split(command) for reason in said for command in reason.split("`")[1::2]]
    named = [words for words in commands if words[1] in ("repair", "quarantine") and "list" not in words]
    assert len(named) >= 6
    for words in named:
        assert {job.label, ODD.label} & set(words), words
