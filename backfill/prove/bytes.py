"""Bytes: every file of this database, its WAL and temporary files searched for addresses."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from backfill.prove import inline_values, toast
from backfill.prove.files import Files, pieces
from backfill.prove.finding import Depth, Finding, State
from backfill.prove.page import SIZE
from backfill.prove.recognise import Recogniser
from backfill.prove.relation_files import Place
from backfill.prove.search import Group, groups

ENOUGH = 1_000  # copies in one place: more of them prove nothing more
TOLD_EVERY = 256 << 20  # bytes between two lines of progress
TOAST_BUDGET = 64 << 20  # bytes of TOAST decompressed in a proof: pure Python does some MB/s
OVERLAP = 2 * inline_values.MAX_LENGTH  # of the pieces of a file: a compressed value lies in one of them

Memory: TypeAlias = Callable[[str], Iterator[bytes]]  # pages of a relation, as the server has them


@dataclass
class Tally:
    """What a search came to over all places."""

    files: int = 0
    size: int = 0
    unknown: dict[str, int] = field(default_factory=dict)  # address-shaped and public, by place
    toast_left: int = 0  # bytes of TOAST that were searched as they are, not decompressed
    budget: int = TOAST_BUDGET
    unread: list[str] = field(default_factory=list)  # unlogged places whose pages in memory could not be read


def search_bytes(
    files: Files,
    places: Iterator[Place],
    recogniser: Recogniser,
    tell: Callable[[str], None],
    memory: Memory | None = None,
) -> Iterator[Finding]:
    """A finding for each place that holds something, and the sum of the others. *memory*: for unlogged places."""
    tally, clean, told = Tally(), True, 0
    for place in places:
        ours, unknown = _count(files, place, recogniser, tally, memory)
        # Without the salt we cannot tell ours from others: no public address is harmless then.
        copies = ours if recogniser.able else ours + unknown
        if copies:
            clean = False
            number = f"{copies:,}{' or more' if copies >= ENOUGH else ''}"
            what = "copies of addresses of this database" if recogniser.able else "public addresses"
            yield Finding(Depth.BYTES, place.name, State.FOUND, f"{number} {what}", place.fix)
        elif unknown:
            tally.unknown[place.name] = unknown
        if tally.size - told >= TOLD_EVERY:
            told = tally.size
            tell(f"{place.name}: {tally.size / 2**20:,.0f} MiB read so far")
    how = f"{tally.files:,} files, {tally.size / 2**20:,.1f} MiB, {files.how}"
    yield Finding(Depth.BYTES, "all files searched", State.GONE if clean else State.NOTE, how)
    if tally.unknown:
        shown = ", ".join(f"{name} ({number:,})" for name, number in sorted(tally.unknown.items())[:5])
        what = f"address-shaped, but no address that this database ever held; in {len(tally.unknown)} places: {shown}"
        yield Finding(
            Depth.BYTES, "other dotted texts", State.NOTE, what, "`backfill scan` says what they are"
        )
    if tally.unread:
        what = f"what the server has in memory of {', '.join(tally.unread[:5])} was not read: no checkpoint writes it out"
        yield Finding(
            Depth.BYTES,
            "unlogged tables",
            State.UNPROVED,
            what,
            "prove as a superuser (pageinspect), or restart the server first",
        )
    if tally.toast_left:
        what = f"{tally.toast_left / 2**20:,.0f} MiB were searched compressed as they are: over the limit"
        yield Finding(
            Depth.BYTES, "compressed TOAST", State.UNPROVED, what, "`backfill scan --full` reads live values"
        )


def _count(
    files: Files, place: Place, recogniser: Recogniser, tally: Tally, memory: Memory | None
) -> tuple[int, int]:
    ours = unknown = 0
    for path in place.paths:
        size = files.size(path)
        tally.files += 1
        tally.size += size
        for piece, first, last in pieces(files, path, OVERLAP):
            found = [*groups(piece, first, last), *_compressed(piece, first, last)]
            more = recogniser.judge(found)
            ours, unknown = ours + more[0], unknown + more[1]
            if ours >= ENOUGH:
                return ours, unknown
        if place.toast and "_" not in path.rpartition("/")[2] and size:
            more = _decompressed(files, path, size, recogniser, tally)
            ours, unknown = ours + more[0], unknown + more[1]
    if place.unlogged is not None and not ours:
        if memory is None:
            tally.unread.append(place.name)
        else:
            for piece in memory(place.unlogged):
                end = len(piece)
                more = recogniser.judge([*groups(piece, 0, end), *_compressed(piece, 0, end)])
                ours, unknown = ours + more[0], max(unknown, more[1])
    return ours, unknown


def _compressed(piece: bytes, first: int, last: int) -> Iterator[Group]:
    """What values that were compressed and stayed in their rows hold. Without a limit: a page holds but a few."""
    for at, length in inline_values.candidates(piece, first, last):
        if (found := inline_values.value(piece, at, length)) is not None:
            yield from groups(found)


def _decompressed(
    files: Files, path: str, size: int, recogniser: Recogniser, tally: Tally
) -> tuple[int, int]:
    whole = min(size, tally.budget) // SIZE * SIZE
    tally.budget -= whole
    tally.toast_left += size - whole
    found: list[Group] = []
    for value in toast.values(files.read(path, 0, whole)):
        found += groups(value)
        if len(found) >= ENOUGH:
            break
    return recogniser.judge(found)
