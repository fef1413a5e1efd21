"""Place columns: the place of an address, in a text column for each of its keys.

A row has a place where one of them says something. It is given as a whole or not at all: the country of one source and
the city of another would be a place that does not exist. A text that is too long for its column costs this one key.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.columns import widths
from backfill.jobs.place_column import PlaceColumn
from backfill.plan import GeoKey, Job

# What a column says; "?" is what an edge says of a city that it does not know.
SAID = sql.SQL("""
    case when {text} OPERATOR(pg_catalog.=) '' or {text} OPERATOR(pg_catalog.=) '?' then null else {text} end
""")
TEXT = sql.SQL('({}::pg_catalog.text collate pg_catalog."C")')
VALUE = sql.SQL("(map.geo OPERATOR(pg_catalog.->>) {})")
FITS = sql.SQL("case when pg_catalog.length({value}) OPERATOR(pg_catalog.<=) {width} then {value} end")
TOO_LONG = sql.SQL("case when pg_catalog.length({value}) OPERATOR(pg_catalog.>) {width} then {key} end")
OBJECT = sql.SQL("pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object({}))")
LOST = sql.SQL("""
    case when map.lost is null and {none} then null else pg_catalog.concat_ws(',', map.lost, {too_long}) end
""")
SET_KEY = sql.SQL("""
    {column} = case when {is_known} and {lacks} then coalesce({value}, event.{column}::pg_catalog.text)
                    else event.{column}::pg_catalog.text end
""")


@dataclass(frozen=True)
class PlaceColumns(PlaceColumn):
    """The columns of one job; their widths are known once they are ``fitted``."""

    by_key: tuple[tuple[GeoKey, str], ...] = ()
    known_widths: Mapping[str, int] = field(default_factory=dict)

    def fitted(self, connection: Connection) -> Self:
        """The same, with the widths that the columns have now."""
        fitted = super().fitted(connection)
        return replace(fitted, known_widths=widths(connection, self.job, [name for _, name in self.by_key]))

    def _place_of(self, alias: str) -> sql.Composable:
        return _object(
            (key, SAID.format(text=TEXT.format(sql.Identifier(alias, name)))) for key, name in self.by_key
        )

    @property
    def _known(self) -> sql.Composable:
        return _object((key, self._value(key, name)) for key, name in self.by_key)

    @property
    def is_known(self) -> sql.Composable:
        """The entry has one of these keys, and its column can hold it."""
        values = (sql.SQL("{} is not null").format(self._value(key, name)) for key, name in self.by_key)
        return sql.SQL("({})").format(sql.SQL(" or ").join(values))

    @property
    def lost(self) -> sql.Composable:
        """Those that the encoding cannot hold, and those that are too long."""
        too_long = [
            TOO_LONG.format(
                value=VALUE.format(sql.Literal(key.value)),
                width=sql.Literal(self.known_widths[name]),
                key=sql.Literal(key.value),
            )
            for key, name in self.by_key
            if name in self.known_widths
        ]
        if not too_long:
            return super().lost
        none = sql.SQL(" and ").join(sql.SQL("({}) is null").format(one) for one in too_long)
        return LOST.format(none=none, too_long=sql.SQL(", ").join(too_long))

    @property
    def assignments(self) -> tuple[sql.Composable, ...]:
        """Each column's, where the row has no place. A key that is not known leaves its column as it is: it may be NOT NULL."""
        return tuple(
            SET_KEY.format(
                column=sql.Identifier(name),
                is_known=self.is_known,
                lacks=self.lacks,
                value=self._value(key, name),
            )
            for key, name in self.by_key
        )

    def _of_columns(self, lost: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
        named = {key.value for key, _ in self.by_key}
        told = ((key, ",".join(one for one in fields.split(",") if one in named)) for key, fields in lost)
        return [(key, fields) for key, fields in told if fields]

    def _value(self, key: GeoKey, name: str) -> sql.Composable:
        value = VALUE.format(sql.Literal(key.value))
        return (
            FITS.format(value=value, width=sql.Literal(self.known_widths[name]))
            if name in self.known_widths
            else value
        )


def _object(pairs: Iterable[tuple[GeoKey, sql.Composable]]) -> sql.Composable:
    return OBJECT.format(
        sql.SQL(", ").join(part for key, value in pairs for part in (sql.Literal(key.value), value))
    )


def place_of(job: Job) -> PlaceColumn | None:
    """Where the place of an address goes, if anywhere."""
    if job.place is None:
        return None
    if job.place.column is not None:
        return PlaceColumn(job, job.place.column)
    return PlaceColumns(job, "", by_key=job.place.by_key)
