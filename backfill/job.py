"""Job: a raw column and what becomes of its values, as a plan says it; and a raw column that goes without a trace."""

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import field_serializer, model_validator

from backfill.age.aged import Aged
from backfill.age.time_column import TimeColumn
from backfill.errors import IntoUnfit, KindUnfit
from backfill.raw_column import Constant, GeoColumns, Key, Name, NameOrNone, Place, RawColumn, Widths

LINK = "link"  # the kind of job that a plan means where it names none
INTO = "hash into"  # the kind of a job whose hashes go into another column: becomes = "hash", with into
IN_PLACE = ("pseudonym", "hash", "network", "nothing")  # kinds that rewrite the value where it is

# What a job may ask for one day: refused by name, so that it is not taken for a typing error.
NOT_YET = {
    "path": "members of JSON documents",
    "removes": "the retention of links, hashes and places",
}


class Job(RawColumn):
    """A raw column and what its values become. What other kinds than ``link`` name besides is theirs."""

    becomes: Name = LINK  # a kind of job: ``backfill.jobs.kinds``
    raw: Name = "ip_address_string"  # text
    time: TimeColumn | NameOrNone = "time"  # newest-first order for the write check

    @model_validator(mode="before")
    @classmethod
    def _no_key_of_another_kind(cls, keys: Any) -> Any:
        return _without_a_misfit(keys) if isinstance(keys, dict) else keys

    @property
    def raw_column(self) -> str:
        """The raw text."""
        return self.raw

    @property
    def kind(self) -> str:
        """By which its writer and its judge are found."""
        return self.becomes

    @property
    def time_column(self) -> str | None:
        """The name of the column that tells when a row was written."""
        return self.time.column if isinstance(self.time, TimeColumn) else self.time

    @property
    def place(self) -> Place | None:
        """Where the place of the address goes, beside what becomes of the value."""
        return None

    @property
    def written(self) -> tuple[str, ...]:
        """The columns that a run writes."""
        return (self.raw,)


class DroppingJob(Job):
    """A job whose raw column is dropped in the end: what becomes of its values stands in another column."""

    key: Key = None

    @field_serializer("key")
    def _as_ever(self, key: str | tuple[str, ...] | None) -> str | tuple[str, ...]:
        """An absent key had this name before it could be another: fingerprints of plans stay what they were."""
        return "id" if key is None else key

    @property
    def result(self) -> str:
        """That column."""
        raise NotImplementedError


class LinkJob(DroppingJob):
    """An event table: *raw* becomes *link*, and geo goes into *extra*."""

    link: Name = "ip_address_id"  # references Addresses.key
    extra: NameOrNone = "additional"  # jsonb; None: the table keeps no geo of its own
    time: NameOrNone = "time"

    @property
    def result(self) -> str:
        """The link."""
        return self.link

    @property
    def written(self) -> tuple[str, ...]:
        """Link and geo."""
        return (self.link,) if self.extra is None else (self.link, self.extra)


class IntoJob(DroppingJob):
    """A table whose hashes stand beside the raw column until that one is dropped."""

    becomes: Literal["hash"]
    raw: Name
    into: Name  # text
    then: Literal["drop"] = "drop"
    geo: GeoColumns = None  # the place of the address
    time: NameOrNone = None

    @property
    def kind(self) -> str:
        """Not that of hashes in place."""
        return INTO

    @property
    def result(self) -> str:
        """The hash."""
        return self.into

    @property
    def place(self) -> Place | None:
        """As the plan says."""
        return Place.of(self.geo)

    @property
    def written(self) -> tuple[str, ...]:
        """The hash, and the place."""
        return (self.into, *(self.place.columns if self.place else ()))


OF_LINKS = ("link", "extra")
OF_VALUES = ("geo", "then", "widths", "constant", "unreadable", "after", "max_due", "on_duplicate")
# What a job with ``into`` cannot have besides, and why.
NOT_BESIDE_INTO = {
    "unreadable": "it does not apply: a row whose text is no address waits in the quarantine",
    "constant": "it does not apply: a row without an address has no hash",
    "on_duplicate": "it does not apply: the raw column stays as it is until it is dropped",
    "after": "the drop of the raw column would wait for ever, as younger rows have no hash. Leave it out, or leave into "
    "out: hashes in place take an age",
    "max_due": "it bounds due runs, and no row is due by its age here",
}


