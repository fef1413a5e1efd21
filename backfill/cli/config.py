"""``backfill config``: which settings there are, what each is, and where its value comes from."""

import json
from enum import Enum

import click
from pydantic import SecretStr

from backfill import escaping
from backfill.database import urls
from backfill.errors import SettingInvalid
from backfill.settings import GROUPS, Settings, sources, variable_of

HIDDEN = "(set, not shown)"


@click.command("config")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def config_command(form: str) -> None:
    """Show every setting and where its value comes from: the environment, a settings file, or the default."""
    settings, found = Settings.load(), sources()
    if form == "json":
        made = [
            {
                "group": group,
                "variable": variable_of(name),
                "value": _plain(settings, name),
                "source": found[name],
            }
            for group, names in GROUPS.items()
            for name in names
        ]
        click.echo(json.dumps({"settings": made}))
        return
    for group, names in GROUPS.items():
        click.echo(group)
        body = [[variable_of(name), _shown(settings, name), found[name]] for name in names]
        click.echo(escaping.table(body, ["setting", "value", "from"], disable_numparse=True) + "\n")


def _plain(settings: Settings, name: str) -> object:
    """The value for a machine; of a secret, that it is set, or the part of a URL that is none."""
    value = getattr(settings, name)
    if isinstance(value, SecretStr):
        return _without_secret(name, value)
    if isinstance(value, Enum):
        return value.value
    return value if isinstance(value, int | float | None) else str(value)


def _shown(settings: Settings, name: str) -> str:
    value = _plain(settings, name)
    return "none" if value is None else str(value)


def _without_secret(name: str, value: SecretStr) -> str:
    if name != "database_url":
        return HIDDEN
    try:
        return urls.shown(urls.parse(value.get_secret_value(), variable_of(name)))
    except SettingInvalid:
        return f"{HIDDEN} It is no URL of a PostgreSQL."
