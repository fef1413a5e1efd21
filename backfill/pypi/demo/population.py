"""Everything that events and journal entries are about: users, projects, organizations, teams, files.

All of it is small beside the events, so it is made in memory; ``Table`` is what the loader copies.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from backfill.database import binary_copy
from backfill.pypi.demo import words
from backfill.pypi.demo.clock import moment, new_uuid

EVENTS_PER_USER, EVENTS_PER_PROJECT, EVENTS_PER_FILE = 40, 50, 40
EVENTS_PER_ORGANIZATION, EVENTS_PER_TEAM = 1_000, 500
FILES_PER_RELEASE = 2  # a wheel and a source archive
DAY = 86_400_000_000  # microseconds
_MAIL_HOSTS = ("example.com", "example.net", "example.org")  # RFC 2606: nobody's


@dataclass(frozen=True)
class Table:
    """Rows for one COPY; each holds the fields of *columns* in that order."""

    name: str
    columns: tuple[str, ...]
    rows: Iterable[bytes]


@dataclass(frozen=True)
class Things:
    """Entities in the order of their creation, by what others need of them."""

    ids: list[bytes]  # uuid fields
    names: list[str]


def users(events: int, rng: Random) -> tuple[Things, list[Table]]:
    """Users and their e-mail addresses, one or two each."""
    total = max(5, events // EVENTS_PER_USER)
    things = Things([], [])
    rows: list[bytes] = []
    emails: list[bytes] = []
    for number, (username, display) in zip(range(total), words.people(rng), strict=False):
        identifier = binary_copy.uuid(new_uuid(rng))
        joined = moment(number / total)
        last_login = joined + int((moment(1) - joined) * rng.random())
        things.ids.append(identifier)
        things.names.append(username)
        rows.append(
            binary_copy.row(
                identifier,
                binary_copy.text(username),
                binary_copy.text(display),
                binary_copy.text("!"),  # a password that no hash equals
                binary_copy.boolean(rng.random() < 0.98),
                binary_copy.boolean(number == 0),
                binary_copy.timestamp(joined),
                binary_copy.timestamp(last_login) if rng.random() < 0.9 else binary_copy.NULL,
            )
        )
        for order in range(1 + (rng.random() < 0.2)):
            address = f"{username}@{_MAIL_HOSTS[(number + order) % len(_MAIL_HOSTS)]}"
            emails.append(
                binary_copy.row(
                    binary_copy.integer(len(emails) + 1),
                    identifier,
                    binary_copy.text(address),
                    binary_copy.boolean(order == 0),
                    binary_copy.boolean(rng.random() < 0.9),
                )
            )
    columns = "id username name password is_active is_superuser date_joined last_login".split()
    return things, [
        Table("users", tuple(columns), rows),
        Table("user_emails", ("id", "user_id", "email", "primary", "verified"), emails),
    ]


def projects(events: int, rng: Random) -> Things:
    """Projects without their rows: those hold the last journal serial, which comes later."""
    total = max(5, events // EVENTS_PER_PROJECT)
    names = [name for _, name in zip(range(total), words.projects(rng), strict=False)]
    return Things([binary_copy.uuid(new_uuid(rng)) for _ in names], names)


def project_rows(things: Things, last_serials: list[int]) -> Table:
    """The rows of ``projects``."""
    total = len(things.ids)
    rows = (
        binary_copy.row(
            identifier,
            binary_copy.text(name),
            binary_copy.text(normalized(name)),
            binary_copy.timestamp(moment(number / total)),
            binary_copy.integer(serial),
        )
        for number, (identifier, name, serial) in enumerate(
            zip(things.ids, things.names, last_serials, strict=True)
        )
    )
    return Table("projects", ("id", "name", "normalized_name", "created", "last_serial"), rows)


def normalized(name: str) -> str:
    """As the database's own trigger does it: runs of ``-_.`` are one dash, lower case."""
    return "-".join(part for part in name.replace("_", "-").replace(".", "-").split("-") if part).lower()


def organizations(events: int, rng: Random) -> tuple[Things, Table]:
    """Organizations, one for every thousand events."""
    total = max(2, events // EVENTS_PER_ORGANIZATION)
    things = Things([], [])
    rows = []
    for number, (name, display) in zip(range(total), words.organizations(rng), strict=False):
        things.ids.append(binary_copy.uuid(new_uuid(rng)))
        things.names.append(name)
        rows.append(
            binary_copy.row(
                things.ids[-1],
                binary_copy.text(name),
                binary_copy.text(display),
                binary_copy.text(f"https://{name}.example.org/"),
                binary_copy.boolean(True),
                binary_copy.timestamp(moment(number / total)),
            )
        )
    columns = ("id", "name", "display_name", "link_url", "is_active", "created")
    return things, Table("organizations", columns, rows)


def teams(events: int, owners: Things, rng: Random) -> tuple[Things, Table]:
    """Teams; each organization has its first ones before another has many."""
    total = max(2, events // EVENTS_PER_TEAM)
    things = Things(
        [binary_copy.uuid(new_uuid(rng)) for _ in range(total)], [f"team-{n + 1}" for n in range(total)]
    )
    rows = (
        binary_copy.row(
            identifier,
            owners.ids[number % len(owners.ids)],
            binary_copy.text(name),
            binary_copy.timestamp(moment(number / total)),
        )
        for number, (identifier, name) in enumerate(zip(things.ids, things.names, strict=True))
    )
    return things, Table("teams", ("id", "organization_id", "name", "created"), rows)


def files(events: int, things: Things, rng: Random) -> tuple[Things, list[Table]]:
    """Releases of projects and their files."""
    total = max(4, events // EVENTS_PER_FILE)
    uploaded = Things([], [])
    releases, rows = [], []
    versions = [0] * len(things.ids)
    for number in range(0, total, FILES_PER_RELEASE):
        project = int(len(things.ids) * number / total * rng.random())
        major, minor = divmod(versions[project], 10)
        versions[project] += 1
        version = f"{major}.{minor}"
        release, created = binary_copy.uuid(new_uuid(rng)), binary_copy.timestamp(moment(number / total))
        releases.append(binary_copy.row(release, things.ids[project], binary_copy.text(version), created))
        stem = f"{normalized(things.names[project]).replace('-', '_')}-{version}"
        for filename in (f"{stem}-py3-none-any.whl", f"{stem}.tar.gz"):
            uploaded.ids.append(binary_copy.uuid(new_uuid(rng)))
            uploaded.names.append(filename)
            size = binary_copy.integer(rng.randrange(2_000, 20_000_000))
            rows.append(binary_copy.row(uploaded.ids[-1], release, binary_copy.text(filename), size, created))
    return uploaded, [
        Table("releases", ("id", "project_id", "version", "created"), releases),
        Table("release_files", ("id", "release_id", "filename", "size", "upload_time"), rows),
    ]
