"""Writes the pages of reference that follow from the code: ``python -m tests.reference``, or ``make reference``."""

import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from backfill.cli.main import GROUPS as COMMAND_GROUPS
from backfill.cli.main import cli
from backfill.settings import GROUPS, Settings, is_secret, variable_of

DOCS = Path(__file__).parent.parent / "docs"

SETTINGS = """# Settings

This page is written by `make reference` from the code.

A setting is an environment variable, or a line in a settings file. The environment wins, and an option of a command
wins over both. An empty variable counts as unset. An unknown `BACKFILL_…` variable, or an unknown key of the file,
is an error, since a misspelt limit would limit nothing (`BACKFILL_TEST_…` is for the test suite).

`backfill config` shows each setting and where its value comes from; secrets are never shown. `--format json` is
for machines.

## The settings file
`backfill.toml` in the working directory, or the file that `BACKFILL_CONFIG` names. A key is the name of a variable
without `BACKFILL_`, in lower case:

```toml
database_url = "postgresql://user@host/database"
ip_salt_file = "/run/secrets/ip-salt"
geoip_db = "GeoLite2-City.mmdb"   # relative to this file
workers = 4
max_lag = 30
```

A settings file can name a program (`hook`) and the database, so nobody else may be able to write it: it has to belong
to you or to root. If it holds a secret ({secrets}),
nobody else may be able to read it either.
"""

# What stands in the place of a default that is none.
UNSET = {
    "config": "`backfill.toml`",
    "database_url": "the embedded server",
    "geoip_db": "the demo's, on a demo database",
    "plan": "the built-in plan",
    "observe": "600; 0 on a demo database",
    "max_archive_backlog": "off",
    "max_wal_rate": "off",
    "max_active_sessions": "off",
}
# What a page can say and a message cannot: links, and what needs another sentence.
MORE = {
    "database_url": "`postgresql://user:password@host:5432/database`. The server itself, not a transaction-pooling proxy",
    "ip_salt_file": "Set one of the two; with neither, Backfill asks on the terminal",
    "salt_exact": "[hashing.md](hashing.md)",
    "key_id": "Letters, digits, `.`, `_`, `-`",
    "plan": "[plan.md](plan.md)",
    "restore_point": "It is recorded, not verified",
    "ledger_owner": "Objects of other owners in it are refused",
    "passes": "[how-it-works.md](how-it-works.md)",
    "silence": "[operations.md](operations.md)",
    "max_archive_backlog": "Needs `pg_monitor`",
    "throttle_query": "It must name tables with their schema (`public.queue`)",
    "hook": "[operations.md](operations.md)",
    "dask": "[operations.md](operations.md)",
    "lock_timeout_ms": "Then it lets others pass, and tries again",
}


def settings() -> str:
    """The page about settings."""
    secrets = ", ".join(f"`{variable_of(name)}`" for name in Settings.model_fields if is_secret(name))
    parts = [SETTINGS.format(secrets=secrets)]
    for group, names in GROUPS.items():
        rows = [f"| `{variable_of(name)}` | {_default(name)} | {_meaning(name)} |" for name in names]
        parts.append(
            "\n".join([f"## {group}", "| variable | default | meaning |", "|---|---|---|", *rows, ""])
        )
    return "\n".join(parts)


def _default(name: str) -> str:
    default = Settings.model_fields[name].default
    if default is None:
        return UNSET.get(name, "none")
    return str(default) if isinstance(default, bool | int | float) else f"`{default}`"


def _meaning(name: str) -> str:
    said = str(Settings.model_fields[name].description)
    return f"{said}. {MORE[name]}" if name in MORE else said


