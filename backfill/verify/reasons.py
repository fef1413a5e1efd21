"""Reasons: why a table is not covered, each with its count and the command that fixes it."""

from collections.abc import Mapping

from backfill import escaping
from backfill.age.age import age_text
from backfill.database.nullable import to_settle
from backfill.ledger.counts import Count
from backfill.plan import Addresses, InPlaceJob, IntoJob, LinkJob


def shortfall(number: int, one: str, many: str, fix: str) -> list[str]:
    """A reason, or none for zero rows. *one*, *many*: what there is one or several of."""
    return [f"{number:,} {one if number == 1 else many}: {fix}"] if number else []


def of_events(
    job: LinkJob,
    addresses: Addresses,
    counts: Mapping[Count, int],
    *,
    discard: bool,
    listed: int,
    undecided: int,
    named: bool = True,
) -> list[str]:
    """Why an event table is not covered.

    *discard*: its quarantine can be settled as that. *listed*: rows of it that a run has put into the quarantine;
    *undecided*: the same of the address table. *named*: rows have a key.
    """
    name = escaping.word(job.label)
    settle = to_settle(job.label, counts[Count.QUARANTINED], discard=discard)
    if listed != counts[Count.QUARANTINED]:  # the list is a run's: what came since is not on it
        settle = "`backfill run`, which lists them, then `backfill quarantine list`"
    hashes = f"`backfill calibrate`; if the salt is right, `backfill repair {escaping.word(addresses.label)} --kind hash`, with the count that it has"

    def repair(kind: str, count: Count) -> str:
        return f"`backfill repair {name} --kind {kind} --count {counts[count]}`"

    return (
        shortfall(
            counts[Count.UNLINKED],
            "row has an address and no link",
            "rows have an address and no link",
            "`backfill run`",
        )
        + shortfall(
            counts[Count.WRONG],
            "row is linked to another address",
            "rows are linked to another address",
            repair("link", Count.WRONG) + (" (their keys are in the JSON)" if named else ""),
        )
        + shortfall(
            counts[Count.LINKED_TO_SENTINEL],
            "row with an address is linked to the sentinel",
            "rows with an address are linked to the sentinel",
            repair("sentinel", Count.LINKED_TO_SENTINEL),
        )
        + shortfall(
            counts[Count.DANGLING],
            "row is linked to a row of the address table that is gone, or has no address",
            "rows are linked to a row of the address table that is gone, or has no address",
            repair("dangling", Count.DANGLING),
        )
        + shortfall(
            counts[Count.QUARANTINED],
            "row holds a text that is no address",
            "rows hold a text that is no address",
            settle,
        )
        + shortfall(
            counts[Count.HASH_MISSING],
            "row is linked to an address without a hash",
            "rows are linked to an address without a hash",
            # The canonical row waits for the hash of its duplicate; a run cannot give it.
            f"what {addresses.name} says: merge, then `backfill run`" if undecided else "`backfill run`",
        )
        + shortfall(
            counts[Count.HASH_WRONG],
            "row is linked to an address with a wrong hash",
            "rows are linked to an address with a wrong hash",
            hashes,
        )
        + shortfall(
            counts[Count.GEO_MISSING],
            "row lacks the geo that its address has",
            "rows lack the geo that their address has",
            "`backfill run`",
        )
    )


def unseen(job: InPlaceJob, number: int) -> str:
    """*number* rows hold a raw value, and were written while ranges were read: none of these had them."""
    return (
        f"{escaping.counted(number, 'row was', 'rows were')} written while {job.label} was read, and {'holds' if number == 1 else 'hold'} "
        "no result: `backfill run`"
    )


def of_into(
    job: IntoJob, counts: Mapping[Count, int], *, listed: int, own: int, named: bool = True
) -> list[str]:
    """Why a table whose hashes go into another column is not covered.

    *listed*: its rows in the quarantine; *own*: right hashes in the column that the application wrote
    itself; *named*: rows have a key.
    """
    name, waiting, wrong = escaping.word(job.label), counts[Count.QUARANTINED], counts[Count.HASH_WRONG]
    keys = " (some keys are in the JSON)" if named else ""
    settle = to_settle(job.label, waiting, discard=True, sentinel=False)
    if listed != waiting:  # the list is a run's: what came since is not on it
        settle = "`backfill run`, which lists them, then `backfill quarantine list`"
    return (
        shortfall(
            counts[Count.HASH_MISSING],
            "row has an address and no hash",
            "rows have an address and no hash",
            "`backfill run`",
        )
        + shortfall(
            wrong,
            f"row has another value in {job.into} than the hash of its address",
            f"rows have another value in {job.into} than the hash of their address",
            f"`backfill repair {name} --kind hash --count {wrong}`{keys}"
            if wrong <= own
            else f"`backfill repair {name} --kind hash`, which tells whether it is the salt{keys}",
        )
        + shortfall(
            waiting, "row holds a text that is no address", "rows hold a text that is no address", settle
        )
        + shortfall(
            counts.get(Count.GEO_MISSING, 0),
            f"row lacks in {job.place} the place that its address has",
            f"rows lack in {job.place} the place that their address has",
            "`backfill run`",
        )
    )


