"""What became of a batch, as plain data: how it travels from another machine, and how it is believed.

A result is looked at field by field before anything is done with it. It decides what the driver does next
(halve, plan anew, vacuum), so one that does not fit the batch it was asked about is not used.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from backfill.database.transient import TransientError
from backfill.engine.run_batch import BatchResult
from backfill.ledger.batches import PassCounts

LONGEST_TEXT = 2_000  # of an error
LARGEST = 2**63 - 1
FLAGS = ("stopped", "lost", "rewritten", "map_incomplete")
COUNTS = ("rows", "written", "quarantined")
REFUSED = "refused"  # the worker's environment does not fit the run; with the reason


class NotAResult(ValueError):
    """What came back is no result of that batch."""


def as_plain(result: BatchResult) -> dict[str, Any]:
    """*result* as text, numbers and truth values."""
    return asdict(result) | {"halved": result.halved.value if result.halved else None}


def from_plain(value: object, batch_id: int) -> BatchResult:
    """The result of batch *batch_id*. Raises ``NotAResult``; the text holds nothing of *value*."""
    expected = {field.name for field in fields(BatchResult)}
    if type(value) is not dict or set(value) != expected:
        raise NotAResult("it has not the fields of a result")
    if type(value["batch_id"]) is not int or value["batch_id"] != batch_id:
        raise NotAResult("it is about another batch")
    if any(type(value[name]) is not bool for name in FLAGS):
        raise NotAResult("a truth value is none")
    error, halved, counts = value["error"], value["halved"], value["counts"]
    if error is not None and (type(error) is not str or len(error) > LONGEST_TEXT):
        raise NotAResult("its error is no short text")
    if halved is not None and (type(halved) is not str or halved not in set(TransientError)):
        raise NotAResult("it names an unknown kind of error")
    said = [error is not None, halved is not None, counts is not None, *(value[name] for name in FLAGS)]
    if sum(said) != 1:
        raise NotAResult("it says several things at once, or nothing")
    return BatchResult(
        batch_id,
        counts=None if counts is None else _counts(counts),
        error=error,
        halved=None if halved is None else TransientError(halved),
        **{name: value[name] for name in FLAGS},
    )


def _counts(value: object) -> PassCounts:
    expected = {field.name for field in fields(PassCounts)}
    if type(value) is not dict or set(value) != expected:
        raise NotAResult("it has not the fields of counts")
    given: Mapping[str, Any] = value
    linked = given["already_linked"]
    for number in (*(given[name] for name in COUNTS), *(() if linked is None else (linked,))):
        if type(number) is not int or not 0 <= number <= LARGEST:
            raise NotAResult("a count is none")
    seconds = given["seconds"]
    if type(seconds) not in (int, float) or not 0 <= seconds < 1e9:
        raise NotAResult("its duration is none")
    return PassCounts(**given)
