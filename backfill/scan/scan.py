"""Scan: every column worth a look, range by range, then the catalog."""

import random
import time
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager

from psycopg2 import sql
from sqlalchemy import Connection, Engine

from backfill.database.blocks import Range, ranges
from backfill.database.connection import execute, problem_of
from backfill.database.error_text import DRIVER_ERRORS
from backfill.erase.targets import raw_columns
from backfill.ledger import prefixes
from backfill.plan import Plan
from backfill.scan import catalog, paths
from backfill.scan.allowlist import AllowList
from backfill.scan.columns import Column, Reading, columns
from backfill.scan.patterns import Hit, Looks, Sureness, hits
from backfill.scan.place import Found
from backfill.scan.reading import read_column

BLOCKS = 2_000  # a range of a full pass: 16 MB, some tenths of a second
SAMPLE_BLOCKS = 32  # a range of a sample: many small places tell more than few large ones
SMALL_BLOCKS = 1_000  # tables up to 8 MB are always read whole
JUDGED = 2_000  # matching values a column that are judged: 95 % within 2.2 points
A_RANGE = 200  # of those, from one range at most
SEED = 20_230_501  # a repeated scan looks at the same places


def scan(
    engine: Engine,
    plan: Plan,
    allowed: AllowList,
    *,
    schema: str | None,
    table: str | None,
    percent: float,
    rest: float,
    ledger: str,
    hold: Callable[[], None] = lambda: None,
    tell: Callable[[str], None],
) -> Iterator[Found]:
    """Every place with something in it, or that could not be read. *rest*: seconds of pause a second of reading.
    *hold* returns when the server may be read on."""
    with _read_only(engine) as connection:
        everything = columns(connection, schema, table)
        known = prefixes.all_of(connection, ledger)
    planned = {f"{part.name}.{name}" for part, name in raw_columns(plan)}
    for column in everything:
        if column.schema == ledger and column.table != "address_map":
            continue  # the ledger's own words: reasons, versions; the map is raw text and is looked at
        for found in _column(engine, column, percent, rest, hold, known):
            found.planned = column.where in planned
            allowed.apply(found)
            yield found
        if column.blocks > SMALL_BLOCKS:
            tell(f"{column.where}: read")
    with _read_only(engine) as connection:
        for found in catalog.search_catalog(connection, schema, table, known):
            allowed.apply(found)
            yield found


@contextmanager
def _read_only(engine: Engine) -> Iterator[Connection]:
    """A short transaction that cannot write; rows that a policy hides are an error, not silence."""
    with engine.connect() as connection, connection.begin():
        execute(connection, sql.SQL("set transaction read only"))
        execute(connection, sql.SQL("set local row_security = off"))
        yield connection


def _column(
    engine: Engine,
    column: Column,
    percent: float,
    rest: float,
    hold: Callable[[], None],
    known: Set[int],
) -> list[Found]:
    whole = Found(column.where, column.type, rows=column.rows, column=column)
    places = {"": whole}
    if not column.readable:
        whole.unread = "no SELECT privilege"
        return [whole]
    chosen = _spans(column, percent)
    try:
        for span in chosen:
            hold()
            started = time.monotonic()
            budget = min(A_RANGE if len(chosen) > 1 else JUDGED, JUDGED - whole.judged)
            with _read_only(engine) as connection:
                part = read_column(connection, column, span, max(budget, 0))
            whole.seen += part.seen
            whole.matching += part.matching
            whole.aside += part.aside
            for text in part.values:
                whole.judged += 1
                _judge(places, column, text, known)
            time.sleep(rest * (time.monotonic() - started))
    except DRIVER_ERRORS as error:
        whole.unread = problem_of(error)
    if percent >= 100 or column.blocks <= SMALL_BLOCKS:
        whole.rows = whole.seen
    elif chosen:
        # The planner's estimate counts rows; we, values.
        looked = sum(span.last - span.first for span in chosen)
        whole.rows = max(whole.seen, round(whole.seen * column.blocks / looked))
    for path, place in places.items():
        if path:
            place.rows, place.seen, place.matching, place.judged = (
                whole.rows,
                whole.seen,
                whole.matching,
                whole.judged,
            )
    # A document whose addresses have a path is told by its paths.
    told = [place for path, place in places.items() if path and _any(place)] or [whole]
    return [place for place in told if place.unread or _any(place)] + (
        [whole] if whole.unread and whole not in told else []
    )


def _judge(places: dict[str, Found], column: Column, text: str, known: Set[int]) -> None:
    whole = places[""]
    if column.reading in (Reading.INET, Reading.TEXT) and not _pseudonym(text, known):
        whole.weigh(text)
    if column.reading is Reading.INET:
        found = [_typed(hit) for hit in hits(text.partition("/")[0], known)] or [_typed(None)]
        whole.judge(found)
        return
    if column.reading is not Reading.JSON or text.lstrip()[:1] not in ("{", "[", '"'):
        whole.judge(hits(text, known))
        return
    by_path: dict[str, list[Hit]] = {}
    for path, leaf in paths.texts(text):
        for hit in hits(leaf, known):
            by_path.setdefault(path, []).append(hit)
    whole.judge(hit for found in by_path.values() for hit in found)
    for path, path_hits in by_path.items():
        if path:
            place = places.setdefault(path, Found(f"{column.where} {path}", column.type))
            place.judge(path_hits)


def _pseudonym(text: str, known: Set[int]) -> bool:
    """The text is a pseudonym by its prefix, and nothing else: what the column is for, it does not say."""
    return bool(known) and [hit.looks for hit in hits(text, known)] == [Looks.PSEUDONYM]


def _typed(hit: Hit | None) -> Hit:
    """A value of type inet is an address, however small its numbers; or a pseudonym."""
    if hit is not None and hit.looks is Looks.PSEUDONYM:
        return hit
    return Hit(Looks.ADDRESS, Sureness.SURE, hit.public if hit else False)


def _any(found: Found) -> bool:
    return bool(found.sure + found.likely + found.unlikely)


def _spans(column: Column, percent: float) -> list[Range]:
    if percent >= 100 or column.blocks <= SMALL_BLOCKS:
        return list(ranges(column.blocks, BLOCKS))
    everywhere = list(ranges(column.blocks, SAMPLE_BLOCKS))
    number = max(round(len(everywhere) * percent / 100), SMALL_BLOCKS // SAMPLE_BLOCKS)
    chosen = random.Random(SEED).sample(everywhere, min(number, len(everywhere)))  # noqa: S311
    return sorted(chosen, key=lambda span: span.first)