def _without_a_misfit(keys: dict[str, Any]) -> dict[str, Any]:
    """Those keys of a job. Raises ``ValueError`` where they do not go together."""
    kind = keys.get("becomes", LINK)
    for key, what in NOT_YET.items():
        if key in keys:
            raise ValueError(f"{key}: {what} are not supported by this version")
    if kind == LINK and "geo" in keys:
        raise ValueError("geo: a link has its place in the address table, and in the column that extra names")
    wrong = next((key for key in (OF_VALUES if kind == LINK else OF_LINKS) if key in keys), None)
    if wrong is not None and kind in (LINK, *IN_PLACE):
        where = "a value that is rewritten in place" if kind == LINK else 'becomes = "link"'
        raise ValueError(f'{wrong}: it belongs to {where}, not to becomes = "{kind}"')
    if "into" in keys and kind in (LINK, *IN_PLACE):
        _require_into_fits(keys, kind)
    _require_place_fits(keys)
    if "widths" in keys and kind != "network":
        raise ValueError(f'widths: they belong to becomes = "network", not "{kind}"')
    if "constant" in keys and kind != "nothing" and keys.get("unreadable") != "nothing":
        raise ValueError(f'constant: becomes = "{kind}" uses it only with unreadable = "nothing"')
    if keys.get("on_duplicate") == "keep-newest" and not keys.get("time"):
        raise ValueError(
            "on_duplicate: keep-newest needs time, the column that tells which of two rows is newer"
        )
    if kind == "nothing" and "then" not in keys:
        raise ValueError('then: required for becomes = "nothing": "keep" the column, or "drop" it as it is')
    return keys


def require_nothing_kept(keys: dict[str, Any]) -> None:
    """Raises ``ValueError`` where a job whose column goes as it is says what becomes of its rows."""
    wrong = next((key for key in OF_VALUES if key in keys and key != "then"), None)
    if wrong is not None:
        instead = (
            ' To keep the places, say then = "keep", and drop the column after the run.'
            if wrong == "geo"
            else ""
        )
        raise ValueError(
            f'{wrong}: beside then = "drop" it does not apply: the column goes as it is, and no row is rewritten.{instead}'
        )


def _require_place_fits(keys: dict[str, Any]) -> None:
    """Raises ``ValueError`` where the column of the place has another purpose."""
    geo = keys.get("geo")
    places = tuple(geo.values()) if isinstance(geo, dict) else (geo,)
    time = keys.get("time")
    for other, column in (
        ("raw", keys.get("raw")),
        ("into", keys.get("into")),
        ("time", time.get("column") if isinstance(time, dict) else time),
    ):
        if column and column in places:
            raise ValueError(f"geo: it is the column of {other}; places need a column of their own")


def _require_into_fits(keys: dict[str, Any], kind: str) -> None:
    """Raises ``ValueError`` where a key of that job does not go together with ``into``."""
    if kind != "hash":
        raise ValueError(f'into: it belongs to becomes = "hash", not to becomes = "{kind}"')
    for key, why in NOT_BESIDE_INTO.items():
        if key in keys:
            raise ValueError(f"{key}: beside into, {why}")
    if keys.get("then", "drop") != "drop":
        raise ValueError(
            'then: beside into, it is "drop": a raw column that stays keeps its addresses. It is there until you type '
            "`backfill migrate`; to keep a column, leave into out: its values become hashes in place"
        )
    for other in ("raw", "time"):
        if keys["into"] == keys.get(other):
            raise ValueError(f"into: it is the column of {other}; hashes need a column of their own")


class InPlaceJob(Aged, Job):
    """A raw column whose values are rewritten where they are: column, indexes and statements of the application stay."""

    key: Key = None
    becomes: Literal["pseudonym", "hash", "network", "nothing"]
    raw: Name
    then: Literal["keep"] = "keep"
    unreadable: Literal["refuse", "keep", "nothing"]  # what becomes of a text that is no address
    widths: Widths = Widths()  # network
    constant: Constant | None = None
    geo: GeoColumns = None  # the place of the address, which the value tells no more
    # What becomes of a row whose value would be that of another one under a unique index.
    on_duplicate: Literal["refuse", "keep-newest"] | None = None

    @property
    def place(self) -> Place | None:
        """As the plan says."""
        return Place.of(self.geo)

    @property
    def written(self) -> tuple[str, ...]:
        """The value, and the place."""
        return (self.raw, *(self.place.columns if self.place else ()))

    @property
    def empties(self) -> bool:
        """Whether values may become NULL."""
        return self.constant is None and "nothing" in (self.becomes, self.unreadable)

    @property
    def deletes(self) -> bool:
        """Whether rows may be deleted."""
        return self.on_duplicate == "keep-newest"


class Discard(RawColumn):
    """A raw column that is dropped without being kept in any form."""

    key: Name = "id"
    column: Name
    time: NameOrNone = None

    @property
    def raw_column(self) -> str:
        """The column that goes."""
        return self.column


def links(jobs: Iterable[Job]) -> tuple[LinkJob, ...]:
    """Those jobs, for what is done with links alone. Raises ``KindUnfit`` where one is of another kind."""
    found = []
    for job in jobs:
        if isinstance(job, IntoJob):
            raise IntoUnfit(job=job.label, into=job.into)
        if not isinstance(job, LinkJob):
            raise KindUnfit(job=job.label, becomes=job.becomes)
        found.append(job)
    return tuple(found)


def dropping(job: Job) -> DroppingJob:
    """That job, for what is done where a raw column is dropped. Raises ``KindUnfit`` where it stays."""
    if not isinstance(job, DroppingJob):
        raise KindUnfit(job=job.label, becomes=job.becomes)
    return job
