"""Residue: how many of the raw texts that the events had still stand in the files of their tables.

A value of up to 126 bytes is stored as one byte of length and its characters. So whatever looks like
dotted numbers is read back from that byte, and must be one of the texts to the last character: a
shorter address within a longer one is none, nor is a uuid that happens to look like a length. Only
dotted texts are looked for, nine in ten of all; IPv6 texts are stored in the same way.
"""

import mmap
import re
from pathlib import Path

from backfill.plan import EVENT_TABLES
from tests.databases import query

# Begins with a literal byte: ``re`` then runs at memory speed.
DOTS = re.compile(rb"\.(?=[0-9]{1,3}\.[0-9]{1,3}\.[0-9])")

KNOWN = " union ".join(
    f"select ip_address_string from {name} where ip_address_string ~ '^[0-9]{{1,3}}[.][0-9]{{1,3}}[.]'"
    " and length(ip_address_string) < 64"
    for name in EVENT_TABLES
)

# The tables of today, their TOAST, and the indexes of both.
FILES = """
    with heap as (select c.oid, c.reltoastrelid from pg_class as c where c.oid = any (%s::regclass[])),
         tables as (select oid from heap union select reltoastrelid from heap where reltoastrelid <> 0)
    select current_setting('data_directory') || '/' || pg_relation_filepath(found)
      from (select oid from tables
            union select indexrelid from pg_index where indrelid in (select oid from tables)) as all_of (found)
"""


def known_texts(url: str) -> frozenset[bytes]:
    """Distinct dotted texts of all events, while they still have them."""
    return frozenset(text.encode() for (text,) in query(url, KNOWN))


def left(url: str, known: frozenset[bytes]) -> int:
    """How many of *known* are found in the files of the five tables that bear the names now."""
    query(url, "checkpoint")
    found: set[bytes] = set()
    for (path,) in query(url, FILES, list(EVENT_TABLES)):
        for segment in (Path(path), *sorted(Path(path).parent.glob(f"{Path(path).name}.*"))):
            found |= _search(segment, known)
    return len(found)


def _search(path: Path, known: frozenset[bytes]) -> set[bytes]:
    if path.stat().st_size == 0:
        return set()
    found = set()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for hit in DOTS.finditer(data):
            at = hit.start()
            for digits in (1, 2, 3):
                begin = at - digits
                if begin < 1:
                    continue
                header = data[begin - 1]
                if header & 1:  # a short value: its length with the header itself, shifted by one
                    text = data[begin : begin - 1 + (header >> 1)]
                    if text in known:
                        found.add(text)
    return found
