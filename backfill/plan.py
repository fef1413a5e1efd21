"""What to do to which table: the built-in plan for PyPI's schema, or a TOML plan file.

A plan names tables and columns and says nothing about a server; the same plan, hash scheme and key
id give the same fingerprint, which ties runs, proofs and gates together.
"""

import hashlib
import json
import tomllib
from collections.abc import Sequence
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from backfill.errors import PlanInvalid, UnknownJob

Name = Annotated[str, StringConstraints(min_length=1, max_length=63)]
# TOML has no null: an empty text says that there is no such column.
NameOrNone = Annotated[Name | None, BeforeValidator(lambda value: None if value == "" else value)]
AddressText = Annotated[str, AfterValidator(lambda text: str(ip_address(text)))]


class Scheme(StrEnum):
    """How text and salt become a hash; names are stored in plans and in the ledger."""

    SHA256_SUFFIX = "sha256-suffix"  # sha256(address + salt), the live application's formula
    SHA256_PREFIX = "sha256-prefix"  # sha256(salt + address)
    SHA256_UNSALTED = "sha256-unsalted"  # sha256(address): an edge that forgot the salt
    HMAC_SHA256 = "hmac-sha256"  # hmac(key=salt, message=address)


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
        """``table``, or ``schema.table`` outside ``public``: what commands and messages call it."""
        return self.table if self.schema_ == "public" else f"{self.schema_}.{self.table}"


class Addresses(Table):
    """The table that holds each address once."""

    address: Name = "ip_address"  # inet, unique
    hash: Name = "hashed_ip_address"  # text, unique
    geo: Name = "geoip_info"  # jsonb
    banned: NameOrNone = "is_banned"
    ban_reason: NameOrNone = "ban_reason"
    ban_date: NameOrNone = "ban_date"
    sentinel: AddressText = "192.0.2.69"  # what the application stores for text that is no address


class Job(Table):
    """An event table: *raw* becomes *link*, and geo goes into *extra*."""

    raw: Name = "ip_address_string"  # text
    link: Name = "ip_address_id"  # references Addresses.key
    extra: NameOrNone = "additional"  # jsonb; None: the table keeps no geo of its own
    time: NameOrNone = "time"  # newest-first order for the write check


class Discard(Table):
    """A raw column that is dropped without being kept in any form."""

    column: Name
    time: NameOrNone = None


class Hash(Part):
    """How addresses are hashed."""

    scheme: Scheme = Scheme.SHA256_SUFFIX


class Plan(Part):
    """Everything a run needs to know about the application's schema."""

    name: Name
    hash: Hash = Hash()
    addresses: Addresses
    jobs: tuple[Job, ...] = Field(min_length=1)
    discard: tuple[Discard, ...] = ()

    @model_validator(mode="after")
    def _each_table_once(self) -> Self:
        names = [job.name for job in self.jobs]
        if len(set(names)) < len(names):
            raise ValueError("a table has two jobs")
        if self.addresses.name in names:
            raise ValueError("the address table cannot be a job")
        return self

    def job(self, name: str) -> Job:
        """The job of that table. Raises ``UnknownJob``."""
        for job in self.jobs:
            if job.name == name:
                return job
        raise UnknownJob(job=name, known=", ".join(job.name for job in self.jobs))

    def choose(self, names: Sequence[str]) -> tuple[Job, ...]:
        """The jobs of that name, in the plan's order; all of them for no name. Raises ``UnknownJob``."""
        chosen = {self.job(name).name for name in names}
        return tuple(job for job in self.jobs if not chosen or job.name in chosen)

    def fingerprint(self, key_id: str) -> str:
        """Hex sha256 over plan text, hash scheme and key id; the catalog has no part in it."""
        text = json.dumps([self.model_dump(mode="json", by_alias=True), key_id], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


EVENT_TABLES = ("user_events", "project_events", "file_events", "organization_events", "team_events")

PYPI = Plan(
    name="pypi",
    addresses=Addresses(table="ip_addresses"),
    jobs=tuple(Job(table=table) for table in EVENT_TABLES),
    discard=(Discard(table="journals", column="submitted_from", time="submitted_date"),),
)


def load_plan(path: Path | None) -> Plan:
    """The plan in the TOML file at *path*; the built-in one for ``None``. Raises ``PlanInvalid``."""
    if path is None:
        return PYPI
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanInvalid(path=path, problem=error.strerror or "cannot be read") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PlanInvalid(path=path, problem=f"not TOML: {error}") from error
    try:
        return Plan.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "plan"
        raise PlanInvalid(path=path, problem=f"{where}: {first['msg']}") from error
