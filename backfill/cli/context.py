"""What every command needs: settings, plan, engine, salt and geo database, each opened when asked for."""

import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click
from psycopg2 import sql
from sqlalchemy import Engine

from backfill.database import revisions
from backfill.database.connection import server_codec, value
from backfill.database.demo_mark import is_demo
from backfill.engine.phase_hooks import NO_HOOKS, PhaseHooks
from backfill.engine.target import open_engine
from backfill.errors import GeoFileMissing, NoRun, SaltMissing
from backfill.geo.city import bundled_geo_path
from backfill.geo.geo_database import GeoDatabase
from backfill.geo.sources import open_geo
from backfill.hashing.salt import Salt, chosen_salt, make_salt_file
from backfill.jobs.kinds import require_known
from backfill.ledger import presence
from backfill.plan import Plan, load_plan
from backfill.settings import Settings

if TYPE_CHECKING:  # half of the engine, which few commands need
    from backfill.engine.worker_phases import MakePool

SALT_FILE = "salt"  # under BACKFILL_HOME; the demo's own


@dataclass
class Session:
    """One command's world. Raises what opening its parts raises."""

    settings: Settings
    allow_weak_salt: bool = False
    hooks: PhaseHooks = NO_HOOKS  # of whoever runs a command from Python; no setting names one
    pool: "MakePool | None" = None  # likewise; None: processes on this machine

    @cached_property
    def plan(self) -> Plan:
        """The plan of BACKFILL_PLAN, or the built-in one."""
        plan = load_plan(self.settings.plan)
        require_known(plan, self.settings.plan)
        return plan

    @cached_property
    def fingerprint(self) -> str:
        """What ties runs, coverage and gates together."""
        return self.plan.fingerprint(self.settings.key_id)

    @cached_property
    def engine(self) -> Engine:
        """Connected once, and found fit."""
        return open_engine(self.settings)

    @cached_property
    def demo(self) -> bool:
        """Whether this is the demo's database, where salt and geo file need not be named."""
        with self.engine.connect() as connection:
            return is_demo(connection)

    @cached_property
    def salt(self) -> Salt:
        """From BACKFILL_IP_SALT, BACKFILL_IP_SALT_FILE, the demo's file, or a prompt."""
        if (salt := self._chosen_salt) is not None:
            return salt
        own = self.settings.home / SALT_FILE
        if self.demo and own.exists():
            return make_salt_file(own)
        if sys.stdin.isatty():
            typed = click.prompt(
                "Salt of the live application", hide_input=True, err=True, default="", show_default=False
            )
            return Salt(
                typed,
                source="the prompt",
                allow_weak=self.allow_weak_salt,
                exact=self.settings.salt_exact,
            )
        raise SaltMissing

    @property
    def salt_of_settings(self) -> Salt:
        """From BACKFILL_IP_SALT or BACKFILL_IP_SALT_FILE: where there is no database, and data on standard input."""
        if self._chosen_salt is None:
            raise SaltMissing
        return self._chosen_salt

    @cached_property
    def _chosen_salt(self) -> Salt | None:
        given = self.settings.ip_salt
        return chosen_salt(
            None if given is None else given.get_secret_value,
            self.settings.ip_salt_file,
            allow_weak=self.allow_weak_salt,
            accept_open=self.settings.accept_open_salt_file,
            exact=self.settings.salt_exact,
        )

    @property
    def geo_path(self) -> Path:
        """BACKFILL_GEOIP_DB; for the demo, the file that its package ships."""
        if self.settings.geoip_db is not None:
            return self.settings.geoip_db
        bundled = bundled_geo_path()
        if self.demo and bundled is not None:
            return bundled
        raise GeoFileMissing

    @property
    def geo_file(self) -> Path:
        """BACKFILL_GEOIP_DB, without asking a database."""
        if self.settings.geoip_db is None:
            raise GeoFileMissing
        return self.settings.geoip_db

    @cached_property
    def geo(self) -> GeoDatabase:
        """The geo database, tried out."""
        path = self.geo_path
        with self.engine.connect() as connection:
            codec = server_codec(connection)
        return open_geo(path, self.plan.geo.keys, codec)

    def expand(self) -> None:
        """Bring the ledger, where it is not yet."""
        if not presence.is_there(self.settings, self.engine):
            revisions.expand(self.settings, self.engine)

    def require_ledger(self, command: str = "backfill run") -> None:
        """Raises ``NoRun`` where there is no ledger to read."""
        with self.engine.connect() as connection:
            name = f"{self.settings.ledger_schema}.runs"
            if not value(connection, sql.SQL("select to_regclass(%s) is not null"), (name,)):
                raise NoRun(what="run", command=command)

    def close(self) -> None:
        """Give back what was opened."""
        if "geo" in self.__dict__:
            self.geo.close()
        if "engine" in self.__dict__:
            self.engine.dispose()


def session_of(context: click.Context) -> Session:
    """The session of this invocation, made when first asked for and closed at its end."""
    session = context.find_object(Session)
    if session is None:
        session = Session(Settings.load())
        context.find_root().obj = session
        context.find_root().call_on_close(session.close)
    return session


def weak_salt_option(command: click.decorators.FC) -> click.decorators.FC:
    """``--allow-weak-salt``."""
    return click.option(
        "--allow-weak-salt",
        is_flag=True,
        help="Accept a salt of under 16 bytes, where the live salt is that short.",
    )(command)
