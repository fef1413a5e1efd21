"""What a run would cost, and what it did, in words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from backfill import escaping
from backfill.engine.estimate import prediction
from backfill.engine.estimate.forecast import Forecast
from backfill.report.document import Block, Note, table

MB = 1024 * 1024
HEADER = [
    "table",
    "strategy",
    "time",
    "longest lock",
    "longest transaction",
    "extra disk MB",
    "WAL MB",
    "size, 1: rewritten",
]


def blocks(forecasts: Sequence[Forecast], workers: int) -> Iterator[Block]:
    """A line a table and strategy, their sums, and the advice."""
    known = [one for one in forecasts if one.sampled is not None]
    if known:
        body = [[one.table, strategy, *_cells(cost)] for one in known for strategy, cost in one.costs.items()]
        for strategy in (prediction.IN_PLACE, prediction.SHADOW):
            if all(strategy in one.costs for one in known):
                whole = prediction.total(one.costs[strategy] for one in known)
                body.append(["all", strategy, *_cells(whole)])
        yield table(HEADER, body, right=HEADER[2:])
        taken = sum(one.sampled.rows for one in known if one.sampled)
        spent = sum(one.sampled.took for one in known if one.sampled)
        yield Note(
            f"Measured on {escaping.counted(taken, 'row', 'rows')} in {spent:.1f} s, in temporary tables, and scaled for "
            f"{escaping.counted(workers, 'worker', 'workers')}: an order "
            "of magnitude, not a promise. In the rows for all, disk and WAL are sums, time is the sum and the start of the "
            "command, lock, transaction and size are the largest. Time, WAL and growth are compared with the fact by `backfill status` after a run."
        )
    for one in forecasts:
        if one.problem:
            yield Note(f"{one.table}: no prediction, since {one.problem}.")
        if one.also:
            yield Note(f"{one.table}: {one.also}.")
    advices: dict[tuple[str, str], list[str]] = {}
    for one in known:
        if one.advice is not None:
            advices.setdefault((one.advice.strategy, one.advice.reason), []).append(one.table)
    for (strategy, reason), tables in advices.items():
        yield Note(f"Recommended for {', '.join(tables)}: {strategy}; {reason}.")


def as_facts(forecasts: Sequence[Forecast]) -> list[dict[str, Any]]:
    """The same for machines: bytes and seconds."""
    return [
        {
            "table": one.table,
            "problem": one.problem,
            "left_out": one.also,
            "recommended": one.advice and one.advice.strategy,
            "strategies": {strategy: asdict(cost) for strategy, cost in one.costs.items()},
        }
        for one in forecasts
    ]


def _cells(cost: prediction.Cost) -> list[str]:
    return [
        duration(cost.seconds),
        f"{cost.lock:.1f} s",
        f"{cost.transaction:.1f} s",
        f"{cost.disk / MB:,.0f}",
        f"{cost.wal / MB:,.0f}",
        f"{cost.bloat:.2f}",
    ]


def beside_fact(predicted: Mapping[str, Any] | None, fact: Mapping[str, Any] | None) -> str | None:
    """Prediction against fact, one line; None where there is neither."""
    if not fact:
        return None
    growth = "disk not measured" if fact["growth"] is None else f"{fact['growth'] / MB:+,.0f} MB of disk"
    was = f"{duration(fact['seconds'])}, {fact['wal'] / MB:,.0f} MB of WAL, {growth}"
    if not predicted or "problem" in predicted:
        why = f" ({predicted['problem']})" if predicted else ""
        return f"So far it took {was}; nothing was predicted{why}."
    foretold = f"{duration(predicted['seconds'])}, {predicted['wal'] / MB:,.0f} MB, {predicted['growth'] / MB:+,.0f} MB"
    return f"So far it took {was}; predicted were {foretold}."


def duration(seconds: float) -> str:
    """``4.2 s`` below a minute, then ``0:01:05``."""
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))
