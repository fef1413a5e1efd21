"""Rows of the five event tables, as three generations of the application left them.

Old events have their raw text only. Newer ones were linked when they were written, most with geo.
The newest have no raw text any more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from backfill.database import binary_copy
from backfill.pypi.demo import specials as nasty
from backfill.pypi.demo import spellings
from backfill.pypi.demo.clock import moment, new_uuid
from backfill.pypi.demo.extras import JSON_NULL, NO_OBJECTS, EventTable, close_document, open_documents
from backfill.pypi.demo.pool import Pool
from backfill.pypi.demo.spellings import Malformed, Odd

COLUMNS = ("id", "source_id", "tag", "time", "ip_address_string", "additional", "ip_address_id")

JITTER_ROWS = 40  # rows are on disk roughly in the order of their time
NO_ADDRESS = 0.01  # written by a background task
MISSED = 0.01  # not linked although the live application already did so
WITH_GEO = 0.7  # of the linked: the edge had geo for the request
MOVED = 0.01  # of those: the geo of the time is not the geo of today
SQL_NULL, UP_TO_JSON_NULL = 0.10, 0.12  # shares of ``additional``
NO_OBJECT_EVERY, NO_OBJECT_AT = 199, 7  # half a percent; by number, so that small tables have them too


@dataclass
class Live:
    """What the live application has put into ip_addresses so far, in the order of its doing."""

    sentinel: bytes  # uuid field
    mapped: bytes  # uuid field of the IPv4-mapped form of address 0
    numbers: dict[int, None] = field(default_factory=dict)  # of the pool; an ordered set


@dataclass
class Tally:
    """Counts over all event tables."""

    malformed: int = 0
    odd: int = 0
    no_address: int = 0  # neither raw text nor link
    retired: int = 0  # link, but no raw text any more
    linked: int = 0


def event_rows(
    table: EventTable,
    count: int,
    sources: Sequence[bytes],
    pool: Pool,
    live: Live,
    tally: Tally,
    *,
    every_kind: bool,
    rng: Random,
) -> Iterator[bytes]:
    """*count* rows of COLUMNS, oldest first. *sources*: uuid fields, in the order of their creation."""
    tags = [binary_copy.text(tag) for tag in table.tags]
    documents = open_documents(table)
    special_rows = nasty.place(count, every_kind=every_kind, rng=rng)
    last = max(1, count - 1)
    jitter = min(JITTER_ROWS, last * nasty.JITTER_SHARE)
    random = rng.random
    for row in range(count):
        progress = (row + random() * jitter) / (last + jitter)
        raw = link = binary_copy.NULL
        geo = None
        special = special_rows.get(row)
        if special:
            raw, link = _special(special, pool, live, tally, rng)
        elif random() < NO_ADDRESS:
            tally.no_address += 1
        else:
            number = pool.pick(rng)
            retired = progress >= nasty.RETIRED_FROM
            tally.retired += retired
            if not retired:
                raw = pool.raws[number]
            if retired or _links(progress, random()):
                link = pool.ids[number]
                live.numbers[number] = None
                geo = _geo_of_the_time(number, pool, rng)
        tally.linked += link is not binary_copy.NULL
        yield binary_copy.row(
            binary_copy.uuid(new_uuid(rng)),
            sources[int(len(sources) * progress * random())],  # created before the event
            tags[int(len(tags) * random())],
            binary_copy.timestamp(moment(progress)),
            raw,
            _additional(row, geo, documents, rng),
            link,
        )


def _links(progress: float, chance: float) -> bool:
    """Whether the application linked an ordinary event of that time."""
    machines = (progress - nasty.LIVE_FROM) / (nasty.LIVE_ALL - nasty.LIVE_FROM)
    return chance < min(machines, 1 - MISSED)


def _geo_of_the_time(number: int, pool: Pool, rng: Random) -> bytes | None:
    """The geo that the edge gave with the request; None when it gave none."""
    if rng.random() >= WITH_GEO or pool.geos[number] is None:
        return None
    if rng.random() < MOVED:
        return pool.geos[int(pool.size * rng.random())]
    return pool.geos[number]


def _additional(row: int, geo: bytes | None, documents: Sequence[bytes], rng: Random) -> bytes:
    """The field; where there is geo it is an object, since the application put the geo in."""
    kind = rng.random()
    document = documents[int(len(documents) * rng.random())]
    if geo is None:
        if row % NO_OBJECT_EVERY == NO_OBJECT_AT:
            return NO_OBJECTS[row // NO_OBJECT_EVERY % len(NO_OBJECTS)]
        if kind < UP_TO_JSON_NULL:
            return binary_copy.NULL if kind < SQL_NULL else JSON_NULL
    return close_document(document, geo)


def _special(
    special: nasty.Special, pool: Pool, live: Live, tally: Tally, rng: Random
) -> tuple[bytes, bytes]:
    """Raw text and link, as fields, of a nasty row."""
    match special.what:
        case Odd(version=version, write=spell):
            number = pool.pick_version(rng, version)
            tally.odd += 1
            if special.live:
                live.numbers[number] = None
            link = pool.ids[number] if special.live else binary_copy.NULL
            return binary_copy.text(spell(pool.texts[number])), link
        case nasty.Twin.PLAIN:
            pool.used[0] = 1
            live.numbers[0] = None
            return pool.raws[0], pool.ids[0]
        case nasty.Twin.MAPPED:
            pool.used[0] = 1
            return binary_copy.text(f"::ffff:{pool.texts[0]}"), live.mapped
    tally.malformed += 1
    v4, v6 = (pool.texts[pool.number_of_version(rng, version)] for version in (4, 6))
    if isinstance(special.what, Malformed):
        text = special.what.write(rng, v4, v6)
    else:
        text = spellings.long_text(v4, v6)
    return binary_copy.text(text), live.sentinel if special.live else binary_copy.NULL