COMMANDS = """# Commands

This page is written by `make reference` from the code; every command says the same with `--help`.

JOB and TABLE are names of the plan: the table's name, or `table.column` where a table has several jobs. `--format` is
`text` or `json` unless the command says otherwise. `backfill --version` prints the version; `backfill --debug COMMAND`
shows files and lines of the code when a command fails, never values. A file of `--output` is never left incomplete.

**One way to confirm.** `quarantine settle`, `addresses merge`, `addresses keep` and `repair` show what they would do,
and change nothing; `--count N`, with the number that was shown, does it, and a wrong number changes nothing.
`--all-tables` takes the sum. `ban` and `unban` do the same for more than one address. What rewrites or drops tables is
shown by another option or command first: `erase --dry-run`; `gates` for `migrate`; `cutover` keeps the old table
until `--finish`.

| exit code | meaning |
|---|---|
| 0 | done; for `verify`: everything is covered |
| 1 | the answer is no, or the command failed; a run can be resumed |
| 2 | something must be changed first; nothing was done |
| 3 | `run` was told to stop, and stopped at a checkpoint |
| 70 | an error in Backfill itself; the message names its kind and place |
| 74 | done, but the output is incomplete (a full disk) |
| 129, 130, 143 | ended by SIGHUP, Ctrl-C or SIGTERM (`run`: by the second signal); what was committed stays: [operations.md](operations.md) |
| 255 | from `alembic` in a checkout: a revision refused, or failed (`backfill migrate`: 1) |

## Completion
A shell completes commands, options, and the names of jobs and tables of the plan; no database is asked. For the shell
at hand; in its start-up file, for all:

    eval "$(_BACKFILL_COMPLETE=bash_source backfill)"     # zsh: zsh_source
    _BACKFILL_COMPLETE=fish_source backfill | source      # fish

## Output
The last line says what the command came to, and what to type next. **On a terminal** no line is wider than it (or than
`COLUMNS`): columns wrap, and a table with too many becomes a list of names and values for each row. A command too long
for a line ends in a backslash and can be pasted as it is; a word without a place to break is left to the terminal.
Colours repeat what the words say; none with `NO_COLOR`, nor with `TERM=dumb`. **In a pipe or a file** a row, a sentence
and a command are one line each, whatever their length: nothing is wrapped, cut or coloured.

`--format json` prints one object, and nothing else, on standard output; what a command says meanwhile goes to standard
error. [output.schema.json](output.schema.json) describes it. All commands have these keys; the facts of the command
are beside them:

| key | |
|---|---|
| `version` | of this form: 1. A key may be added, none may change its meaning |
| `command`, `tool`, `made`, `database` | what was typed, by which version, when, and the name of the database, where one was asked |
| `ok`, `exit_code` | `ok`: the exit code is 0 |
| `verdict`, `next` | the last line: one sentence, and the commands |
| `failure` | where the command failed: the kind of error; `verdict` is its message, and no facts are there |

`backfill logs` has no such object: its `--format` is that of the log, and it counts on standard error.
"""


def commands() -> str:
    """The page about commands."""
    parts = [COMMANDS]
    for group, names in COMMAND_GROUPS.items():
        parts.append(f"## {group}")
        for name in names:
            found = cli.get_command(click.Context(cli), name)
            assert found is not None
            parts += _command(f"backfill {name}", found)
    return "\n".join(parts)


def _command(words: str, command: click.Command) -> Iterator[str]:
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            inner = command.get_command(click.Context(command), name)
            assert inner is not None
            yield from _command(f"{words} {name}", inner)
        return
    context = click.Context(command)
    options = [one for one in command.params if isinstance(one, click.Option) and one.name != "help"]
    arguments = [one.make_metavar(context) for one in command.params if isinstance(one, click.Argument)]
    usage = " ".join([words, *arguments, *(f"[{_spelled(one, context)}]" for one in options)])
    yield f"### `{words}`\n"
    yield f"    {usage}\n"
    yield f"{_prose(command.help or '')}\n"
    if options:
        yield "| option | |\n|---|---|"
        cells = ((_spelled(one, context).replace("|", "\\|"), _said(one)) for one in options)
        yield from (f"| `{spelled}` | {said} |" for spelled, said in cells)
        yield ""


def _spelled(option: click.Option, context: click.Context) -> str:
    name = max(option.opts, key=len)
    if option.is_flag:
        return name
    kind = option.make_metavar(context).removesuffix(" RANGE")
    return f"{name} {WORDS.get(kind, kind)}"


# click's names of types, as people call them.
WORDS = {"INTEGER": "N", "FLOAT": "NUMBER", "PATH": "FILE", "TEXT": "TEXT"}


def _said(option: click.Option) -> str:
    default = f" Default: {option.default}." if option.show_default and option.default is not None else ""
    return f"{option.help or 'Output as text or for machines.'}{default}".replace("|", "\\|")


def _prose(text: str) -> str:
    """Paragraphs, wrapped as the pages are."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(
        textwrap.fill(" ".join(part.split()), 110, break_on_hyphens=False) for part in paragraphs
    )


PAGES = {"settings.md": settings, "commands.md": commands}


if __name__ == "__main__":
    for file, page in PAGES.items():
        (DOCS / file).write_text(page(), encoding="utf-8")
