"""``backfill prove``: that the raw addresses are gone, how deep that was looked, and what is left where."""

import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from backfill.cli import context as sessions
from backfill.cli import output
from backfill.cli.answer import JSON, Answer, answers, commands_in
from backfill.cli.context import Session, weak_salt_option
from backfill.errors import SaltMissing
from backfill.hashing.pseudonym import Pseudonyms
from backfill.ledger import erasure_checks, keys, prefixes
from backfill.prove.finding import Depth, Evidence, State
from backfill.prove.prove import Hasher, prove, prove_folder
from backfill.report import external_copies, text
from backfill.report.document import Cell, Tone, table

TONES = {State.GONE: Tone.DONE, State.FOUND: Tone.ALARM, State.UNPROVED: Tone.BLOCKED, State.NOTE: Tone.PLAIN}


@click.command("prove")
@click.option(
    "--depth",
    type=click.Choice([depth.value for depth in Depth]),
    default=Depth.BYTES.value,
    show_default=True,
    help="How deep to search: catalog (names), pages (row versions), bytes (files and WAL).",
)
@click.option(
    "--pgdata",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Search this data directory or base backup. Without BACKFILL_DATABASE_URL, search it alone; no server is asked.",
)
@click.option(
    "--standby",
    "standbys",
    multiple=True,
    metavar="URL",
    help="A standby that is asked whether it has replayed the rewrite. May be repeated.",
)
@click.option(
    "--expires",
    multiple=True,
    metavar="NAME=DATE",
    help="Record when something that is left elsewhere (a backup, an archive, a dump) expires. May be repeated.",
)
@weak_salt_option
@answers
@click.pass_context
def prove_command(
    context: click.Context,
    depth: str,
    pgdata: Path | None,
    standbys: tuple[str, ...],
    expires: tuple[str, ...],
    form: str,
    allow_weak_salt: bool,
) -> Answer:
    """Search catalog, pages, files and WAL for raw addresses, and list the copies that are out of reach.

    Searches as deep as the privileges allow, says how deep that was, and records it. Exit 0 when
    nothing was found and everything was searched, 1 otherwise.
    """
    session = sessions.session_of(context)
    session.allow_weak_salt = allow_weak_salt

    def say(line: str) -> None:
        if form == "text":
            click.echo(f"  {line}", err=True)

    if pgdata is not None and session.settings.database_url is None:
        proof = prove_folder(pgdata, session.plan, session.settings.key_id, say)
    else:
        session.require_ledger()
        hasher, pseudonyms = _recognition(session)
        proof = prove(
            session.engine,
            session.settings.ledger_schema,
            session.plan,
            session.settings.key_id,
            hasher=hasher,
            pseudonyms=pseudonyms,
            depth=Depth(depth),
            pgdata=pgdata,
            standbys=[*standbys, *_standby_urls(session)],
            expires=_dates(session, expires),
            tell=say,
        )
        with session.engine.begin() as connection:
            erasure_checks.record(connection, plan_fingerprint=session.fingerprint, **_plain(proof))
    if form != JSON:
        _show(proof)
    gone = proof.verdict is State.GONE
    plain = _plain(proof)
    facts = {"state": plain.pop("verdict"), **plain}
    following = ("backfill report",) if gone else commands_in(*(finding.act for finding in proof.findings))
    return Answer(external_copies.verdict(_plain(proof)), following, facts, code=int(not gone))


def _recognition(session: Session) -> tuple[Hasher | None, Pseudonyms | None]:
    """What the recorded salt makes of addresses; nothing where none is at hand."""
    try:
        salt = session.salt
    except SaltMissing:
        return None, None
    key_id = session.settings.key_id
    with session.engine.begin() as connection:
        keys.check_key(connection, key_id, salt)
        return salt.hasher(session.plan.hash.scheme), prefixes.pseudonyms(connection, key_id, salt)


def _dates(session: Session, given: tuple[str, ...]) -> Mapping[str, str]:
    """What the operator says now, over what the last proof has on record."""
    for said in given:
        if not said.partition("=")[2].strip()[:1].isdigit():
            raise click.UsageError(
                f"--expires {said}: write NAME=DATE, with the name of a line below 'copy'."
            )
    with session.engine.begin() as connection:
        last = erasure_checks.latest(connection, session.fingerprint)
    stated = {name.strip(): date.strip() for name, _, date in (said.partition("=") for said in given)}
    # Only what an operator has stated begins with a digit: a date.
    known = {line["name"]: line["until"] for line in last.external_copies} if last else {}
    kept = {name: until for name, until in known.items() if until[:1].isdigit()}
    return kept | stated


def _standby_urls(session: Session) -> list[str]:
    given = session.settings.standby_urls
    return given.get_secret_value().split() if given else []


def _plain(proof: Evidence) -> dict[str, Any]:
    return {
        "verdict": proof.verdict.value,
        "depth": proof.depth,
        "findings": [asdict(finding) for finding in proof.findings],
        "external_copies": [asdict(line) for line in proof.external_copies],
    }


def _show(proof: Evidence) -> None:
    body = [[finding.depth, finding.where, _state(finding.state), finding.what] for finding in proof.findings]
    output.show(table(["depth", "place", "state", "what"], body))
    click.echo()
    left = external_copies.section(_plain(proof))
    if len(left.blocks) > 1:  # the verdict comes last
        left = replace(left, blocks=left.blocks[1:])
        output.draw(text.section(left, output.screen_of(sys.stdout)) + "\n")


def _state(state: State) -> Cell:
    return Cell(state.upper() if state is State.FOUND else state.value, TONES[state])
