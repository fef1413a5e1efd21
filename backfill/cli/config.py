"""``backfill config``: which settings there are, what each is, and where its value comes from."""

from enum import Enum

import click
from pydantic import SecretStr

from backfill.cli import output
from backfill.cli.answer import JSON, Answer, answers
from backfill.database import urls
from backfill.errors import SettingInvalid
from backfill.report.document import table
from backfill.settings import DEFAULT, GROUPS, Settings, sources, variable_of

HIDDEN = "(set, not shown)"


@click.command("config")
@answers
def config_command(form: str) -> Answer:
    """Show every setting and where its value comes from: the environment, a settings file, or the default."""
    settings, found = Settings.load(), sources()
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
    own = sum(one["source"] != DEFAULT for one in made)
    answer = Answer(
        f"{own} of {len(made)} settings are not the default.", ("backfill plan",), {"settings": made}
    )
    if form == JSON:
        return answer
    for group, names in GROUPS.items():
        body = [[variable_of(name), _shown(settings, name), found[name]] for name in names]
        click.echo(group)
        output.show(table(["setting", "value", "from"], body))
        click.echo()
    return answer


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
