"""``backfill quarantine`` and ``backfill addresses``: what the operator decides, by exact count."""

from collections.abc import Sequence
from typing import Any

import click

from backfill import escaping
from backfill.addresses import Reason
from backfill.cli import complete, output, remedies
from backfill.cli import context as sessions
from backfill.cli.answer import JSON, Answer, answers
from backfill.database.nullable import discardable, to_settle
from backfill.ledger import quarantine as entries
from backfill.ledger.quarantine import DUPLICATE_RESULT, Entry
from backfill.plan import Plan
from backfill.raw_column import find
from backfill.report.document import Tone
from backfill.report.document import table as rows

SHOWN = 20  # rows a table shows; JSON has them all


@click.group()
def quarantine() -> None:
    """List rows that cannot be linked, and decide about them."""


@quarantine.command("list")
@click.argument("table", required=False, shell_complete=complete.tables)
@answers
@click.pass_context
def list_(context: click.Context, table: str | None, form: str) -> Answer:
    """List the rows that wait for a decision, by row key and reason, never by value."""
    session = sessions.session_of(context)
    session.require_ledger()
    plan = session.plan
    part = None if table is None else find(table, (*plan.jobs, *plan.address_tables))
    with session.engine.begin() as connection:
        undecided = entries.entries(connection, part.identity if part else None)
        kept = [entry for entry in undecided if entries.keeps(plan, entry.job, entry.reason)]
        found = [entry for entry in undecided if not entries.keeps(plan, entry.job, entry.reason)]
        waiting = {entry.job for entry in found}
        discards = {
            job.identity: discardable(connection, job)
            for job in plan.dropping_jobs
            if job.identity in waiting
        }
    facts = {"rows": _as_json(found, plan), "kept": _as_json(kept, plan)}
    if kept and form != JSON:
        for job in dict.fromkeys(entry.job for entry in kept):
            ours = [entry for entry in kept if entry.job == job]
            rows_keep = escaping.counted(sum(entry.rows for entry in ours), "row keeps", "rows keep")
            listed = "has their keys" if ours[0].name is not None else "has their number by reason"
            click.echo(
                f'{plan.label(job)}: {rows_keep} a text that is no address, as unreadable = "keep" in the plan wants;'
                f" `backfill quarantine list --format json` {listed}."
            )
    if not found:
        return Answer("Nothing waits for a decision.", ("backfill verify",), facts)
    waiting_rows = escaping.counted(sum(entry.rows for entry in found), "row waits", "rows wait")
    stay = {entry.job for entry in found} & {job.identity for job in plan.in_place_jobs}
    settled = {entry.job for entry in found} - stay
    answer = Answer(
        f"{waiting_rows} for a decision: {'settle' if settled else 'decide'} as shown.",
        (*(["backfill run"] if stay else []), "backfill verify"),
        facts,
        tone=Tone.BLOCKED,
    )
    if form == JSON:
        return answer
    sums: dict[tuple[str, str], int] = {}
    for entry in found:
        what = plan.label(entry.job), entry.reason
        sums[what] = sums.get(what, 0) + entry.rows
    output.show(rows(["table", "reason", "rows"], [[*key, number] for key, number in sums.items()]))
    named = [entry for entry in found if entry.name is not None]
    if named:
        click.echo("\nThe first of them, by row key:" if len(named) > SHOWN else "\nBy row key:")
        output.show(
            rows(
                ["table", "key", "reason"],
                [[plan.label(entry.job), entry.shown, entry.reason] for entry in named[:SHOWN]],
            )
        )
    for job in dict.fromkeys(entry.job for entry in found):
        number, name = sum(entry.rows for entry in found if entry.job == job), plan.label(job)
        if not any(entry.job == job for entry in named):
            click.echo(f"{name}: nothing names its rows; they were counted when the last run ended.")
        if job in {one.identity for one in plan.in_place_jobs}:
            duplicates = sum(entry.job == job and entry.reason == DUPLICATE_RESULT for entry in found)
            if duplicates:
                rows_would = escaping.counted(duplicates, "row would", "rows would")
                click.echo(
                    f"{name}: {rows_would} be equal to another one in a unique index. Delete or change one of the two, or say "
                    'on_duplicate = "keep-newest" in the plan; then `backfill run` again.'
                )
            if number > duplicates:
                click.echo(
                    f'{name}: the plan says what becomes of them: unreadable = "keep" or "nothing". After a change, `backfill run` again.'
                )
        elif job in {one.identity for one in plan.address_tables}:
            networks = sum(entry.job == job and entry.reason == Reason.NETWORK for entry in found)
            if networks:
                click.echo(f"To settle: `backfill addresses keep --count {networks}`")
            if number > networks:
                click.echo(f"To settle: `backfill addresses merge --count {number - networks}`")
        else:
            sentinel = job not in {one.identity for one in plan.into_jobs}
            settle = to_settle(name, number, discard=discards.get(job, False), sentinel=sentinel)
            click.echo(f"To settle: {settle}")
    return answer


def _as_json(found: Sequence[Entry], plan: Plan) -> list[dict[str, Any]]:
    return [
        {
            "job": entry.job,
            "table": plan.label(entry.job),
            "key": entry.name,
            "key_columns": list(entry.key_columns),
            "reason": entry.reason,
            "rows": entry.rows,
        }
        for entry in found
    ]


quarantine.add_command(remedies.settle_command)


@click.group()
def addresses() -> None:
    """Merge duplicate address rows, or keep networks among them."""


addresses.add_command(remedies.merge_command)
addresses.add_command(remedies.keep_command)
