"""What to do to which table: the built-in plan for PyPI's schema, or a TOML plan file.

A plan names tables and columns and says nothing about a server; the same plan, hash scheme and key
id give the same fingerprint, which ties runs, proofs and gates together.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from backfill.errors import InputUnreadable, NoAddressTable, PlanInvalid
from backfill.files import read_toml
from backfill.hashing.schemes import scheme_names
from backfill.hashing.sha256 import SHA256_SUFFIX
from backfill.job import (
    IN_PLACE,
    INTO,
    LINK,
    Discard,
    DroppingJob,
    InPlaceJob,
    IntoJob,
    Job,
    LinkJob,
    dropping,
    links,
    require_nothing_kept,
)
from backfill.raw_column import GeoKey, Name, NameOrNone, Part, Place, RawColumn, find, labelled, labels_of

__all__ = [  # the jobs of a plan are imported from here
    "EVENT_TABLES",
    "INTO",
    "IN_PLACE",
    "LINK",
    "PYPI",
    "Addresses",
    "Discard",
    "DroppingJob",
    "Geo",
    "GeoKey",
    "Hash",
    "InPlaceJob",
    "IntoJob",
    "Job",
    "LinkJob",
    "Place",
    "Plan",
    "dropping",
    "links",
    "load_plan",
]

AddressText = Annotated[str, AfterValidator(lambda text: str(ip_address(text)))]


def _known_scheme(name: str) -> str:
    known = scheme_names()
    if name not in known:
        *others, last = (f"'{each}'" for each in known)
        raise PydanticCustomError(
            "scheme",
            "Input should be {names}",
            {"names": f"{', '.join(others)} or {last}" if others else last},
        )
    return name


SchemeName = Annotated[str, AfterValidator(_known_scheme)]  # a name of ``backfill.hashing.schemes``


class Addresses(RawColumn):
    """The table that holds each address once."""

    key: Name = "id"
    address: Name = "ip_address"  # inet, unique
    hash: Name = "hashed_ip_address"  # text, unique
    geo: Name = "geoip_info"  # jsonb
    banned: NameOrNone = "is_banned"
    ban_reason: NameOrNone = "ban_reason"
    ban_date: NameOrNone = "ban_date"
    sentinel: AddressText = "192.0.2.69"  # what the application stores for text that is no address

    @property
    def raw_column(self) -> str:
        """The address."""
        return self.address


class Hash(Part):
    """How addresses are hashed."""

    scheme: SchemeName = SHA256_SUFFIX.name


class Geo(Part):
    """Which keys of a place are written, to events and to the address table.

    The application builds a dataclass from the object: one key too many breaks every page that shows it.
    """

    keys: tuple[GeoKey, ...] = Field(
        tuple(key for key in GeoKey if key not in (GeoKey.LATITUDE, GeoKey.LONGITUDE)), min_length=1
    )

    @model_validator(mode="after")
    def _each_key_once(self) -> Self:
        if len(set(self.keys)) < len(self.keys):
            raise ValueError("a key is named twice")
        return self


def _kind_of(job: Any) -> str:
    """Which class reads a job: that of the links has columns of its own."""
    is_dict = isinstance(job, dict)
    becomes = job.get("becomes", LINK) if is_dict else job.becomes
    if becomes == "hash" and ("into" in job if is_dict else isinstance(job, IntoJob)):
        return INTO
    return LINK if becomes == LINK else "in_place" if becomes in IN_PLACE else "other"


TAGS = (LINK, INTO, "in_place", "other")  # of the classes; no part of a plan file
AnyJob = Annotated[
    Annotated[LinkJob, Tag(LINK)]
    | Annotated[IntoJob, Tag(INTO)]
    | Annotated[InPlaceJob, Tag("in_place")]
    | Annotated[Job, Tag("other")],
    Discriminator(_kind_of),
]


class Plan(Part):
    """Everything a run needs to know about the application's schema."""

    name: Name
    hash: Hash = Hash()
    geo: Geo = Geo()
    address_table: Addresses | None = Field(None, alias="addresses")
    jobs: tuple[AnyJob, ...] = ()
    discard: tuple[Discard, ...] = ()
    # What preflight finds and the operator has looked at: "code:subject". It says nothing about what a run does.
    accept: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _drops_are_discards(cls, keys: Any) -> Any:
        """A job that becomes nothing, and whose column goes: no row is rewritten."""
        if not isinstance(keys, dict) or not isinstance(keys.get("jobs"), list):
            return keys
        jobs, discards = [], list(keys.get("discard", []))
        for job in keys["jobs"]:
            drops = isinstance(job, dict) and (job.get("becomes"), job.get("then")) == ("nothing", "drop")
            if drops and "into" not in job:  # which belongs to no such job, and is refused
                require_nothing_kept(job)
                kept = {key: value for key, value in job.items() if key not in ("becomes", "then", "raw")}
                if kept.get("key") == "" or isinstance(kept.get("key"), list):
                    del kept["key"]  # no row is rewritten, so none is named
                discards.append(kept | {"column": job["raw"]} if "raw" in job else kept)
            else:
                jobs.append(job)
        return keys | {"jobs": jobs} | ({"discard": discards} if discards else {})

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        known = self.address_table
        if known is None and (self.link_jobs or not self.parts):
            links = next(
                (f"values of {job.name} become links" for job in self.link_jobs), "nothing else is named"
            )
            raise ValueError(f"addresses: required, since {links}")
        if known is not None and known.table_identity in {job.table_identity for job in self.jobs}:
            raise ValueError("the address table cannot be a job")
        _require_distinct(self)
        _require_geo_keys(self)
        labels = labels_of(self.parts)
        # Copies: a part that stands in two plans may be called differently in each.
        if known is not None:
            object.__setattr__(self, "address_table", labelled(known, labels, accept=self.accept))
        taken: dict[str, set[str]] = {}
        for table, column, _ in _columns(self):
            taken.setdefault(table, set()).add(column)
        jobs = (labelled(job, labels, taken[job.table_identity], self.accept) for job in self.jobs)
        object.__setattr__(self, "jobs", tuple(jobs))
        object.__setattr__(self, "discard", tuple(labelled(one, labels) for one in self.discard))
        return self

    @property
    def addresses(self) -> Addresses:
        """The address table. Raises ``NoAddressTable`` where the plan has none."""
        if self.address_table is None:
            raise NoAddressTable(plan=self.name)
        return self.address_table

    @property
    def address_tables(self) -> tuple[Addresses, ...]:
        """The same as one or none, for what goes over all tables."""
        return () if self.address_table is None else (self.address_table,)

    @property
    def needs_salt(self) -> bool:
        """Whether anything of it is computed with the salt; geo goes with the address table."""
        return bool(self.address_tables) or any(job.becomes in ("hash", "pseudonym") for job in self.jobs)

    @property
    def needs_geo(self) -> bool:
        """Whether places are looked up."""
        return bool(self.address_tables) or any(job.place is not None for job in self.jobs)

    @property
    def proves_geo(self) -> bool:
        """Whether a verification looks places up: where the text they are of is gone after a run, it cannot."""
        return bool(self.address_tables) or any(job.place is not None for job in self.into_jobs)

    @property
    def link_jobs(self) -> tuple[LinkJob, ...]:
        """The jobs whose raw values become links: those that copies know."""
        return tuple(job for job in self.jobs if isinstance(job, LinkJob))

    @property
    def into_jobs(self) -> tuple[IntoJob, ...]:
        """The jobs whose hashes go into another column."""
        return tuple(job for job in self.jobs if isinstance(job, IntoJob))

    @property
    def dropping_jobs(self) -> tuple[DroppingJob, ...]:
        """The jobs whose raw column is dropped in the end: those that gates and remedies know."""
        return tuple(job for job in self.jobs if isinstance(job, DroppingJob))

    @property
    def in_place_jobs(self) -> tuple[InPlaceJob, ...]:
        """The jobs that rewrite their raw values where they are."""
        return tuple(job for job in self.jobs if isinstance(job, InPlaceJob))

    @property
    def parts(self) -> tuple[RawColumn, ...]:
        """Every raw column: those of the jobs, that of the address table, those to be discarded."""
        return (*self.jobs, *self.address_tables, *self.discard)

    def job(self, name: str) -> Job:
        """The job of that identity or name. Raises ``UnknownJob``, ``AmbiguousJob``."""
        return find(name, self.jobs)

    def dropping_job(self, name: str) -> DroppingJob:
        """The same, of a job whose raw column is dropped in the end. Raises ``KindUnfit`` as well."""
        return dropping(self.job(name))

    def at(self, moment: datetime) -> "Plan":
        """A copy for one run: rows are as old as they are at *moment*, whoever asks and whenever."""
        jobs = tuple(job.at(moment) if isinstance(job, InPlaceJob) else job for job in self.jobs)
        return self.model_copy(update={"jobs": jobs})

    def label(self, identity: str) -> str:
        """What people call the part of that identity; the identity itself where this plan has none."""
        return next((part.label for part in self.parts if part.identity == identity), identity)

    def choose(self, names: Sequence[str]) -> tuple[Job, ...]:
        """The jobs of that name, in the plan's order; all of them for no name. Raises ``UnknownJob``."""
        chosen = {self.job(name).identity for name in names}
        return tuple(job for job in self.jobs if not chosen or job.identity in chosen)

    def definition(self, job: Job, key_id: str) -> str:
        """Hex sha256 over all that decides what *job* writes: its keys, the hash scheme, the key id, the keys of a place."""
        decides: list[object] = [job.model_dump(mode="json", by_alias=True), self.hash.scheme, key_id]
        if job.place is not None:
            decides.append(self.geo.model_dump(mode="json"))
        text = json.dumps(decides, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def fingerprint(self, key_id: str) -> str:
        """Hex sha256 over plan text, hash scheme and key id; the catalog has no part in it."""
        text = json.dumps(
            [self.model_dump(mode="json", by_alias=True, exclude={"accept"}), key_id], sort_keys=True
        )
        return hashlib.sha256(text.encode()).hexdigest()


def _columns(plan: Plan) -> Iterator[tuple[str, str, str]]:
    """Columns that belong to one part alone: table, column, and who has it."""
    for part in plan.address_tables:
        for name in (part.key, part.address, part.hash, part.geo):
            yield part.table_identity, name, "the address table"
    for job in plan.jobs:
        owner = f"the job for {job.name}.{job.raw}"
        yield from ((job.table_identity, column, owner) for column in dict.fromkeys((job.raw, *job.written)))
    for discard in plan.discard:
        yield discard.table_identity, discard.column, f"the discard of {discard.name}.{discard.column}"


def _require_distinct(plan: Plan) -> None:
    """Raises ``ValueError`` where two parts of the plan want one column."""
    owners: dict[tuple[str, str], str] = {}
    for table, column, owner in _columns(plan):
        if (other := owners.get((table, column))) is not None:
            raise ValueError(
                f"{owner} and {other} have one column, {column}: each column that is raw or written belongs to one"
            )
        owners[table, column] = owner
    raw = {(part.table_identity, part.raw_column) for part in plan.parts}
    for job in plan.jobs:
        # Such a value would stand in the quarantine and in messages, and change under the job.
        other = "name another key, or none (key = [])"
        for name in job.key_columns or ():
            if (job.table_identity, name) in raw:
                raise ValueError(
                    f"{job.name}.{name} is in the key of a job, and holds raw addresses: {other}"
                )
            if (writer := owners.get((job.table_identity, name))) is not None:
                raise ValueError(f"{job.name}.{name} is in the key of a job, and {writer} writes it: {other}")
        if (job.table_identity, job.time_column) in raw:
            raise ValueError(f"{job.name}.{job.time_column} is the time of a job, and holds raw addresses")
        writer = owners.get((job.table_identity, job.time_column or ""))
        if writer is not None:
            raise ValueError(f"{job.name}.{job.time_column} is the time of a job, and {writer} writes it")


def _require_geo_keys(plan: Plan) -> None:
    """Raises ``ValueError`` where a job keeps a key of a place that the plan does not look up."""
    for job in plan.jobs:
        for key, _ in job.place.by_key if job.place else ():
            if key not in plan.geo.keys:
                raise ValueError(
                    f"geo: {key} of the job for {job.name}.{job.raw} is not among keys under [geo]"
                )


EVENT_TABLES = ("user_events", "project_events", "file_events", "organization_events", "team_events")
PYPI = Plan(
    name="pypi",
    addresses=Addresses(table="ip_addresses"),
    jobs=tuple(LinkJob(table=table) for table in EVENT_TABLES),
    discard=(Discard(table="journals", column="submitted_from", time="submitted_date"),),
)


def load_plan(path: Path | None) -> Plan:
    """The plan in the TOML file at *path*; the built-in one for ``None``. Raises ``PlanInvalid``."""
    if path is None:
        return PYPI
    try:
        content = read_toml(path)
    except InputUnreadable as error:
        raise PlanInvalid(path=path, problem=error.detail["problem"]) from error
    try:
        return Plan.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # The tag of the class that reads a job is no part of the file.
        where = ".".join(str(part) for part in first["loc"] if part not in TAGS) or "plan"
        raise PlanInvalid(path=path, problem=f"{where}: {first['msg']}") from error
