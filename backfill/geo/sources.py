"""The kinds of geo database; a new one is one file and one line here."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from backfill.errors import GeoFileUnusable
from backfill.geo.city import open_city
from backfill.geo.geo_database import GeoDatabase
from backfill.geo.source import KEYS, GeoSource
from backfill.plan import GeoKey


@dataclass(frozen=True)
class SourceKind:
    """A kind of file: its suffix (none: any), and how it is opened. ``open`` raises ``GeoFileUnusable``."""

    suffix: str
    open: Callable[[Path], GeoSource]


# The first whose suffix fits. A City database may have any name.
SOURCES: list[SourceKind] = [
    SourceKind("", open_city),
]


def open_geo(path: Path, keys: Collection[GeoKey] = KEYS, codec: str = "utf-8") -> GeoDatabase:
    """The geo database at *path*, tried out; it answers with those *keys*, in that encoding.

    Raises ``GeoFileUnusable`` with the reason in words.
    """
    try:
        if not S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            raise GeoFileUnusable(path=path, problem="it is not a file")
        with path.open("rb"):  # the City reader reports a forbidden file as a corrupt one
            pass
    except OSError as error:
        raise GeoFileUnusable(path=path, problem=error.strerror or "it cannot be read") from error
    kind = next(each for each in SOURCES if path.name.endswith(each.suffix))
    return GeoDatabase(kind.open(path), keys, codec)
