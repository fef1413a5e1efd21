"""Coverage: the verdict, and the blocks of a document that say what a verification found."""

from collections.abc import Sequence
from typing import Any

from backfill.ledger.counts import (
    CLASSES,
    IN_PLACE_CLASSES,
    INTO_CLASSES,
    PLACE_COUNTS,
    UNCOVERING,
    Count,
)
from backfill.ledger.coverage_record import NOTHING_TO_DO, CoverageRecord, Kind, Method
from backfill.ledger.coverage_record import as_json as record_as_json
from backfill.report.document import Block, Cell, Column, Entries, Entry, Table, Tone
from backfill.verify.confirmation import claim, form_only
from backfill.verify.confirmation import unconfirmed as under_key

SCHEMA_VERSION = 1  # of the JSON; a key may be added, none may change its meaning

# Columns of the events' table, in the order of ``Count``; the second kind only where a table has such rows.
ALWAYS = frozenset(
    {
        Count.ROWS,
        Count.NO_ADDRESS,
        Count.RIGHT,
        Count.SETTLED,
        Count.UNLINKED,
        Count.WRONG,
        Count.QUARANTINED,
        Count.GEO_MISSING,
    }
)
WHERE_ANY = frozenset(
    {
        *CLASSES,
        Count.HASH_WRONG,
        Count.HASH_MISSING,
        Count.LINKED_WITHOUT_TEXT,
        Count.GEO_MISSING_WITHOUT_TEXT,
        Count.GEO_HAS_NO_PLACE,
    }
)

IN_PLACE_ALWAYS = frozenset({Count.ROWS, Count.NO_ADDRESS, Count.IN_FORM, Count.STILL_RAW})
INTO_ALWAYS = frozenset({Count.ROWS, Count.NO_ADDRESS, Count.RIGHT, Count.HASH_WRONG, Count.HASH_MISSING})


def verdict(records: Sequence[CoverageRecord]) -> str:
    """The one sentence on top."""
    open_tables = [record.table for record in records if not record.covered]
    if open_tables:
        return f"Not covered: {', '.join(open_tables)}."
    if any(record.method is not Method.FULL for record in records):
        return "Nothing uncovered was found in a sample, which opens no gate: a full verification proves it."
    in_place = [record for record in records if record.kind is Kind.IN_PLACE]
    into = [record for record in records if record.kind is Kind.INTO]
    beside = [*([_hashed(into)] if into else []), *([_rewritten(in_place)] if in_place else [])]
    if beside and not any(record.kind in (Kind.EVENTS, Kind.ADDRESSES) for record in records):
        return f"Covered: {'; '.join(beside)}."
    also = "".join(f"; {said}" for said in beside)
    before = [record.table for record in records if record.proved and record.kind is Kind.EVENTS]
    links = "every row with a raw address is linked to the right one"
    if before:
        links += f" (in {', '.join(before)}: as proved before the raw column went)"
    if form_only(records):
        return f"Covered: {links}; every hash has the right form, and no address is left to recompute it from{also}."
    return f"Covered: {links}, and {claim(records)}{also}."


def _hashed(records: Sequence[CoverageRecord]) -> str:
    """What may be said of columns whose hashes went into another one."""
    said = (
        f"in {', '.join(record.table for record in records)} every row with a raw address has its hash beside it, "
        "recomputed from the address"
    )
    before = [record.table for record in records if record.proved]
    if before:
        said += f" (in {', '.join(before)}: as proved before the raw column went, and every hash has the right form)"
    return said + beside_hashes(records)


def beside_hashes(records: Sequence[CoverageRecord]) -> str:
    """What a claim about such columns is limited by: the salt, and hashes of texts that are no address."""
    said = ""
    unconfirmed = [record for record in records if record.confirmed_by == 0 and record.counts.get(Count.ROWS)]
    if unconfirmed:
        where = ", ".join(record.table for record in unconfirmed)
        said += f" (in {where}: {under_key(unconfirmed[0].evidence.key_id)})"
    own = sum(record.counts.get(Count.OWN_HASH_KEPT, 0) for record in records)
    if own:
        said += f", except {own:,} {'text that is' if own == 1 else 'texts that are'} no address, with a hash of the application's own"
    return said


