"""Raw column: a column that holds addresses. What it is called, by people and on record, and how it is found by name."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    StringConstraints,
)

from backfill.errors import AmbiguousJob, UnknownJob
from backfill.job_id import LONGEST, JobId, identity


def _in_bytes(name: str) -> str:
    if len(name.encode()) > LONGEST:  # PostgreSQL would cut it, and mean another one
        raise ValueError(f"a name in PostgreSQL has at most {LONGEST} bytes")
    return name


Name = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST), AfterValidator(_in_bytes)]
# TOML has no null: an empty text says that there is no such column.
NameOrNone = Annotated[Name | None, BeforeValidator(lambda value: None if value == "" else value)]


def _columns_of_key(value: object) -> object:
    """A key as a plan says it: one column is its name, whether it stands in a list or not; none is an empty tuple."""
    if value is None:
        return None
    columns = ([value] if value else []) if isinstance(value, str) else value
    if not isinstance(columns, list | tuple) or not all(isinstance(one, str) for one in columns):
        raise ValueError('a column, a list of columns, or "" where the table has no key')
    if not all(0 < len(name.encode()) <= LONGEST for name in columns):
        raise ValueError(f"a name in PostgreSQL has 1 to {LONGEST} bytes")
    if len(set(columns)) < len(columns):
        raise ValueError("a column is named twice")
    return columns[0] if len(columns) == 1 else tuple(columns)


# A column, several or none; None: what the catalog says.
Key = Annotated[str | tuple[str, ...] | None, BeforeValidator(_columns_of_key)]


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("a constant is one line of printable characters")
    return text


# A value that a plan gives, and messages show.
Constant = Annotated[str, StringConstraints(max_length=64), AfterValidator(_one_line)]


class Part(BaseModel):
    """A frozen piece of a plan; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Widths(Part):
    """Bits of an address that are kept, where a raw value becomes its network."""

    v4: int = Field(24, ge=1, le=31, strict=True)  # "true" is no number of bits
    v6: int = Field(48, ge=1, le=127, strict=True)


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


NUMBERS = (GeoKey.LATITUDE, GeoKey.LONGITUDE)
SAID = 'a jsonb column, or columns by key: { country_code = "country" }'


def _as_said(value: object) -> object:
    """Where places go, as a plan says it: a column is its name, columns by key are pairs."""
    if value is None or value == "":
        return None
    pairs = tuple(value.items()) if isinstance(value, dict) else ()
    names = [value] if isinstance(value, str) else [name for _, name in pairs]
    if not names or not all(isinstance(name, str) and 0 < len(name.encode()) <= LONGEST for name in names):
        raise ValueError(SAID)
    for key, _ in pairs:
        if key not in set(GeoKey) - set(NUMBERS):
            raise ValueError(
                f"{key}: columns are filled with {', '.join(sorted(set(GeoKey) - set(NUMBERS)))}"
            )
    if len(set(names)) < len(names):
        raise ValueError("a column is named twice")
    return value if isinstance(value, str) else tuple((GeoKey(key), name) for key, name in pairs)


GeoColumns = Annotated[str | tuple[tuple[GeoKey, str], ...] | None, BeforeValidator(_as_said)]


@dataclass(frozen=True)
class Place:
    """Where the place of an address goes: a jsonb column, or a text column for each key."""

    column: str | None
    by_key: tuple[tuple[GeoKey, str], ...] = ()

    @classmethod
    def of(cls, geo: Any) -> "Place | None":
        """From a plan's key ``geo``."""
        return None if geo is None else cls(geo) if isinstance(geo, str) else cls(None, geo)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are written."""
        return (self.column,) if self.column is not None else tuple(name for _, name in self.by_key)

    def __str__(self) -> str:
        """The columns, for people."""
        return ", ".join(self.columns)


class Table(Part):
    """A table of the application, by schema and name."""

    table: Name
    schema_: Name = Field("public", alias="schema")
    key: Key = "id"  # what names a row

    @property
    def name(self) -> str:
        """``table``, or ``schema.table`` outside ``public``: what messages call the table."""
        return self.table if self.schema_ == "public" else f"{self.schema_}.{self.table}"

    @property
    def key_columns(self) -> tuple[str, ...] | None:
        """The same as columns."""
        return (self.key,) if isinstance(self.key, str) else self.key

    @property
    def table_identity(self) -> str:
        """The table alone, unambiguously: two jobs may share it."""
        return identity(self.schema_, self.table)


class RawColumn(Table):
    """A raw column of a table: what a plan is about, and what everything on record belongs to.

    ``identity`` is for the ledger, ``label`` for people: the table's name where that says enough.
    """

    # Given by the plan, which knows what else shares the table.
    _label: str = PrivateAttr("")
    _in_no_key: frozenset[str] = PrivateAttr(frozenset())
    _accepted: frozenset[str] = PrivateAttr(frozenset())

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
    def in_no_key(self) -> frozenset[str]:
        """Columns of the table that cannot name a row: they hold raw addresses, or a job writes them."""
        return self._in_no_key

    @property
    def accepted(self) -> frozenset[str]:
        """What the plan accepts of this table: findings by code and subject."""
        return self._accepted

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


def labels_of(parts: Sequence[RawColumn]) -> dict[JobId, str]:
    """The table's name where it has one part; its column behind it, or the identity, where that is not enough."""
    tables = Counter(part.name for part in parts)
    labels = {
        part.identity: part.name if tables[part.name] == 1 else f"{part.name}.{part.raw_column}"
        for part in parts
    }
    times = Counter(labels.values())
    return {name: label if times[label] == 1 else str(name) for name, label in labels.items()}


def labelled(
    part: Some, labels: dict[JobId, str], in_no_key: Iterable[str] = (), accept: Iterable[str] = ()
) -> Some:
    """A copy that is called so, and whose rows none of those columns can name. *accept*: the plan's."""
    copy = part.model_copy()
    label = labels[part.identity]
    copy._label = "" if label == part.name else label
    copy._in_no_key = frozenset(in_no_key)
    copy._accepted = frozenset(name for name in accept if f":{part.schema_}.{part.table}." in name)
    return copy
