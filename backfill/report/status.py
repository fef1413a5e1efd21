"""A run's standing on a terminal."""

from datetime import timedelta

from backfill import safe
from backfill.ledger.run_status import Holding, Standing
from backfill.report.forecast import beside_fact


def as_text(standing: Standing) -> str:
    """What an operator wants to know, the most urgent first."""
    run = standing.run
    lines = [
        f"Run {run.id} is {run.status}, phase {run.phase}, attempt {run.attempts}, by {run.holder}.",
        f"Begun {run.created:%Y-%m-%d %H:%M:%S}, last seen {standing.heartbeat_age:.0f} s ago.",
    ]
    if standing.waiting:
        since = f", for {_age(standing.now - run.held_since)}" if run.held_since else ""
        lines.append(f"Not moving: {standing.waiting}{since}.")
    if standing.current:
        eta = (
            "" if standing.eta_seconds is None else f", {_age(timedelta(seconds=standing.eta_seconds))} to go"
        )
        lines.append(
            f"This phase: {standing.rows_done:,} rows done, {standing.rows_left:,} left, "
            f"{standing.rate:,.0f} rows/s{eta}; next batch {run.batch_blocks or '-'} blocks."
        )
    if run.pinned:
        lines.append(f"One pass a batch: {run.pinned}.")
    if run.reason and not standing.driven:
        lines.append(f"Stopped because: {run.reason}.")
    if run.error:
        lines.append(f"Last error: {run.error}")
    if run.retries:
        lines.append("Retries: " + ", ".join(f"{kind} {n}" for kind, n in sorted(run.retries.items())) + ".")
    lines += [f"Failed: {failure}" for failure in standing.failures[:10]]
    compared = beside_fact(run.forecast, run.outcome)
    if compared and (run.finished or not standing.driven):  # noted at the end of each attempt
        lines.append(compared)
    if standing.parts:
        lines += ["", _parts(standing)]
    if standing.holdings:
        lines += ["", *(_holding(holding, standing) for holding in standing.holdings)]
    waiting = sum(sum(reasons.values()) for reasons in standing.quarantine.values())
    if waiting:
        lines += ["", f"In the quarantine: {waiting:,} rows."]
    return "\n".join(lines)


def _parts(standing: Standing) -> str:
    header = ["phase", "table", "batches done", "of", "rows written", "longest transaction (s)", "retries"]
    body = [
        [part.phase, part.table, part.done, part.batches, part.written, part.longest_seconds, part.retries]
        for part in standing.parts
    ]
    return safe.table(body, header, floatfmt=".2f", intfmt=",")


def _holding(holding: Holding, standing: Standing) -> str:
    since = _age(standing.now - holding.since) if holding.since else "?"
    trouble = f", trying again after {holding.trouble}" if holding.trouble else ""
    return (
        f"Worker {holding.worker} holds {holding.table} blocks {holding.first_block} to {holding.last_block} "
        f"({holding.phase}, pass {holding.passes_done + 1} of {holding.passes}) for {since}{trouble}."
    )


def _age(span: timedelta) -> str:
    return str(timedelta(seconds=max(0, round(span.total_seconds()))))