def notes_into(counts: Mapping[Count, int]) -> list[str]:
    """What does not uncover such a table."""
    return shortfall(
        counts[Count.OWN_HASH_KEPT],
        "row holds a text that is no address, beside a hash of the application's own",
        "rows hold a text that is no address, beside a hash of the application's own",
        "it stays, and nothing tells what it is the hash of",
    ) + (_places_into(counts) if Count.GEO in counts else [])


def _places_into(counts: Mapping[Count, int]) -> list[str]:
    """What was found of places beside hashes."""
    number, own = counts[Count.GEO], counts[Count.OWN_PLACE_KEPT]
    said = (
        f"places recomputed from the text: {number - own:,} of {number:,} are what the geo database has now"
    )
    if own:
        said += f"; {own:,} are the application's own, of another build of the database, or of an address that the row held before, and stay"
    return [said]


def of_in_place(
    job: InPlaceJob,
    counts: Mapping[Count, int],
    *,
    since: int,
    prefix: str | None,
    named: bool = True,
    duplicates: int = 0,
) -> list[str]:
    """Why a column whose values are rewritten in place is not covered.

    *since*: raw values that were written after the last run ended; *prefix*: what pseudonyms begin with; *named*: rows
    have a key; *duplicates*: rows that wait, since another one has what they would become.
    """
    again = "`backfill run`"
    if duplicates:  # which a run alone leaves as they are
        again = (
            f"{duplicates:,} {'waits' if duplicates == 1 else 'wait'} for another row that has the same value in a unique index "
            "(`backfill quarantine list`): delete or change one of two, then `backfill run`"
        )
    if since:
        again += f" again; {since:,} {'was' if since == 1 else 'were'} written after the last run ended, so the application still writes them"
    raw = "a raw address" if job.unreadable != "nothing" else "a raw address, or a text that is none"
    return (
        shortfall(counts[Count.STILL_RAW], f"row holds {raw}", f"rows hold {raw}", again)
        + shortfall(
            counts[Count.FOREIGN_PREFIX],
            f"row holds an address that begins with {prefix} and is no pseudonym of this key",
            f"rows hold an address that begins with {prefix} and is no pseudonym of this key",
            "`backfill run` makes pseudonyms of them",
        )
        + shortfall(
            counts[Count.QUARANTINED],
            "row holds a text that is no address",
            "rows hold a text that is no address",
            f"correct them (`backfill quarantine list` has {'their keys' if named else 'their number by reason: nothing names a row'}), "
            'or set unreadable = "keep" or "nothing" in the plan, then `backfill run`',
        )
    )


def of_ahead(number: int, rows: int, fix: str) -> list[str]:
    """Why such a table is not covered: *number* of *rows* lie in the future."""
    said = f"more than a day in the future, of {rows:,}, and nothing is known of their age"
    return shortfall(number, f"row is {said}", f"rows are {said}", fix)


# What the form of a value proves, and what it does not.
BY_FORM = {
    "pseudonym": "each distinct pseudonym was recognised by its tag, which an address that somebody else wrote has once in 4 billion",
    "hash": "hashes were recognised by their form: any 64 lower-case hexadecimal digits count, whoever wrote them",
    "network": "networks were recognised by their form: an address that has no host bits by itself counts as one",
    "nothing": "that a row has no value does not say what stood there",
}