def _rewritten(records: Sequence[CoverageRecord]) -> str:
    """What may be said of columns whose values were rewritten in place."""
    said = (
        f"in {', '.join(record.table for record in records)} every value has the form that its job gives it"
    )
    exceptions = []
    kept = sum(record.counts.get(Count.KEPT_UNREADABLE, 0) for record in records)
    if kept:
        exceptions.append(
            f"{kept:,} {'text that is' if kept == 1 else 'texts that are'} no address and may hold one"
        )
    waiting = sum(record.counts.get(Count.NOT_DUE, 0) for record in records)
    if waiting:
        exceptions.append(
            f"{waiting:,} raw {'value that is' if waiting == 1 else 'values that are'} not as old as the plan asks for"
        )
    timeless = sum(record.counts.get(Count.WITHOUT_TIME, 0) for record in records)
    if timeless:
        exceptions.append(f"{timeless:,} raw {'value' if timeless == 1 else 'values'} without a time")
    return said + (f", except {'; '.join(exceptions)}" if exceptions else "")


def newest(records: Sequence[CoverageRecord]) -> CoverageRecord:
    """A record of the last verification; that of a cut-over says less."""
    return max(records, key=lambda record: record.evidence.verification or 0)


def verified(records: Sequence[CoverageRecord]) -> str:
    """When, and which tables not at the same time."""
    last = newest(records)
    said = f"{last.method}, ended {last.finished:%Y-%m-%d %H:%M:%S %Z}"
    older = [record for record in records if record.evidence.verification != last.evidence.verification]
    if older:
        tables = ", ".join(f"{record.table} on {record.finished:%Y-%m-%d %H:%M:%S %Z}" for record in older)
        said += f"; not by that verification: {tables}"
    return said


def state(record: CoverageRecord) -> Cell:
    """What a table is, in words."""
    if not record.covered:
        return Cell("NOT COVERED", Tone.ALARM)
    if record.kind is Kind.DISCARD:
        return Cell("not kept" if Count.RAW in record.counts else "dropped")
    said = f"proved on {record.proved:%Y-%m-%d}" if record.proved else "covered"
    return Cell(f"{said} (sample only)" if record.method is Method.SAMPLE else said)


def blocks(records: Sequence[CoverageRecord]) -> list[Block]:
    """The counts, lookups by geo database and its build, and the quarantine by reason."""
    return [*counted(records), *quarantined(records)]


def counted(records: Sequence[CoverageRecord]) -> list[Block]:
    """The counts, and lookups by geo database and its build."""
    events = [record for record in records if record.kind is Kind.EVENTS]
    addresses = [record for record in records if record.kind is Kind.ADDRESSES]
    discards = [record for record in records if record.kind is Kind.DISCARD]
    in_place = [record for record in records if record.kind is Kind.IN_PLACE]
    into = [record for record in records if record.kind is Kind.INTO]
    tables = [
        _events(events),
        _into(into),
        _in_place(in_place),
        *map(_addresses, addresses),
        _discards(discards),
        _builds(addresses),
    ]
    return [table for table in tables if table.rows]


def quarantined(records: Sequence[CoverageRecord]) -> list[Block]:
    """The quarantine by reason, where a verification found any such row."""
    table = _quarantined(records)
    return [table] if table.rows else []


def remarks(records: Sequence[CoverageRecord]) -> list[Block]:
    """What remains to be done, and what is to be known."""
    remains = tuple(Entry(record.table, reason) for record in records for reason in record.reasons)
    known = tuple(Entry(record.table, note) for record in records for note in record.notes)
    found = (Entries("What remains", remains), Entries("To know", known))
    return [one for one in found if one.entries]


def known(records: Sequence[CoverageRecord]) -> list[Block]:
    """How values were proved, and what of them nobody can tell any more: nothing that somebody has to do."""
    notes = tuple(
        Entry(record.table, note)
        for record in records
        if record.kind in NOTHING_TO_DO
        for note in record.notes
    )
    return [Entries("To know", notes)] if notes else []


