"""What to do to which table: the built-in plan for PyPI's schema, or a TOML plan file.

A plan names tables and columns and says nothing about a server; the same plan, hash scheme and key
id give the same fingerprint, which ties runs, proofs and gates together.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    StringConstraints,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from backfill.errors import AmbiguousJob, InputUnreadable, KindUnfit, PlanInvalid, UnknownJob
from backfill.files import read_toml
from backfill.hashing.schemes import scheme_names
from backfill.hashing.sha256 import SHA256_SUFFIX
from backfill.job_id import LONGEST, JobId, identity


def _in_bytes(name: str) -> str:
    if len(name.encode()) > LONGEST:  # PostgreSQL would cut it, and mean another one
        raise ValueError(f"a name in PostgreSQL has at most {LONGEST} bytes")
    return name


Name = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST), AfterValidator(_in_bytes)]
# TOML has no null: an empty text says that there is no such column.
NameOrNone = Annotated[Name | None, BeforeValidator(lambda value: None if value == "" else value)]
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


LINK = "link"  # the kind of job that a plan means where it names none


class GeoKey(StrEnum):
    """Keys of a place that can be looked up; the application's names for them."""

    CITY = "city"
    CONTINENT_CODE = "continent_code"
    COUNTRY_CODE3 = "country_code3"
    COUNTRY_CODE = "country_code"
    COUNTRY_NAME = "country_name"
    REGION = "region"
    LATITUDE = "latitude"
    LONGITUDE = "longitude"


class Part(BaseModel):
    """A frozen piece of a plan; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Table(Part):
    """A table of the application, by schema and name."""

    table: Name
    schema_: Name = Field("public", alias="schema")
    key: Name = "id"  # the primary key, one column

    @property
    def name(self) -> str:
        """``table``, or ``schema.table`` outside ``public``: what messages call the table."""
        return self.table if self.schema_ == "public" else f"{self.schema_}.{self.table}"

    @property
    def table_identity(self) -> str:
        """The table alone, unambiguously: two jobs may share it."""
        return identity(self.schema_, self.table)


class RawColumn(Table):
    """A raw column of a table: what a plan is about, and what everything on record belongs to.

    ``identity`` is for the ledger, ``label`` for people: the table's name where that says enough.
    """

    _label: str = PrivateAttr("")  # given by the plan, which knows what else shares the table

    @property
    def raw_column(self) -> str:
        """The column that holds addresses."""
        raise NotImplementedError

    @property
    def identity(self) -> JobId:
        """Schema, table and column, unambiguously."""
        return JobId(identity(self.schema_, self.table, self.raw_column))

    @property
    def label(self) -> str:
        """What commands and messages call it."""
        return self._label or self.name

    @property
    def aliases(self) -> frozenset[str]:
        """What a command accepts for it, where nothing else is called the same."""
        schema, table, column = self.schema_, self.table, self.raw_column
        return frozenset(
            {
                self.identity,
                self.label,
                self.name,
                table,
                f"{schema}.{table}",
                f"{self.name}.{column}",
                f"{schema}.{table}.{column}",
            }
        )


class Addresses(RawColumn):
    """The table that holds each address once."""

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


class Job(RawColumn):
    """A raw column and what its values become. What other kinds than ``link`` name besides is theirs."""

    becomes: Name = LINK  # a kind of job: ``backfill.jobs.kinds``
    raw: Name = "ip_address_string"  # text
    time: NameOrNone = "time"  # newest-first order for the write check

    @property
    def raw_column(self) -> str:
        """The raw text."""
        return self.raw

    @property
    def written(self) -> tuple[str, ...]:
        """The columns that a run writes."""
        return (self.raw,)


class LinkJob(Job):
    """An event table: *raw* becomes *link*, and geo goes into *extra*."""

    link: Name = "ip_address_id"  # references Addresses.key
    extra: NameOrNone = "additional"  # jsonb; None: the table keeps no geo of its own

    @property
    def written(self) -> tuple[str, ...]:
        """Link and geo."""
        return (self.link,) if self.extra is None else (self.link, self.extra)


class Discard(RawColumn):
    """A raw column that is dropped without being kept in any form."""

    column: Name
    time: NameOrNone = None

    @property
    def raw_column(self) -> str:
        """The column that goes."""
        return self.column


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
    becomes = job.get("becomes", LINK) if isinstance(job, dict) else job.becomes
    return LINK if becomes == LINK else OTHER


OTHER = "other"
AnyJob = Annotated[Annotated[LinkJob, Tag(LINK)] | Annotated[Job, Tag(OTHER)], Discriminator(_kind_of)]


class Plan(Part):
    """Everything a run needs to know about the application's schema."""

    name: Name
    hash: Hash = Hash()
    geo: Geo = Geo()
    addresses: Addresses
    jobs: tuple[AnyJob, ...] = ()
    discard: tuple[Discard, ...] = ()
    # What preflight finds and the operator has looked at: "code:subject". It says nothing about what a run does.
    accept: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.addresses.table_identity in {job.table_identity for job in self.jobs}:
            raise ValueError("the address table cannot be a job")
        _require_distinct(self)
        labels = _labels(self.parts)
        # Copies: a part that stands in two plans may be called differently in each.
        object.__setattr__(self, "addresses", _labelled(self.addresses, labels))
        object.__setattr__(self, "jobs", tuple(_labelled(job, labels) for job in self.jobs))
        object.__setattr__(self, "discard", tuple(_labelled(one, labels) for one in self.discard))
        return self

    @property
    def link_jobs(self) -> tuple[LinkJob, ...]:
        """The jobs whose raw values become links: those that gates, remedies and copies know."""
        return tuple(job for job in self.jobs if isinstance(job, LinkJob))

    @property
    def parts(self) -> tuple[RawColumn, ...]:
        """Every raw column: those of the jobs, that of the address table, those to be discarded."""
        return (*self.jobs, self.addresses, *self.discard)

    def job(self, name: str) -> Job:
        """The job of that identity or name. Raises ``UnknownJob``, ``AmbiguousJob``."""
        return find(name, self.jobs)

    def link_job(self, name: str) -> LinkJob:
        """The same, of a job whose values become links. Raises ``KindUnfit`` as well."""
        return links([self.job(name)])[0]

    def label(self, identity: str) -> str:
        """What people call the part of that identity; the identity itself where this plan has none."""
        return next((part.label for part in self.parts if part.identity == identity), identity)

    def choose(self, names: Sequence[str]) -> tuple[Job, ...]:
        """The jobs of that name, in the plan's order; all of them for no name. Raises ``UnknownJob``."""
        chosen = {self.job(name).identity for name in names}
        return tuple(job for job in self.jobs if not chosen or job.identity in chosen)

    def fingerprint(self, key_id: str) -> str:
        """Hex sha256 over plan text, hash scheme and key id; the catalog has no part in it."""
        text = json.dumps(
            [self.model_dump(mode="json", by_alias=True, exclude={"accept"}), key_id], sort_keys=True
        )
        return hashlib.sha256(text.encode()).hexdigest()


