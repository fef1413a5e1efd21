"""What became of a batch, as plain data: how it travels from another machine, and how it is believed.

A result is looked at field by field before anything is done with it. It decides what the driver does next
(halve, plan anew, vacuum), so one that does not fit the batch it was asked about is not used.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from backfill.database.transient import Trouble
from backfill.engine.run_batch import Outcome
from backfill.ledger.batches import Account

LONGEST_TEXT = 2_000  # of an error
LARGEST = 2**63 - 1
FLAGS = ("stopped", "lost", "rewritten", "map_incomplete")
COUNTS = ("rows", "written", "quarantined")
REFUSED = "refused"  # the worker's environment does not fit the run; with the reason


class NotAResult(ValueError):
    """What came back is no result of that batch."""


def as_plain(outcome: Outcome) -> dict[str, Any]:
    """*outcome* as text, numbers and truth values."""
    return asdict(outcome) | {"halved": outcome.halved.value if outcome.halved else None}


def from_plain(value: object, batch_id: int) -> Outcome:
    """The outcome of batch *batch_id*. Raises ``NotAResult``; the text holds nothing of *value*."""
    expected = {field.name for field in fields(Outcome)}
    if type(value) is not dict or set(value) != expected:
        raise NotAResult("it has not the fields of a result")
    if type(value["batch_id"]) is not int or value["batch_id"] != batch_id:
        raise NotAResult("it is about another batch")
    if any(type(value[name]) is not bool for name in FLAGS):
        raise NotAResult("a truth value is none")
    error, halved, account = value["error"], value["halved"], value["account"]
    if error is not None and (type(error) is not str or len(error) > LONGEST_TEXT):
        raise NotAResult("its error is no short text")
    if halved is not None and (type(halved) is not str or halved not in set(Trouble)):
        raise NotAResult("it names an unknown trouble")
    said = [error is not None, halved is not None, account is not None, *(value[name] for name in FLAGS)]
    if sum(said) != 1:
        raise NotAResult("it says several things at once, or nothing")
    return Outcome(
        batch_id,
        account=None if account is None else _account(account),
        error=error,
        halved=None if halved is None else Trouble(halved),
        **{name: value[name] for name in FLAGS},
    )


def _account(value: object) -> Account:
    expected = {field.name for field in fields(Account)}
    if type(value) is not dict or set(value) != expected:
        raise NotAResult("it has not the fields of an account")
    counts: Mapping[str, Any] = value
    linked = counts["already_linked"]
    for number in (*(counts[name] for name in COUNTS), *(() if linked is None else (linked,))):
        if type(number) is not int or not 0 <= number <= LARGEST:
            raise NotAResult("a count is none")
    seconds = counts["seconds"]
    if type(seconds) not in (int, float) or not 0 <= seconds < 1e9:
        raise NotAResult("its duration is none")
    return Account(**counts)