def _events(records: Sequence[CoverageRecord]) -> Table:
    some = {count for count in WHERE_ANY if any(record.counts.get(count) for record in records)}
    shown = [count for count in Count if count in ALWAYS | some]
    return Table(
        "Rows of the event tables, by what they are (other kinds of rows: none)",
        (Column("table"), *(Column(count.words, number=True) for count in shown), Column("state")),
        tuple(
            (Cell(record.table), *(_count(record, count) for count in shown), state(record))
            for record in records
        ),
    )


def _into(records: Sequence[CoverageRecord]) -> Table:
    places = (Count.GEO, Count.GEO_MISSING, Count.OWN_PLACE_KEPT, Count.GEO_HAS_NO_PLACE)
    known = (*INTO_CLASSES, Count.HASHED_WITHOUT_TEXT, Count.HASH_OF_RIGHT_FORM, *places)
    some = {count for count in known if any(record.counts.get(count) for record in records)}
    shown = [count for count in Count if count in INTO_ALWAYS | some]
    return Table(
        "Rows whose hash goes into another column, by what they are (other kinds of rows: none)",
        (Column("table"), *(Column(count.words, number=True) for count in shown), Column("state")),
        tuple(
            (Cell(record.table), *(_count(record, count) for count in shown), state(record))
            for record in records
        ),
    )


def _in_place(records: Sequence[CoverageRecord]) -> Table:
    known = (*IN_PLACE_CLASSES, *PLACE_COUNTS)
    some = {count for count in known if any(record.counts.get(count) for record in records)}
    shown = [count for count in Count if count in IN_PLACE_ALWAYS | some]
    return Table(
        "Rows whose value is rewritten in place, by what it is (other kinds of rows: none)",
        (
            Column("table"),
            Column("becomes"),
            *(Column(count.words, number=True) for count in shown),
            Column("state"),
        ),
        tuple(
            (
                Cell(record.table),
                Cell(record.becomes),
                *(_count(record, count) for count in shown),
                state(record),
            )
            for record in records
        ),
    )


def _count(record: CoverageRecord, count: Count) -> Cell:
    number = record.counts.get(count)
    return Cell(number, Tone.ALARM if number and count in UNCOVERING else Tone.PLAIN)


def _addresses(record: CoverageRecord) -> Table:
    """One table, of which each count is a row: side by side they would be wider than a page."""
    counts = [(Cell(count.words), _count(record, count)) for count in record.counts]
    return Table(
        f"The address table {record.table}: {state(record).value}",
        (Column("what"), Column("address rows", number=True)),
        tuple(counts),
    )


def _discards(records: Sequence[CoverageRecord]) -> Table:
    shown = [count for count in Count if any(count in record.counts for record in records)]
    return Table(
        "Columns that go without being kept",
        (Column("table"), *(Column(count.words, number=True) for count in shown), Column("state")),
        tuple(
            (Cell(record.table), *(_count(record, count) for count in shown), state(record))
            for record in records
        ),
    )


def _builds(records: Sequence[CoverageRecord]) -> Table:
    return Table(
        "Addresses that were looked up, by geo database and its build",
        (Column("geo database"), Column("found", number=True), Column("absent", number=True)),
        tuple(
            (Cell(build), Cell(number.found), Cell(number.absent))
            for record in records
            for build, number in record.geo_builds.items()
        ),
    )


def _quarantined(records: Sequence[CoverageRecord]) -> Table:
    tables = [record for record in records if record.quarantined]
    total = {
        reason: sum(record.quarantined.get(reason, 0) for record in tables)
        for record in tables
        for reason in record.quarantined
    }
    return Table(
        "Quarantine: rows whose text is no address, by reason",
        (
            Column("reason"),
            *(Column(record.table, number=True) for record in tables),
            Column("all", number=True),
        ),
        tuple(
            (
                Cell(reason),
                *(Cell(record.quarantined.get(reason, 0)) for record in tables),
                Cell(total[reason]),
            )
            for reason in sorted(total, key=lambda reason: (-total[reason], reason))
        ),
    )


def as_json(records: Sequence[CoverageRecord]) -> dict[str, Any]:
    """The same as plain data. Row keys of wrong links are in it, values never."""
    return {
        "version": SCHEMA_VERSION,
        "covered": all(record.covered for record in records),
        "verdict": verdict(records),
        "tables": [record_as_json(record) for record in records],
    }