def links(jobs: Iterable[Job]) -> tuple[LinkJob, ...]:
    """Those jobs, for what is done with links alone. Raises ``KindUnfit`` where one is of another kind."""
    found = []
    for job in jobs:
        if not isinstance(job, LinkJob):
            raise KindUnfit(job=job.label, becomes=job.becomes)
        found.append(job)
    return tuple(found)


Some = TypeVar("Some", bound=RawColumn)


def find(name: str, parts: Iterable[Some]) -> Some:
    """The one of *parts* that *name* means: its identity, its label, or another name that is its alone.

    Raises ``UnknownJob``, ``AmbiguousJob``.
    """
    known = tuple(parts)
    for exact in (
        (one for one in known if one.identity == name),
        (one for one in known if one.label == name),
    ):
        if (found := next(exact, None)) is not None:
            return found
    alike = [one for one in known if name in one.aliases]
    if not alike:
        raise UnknownJob(job=name, known=", ".join(one.label for one in known))
    if len(alike) > 1:
        raise AmbiguousJob(job=name, choices=", ".join(one.label for one in alike))
    return alike[0]


def _labels(parts: Sequence[RawColumn]) -> dict[JobId, str]:
    """The table's name where it has one part; its column behind it, or the identity, where that is not enough."""
    tables = Counter(part.name for part in parts)
    labels = {
        part.identity: part.name if tables[part.name] == 1 else f"{part.name}.{part.raw_column}"
        for part in parts
    }
    times = Counter(labels.values())
    return {name: label if times[label] == 1 else str(name) for name, label in labels.items()}


def _labelled(part: Some, labels: dict[JobId, str]) -> Some:
    copy = part.model_copy()
    label = labels[part.identity]
    copy._label = "" if label == part.name else label
    return copy


def _columns(plan: Plan) -> Iterator[tuple[str, str, str]]:
    """Columns that belong to one part alone: table, column, and who has it."""
    part = plan.addresses
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
                f"{owner} and {other} have one column, {column}: each raw, link and extra column belongs to one"
            )
        owners[table, column] = owner
    going = {(part.table_identity, part.raw_column) for part in plan.parts}
    for job in plan.jobs:
        for name in (job.key, job.time):
            if (job.table_identity, name) in going:
                raise ValueError(f"{job.name}.{name} is key or time of a job, and is to be dropped")


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
        where = ".".join(str(part) for part in first["loc"] if part not in (LINK, OTHER)) or "plan"
        raise PlanInvalid(path=path, problem=f"{where}: {first['msg']}") from error
