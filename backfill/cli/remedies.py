"""Remedies: ``quarantine settle``, ``addresses merge`` and ``keep``, ``repair``. They follow one convention: without
``--count`` they show what they would do and change nothing; ``--count N`` does it, where N is what was shown.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

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
from backfill.errors import KindUnfit, SettingInvalid, WrongCount
from backfill.hashing.salt import Salt
from backfill.jobs import networks
from backfill.ledger import keys
from backfill.plan import Addresses, DroppingJob, InPlaceJob, IntoJob, LinkJob
from backfill.raw_column import find
from backfill.report.document import Tone
from backfill.report.document import table as rows
from backfill.verify.addresses import AddressVerifier
from backfill.verify.confirmation import Confirmation
from backfill.verify.events import EventVerifier
from backfill.verify.into import IntoJudge
from backfill.verify.into_repair import IntoRepair
from backfill.verify.merge import merge, would_merge
from backfill.verify.repair import HashRepair, LinkRepair, Repair
from backfill.verify.settle import Fate, instead, settle, would_settle

Repaired: TypeAlias = LinkJob | IntoJob | Addresses
_Repair: TypeAlias = HashRepair | LinkRepair | IntoRepair
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


def _require_scope(table: str | None, every: bool, count: int | None) -> None:
    """Raises ``UsageError`` unless it is clear what is to be changed."""
    if table is not None and every:
        raise click.UsageError("TABLE and --all-tables exclude each other.")
    if count is not None and table is None and not every:
        raise click.UsageError("--count needs a TABLE, or --all-tables.")


def _would(form: str, what: str, offers: Sequence[Offer], commands: Sequence[str]) -> Answer:
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
    _require_scope(table, every, count)
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
    return _would(form, "row", offers, commands)


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
        return _would(form, "duplicate", offers, [f"`backfill addresses merge --count {number}`"])
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
        return _would(form, "network", offers, [f"`backfill addresses keep --count {number}`"])
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


@click.command("repair")
@click.argument("table", required=False, shell_complete=complete.tables)
@click.option(
    "--kind",
    type=click.Choice([kind.value for kind in Repair]),
    help="What to repair. link: rows linked to another address than their text; sentinel: rows that hold an address "
    "and are linked to the sentinel; dangling: rows linked to an address row that does not exist; hash: hashes of "
    "the address table, or beside raw values, that do not match salt and scheme.",
)
@all_tables_option
@count_option("rows")
@weak_salt_option
@answers
@click.pass_context
def repair_command(
    context: click.Context,
    table: str | None,
    kind: str | None,
    every: bool,
    count: int | None,
    allow_weak_salt: bool,
    form: str,
) -> Answer:
    """Repair what verify found wrong. Without --count: show how many rows, and change nothing.

    The tables are read, as verify does. The repair is recorded.
    """
    _require_scope(table, every, count)
    if count is not None and kind is None:
        raise click.UsageError("--count needs a --kind.")
    session = sessions.session_of(context)
    session.allow_weak_salt = allow_weak_salt
    session.require_ledger()
    plan = session.plan
    parts: tuple[Repaired, ...] = (*plan.link_jobs, *plan.into_jobs, *plan.address_tables)
    if table is not None:
        part = find(table, (*parts, *plan.in_place_jobs))
        if isinstance(part, InPlaceJob):
            raise KindUnfit(job=part.label, becomes=part.becomes)
        parts = (part,)
        if kind is not None and isinstance(parts[0], LinkJob) == (kind == Repair.HASH):
            hashed = ", ".join(part.label for part in (*plan.into_jobs, *plan.address_tables))
            raise SettingInvalid(
                setting="--kind",
                problem=f"hash is for {hashed}; link, sentinel and dangling are for rows that become links",
            )
    else:
        parts = tuple(_repairable(session, parts, kind))
    known = () if all(isinstance(part, IntoJob) for part in parts) else plan.address_tables
    preflight.require(session, tuple(dict.fromkeys((*known, *parts))), Purpose.REMEDY)
    salt = recorded_salt(session)
    repairs = {part: _repair(session, part, kind, salt) for part in parts}
    if table is None or count is None:
        repairs = _safe(repairs, named=table is not None)
    if count is None:
        return _would_repair(form, {part: repair.counts() for part, repair in repairs.items()}, kind)
    repaired = 0
    with run_lock(session.engine, session.settings.ledger_schema):
        numbers = dict.fromkeys(repairs, count)
        if table is None:
            numbers = {part: repair.counts()[Repair(str(kind))] for part, repair in repairs.items()}
            found = sum(numbers.values())
            if found != count:
                look = f"backfill repair --kind {kind}"
                raise WrongCount(
                    subject=f"Repair of all tables ({kind})", given=count, found=found, look=look
                )
        for part, number in numbers.items():
            repaired += repairs[part].repair(number)
    whose = parts[0].label if table is not None else "all tables"
    return Answer(
        f"{escaping.counted(repaired, 'row', 'rows')} of {whose} repaired ({kind}).",
        ("backfill verify",),
        {"changed": repaired},
    )


def _repairable(session: Session, parts: Sequence[Repaired], kind: str | None) -> list[Repaired]:
    """Those of which this kind says something, while their column is there."""
    with session.engine.connect() as connection:
        return [
            part
            for part in parts
            if has_column(connection, part, part.address if isinstance(part, Addresses) else part.raw)
            and (kind is None or isinstance(part, LinkJob) != (kind == Repair.HASH))
        ]


def _repair(session: Session, part: Repaired, kind: str | None, salt: Salt) -> _Repair:
    hasher, schema = salt.hasher(session.plan.hash.scheme), session.settings.ledger_schema
    confirmation = Confirmation(session.settings.key_id, session.plan.hash.scheme)
    if isinstance(part, IntoJob):
        return IntoRepair(session.engine, IntoJudge(schema, part, hasher, confirmation))
    addresses = session.plan.addresses
    if isinstance(part, Addresses):
        return HashRepair(session.engine, AddressVerifier(schema, addresses, hasher, 0), confirmation)
    verifier = EventVerifier(schema, addresses, part, session.geo, 0, None)
    return LinkRepair(session.engine, verifier, Repair(kind) if kind else Repair.LINK, hasher)


def _safe(repairs: Mapping[Repaired, _Repair], *, named: bool) -> dict[Repaired, _Repair]:
    """Those to which nothing objects; the objections are told. Raises ``RepairUnsafe`` for a table that was *named*."""
    safe = {}
    for part, repair in repairs.items():
        unsafe = None if isinstance(repair, LinkRepair) else repair.objection()
        if unsafe is None:
            safe[part] = repair
        elif named:
            raise unsafe
        else:
            click.echo(unsafe, err=True)
    return safe


def _would_repair(form: str, found: Mapping[Repaired, Mapping[Repair, int]], asked: str | None) -> Answer:
    offers, commands = [], []
    for kind in Repair:
        if asked not in (None, kind):
            continue
        numbers = {part: counts[kind] for part, counts in found.items() if counts.get(kind)}
        offers += [Offer(part.label, kind.value, number) for part, number in numbers.items()]
        commands += [
            f"`backfill repair {escaping.word(part.label)} --kind {kind} --count {number}`"
            for part, number in numbers.items()
        ]
        if len(numbers) > 1:
            commands.append(f"`backfill repair --all-tables --kind {kind} --count {sum(numbers.values())}`")
    return _would(form, "row", offers, commands)


def recorded_salt(session: Session) -> Salt:
    """The salt, proved to be the one of the runs before. Raises ``SaltMismatch``."""
    with session.engine.begin() as connection:
        keys.check_key(connection, session.settings.key_id, session.salt)
    return session.salt
