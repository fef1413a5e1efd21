"""``backfill quarantine`` and ``backfill addresses``: what the operator decides, by exact count."""

import click

from backfill import escaping
from backfill.addresses import Reason
from backfill.cli import complete, output, preflight
from backfill.cli import context as sessions
from backfill.cli.answer import JSON, Answer, answers
from backfill.cli.context import Session, weak_salt_option
from backfill.database.nullable import discardable, to_settle
from backfill.database.preflight.target import Purpose
from backfill.engine.driver import run_lock
from backfill.hashing.salt import Salt
from backfill.jobs import networks as network_rows
from backfill.ledger import keys
from backfill.ledger import quarantine as entries
from backfill.raw_column import find
from backfill.report.document import Tone
from backfill.report.document import table as rows
from backfill.verify.merge import merge
from backfill.verify.settle import Fate, settle

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
        found = entries.entries(connection, part.identity if part else None)
        waiting = {entry.job for entry in found}
        discards = {
            job.identity: discardable(connection, job) for job in plan.link_jobs if job.identity in waiting
        }
    facts = {
        "rows": [{"job": e.job, "table": plan.label(e.job), "key": e.key, "reason": e.reason} for e in found]
    }
    if not found:
        return Answer("Nothing waits for a decision.", ("backfill verify",), facts)
    waiting_rows = escaping.counted(len(found), "row waits", "rows wait")
    answer = Answer(
        f"{waiting_rows} for a decision: settle as shown.", ("backfill verify",), facts, tone=Tone.BLOCKED
    )
    if form == JSON:
        return answer
    sums: dict[tuple[str, str], int] = {}
    for entry in found:
        what = plan.label(entry.job), entry.reason
        sums[what] = sums.get(what, 0) + 1
    output.show(rows(["table", "reason", "rows"], [[*key, number] for key, number in sums.items()]))
    click.echo("\nThe first of them, by row key:" if len(found) > SHOWN else "\nBy row key:")
    output.show(
        rows(["table", "key", "reason"], [[plan.label(e.job), e.key, e.reason] for e in found[:SHOWN]])
    )
    for job in dict.fromkeys(entry.job for entry in found):
        number, name = sum(entry.job == job for entry in found), plan.label(job)
        if job in {one.identity for one in plan.in_place_jobs}:
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
            click.echo(f"To settle: {to_settle(name, number, discard=discards.get(job, False))}")
    return answer


@quarantine.command("settle")
@click.argument("table", shell_complete=complete.jobs)
@click.option(
    "--as",
    "fate",
    type=click.Choice([fate.value for fate in Fate]),
    required=True,
    help="sentinel: link the rows to the address that stands for none; discard: set their raw value to NULL.",
)
@click.option(
    "--count",
    type=click.IntRange(0),
    required=True,
    help="Number of rows to settle, as confirmation; it must be exact.",
)
@weak_salt_option
@click.pass_context
def settle_command(context: click.Context, table: str, fate: str, count: int, allow_weak_salt: bool) -> None:
    """Decide about all waiting rows of a table. The decision is recorded."""
    session = sessions.session_of(context)
    session.allow_weak_salt = allow_weak_salt
    job = session.plan.link_job(table)
    session.require_ledger()
    preflight.require(session, preflight.parts_of(session, (job,)), Purpose.REMEDY)
    hasher = _recorded_salt(session).hasher(session.plan.hash.scheme) if fate == Fate.SENTINEL else None
    with run_lock(session.engine, session.settings.ledger_schema):
        settled = settle(
            session.engine,
            session.settings.ledger_schema,
            session.plan.addresses,
            job,
            Fate(fate),
            count,
            hasher,
        )
    click.echo(
        f"{escaping.counted(settled, 'row', 'rows')} of {job.label} settled as {fate}. Next: `backfill verify`."
    )


@click.group()
def addresses() -> None:
    """Work on the address table."""


@addresses.command("merge")
@click.option(
    "--count",
    type=click.IntRange(0),
    required=True,
    help="Number of duplicates to merge, as confirmation; it must be exact.",
)
@weak_salt_option
@click.pass_context
def merge_command(context: click.Context, count: int, allow_weak_salt: bool) -> None:
    """Move events and the stricter ban of duplicate address rows to the canonical row. The decision is recorded."""
    session = sessions.session_of(context)
    session.allow_weak_salt = allow_weak_salt
    session.require_ledger()
    preflight.require(session, preflight.parts_of(session, session.plan.link_jobs), Purpose.REMEDY)
    hasher = _recorded_salt(session).hasher(session.plan.hash.scheme)
    with run_lock(session.engine, session.settings.ledger_schema):
        merged = merge(session.engine, session.settings.ledger_schema, session.plan.addresses, hasher, count)
    click.echo(f"{escaping.counted(merged, 'duplicate', 'duplicates')} merged. Next: `backfill verify`.")


@addresses.command("keep")
@click.option(
    "--count",
    type=click.IntRange(0),
    required=True,
    help="Number of networks to keep, as confirmation; it must be exact.",
)
@weak_salt_option
@click.pass_context
def keep_networks_command(context: click.Context, count: int, allow_weak_salt: bool) -> None:
    """Keep address rows that hold a network, such as 192.0.2.0/24, as they are. The decision is recorded.

    Each gets the hash of its own spelling, which is the hash of no address: a ban of a network cannot be
    expressed by hashes, and ends when the address column is dropped.
    """
    session = sessions.session_of(context)
    session.allow_weak_salt = allow_weak_salt
    session.require_ledger()
    preflight.require(session, preflight.parts_of(session, ()), Purpose.REMEDY)
    hasher = _recorded_salt(session).hasher(session.plan.hash.scheme)
    with run_lock(session.engine, session.settings.ledger_schema):
        kept = network_rows.keep(session.engine, session.plan.addresses, hasher, count)
    click.echo(f"{escaping.counted(kept, 'network', 'networks')} kept. Next: `backfill verify`.")


def _recorded_salt(session: Session) -> Salt:
    """The salt, proved to be the one of the runs before. Raises ``SaltMismatch``."""
    with session.engine.begin() as connection:
        keys.check_key(connection, session.settings.key_id, session.salt)
    return session.salt
