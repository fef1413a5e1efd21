"""Writes the pages of reference that follow from the code: ``python -m tests.reference``, or ``make reference``."""

from pathlib import Path

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


PAGES = {"settings.md": settings}


if __name__ == "__main__":
    for file, page in PAGES.items():
        (DOCS / file).write_text(page(), encoding="utf-8")
