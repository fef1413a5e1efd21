"""Annex: what each figure of a report means, and how it was obtained. For whoever has to sign it."""

from collections.abc import Sequence

from backfill.ledger.counts import Count
from backfill.ledger.coverage_record import CoverageRecord, Kind
from backfill.report.document import Block, Entries, Entry

# Of a row of an event table, unless it says otherwise.
MEANINGS = {
    Count.ROWS: "all rows of the table, read one by one, except in a sample",
    Count.RAW: "rows that hold a raw value, whether it is an address or not",
    Count.NO_ADDRESS: "rows without a raw value: there was nothing to do",
    Count.RIGHT: "linked to the address that the raw text spells; the text was read again, and not by what had written the link. Where a hash goes into another column: that hash, computed again from the text, is the stored one",
    Count.SETTLED: "the text is no address, and an operator decided on record to link the row to the sentinel",
    Count.OWN_LINK_KEPT: "the text is none that Backfill reads as an address; the application linked the row itself, and its link is kept",
    Count.OWN_HASH_KEPT: "the text is none that Backfill reads as an address; the application wrote a hash beside it, which nothing can be compared with",
    Count.UNLINKED: "holds an address and has no link; keeps the table from being covered",
    Count.WRONG: "linked to another address than the text spells; keeps the table from being covered",
    Count.LINKED_TO_SENTINEL: "holds an address and is linked to the sentinel, which means none; keeps the table from being covered",
    Count.DANGLING: "the link leads to no row, or to one without an address; keeps the table from being covered",
    Count.QUARANTINED: "the text is no address, and nobody has decided about the row; keeps the table from being covered",
    Count.IN_FORM: "rows whose value has the form of what its job makes: a pseudonym by its tag, a hash by 64 hexadecimal digits, a network by the bits that are not set, or the plan's constant; the text that it was made of is gone",
    Count.STILL_RAW: "rows that hold a raw address, or a text that the plan wants replaced; keep the table from being covered",
    Count.FOREIGN_PREFIX: "the value begins as pseudonyms do, and its tag is wrong: somebody else wrote it, so it is a raw address; keeps the table from being covered",
    Count.KEPT_UNREADABLE: "the text is no address, and stays by the plan's wish; it may hold a raw address, as a list of them does",
    Count.NOT_DUE: "rows with a raw value that is younger than the plan's age (`after`), or dated in the future, at the moment when the verification began",
    Count.WITHOUT_TIME: "rows with a raw value whose time is NULL: they are never due, and stay as they are",
    Count.LINKED_WITHOUT_TEXT: "rows without a raw value that the application linked",
    Count.HASHED_WITHOUT_TEXT: "rows without a raw value whose column for the hash holds something",
    Count.HASH_RIGHT: "addresses whose stored hash was computed again, with salt and scheme, and is the same; of an event table: rows that are linked to one",
    Count.HASH_OF_RIGHT_FORM: "hashes of 64 hexadecimal digits whose address is gone: nothing is left to compute them from",
    Count.HASH_WRONG: "the stored hash is not that of the address; keeps the table from being covered",
    Count.HASH_MISSING: "the address has no hash; keeps the table from being covered",
    Count.NETWORKS: "address rows that hold a network, which is no address",
    Count.DUPLICATES: "address rows that are the same address as another, in another spelling",
    Count.MERGED: "duplicates that were merged into one row, by a decision on record",
    Count.GEO_MISSING: "the geo database has a place for the address, and the row has none; keeps the table from being covered",
    Count.GEO_MISSING_WITHOUT_TEXT: "linked, without a raw value, and without the place that its address has",
    Count.GEO_HAS_NO_PLACE: "the geo database has a place for the address, and the row's JSON is no object that could hold it; of a column whose values are rewritten in place: what stands beside the value is no object",
    Count.GEO: "addresses with a place; of a column whose values are rewritten in place: rows that have a place beside the value, in form or without one, whoever wrote it",
    Count.OWN_PLACE_KEPT: "rows with a place beside the hash that is not the one which the geo database has of the address now: the application's own, of another build of the database, or of an address that the row held before",
    Count.WITHOUT_PLACE: "rows whose value has the form of what its job makes, and that have no place beside it: none was known of the address, or it was taken away since; the text is gone",
    Count.GEO_ABSENT: "addresses that were looked up and that the geo database does not have",
    Count.GEO_NEVER_LOOKED_UP: "addresses without a place that nobody has looked up",
    Count.GEO_REMOVED_AGAIN: "addresses whose place was found once and has been removed since, by the application",
}

OTHERS = (
    Entry(
        "state of a table",
        "covered: every row has what its job asks for, at the time of the verification. Proved on: the same, of the last "
        "verification before the raw column was dropped; afterwards only links and the form of hashes can be read",
    ),
    Entry(
        "addresses looked up",
        "addresses for which a geo database was asked, by its build; each lookup is recorded when it is made",
    ),
    Entry(
        "quarantine",
        "by reason: rows whose text is no address, as the verification read them. Decided about, waiting: entries of all "
        "runs, as recorded; a row leaves when it is linked, removed, or decided about",
    ),
    Entry(
        "conditions of a gate",
        "asked of the database when the report was made, by the statements that the gate itself asks",
    ),
    Entry(
        "age of raw values",
        "of a column whose values are rewritten at an age: all rows of the table, in one snapshot, when the report was made, by "
        "the form of their values and the server's clock. Late: older than the plan's age and the grace of the command. No byte "
        "of a file was looked at",
    ),
    Entry(
        "run",
        "times of the server, from the first batch to the last. Rows written: rows that an UPDATE changed, counted in the "
        "transaction that changed them",
    ),
    Entry(
        "rows deleted as duplicates",
        "rows whose value became that of a newer row under a unique index, where the plan says keep-newest; counted in the "
        "transaction that deleted them, after another statement of it found a row that is equal",
    ),
    Entry(
        "events by country, cells",
        "counted when the report was made, from the places stored in the tables of the jobs; of more than a million events, a "
        "sample. Fewer than five are left out",
    ),
    Entry(
        "decisions",
        "entered in the transaction that put them into effect, with the exact number of rows, the operating system's name "
        "of whoever typed the command, and the role of the database",
    ),
    Entry(
        "restore point",
        "the name that the operator gave of a backup; whether it can be restored was not looked at",
    ),
)


def blocks(records: Sequence[CoverageRecord]) -> list[Block]:
    """The meaning of every count in *records*, and of the other figures."""
    used = {count for record in records if record.kind is not Kind.DISCARD for count in record.counts}
    used |= {Count.ROWS, Count.RAW}
    counts = tuple(Entry(count.words, MEANINGS[count]) for count in Count if count in used)
    return [
        Entries("Counts of a verification: what each means, and how it was obtained", counts),
        Entries("Other figures", OTHERS),
    ]
