"""Remedies: ``quarantine settle``, ``addresses merge`` and ``keep``; and what ``repair`` shares with them. They follow one
convention: without ``--count`` they show what they would do and change nothing; ``--count N`` does it, where N is what was
shown.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import click

from backfill import escaping
from backfill.cli import complete, output, preflight
from backfill.cli import context as sessions
from backfill.cli.answer import JSON, Answer, answers
from backfill.cli.context import Session, weak_salt_option
from backfill.database.columns import has_column
from backfill.database.nullable import discardable, require_nullable
from backfill.database.preflight.target import Purpose
from backfill.engine.driver import run_lock
from backfill.errors import SettingInvalid, WrongCount
from backfill.hashing.salt import Salt
from backfill.jobs import networks
from backfill.ledger import keys
from backfill.plan import DroppingJob, IntoJob
from backfill.report.document import Tone
from backfill.report.document import table as rows
from backfill.verify.merge import merge, would_merge
from backfill.verify.settle import Fate, instead, settle, would_settle

CHANGED_NOTHING = "nothing was changed"


def count_option(what: str) -> Callable[[click.decorators.FC], click.decorators.FC]:
    """``--count``, for commands that change *what*."""
    return click.option(
        "--count",
        type=click.IntRange(0),
        metavar="N",
        help=f"Do it. N is the number of {what} that was shown without this option; it must be exact.",
    )


all_tables_option = click.option(
    "--all-tables", "every", is_flag=True, help="Every table of the plan; N is the sum of their counts."
)


@dataclass(frozen=True)
class Offer:
    """A number of rows of one table that one command would change."""

    table: str
    what: str
    number: int


def require_scope(table: str | None, every: bool, count: int | None) -> None:
    """Raises ``UsageError`` unless it is clear what is to be changed."""
    if table is not None and every:
        raise click.UsageError("TABLE and --all-tables exclude each other.")
    if count is not None and table is None and not every:
        raise click.UsageError("--count needs a TABLE, or --all-tables.")


def would(form: str, what: str, offers: Sequence[Offer], commands: Sequence[str]) -> Answer:
    """What is shown without ``--count``. *what*: one word, and its plural."""
    found = [offer for offer in offers if offer.number]
    total = sum(offer.number for offer in found)
    if form != JSON and found:
        body = [[offer.table, offer.what, offer.number] for offer in found]
        output.show(rows(["table", "what", "rows"], body))
    facts = {"would_change": [vars(offer) for offer in found], "count": total}
    if not total:
        return Answer(f"No {what} to change; {CHANGED_NOTHING}.", ("backfill verify",), facts)
    counted = escaping.counted(total, what, f"{what}s")
    if form != JSON:
        for command in commands:
            click.echo(f"To do it: {command}")
    return Answer(
        f"{counted} would be changed; {CHANGED_NOTHING}.",
        tuple(command.strip("`").partition("`")[0] for command in commands) if form == JSON else (),
        facts,
        tone=Tone.NEXT,
    )


def _require_sum(subject: str, given: int, numbers: Mapping[DroppingJob, int], look: str) -> None:
    """Raises ``WrongCount``."""
    if sum(numbers.values()) != given:
        raise WrongCount(subject=subject, given=given, found=sum(numbers.values()), look=look)


def _there(session: Session, jobs: Sequence[DroppingJob]) -> list[DroppingJob]:
    """Those whose raw column was not dropped."""
    with session.engine.connect() as connection:
        return [job for job in jobs if has_column(connection, job, job.raw)]


@click.command("settle")
@click.argument("table", required=False, shell_complete=complete.jobs)
@click.option(
    "--as",
    "fate",
    type=click.Choice([fate.value for fate in Fate]),
    help="sentinel: link the rows to the address that stands for none; discard: set their raw value to NULL.",
)
@all_tables_option
@count_option("rows")
@weak_salt_option
@answers
@click.pass_context
def settle_command(
    context: click.Context,
    table: str | None,
    fate: str | None,
    every: bool,
    count: int | None,
    allow_weak_salt: bool,
    form: str,
) -> Answer:
    """Decide about all waiting rows of a table. Without --count: show how many, and change nothing.

    The decision is recorded.
    """
    require_scope(table, every, count)
    session = sessions.session_of(context)
    session.allow_weak_salt = allow_weak_salt
    jobs = (session.plan.dropping_job(table),) if table is not None else session.plan.dropping_jobs
    session.require_ledger()
    schema = session.settings.ledger_schema
    if table is None:
        jobs = tuple(_there(session, jobs))
    if fate == Fate.SENTINEL and table is None:
        jobs = tuple(
            job for job in jobs if not isinstance(job, IntoJob) or would_settle(session.engine, schema, job)
        )
    if fate == Fate.SENTINEL and (hashed := [job.label for job in jobs if isinstance(job, IntoJob)]):
        raise SettingInvalid(
            setting="--as",
            problem=f"the values of {', '.join(hashed)} become hashes, and no hash stands for none: settle them with --as discard",
        )
    if count is None:
        return _would_settle(form, session, {job: would_settle(session.engine, schema, job) for job in jobs})
    if fate is None:
        raise click.UsageError("--count needs --as sentinel, or --as discard.")
    preflight.require(session, preflight.parts_of(session, jobs), Purpose.REMEDY)
    hasher = recorded_salt(session).hasher(session.plan.hash.scheme) if fate == Fate.SENTINEL else None
    settled = 0
    with run_lock(session.engine, schema):
        numbers = dict.fromkeys(jobs, count)
        if table is None:
            numbers = {job: would_settle(session.engine, schema, job) for job in jobs}
            _require_sum("Quarantine of all tables", count, numbers, "backfill quarantine settle")
            if fate == Fate.DISCARD:
                _require_discardable(session, numbers)
        for job, number in numbers.items():
            known = session.plan.addresses if fate == Fate.SENTINEL else None
            settled += settle(session.engine, schema, known, job, Fate(fate), number, hasher)
    whose = jobs[0].label if table is not None else "all tables"
    return Answer(
        f"{escaping.counted(settled, 'row', 'rows')} of {whose} settled as {fate}.",
        ("backfill verify",),
        {"changed": settled},
    )


def _require_discardable(session: Session, numbers: Mapping[DroppingJob, int]) -> None:
    """Before the first table, so that none is settled where another cannot be. Raises ``CannotBeNull``."""
    with session.engine.connect() as connection:
        for job, number in numbers.items():
            if number:
                require_nullable(connection, job, instead(job, number), new_rows=False)


def _would_settle(form: str, session: Session, numbers: Mapping[DroppingJob, int]) -> Answer:
    waiting = {job: number for job, number in numbers.items() if number}
    with session.engine.connect() as connection:
        discards = {job for job in waiting if discardable(connection, job)}
    commands = [
        f"`backfill quarantine settle {escaping.word(job.label)} --as discard --count {number}`"
        if isinstance(job, IntoJob)
        else _settling(escaping.word(job.label), number, job in discards)
        for job, number in waiting.items()
    ]
    if len(waiting) > 1 and not any(isinstance(job, IntoJob) for job in waiting):
        commands.append(_settling("--all-tables", sum(waiting.values()), discards == set(waiting)))
    offers = [Offer(job.label, "waits for a decision", number) for job, number in waiting.items()]
    return would(form, "row", offers, commands)


def _settling(whose: str, number: int, discard: bool) -> str:
    command = f"`backfill quarantine settle {whose} --as sentinel --count {number}`"
    return f"{command} (or `--as discard`)" if discard else command


@click.command("merge")
@count_option("duplicates")
@weak_salt_option
@answers
@click.pass_context
def merge_command(context: click.Context, count: int | None, allow_weak_salt: bool, form: str) -> Answer:
    """Give events and stricter ban of duplicate address rows to the canonical row. Without --count: only show.

    The decision is recorded.
    """
    session = _for_addresses(context, allow_weak_salt)
    addresses = session.plan.addresses
    if count is None:
        number = would_merge(session.engine, addresses)
        offers = [Offer(addresses.label, "duplicate of another row", number)]
        return would(form, "duplicate", offers, [f"`backfill addresses merge --count {number}`"])
    preflight.require(session, preflight.parts_of(session, session.plan.link_jobs), Purpose.REMEDY)
    hasher = recorded_salt(session).hasher(session.plan.hash.scheme)
    with run_lock(session.engine, session.settings.ledger_schema):
        merged = merge(session.engine, session.settings.ledger_schema, addresses, hasher, count)
    return Answer(
        f"{escaping.counted(merged, 'duplicate', 'duplicates')} merged.",
        ("backfill verify",),
        {"changed": merged},
    )


@click.command("keep")
@count_option("networks")
@weak_salt_option
@answers
@click.pass_context
def keep_command(context: click.Context, count: int | None, allow_weak_salt: bool, form: str) -> Answer:
    """Keep address rows that hold a network, such as 192.0.2.0/24, as they are. Without --count: only show.

    Each gets the hash of its own spelling, which is the hash of no address: a ban of a network cannot be
    expressed by hashes, and ends when the address column is dropped. The decision is recorded.
    """
    session = _for_addresses(context, allow_weak_salt)
    addresses = session.plan.addresses
    if count is None:
        number = networks.would_keep(session.engine, addresses)
        offers = [Offer(addresses.label, "network", number)]
        return would(form, "network", offers, [f"`backfill addresses keep --count {number}`"])
    preflight.require(session, preflight.parts_of(session, ()), Purpose.REMEDY)
    hasher = recorded_salt(session).hasher(session.plan.hash.scheme)
    with run_lock(session.engine, session.settings.ledger_schema):
        kept = networks.keep(session.engine, addresses, hasher, count)
    return Answer(
        f"{escaping.counted(kept, 'network', 'networks')} kept.", ("backfill verify",), {"changed": kept}
    )


def _for_addresses(context: click.Context, allow_weak_salt: bool) -> Session:
    session = sessions.session_of(context)
    session.allow_weak_salt = allow_weak_salt
    session.require_ledger()
    return session


def recorded_salt(session: Session) -> Salt:
    """The salt, proved to be the one of the runs before. Raises ``SaltMismatch``."""
    with session.engine.begin() as connection:
        keys.check_key(connection, session.settings.key_id, session.salt)
    return session.salt
