"""``backfill repair``: what verify found wrong, made right, by exact count."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import click

from backfill import escaping
from backfill.cli import complete, preflight
from backfill.cli import context as sessions
from backfill.cli.answer import Answer, answers
from backfill.cli.context import Session, weak_salt_option
from backfill.cli.remedies import Offer, all_tables_option, count_option, recorded_salt, require_scope, would
from backfill.database.columns import has_column
from backfill.database.preflight.target import Purpose
from backfill.engine.driver import run_lock
from backfill.errors import KindUnfit, SettingInvalid, WrongCount
from backfill.hashing.salt import Salt
from backfill.plan import Addresses, InPlaceJob, IntoJob, LinkJob
from backfill.raw_column import find
from backfill.verify.addresses import AddressVerifier
from backfill.verify.confirmation import Confirmation
from backfill.verify.events import EventVerifier
from backfill.verify.into import IntoJudge
from backfill.verify.into_repair import IntoRepair
from backfill.verify.repair import HashRepair, LinkRepair, Repair

Repaired: TypeAlias = LinkJob | IntoJob | Addresses
_Repair: TypeAlias = HashRepair | LinkRepair | IntoRepair


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
    require_scope(table, every, count)
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
    for repair in repairs.values():
        if isinstance(repair, HashRepair) and (doubt := repair.doubt()) is not None:
            click.echo(doubt, err=True)
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
    confirmation = Confirmation.of(session.plan, session.settings.key_id)
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
    return would(form, "row", offers, commands)
