"""Ground: an embedded server of its own in a temporary folder, and the same demo database for everyone."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from backfill.embedded import EmbeddedServer
from backfill.geo.city import bundled_geo_path
from backfill.hashing.salt import Salt, make_salt_file
from backfill.hashing.sha256 import SHA256_SUFFIX
from backfill.plan import EVENT_TABLES
from backfill.pypi.demo import DemoSummary, create_demo
from tests.conftest import temporary_home
from tests.databases import Databases, query

SEED = 1
SHOWN = (
    "server_version",
    "shared_buffers",
    "work_mem",
    "maintenance_work_mem",
    "wal_buffers",
    "min_wal_size",
    "max_wal_size",
    "checkpoint_timeout",
    "wal_level",
    "wal_compression",
    "full_page_writes",
    "fsync",
    "synchronous_commit",
    "autovacuum",
    "max_parallel_workers",
)
WAITING = "select " + " + ".join(
    f"(select count(*) from {name} where ip_address_string is not null and ip_address_id is null)"
    for name in EVENT_TABLES
)

# A server that has run for a while writes WAL into segments that it has; a new one makes each, writes 16 MB of
# zeros into it and syncs that, beside whatever is measured: it took a tenth to a fifth longer, from the second
# contender until 2 GB had gone by.
SEASON = (
    "alter system set min_wal_size = '2GB'",
    "select pg_reload_conf()",
    """select count(pg_logical_emit_message(false, 'season', number::text)), count(pg_switch_wal())
         from generate_series(1, 128) as number""",
    "checkpoint",
)


@dataclass(frozen=True)
class Site:
    """One contender's copy of the database, and what the live application's operator would know."""

    url: str
    salt_file: Path
    geo_path: Path

    @property
    def salt(self) -> Salt:
        """The salt that the demo's live hashes were made with."""
        return make_salt_file(self.salt_file)


@dataclass(frozen=True)
class Ground:
    """A server with one template database; each contender gets a fresh copy."""

    databases: Databases
    template: str
    salt_file: Path
    geo_path: Path
    made: DemoSummary
    waiting: int  # events with a text and without a link

    @contextmanager
    def site(self) -> Iterator[Site]:
        """A copy of the template, its pages written out, dropped at the end."""
        url = self.databases.clone(self.template)
        query(url, "checkpoint")
        try:
            yield Site(url, self.salt_file, self.geo_path)
        finally:
            self.databases.drop(url)

    def postmaster(self) -> int:
        """The process id of the server."""
        folder = query(self.databases.server_url, "show data_directory")[0][0]
        return int(Path(folder, "postmaster.pid").read_text().partition("\n")[0])

    def settings(self) -> dict[str, str]:
        """The server's settings that matter here."""
        url = self.databases.server_url
        return {name: str(query(url, f"show {name}")[0][0]) for name in SHOWN}


@contextmanager
def ground(events: int, addresses: int | None = None) -> Iterator[Ground]:
    """Start the server and make the template; all gone at the end. *addresses*: as ``create_demo``'s."""
    geo_path = bundled_geo_path()
    if geo_path is None:
        raise SystemExit("the demo's geo database is not installed: make bench installs it")
    with temporary_home() as home:
        databases = Databases(EmbeddedServer(home).ensure())
        for statement in SEASON:
            query(databases.server_url, statement)
        salt_file = home.parent / "salt"
        hasher = make_salt_file(salt_file).hasher(SHA256_SUFFIX.name)
        made: list[DemoSummary] = []
        waiting: list[int] = []

        def fill(url: str) -> None:
            made.append(
                create_demo(
                    url,
                    events=events,
                    seed=SEED,
                    hash_address=hasher,
                    geo_path=geo_path,
                    report=lambda line: None,
                    addresses=addresses,
                )
            )
            waiting.append(query(url, WAITING)[0][0])

        name = databases.template("demo", fill)
        yield Ground(databases, name, salt_file, geo_path, made[0], waiting[0])
