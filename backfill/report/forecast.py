"""What a run would cost, and what it did, in words."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from backfill import escaping
from backfill.engine.estimate import prediction
from backfill.engine.estimate.forecast import Forecast

MB = 1024 * 1024
HEADER = [
    "table",
    "strategy",
    "time",
    "longest lock",
    "longest transaction",
    "extra disk MB",
    "WAL MB",
    "size / fresh",
]


def as_text(forecasts: Sequence[Forecast], workers: int) -> str:
    """A line a table and strategy, their sums, and the advice."""
    known = [one for one in forecasts if one.sampled is not None]
    lines = []
    if known:
        body = []
        for one in known:
            for strategy, cost in one.costs.items():
                body.append([one.table if strategy == prediction.IN_PLACE else "", strategy, *_cells(cost)])
        for strategy in (prediction.IN_PLACE, prediction.SHADOW):
            whole = prediction.total(one.costs[strategy] for one in known)
            body.append(["all" if strategy == prediction.IN_PLACE else "", strategy, *_cells(whole)])
        lines.append(escaping.table(body, HEADER, tablefmt="simple", disable_numparse=True))
        taken = sum(one.sampled.rows for one in known if one.sampled)
        spent = sum(one.sampled.took for one in known if one.sampled)
        lines.append(
            f"Measured on {taken:,} rows in {spent:.1f} s, in temporary tables, and scaled for {workers} workers: an order "
            "of magnitude, not a promise. Time, WAL and growth are compared with the fact by `backfill status` after a run."
        )
    lines += [f"{one.table}: no prediction, since {one.problem}." for one in forecasts if one.problem]
    advices: dict[tuple[str, str], list[str]] = {}
    for one in known:
        if one.advice is not None:
            advices.setdefault((one.advice.strategy, one.advice.reason), []).append(one.table)
    lines += [
        f"Recommended for {', '.join(tables)}: {strategy}; {reason}."
        for (strategy, reason), tables in advices.items()
    ]
    return "\n".join(lines)


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
