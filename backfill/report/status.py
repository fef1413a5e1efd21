"""A run's standing on a terminal."""

from collections.abc import Mapping
from datetime import timedelta

from backfill import escaping
from backfill.engine.progress import percent
from backfill.ledger.run_state import RunState
from backfill.ledger.run_status import ClaimedBatch, Part, RunStatus
from backfill.report import text
from backfill.report.document import Table, Tone, table
from backfill.report.forecast import beside_fact
from backfill.report.screen import PAGE, Screen


def as_text(run_status: RunStatus, screen: Screen = PAGE) -> str:
    """What an operator wants to know, the most urgent first; on a screen, wrapped for it."""
    run = run_status.run
    lines = [
        f"Run {run.id} is {run.status}, phase {run.phase}, attempt {run.attempts}, by {run.holder}.",
        f"Begun {run.created:%Y-%m-%d %H:%M:%S}, last seen {run_status.heartbeat_age:.0f} s ago.",
    ]
    if run_status.waiting:
        since = f", for {_age(run_status.now - run.throttled_since)}" if run.throttled_since else ""
        lines.append(f"Not moving: {run_status.waiting}{since}.")
    if run_status.current:
        eta = (
            ""
            if run_status.eta_seconds is None
            else f", {_age(timedelta(seconds=run_status.eta_seconds))} to go"
        )
        rate = "" if run_status.waiting else f", {run_status.rate:,.0f} rows/s"
        share = percent(
            run_status.rows_done, run_status.rows_done + run_status.rows_left, finished=run_status.phase_done
        )
        lines.append(
            f"This phase: {'' if share is None else f'{share} %, '}{run_status.rows_done:,} rows done, about {run_status.rows_left:,} left"
            f"{rate}{eta}; next batch {run.batch_blocks or '-'} blocks."
        )
    if run.pinned:
        lines.append(f"One pass a batch: {run.pinned}.")
    if run.reason and not run_status.driven:
        lines.append(f"Stopped because: {run.reason}.")
    if run.error:
        lines.append(f"Last error: {run.error}")
    if run.retries:
        lines.append("Retries: " + ", ".join(f"{kind} {n}" for kind, n in sorted(run.retries.items())) + ".")
    lines += [f"Failed: {failure}" for failure in run_status.failures[:10]]
    compared = beside_fact(run.forecast, run.outcome)
    if compared and (run.finished or not run_status.driven):  # noted at the end of each attempt
        lines.append(compared)
    below = [_holding(claimed, run_status) for claimed in run_status.claimed_batches]
    aside = []
    if waiting := _rows(run_status.quarantine):
        aside.append(f"In the quarantine: {escaping.counted(waiting, 'row', 'rows')}.")
    if kept := _rows(run_status.kept_unreadable):
        number = escaping.counted(kept, "row keeps", "rows keep")
        aside.append(f"{number} a text that is no address, as the plan wants.")
    if aside:
        below += [*([""] if below else []), *aside]
    parts = [text.lines(lines, screen)]
    if run_status.parts:
        parts.append(text.table(_parts(run_status), screen))
    if below:
        parts.append(text.lines(below, screen))
    return "\n\n".join(parts)


def verdict(run_status: RunStatus) -> str:
    """The one sentence."""
    run = run_status.run
    if run.status is RunState.SUCCEEDED:
        return f"Run {run.id} finished."
    return f"Run {run.id} is {run.status}{'' if run_status.driven else ', and no process drives it'}."


def following(run_status: RunStatus) -> tuple[str, ...]:
    """What to type next."""
    run = run_status.run
    if run.status is RunState.SUCCEEDED:
        waiting = any(run_status.quarantine.values())
        return ("backfill quarantine list", "backfill verify") if waiting else ("backfill verify",)
    if run.status is RunState.PAUSED and run_status.driven:
        return ("backfill resume",)
    return ("backfill status --watch",) if run_status.driven else ("backfill run",)


def tone(run_status: RunStatus) -> Tone:
    """Of the verdict."""
    return {RunState.SUCCEEDED: Tone.DONE, RunState.FAILED: Tone.ALARM}.get(run_status.run.status, Tone.NEXT)


def _rows(found: Mapping[str, Mapping[str, int]]) -> int:
    return sum(sum(reasons.values()) for reasons in found.values())


def _parts(run_status: RunStatus) -> Table:
    header = ["phase", "table", "done", "batches left", "rows written", "longest transaction (s)", "retries"]
    body = [
        [
            part.phase,
            part.table,
            _share(part),
            part.batches - part.done,
            part.written,
            f"{part.longest_seconds:.2f}",
            part.retries,
        ]
        for part in run_status.parts
    ]
    return table(header, body, right=header[2:])


def _share(part: Part) -> str:
    """In percent of its rows: a batch is split as it is worked on, so that their number grows."""
    share = percent(part.rows_done, part.rows, finished=part.done == part.batches)
    return "?" if share is None else f"{share} %"


def _holding(claimed: ClaimedBatch, run_status: RunStatus) -> str:
    since = _age(run_status.now - claimed.since) if claimed.since else "?"
    transient_error = f", trying again after {claimed.transient_error}" if claimed.transient_error else ""
    return (
        f"Worker {claimed.worker} holds {claimed.table} blocks {claimed.first_block} to {claimed.last_block} "
        f"({claimed.phase}, pass {claimed.passes_done + 1} of {claimed.passes}) for {since}{transient_error}."
    )


def _age(span: timedelta) -> str:
    return str(timedelta(seconds=max(0, round(span.total_seconds()))))
