"""Pure: which rows of an event table are the nasty ones; at least two of each kind, spread out."""

from dataclasses import dataclass
from enum import Enum, auto
from random import Random

from backfill.pypi.demo.spellings import MALFORMED, ODD, Malformed, Odd

# Progress through the demo's years (0..1) at which the live application changed.
LIVE_FROM, LIVE_ALL = 0.82, 0.88  # it began to link events; machine after machine, all of them do
RETIRED_FROM = 0.98  # it stopped writing the raw columns

OLD_ZONE = (0.0, 0.80)  # of the rows: surely before LIVE_FROM
LIVE_ZONE = (0.90, 0.95)  # surely after LIVE_ALL and before RETIRED_FROM
JITTER_SHARE = (
    0.02  # of the rows, at most: keeps the two lines above true, and the newest row retired, in small tables
)

MALFORMED_SHARE = 0.001
ODD_SHARE = 0.01
TWIN_SHARE = 0.0001
LONG_TEXTS_FROM = 50_000  # rows from which on there are two texts of 10 kB instead of one
LIVE_PART = 0.15  # of the malformed ones: those that the live application linked to the sentinel


class Twin(Enum):
    """One host, two rows in ip_addresses."""

    PLAIN = auto()  # linked to 1.2.3.4
    MAPPED = auto()  # linked to ::ffff:1.2.3.4


class Long(Enum):
    """A text of 10 kB."""

    TEXT = auto()


@dataclass(frozen=True)
class Special:
    """What is special about a row, and whether the live application has linked it."""

    what: Odd | Malformed | Twin | Long
    live: bool


def place(rows: int, *, every_kind: bool, rng: Random) -> dict[int, Special]:
    """Row number → Special. *every_kind*: the table must have each, however few rows there are."""
    old: list[Special] = []
    live: list[Special] = []
    malformed = max(round(rows * MALFORMED_SHARE), 2 * len(MALFORMED) if every_kind else 0)
    odd = max(round(rows * ODD_SHARE), 2 * len(ODD) if every_kind else 0)
    for number in range(malformed):
        # In whole rounds, so that the sentinel gets every kind as well.
        is_live = number // len(MALFORMED) % round(1 / LIVE_PART) == 1
        (live if is_live else old).append(Special(MALFORMED[number % len(MALFORMED)], is_live))
    old += [Special(ODD[number % len(ODD)], live=False) for number in range(odd)]
    if every_kind:
        live += [Special(spelling, live=True) for spelling in ODD if spelling.as_inet]
        for _ in range(max(3, round(rows * TWIN_SHARE))):
            live += [Special(Twin.PLAIN, live=True), Special(Twin.MAPPED, live=True)]
        old += [Special(Long.TEXT, live=False)] * (2 if rows >= LONG_TEXTS_FROM else 1)
    return _scatter(old, rows, OLD_ZONE, rng) | _scatter(live, rows, LIVE_ZONE, rng)


def _scatter(
    specials: list[Special], rows: int, zone: tuple[float, float], rng: Random
) -> dict[int, Special]:
    """Each of them on a row of its own in the zone; as many as fit."""
    places = range(int(rows * zone[0]), int(rows * zone[1]))
    fitting = specials[: len(places)]
    return dict(zip(rng.sample(places, len(fitting)), fitting, strict=True))
