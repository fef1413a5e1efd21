"""What ``lookup``, ``ban`` and ``unban`` share: addresses come from a prompt or standard input, never from the command line."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from backfill.cli.context import Session
from backfill.errors import AddressOnCommandLine, NoQuestion, SettingInvalid
from backfill.hashing.salt import Salt, read_salt_file


def refuse_addresses(words: Sequence[str], command: str) -> None:
    """Raises ``AddressOnCommandLine``, which does not repeat it."""
    from backfill.lookup.question import (
        holds_address,
    )  # asked of every unknown word, needed by three commands

    if any(map(holds_address, words)):
        raise AddressOnCommandLine(command=command)


class WithoutAddresses(click.Command):
    """A command that refuses an address among its words before anything else reads, and shows, them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As any command, but what is neither an option nor its value is not repeated."""
        refuse_addresses(args, f"backfill {ctx.info_name}")
        ctx.allow_extra_args = True
        left = super().parse_args(ctx, args)
        if ctx.args and not ctx.resilient_parsing:
            raise NoQuestion(problem="the command line takes options only, and something else stands there")
        return left


def salt_files_option(command: click.decorators.FC) -> click.decorators.FC:
    """``--salt-file``."""
    return click.option(
        "--salt-file",
        "salt_files",
        multiple=True,
        metavar="KEY_ID=FILE",
        help="The salt of an earlier key id, in a file. May be repeated. The current one is BACKFILL_KEY_ID with "
        "BACKFILL_IP_SALT or BACKFILL_IP_SALT_FILE.",
    )(command)


def typed_or_sent() -> bytes:
    """One address from the prompt, or what standard input holds."""
    from backfill.lookup.question import MOST_BYTES

    if sys.stdin is None:  # closed by whoever started us
        return b""
    if sys.stdin.isatty():
        typed = click.prompt("Address", err=True, default="", show_default=False)
        return str(typed).encode("utf-8", "surrogateescape")
    return sys.stdin.buffer.read(MOST_BYTES + 1)


def salts_of(session: Session, files: Sequence[str], *, needed: bool) -> dict[str, Salt]:
    """By key id. *needed*: there is nothing to ask without the current one. Raises ``SaltMissing``, ``SettingInvalid``."""
    settings, found = session.settings, dict[str, Salt]()
    for given in files:
        key_id, sign, file = given.partition("=")
        if not (sign and key_id and file):
            raise SettingInvalid(setting="--salt-file", problem="write it as KEY_ID=FILE")
        if key_id in found:
            raise SettingInvalid(setting="--salt-file", problem=f"key id {key_id} is named twice")
        found[key_id] = read_salt_file(
            Path(file),
            allow_weak=session.allow_weak_salt,
            accept_open=settings.accept_open_salt_file,
            exact=settings.salt_exact,
        )
    if settings.key_id in found:
        return found
    if needed or settings.ip_salt is not None or settings.ip_salt_file is not None:
        found[settings.key_id] = session.salt
    return found
