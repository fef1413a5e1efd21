"""Sample: what the real statements cost on a miniature of a table, on this server."""

from dataclasses import dataclass


class SampleFailed(Exception):
    """Its text says why nothing could be measured; a sentence without its end."""


@dataclass(frozen=True)
class Sample:
    """What a miniature cost. Seconds, bytes, rows; ``share`` of the table's blocks was taken."""

    share: float
    rows: int
    texts: int  # distinct ones that had to be resolved
    written: int  # rows that were linked or rewritten
    read: float
    resolve: float
    link: float  # or rewrite
    copy: float
    index: float
    compare: float
    heap: int  # of the miniature before anything was written, TOAST included
    heap_in_place: int
    heap_copy: int  # without the raw values
    indexes: int
    indexes_in_place: int
    indexes_copy: int
    heap_fresh: int  # the rows as they are afterwards, written anew
    keeps_addresses: bool  # a row for each text stays; the map alone is not logged
    took: float = 0.0
    copied: bool = True  # False: it cannot be, and what a copy costs is 0 here
