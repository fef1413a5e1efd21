"""``backfill ban`` and ``backfill unban``: by address or by hash, with a reason, on record."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click
from sqlalchemy import Engine

from backfill import escaping
from backfill.cli import context as sessions
from backfill.cli import preflight
from backfill.cli.answer import JSON, Answer, answers
from backfill.cli.context import Session, weak_salt_option
from backfill.cli.question import WithoutAddresses, salt_files_option, salts_of, typed_or_sent
from backfill.database.preflight.target import Purpose
from backfill.errors import WrongCount
from backfill.lookup.ban import Outcome, State, Work, ban, unban
from backfill.lookup.hash_keys import HashKeys, open_keys
from backfill.lookup.question import (
    Kind,
    Question,
    questions_of_lines,
    questions_of_options,
    require_addresses,
)
from backfill.report.document import Tone

SHOWN = 20  # outcomes that text shows; JSON has them all

Change = Callable[[Engine, Work, str | None], list[Outcome]]


def _options(command: click.decorators.FC) -> click.decorators.FC:
    """What both commands take."""
    command = click.option(
        "--count",
        type=click.IntRange(0),
        help="Number of different addresses or hashes, as confirmation; required for more than one, and it must be "
        "exact. Without it, the command says what it would do.",
    )(command)
    command = click.option(
        "--hash",
        "hashes",
        multiple=True,
        metavar="HASH",
        help="A stored hash in place of an address. May be repeated.",
    )(command)
    return weak_salt_option(salt_files_option(command))


@click.command("ban", cls=WithoutAddresses)
@click.option(
    "--reason",
    help="Why; it is stored beside the ban and on record. Required where the table has a column for it.",
)
@_options
@answers
@click.pass_context
def ban_command(context: click.Context, /, reason: str | None, *, form: str, **given: Any) -> Answer:
    """Ban an address, also one that was never seen. It is typed when the command asks for it, or sent to its standard
    input; many, one a line. On the command line, it is refused. The decision is recorded, without the address."""
    return _change(context, ban, reason, form, **given)


@click.command("unban", cls=WithoutAddresses)
@click.option("--reason", help="Why; on record.")
@_options
@answers
@click.pass_context
def unban_command(context: click.Context, /, reason: str | None, *, form: str, **given: Any) -> Answer:
    """Take the ban of an address back. It is typed when the command asks for it, or sent to its standard input; many,
    one a line. On the command line, it is refused. The decision is recorded, without the address."""
    return _change(context, unban, reason, form, **given)


def _change(
    context: click.Context,
    change: Change,
    reason: str | None,
    form: str,
    count: int | None,
    hashes: tuple[str, ...],
    salt_files: tuple[str, ...],
    allow_weak_salt: bool,
) -> Answer:
    asked = questions_of_options(hashes, ()) or None
    session = sessions.session_of(context)
    session.allow_weak_salt = allow_weak_salt
    if asked is None:
        asked = questions_of_lines(typed_or_sent())
        require_addresses(asked, some=False)
    different = list({one.address or one.named: one for one in reversed(asked)}.values())[::-1]
    if count is not None and count != len(different):
        raise WrongCount(
            subject="Different addresses or hashes",
            given=count,
            found=len(different),
            look=f"backfill {context.info_name}` without --count, or `backfill lookup",
        )
    doing = count is not None or len(different) == 1
    keys = _keys(session, salt_files, different)
    preflight.require(session, (session.plan.addresses,), Purpose.REMEDY)
    if doing:
        session.expand()
    work = Work(session.plan, session.settings.ledger_schema, keys, different, doing)
    outcomes = change(session.engine, work, reason)
    for line in _lines(outcomes, keys) if form != JSON else ():
        click.echo(line)
    facts, verdict = _plain(outcomes, keys, doing=doing), " ".join(_states(outcomes, doing=doing))
    if not doing:
        said = [
            "backfill",
            context.info_name,
            *(["--reason", reason] if reason else []),
            "--count",
            len(different),
        ]
        return Answer(
            f"{verdict} Nothing was changed. With the same input, the next command does it.",
            (escaping.command(*said),),
            facts,
            tone=Tone.NEXT,
        )
    return Answer(verdict, facts=facts)


def _keys(session: Session, salt_files: Sequence[str], asked: Sequence[Question]) -> HashKeys:
    salts = salts_of(session, salt_files, needed=any(one.kind is Kind.ADDRESS for one in asked))
    with session.engine.connect() as connection:
        return open_keys(
            connection,
            session.settings.ledger_schema,
            session.plan.hash.scheme,
            session.settings.key_id,
            salts,
        )


def _plain(outcomes: Sequence[Outcome], keys: HashKeys, *, doing: bool) -> dict[str, Any]:
    return {
        "done": doing,
        "key_ids": [{"key_id": key.key_id, "on_record": key.on_record} for key in keys.asked],
        "key_ids_not_asked": list(keys.not_asked),
        "outcomes": [
            {
                "number": one.question.number,
                "kind": one.question.kind.value,
                **({"named": one.question.named} if one.question.named else {}),
                "state": one.state.value,
                "rows": [
                    {
                        "key": known.row.key,
                        "key_id": known.key_id,
                        "ban": known.row.ban and vars(known.row.ban),
                    }
                    for known in one.rows
                    if not known.of_network
                ],
                "key_ids_waiting": list(one.waiting),
                "banned_networks": [known.row.key for known in one.networks],
            }
            for one in outcomes
        ],
    }


def _states(outcomes: Sequence[Outcome], *, doing: bool) -> Iterator[str]:
    for state in State:
        its = [one for one in outcomes if one.state is state]
        if its:
            would = "would be " if not doing and state in (State.BANNED, State.UNBANNED) else ""
            yield f"{len(its):,} {would}{state}."


def _lines(outcomes: Sequence[Outcome], keys: HashKeys) -> Iterator[str]:
    for one in outcomes[:SHOWN]:
        label = one.question.label if len(outcomes) > 1 or one.question.named else "the address"
        rows = [known for known in one.rows if not known.of_network]
        for known in rows:
            ban = known.row.ban
            shown = "not banned"
            if ban and ban.banned:
                shown = f"banned since {ban.date} UTC, reason {ban.reason}" if ban.date else "banned"
            yield f"- {label}: row {escaping.name(known.row.key)}, {escaping.name(shown)}"
        if not rows:
            yield f"- {label}: no row"
        if one.networks:
            near = ", ".join(escaping.name(known.row.key) for known in one.networks)
            yield f"- {label}: banned as well by a network around it, row {near}, which this command leaves as it is"
        for key_id in one.waiting:
            yield (
                f"- {label}: no row under key id {key_id} yet: a row with a hash alone has to wait until the application "
                "upserts by hash (revision 0005b_propose_hash_required); repeat the command then"
            )
    if len(outcomes) > SHOWN:
        yield f"and {len(outcomes) - SHOWN:,} more; `--format json` shows all."
    for key in keys.asked:
        if not key.on_record:
            yield f"Key id {key.key_id} is not on record: nothing confirms that its salt is the application's."
    for key_id in keys.not_asked:
        yield (
            f"Not under key id {key_id}, whose salt is not given (--salt-file {escaping.word(f'{key_id}=FILE')}): what "
            "it knows of these addresses is as it was."
        )
