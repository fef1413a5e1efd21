"""Counts: what a verification counts, each by the name under which it is stored and printed, with its words.

A ``Count`` is its name: the key in the ledger's JSON and in that of ``verify`` and ``report``. Names are
stable. The order here is the order in which people read them. docs/verify.md says what each means.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Self


class Count(StrEnum):
    """A count of rows of one table. ``words``: what people read."""

    words: str

    def __new__(cls, name: str, words: str) -> Self:
        """*name* is the member's value; *words* stand beside it."""
        made = str.__new__(cls, name)
        made._value_ = name
        made.words = words
        return made

    ROWS = "rows", "rows"
    RAW = "raw", "with a raw value"
    NO_ADDRESS = "no_address", "no raw value"
    # Every row of an event table with a raw value is in exactly one of these classes.
    RIGHT = "right", "right"
    SETTLED = "settled", "settled"  # a text that is no address, linked to the sentinel
    OWN_LINK_KEPT = "own_link_kept", "own link kept"  # the application read a text that we would not guess at
    # The same of a hash beside a raw value: HASH_MISSING, HASH_WRONG, and
    OWN_HASH_KEPT = (
        "own_hash_kept",
        "own hash kept",
    )  # of a text that is no address: nothing to recompute it from
    UNLINKED = "unlinked", "unlinked"
    WRONG = "wrong", "wrong"  # an address, linked to another one
    LINKED_TO_SENTINEL = "linked_to_sentinel", "linked to the sentinel"  # an address
    DANGLING = "dangling", "dangling"  # linked to a row that the address table lacks, or that has no address
    QUARANTINED = "quarantined", "quarantined"  # a text that is no address, not linked
    # Every row of a table whose values are rewritten in place is in exactly one of these, NO_ADDRESS or QUARANTINED.
    IN_FORM = "in_form", "in form"  # what the job makes of an address, as far as its form tells
    STILL_RAW = "still_raw", "still raw"  # what a run would rewrite
    FOREIGN_PREFIX = "foreign_prefix", "prefix of ours, not ours"  # a raw address that looks like a pseudonym
    KEPT_UNREADABLE = "kept_unreadable", "kept unreadable"  # a text that is no address, as the plan wants it
    NOT_DUE = "not_due", "not due"  # a raw value that is younger than the job asks for
    WITHOUT_TIME = "without_time", "raw without time"  # never due, since nothing tells how old it is
    LINKED_WITHOUT_TEXT = "linked_without_text", "linked without text"
    HASHED_WITHOUT_TEXT = "hashed_without_text", "hashed without text"
    HASH_RIGHT = "hash_right", "hash right"
    HASH_OF_RIGHT_FORM = "hash_of_right_form", "hash of the right form"  # no address is left to recompute it
    HASH_WRONG = "hash_wrong", "hash wrong"
    HASH_MISSING = "hash_missing", "hash missing"
    NETWORKS = "networks", "networks"
    DUPLICATES = "duplicates", "duplicates"
    MERGED = "merged", "merged"
    GEO_MISSING = "geo_missing", "geo missing"
    GEO_MISSING_WITHOUT_TEXT = "geo_missing_without_text", "geo missing without text"
    GEO_HAS_NO_PLACE = "geo_has_no_place", "geo has no place"
    GEO = "geo", "geo"
    # A place beside a hash, of an address: another one than the geo database has now.
    OWN_PLACE_KEPT = "own_place_kept", "own place kept"
    WITHOUT_PLACE = "without_place", "without a place"  # in form: none was known, or it was taken away since
    GEO_ABSENT = "geo_absent", "geo looked up, absent"
    GEO_NEVER_LOOKED_UP = "geo_never_looked_up", "geo never looked up"
    GEO_REMOVED_AGAIN = "geo_removed_again", "geo removed again"  # a live request set it to NULL


CLASSES = (
    Count.RIGHT,
    Count.SETTLED,
    Count.OWN_LINK_KEPT,
    Count.UNLINKED,
    Count.WRONG,
    Count.LINKED_TO_SENTINEL,
    Count.DANGLING,
    Count.QUARANTINED,
)

IN_PLACE_CLASSES = (
    Count.NO_ADDRESS,
    Count.IN_FORM,
    Count.STILL_RAW,
    Count.FOREIGN_PREFIX,
    Count.KEPT_UNREADABLE,
    Count.NOT_DUE,
    Count.WITHOUT_TIME,
    Count.QUARANTINED,
)

# Of a job that keeps the place of each address: rows in form, and for the first those without a value as well.
PLACE_COUNTS = (Count.GEO, Count.WITHOUT_PLACE, Count.GEO_HAS_NO_PLACE)

# Every row of a table whose hashes go into another column is in exactly one of these.
INTO_CLASSES = (
    Count.NO_ADDRESS,
    Count.RIGHT,
    Count.OWN_HASH_KEPT,
    Count.QUARANTINED,
    Count.HASH_WRONG,
    Count.HASH_MISSING,
)

# A row that adds to one of these keeps the table from being covered.
UNCOVERING = (
    Count.UNLINKED,
    Count.WRONG,
    Count.LINKED_TO_SENTINEL,
    Count.DANGLING,
    Count.QUARANTINED,
    Count.HASH_WRONG,
    Count.HASH_MISSING,
    Count.GEO_MISSING,
    Count.STILL_RAW,
    Count.FOREIGN_PREFIX,
)


def in_order(counts: Mapping[Count, int]) -> dict[Count, int]:
    """The same in the order of ``Count``; jsonb forgets it."""
    return {count: counts[count] for count in Count if count in counts}