def notes_in_place(
    job: InPlaceJob,
    counts: Mapping[Count, int],
    kept: Mapping[str, int],
    written: int,
    deleted: int,
    places: tuple[int, int] = (0, 0),
    *,
    ahead: int = 0,
) -> list[str]:
    """What does not uncover such a column.

    *kept*: unreadable texts by reason; *written*, *deleted*: by runs, in all; *places*: of the rows that they wrote, those
    with the place of their address, and with one of their own; *ahead*: raw values more than a day in the future.
    """
    number = counts[Count.IN_FORM]
    notes = []
    judged = number + (counts[Count.NO_ADDRESS] if job.becomes == "nothing" else 0)
    if judged:
        notes.append(
            f"recomputed from the text: 0 of {judged:,}, since the text is gone; {BY_FORM[job.becomes]}"
        )
    if written:
        done = number + counts[Count.NO_ADDRESS]
        notes.append(
            f"by their batches' records, runs wrote {written:,} {'value' if written == 1 else 'values'} of this column in all; "
            f"{done:,} {'row is' if done == 1 else 'rows are'} in the form or without a value now"
        )
    if deleted:
        notes.append(
            f"by the same records, {deleted:,} {'row was' if deleted == 1 else 'rows were'} deleted as {'a duplicate' if deleted == 1 else 'duplicates'}: "
            "in each case another row had the same value under a unique index"
        )
    if job.place is not None:
        notes += _notes_of_places(job, counts, written, places)
    if job.after is not None:
        young = counts[Count.NOT_DUE] - ahead
        aside = f", {escaping.counted(ahead, 'is', 'are')} more than a day in the future" if ahead else ""
        notes.append(
            f"only values older than {age_text(job.after)} are due: {young:,} raw {'value is' if young == 1 else 'values are'} younger{aside}"
        )
    notes += shortfall(
        counts[Count.WITHOUT_TIME],
        "raw value has no time",
        "raw values have no time",
        "such a value has no age, is never due, and stays",
    )
    if kept:
        told = ", ".join(f"{reason} {kept[reason]:,}" for reason in sorted(kept))
        notes += shortfall(
            sum(kept.values()),
            'row keeps a text that is no address, as unreadable = "keep" wants, and it may hold a raw address',
            'rows keep a text that is no address, as unreadable = "keep" wants, and it may hold a raw address',
            told,
        )
    return notes


def _notes_of_places(
    job: InPlaceJob, counts: Mapping[Count, int], written: int, places: tuple[int, int]
) -> list[str]:
    """What is known of the places that such a job has kept."""
    placed, own = places
    now, none = counts[Count.GEO], max(0, written - placed - own)
    said = "value" if job.place and job.place.by_key else "object with a value"
    notes = [
        f"places recomputed from the text: 0 of {now:,}, since the text is gone; any {said} in {job.place} counts as a place, whoever wrote it"
    ]
    if written:
        notes.append(
            "by their batches' records, which were compared with the rows before they were committed, of rows whose value runs wrote "
            f"{placed:,} got the place of their address, {own:,} kept one of their own, and for {none:,} none is known"
        )
    if now < placed + own:
        notes.append(
            f"{now:,} {'row has' if now == 1 else 'rows have'} a place now, fewer than the records say: rows were deleted or written "
            "again, or lost their place since"
        )
    return notes


def of_addresses(part: Addresses, counts: Mapping[Count, int], listed: Mapping[str, int]) -> list[str]:
    """Why the address table is not covered. *listed*: its rows in the quarantine, by reason."""
    duplicates, wrong = counts[Count.DUPLICATES], counts[Count.HASH_WRONG]
    return (
        shortfall(
            duplicates,
            "row is the same address as another row",
            "rows are the same address as another row",
            _listed_first(listed.get("duplicate-address"), duplicates, "backfill addresses merge"),
        )
        + shortfall(
            counts[Count.NETWORKS],
            "row is a network, not an address",
            "rows are networks, not addresses",
            _listed_first(listed.get("network"), counts[Count.NETWORKS], "backfill addresses keep"),
        )
        + shortfall(
            counts[Count.HASH_MISSING],
            "row has no hash",
            "rows have no hash",
            # That of the canonical row may be the duplicate's until they are merged.
            f"first merge the {duplicates:,} {'duplicate' if duplicates == 1 else 'duplicates'}, then `backfill run`"
            if duplicates
            else "`backfill run`",
        )
        + shortfall(
            wrong,
            "hash is not what salt and scheme make of the address",
            "hashes are not what salt and scheme make of the address",
            "`backfill calibrate` tells whether the salt is right; if it is, "
            f"`backfill repair {escaping.word(part.label)} --kind hash --count {wrong}`"
            if wrong <= counts[Count.HASH_RIGHT]
            else f"`backfill repair {escaping.word(part.label)} --kind hash`, which tells what to do: more are wrong than right",
        )
    )


def _listed_first(listed: int | None, found: int, command: str) -> str:
    """What helps: *command* with its count, once a run has put what was found on the list."""
    if listed == found:
        return f"`{command} --count {found}`"
    return "`backfill run`, which lists them, then `backfill quarantine list`"
