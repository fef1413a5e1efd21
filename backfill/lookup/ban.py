"""Bans: what is banned or no longer banned, by address or by hash, and what that takes in the address table.

A ban of an address that was never seen is a row with its hash; as long as the application may still write rows by
their raw address, with that as well, or its next request would meet the hash and fail. One transaction does all, and
begins again where the application was faster.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import psycopg2.errors
from sqlalchemy import Connection, Engine

from backfill.database.columns import Column, columns
from backfill.database.write_check import require_no_rule, require_taken
from backfill.errors import CannotBan, SchemaUnfit
from backfill.ledger import decisions
from backfill.lookup import ban_columns, known_rows
from backfill.lookup.ban_columns import Change
from backfill.lookup.hash_keys import HashKeys
from backfill.lookup.known_rows import KnownRow
from backfill.lookup.question import Question
from backfill.plan import Addresses, Plan

TRIES = 3
KEYS_ON_RECORD = 100


class State(StrEnum):
    """What is, or was, to be done about one question."""

    BANNED = "banned"
    ALREADY_BANNED = "already banned"
    UNBANNED = "unbanned"
    NOT_BANNED = "not banned"


@dataclass(frozen=True)
class Outcome:
    """Of one question."""

    question: Question
    state: State
    rows: tuple[KnownRow, ...]  # as they are afterwards, those of networks around it included
    waiting: tuple[str, ...] = ()  # key ids under which no row can be added yet

    @property
    def networks(self) -> tuple[KnownRow, ...]:
        """Banned rows of networks around it, which ban it as well."""
        return tuple(one for one in self.rows if one.of_network and _is_banned(one))


@dataclass(frozen=True)
class Work:
    """What all questions share."""

    plan: Plan
    schema: str
    keys: HashKeys
    questions: Sequence[Question]
    doing: bool  # else it is only said what would be done

    @property
    def part(self) -> Addresses:
        """The address table."""
        return self.plan.addresses

    def find(self, connection: Connection, known: dict[str, Column]) -> list[list[KnownRow]]:
        """The rows of each question, as they are now."""
        return known_rows.find(connection, self.part, self.schema, known, self.keys, self.questions)


@dataclass
class _Todo:
    """Of all questions."""

    change: Change = field(default_factory=Change)
    states: list[State] = field(default_factory=list)
    waiting: list[tuple[str, ...]] = field(default_factory=list)


def ban(engine: Engine, work: Work, reason: str | None) -> list[Outcome]:
    """Ban what is asked about. Raises ``CannotBan``, ``ChangeNotTaken``, ``SchemaUnfit``, ``SettingInvalid``."""
    return _retried(engine, lambda connection: _ban(connection, work, reason))


def unban(engine: Engine, work: Work, reason: str | None) -> list[Outcome]:
    """Take bans back. Raises ``CannotBan``, ``ChangeNotTaken``, ``SchemaUnfit``."""
    return _retried(engine, lambda connection: _unban(connection, work, reason))


def _retried(engine: Engine, change: Callable[[Connection], list[Outcome]]) -> list[Outcome]:
    """In one transaction; again where the application gave the hash to a row of its own meanwhile, or has the locks."""
    for left in reversed(range(TRIES)):
        try:
            with engine.begin() as connection:
                return change(connection)
        except (psycopg2.errors.UniqueViolation, psycopg2.errors.DeadlockDetected):
            if not left:
                raise
    raise AssertionError


def _unban(connection: Connection, work: Work, reason: str | None) -> list[Outcome]:
    known = _columns(connection, work)
    found = work.find(connection, known)
    states, change = [], Change()
    for rows in found:
        banned = [one.row.key for one in rows if _is_banned(one) and not one.of_network]
        change.rows |= dict.fromkeys(banned)
        states.append(State.UNBANNED if banned else State.NOT_BANNED)
    if not work.doing or not change.rows:
        return _outcomes(work, states, found)
    number = ban_columns.clear(connection, work.part, change)
    _require_kept(connection, work, change, wanted=False)
    _record(connection, "unban", work, change, number, reason)
    return _outcomes(work, states, work.find(connection, known))


def _ban(connection: Connection, work: Work, reason: str | None) -> list[Outcome]:
    part, known = work.part, _columns(connection, work)
    ban_columns.require_reason(connection, part, reason)
    with_address = ban_columns.needs_address(connection, part, known)
    found = work.find(connection, known)
    todo = _todo(work, found, with_address=with_address)
    if not work.doing or todo.change.is_empty:
        return _outcomes(work, todo.states, found, todo.waiting)
    number, change = 0, todo.change
    if change.new:
        number += ban_columns.add(connection, part, change, reason, with_address=with_address)
        # Of what was not added, the application has made the row since: that one is banned.
        change = _todo(work, work.find(connection, known), with_address=with_address).change
    if change.rows:
        number += ban_columns.set_banned(connection, part, change, reason)
        _require_kept(connection, work, change, wanted=True)
    found = work.find(connection, known)
    kept = [
        question.label
        for question, rows in zip(work.questions, found, strict=True)
        if not any(_is_banned(one) for one in rows if not one.of_network)
    ]
    require_taken(connection, work.schema, part, str(part.banned), kept, len(work.questions))
    rows = {one.row.key: None for its in found for one in its if not one.of_network}
    _record(connection, "ban", work, Change(rows=dict(rows)), number, reason)
    return _outcomes(work, todo.states, found, todo.waiting)


def _columns(connection: Connection, work: Work) -> dict[str, Column]:
    """Of the address table, fit for a ban. Raises ``CannotBan``, ``SchemaUnfit``."""
    if not work.part.banned:
        raise CannotBan(
            problem=f"Plan {work.plan.name} names no column of bans (banned in [addresses]), so nothing says where the "
            "application looks for them. Name it in the plan, or ban in the application."
        )
    known = columns(connection, work.part)
    if isinstance(known, str):
        raise SchemaUnfit(problem=known)
    require_no_rule(connection, work.part)
    return known


def _todo(work: Work, found: Sequence[Sequence[KnownRow]], *, with_address: bool) -> _Todo:
    """What is missing for all to be banned. Raises ``CannotBan``."""
    todo = _Todo()
    for question, rows in zip(work.questions, found, strict=True):
        own = [one for one in rows if not one.of_network]
        _require_bannable(work.part, question, own)
        new, waiting = _missing(work, question, own, with_address=with_address)
        todo.waiting.append(waiting)
        todo.change.new |= new
        for one in own:
            lacks = one.row.hash is None and question.address is not None and bool(work.keys.asked)
            own_hash = work.keys.asked[0].hasher(str(question.address)) if lacks else None
            if own_hash in {other.row.hash for other in own}:
                own_hash = None
            if own_hash or not _is_banned(one):
                todo.change.rows[one.row.key] = own_hash
        done = not new and own and all(map(_is_banned, own))
        todo.states.append(State.ALREADY_BANNED if done else State.BANNED)
    return todo


def _missing(
    work: Work, question: Question, own: Sequence[KnownRow], *, with_address: bool
) -> tuple[dict[str, str | None], tuple[str, ...]]:
    """Rows that have to be added, hash → raw address; and key ids for which that has to wait."""
    present = {one.row.hash for one in own}
    if question.address is None:
        if not own and with_address:
            raise CannotBan(
                problem=f"No row has the {question.label}, and the application may still write rows by their raw address, "
                "so a row with a hash alone would make its next request fail. Ban the address itself (it is typed when the "
                "command asks for it), or come back after revision 0005b_propose_hash_required."
            )
        return ({} if own else {question.named: None}), ()
    text = str(question.address)
    hashes = {key.key_id: key.hasher(text) for key in work.keys.asked}
    current = next(iter(hashes))
    lacking = [key for key, hashed in hashes.items() if hashed not in present]
    if any(one.row.hash is None for one in own) and current in lacking:
        lacking.remove(current)  # that row gets it
    if not with_address:
        return {hashes[key]: None for key in lacking}, ()
    # The address is unique, so one row has it, and other key ids have to wait until a hash alone will do.
    if own:
        return {}, tuple(key for key in lacking if key != current or present - {None})
    return {hashes[current]: text}, tuple(key for key in lacking if key != current)


def _require_bannable(part: Addresses, question: Question, own: Sequence[KnownRow]) -> None:
    if part.sentinel in {str(question.address), *(one.row.host for one in own)}:
        raise CannotBan(
            problem=f"The row of {question.label} is the sentinel, which stands for all that is no address: a ban of it would "
            "be one of whoever sends such a text."
        )


def _is_banned(one: KnownRow) -> bool:
    return one.row.ban is not None and one.row.ban.banned


def _outcomes(
    work: Work,
    states: Sequence[State],
    found: Sequence[Sequence[KnownRow]],
    waiting: Sequence[tuple[str, ...]] = (),
) -> list[Outcome]:
    waits = waiting or [()] * len(states)
    return [
        Outcome(question, state, tuple(rows), wait)
        for question, state, rows, wait in zip(work.questions, states, found, waits, strict=True)
    ]


def _require_kept(connection: Connection, work: Work, change: Change, *, wanted: bool) -> None:
    """Raises ``ChangeNotTaken`` where a trigger of the application kept a row as it was."""
    kept = ban_columns.kept(connection, work.part, wanted=wanted)
    require_taken(connection, work.schema, work.part, str(work.part.banned), kept, len(change.rows))


def _record(
    connection: Connection, kind: str, work: Work, change: Change, number: int, reason: str | None
) -> None:
    decisions.record(
        connection,
        kind,
        work.part.identity,
        number,
        reason=reason,
        key_ids=[key.key_id for key in work.keys.asked],
        key_ids_not_asked=list(work.keys.not_asked),
        questions=len(work.questions),
        rows=sorted(change.rows)[:KEYS_ON_RECORD],
    )
