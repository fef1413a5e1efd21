"""``backfill server``: start, stop and look at the embedded PostgreSQL."""

from dataclasses import asdict

import click

from backfill.cli.answer import JSON, Answer, answers
from backfill.database.urls import parse, shown
from backfill.embedded import EmbeddedServer
from backfill.errors import OwnServerInUse
from backfill.settings import Settings

OWN_SERVER = "BACKFILL_DATABASE_URL is set: commands use your own server, nothing is embedded."


@click.group()
def server() -> None:
    """Manage the embedded PostgreSQL, which is used while BACKFILL_DATABASE_URL is unset."""


@server.command()
def start() -> None:
    """Start it if it is not running; other commands do so by themselves."""
    settings = Settings.load()
    if settings.database_url is not None:
        raise OwnServerInUse
    embedded = EmbeddedServer(settings.home)
    embedded.ensure()
    click.echo(
        f"running: PostgreSQL {embedded.status().version} in {settings.home}. Next: `backfill demo`, or `backfill server status`."
    )


@server.command()
@click.option("--delete", is_flag=True, help="Also delete its data, and what lies outside BACKFILL_HOME.")
def stop(delete: bool) -> None:
    """Stop it and end its sessions; the data stays."""
    settings = Settings.load()
    if settings.database_url is not None:
        click.echo(OWN_SERVER)  # one that was started before the variable was set is still ours to stop
    embedded = EmbeddedServer(settings.home)
    click.echo("stopped" if embedded.stop() else "was not running")
    if delete:
        embedded.remove()


@server.command()
@answers
def status(form: str) -> Answer:
    """Show whether it runs and where its files are. Exit 0 when it runs, 1 when it does not."""
    settings = Settings.load()
    found = EmbeddedServer(settings.home).status()
    if form != JSON:
        if settings.database_url is not None:
            click.echo(OWN_SERVER)
        click.echo("running" if found.running else "stopped")
        for name, value in asdict(found).items():
            if name != "running" and value is not None:
                click.echo(f"  {name:<8} {value}")
    facts = asdict(found)
    return Answer(
        f"The embedded server {'runs' if found.running else 'does not run'}.",
        ("backfill server stop",) if found.running else ("backfill server start",),
        {"server_version": facts.pop("version"), **facts, "in_use": settings.database_url is None},
        code=int(not found.running),
    )


@server.command()
def url() -> None:
    """Print the URL of the database, in the form that psql takes; a password is not shown."""
    settings = Settings.load()
    if settings.database_url is None:
        text = EmbeddedServer(settings.home).url()
        click.echo(text.replace("postgresql+psycopg2:", "postgresql:", 1))
        return
    own = parse(settings.database_url.get_secret_value(), "BACKFILL_DATABASE_URL")
    click.echo(shown(own))
