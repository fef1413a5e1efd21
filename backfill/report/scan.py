"""What a scan found: for a terminal, for machines, and as entries for a plan. Counts and places, never a value."""

from collections.abc import Iterator, Sequence
from typing import Any

from backfill import escaping
from backfill.database.preflight.keys import NO_ROW_KEY
from backfill.plan import InPlaceJob, IntoJob, LinkJob
from backfill.raw_column import Part
from backfill.report.document import Block, Cell, Entries, Entry, Tone, table
from backfill.scan.allowlist import AllowList
from backfill.scan.patterns import Looks
from backfill.scan.place import Found
from backfill.scan.proposal import NAME, Proposal, Proposed

HEADER = ["place", "type", "values", "sure", "likely", "unlikely", "public", "how sure", "state"]
SCHEMA_VERSION = 1  # of the JSON; a key may be added, none may change its meaning


def verdict(found: Sequence[Found]) -> str:
    """The one sentence."""
    alarming = [one for one in found if one.alarming]
    also = ""
    if any(Looks.PSEUDONYM in one.looks for one in found):
        also = " Pseudonyms were told by their prefix alone; `backfill verify` checks their tags."
    if not alarming:
        return f"Nothing that looks like an address, except where it is allowed.{also}"
    unread = sum(bool(one.unread) for one in alarming)
    places = f"Addresses that nobody allowed in {_counted(len(alarming) - unread)}"
    return f"{places}; {_counted(unread)} could not be read.{also}" if unread else f"{places}.{also}"


def _counted(number: int) -> str:
    return escaping.counted(number, "place", "places")


def blocks(found: Sequence[Found], allowed: AllowList) -> Iterator[Block]:
    """A line a place, the surest first."""
    order = sorted(found, key=lambda one: (bool(one.allowed), -one.scaled(one.sure), -one.scaled(one.likely)))
    body = [
        [
            one.where,
            one.what,
            f"{'' if one.exact else '~'}{max(one.rows, one.seen):,}",
            _number(one, one.sure),
            _number(one, one.likely),
            _number(one, one.unlikely),
            _number(one, one.public),
            _how_sure(one),
            Cell(_state(one), Tone.ALARM if one.alarming else Tone.PLAIN),
        ]
        for one in order
    ]
    if body:
        yield table(HEADER, body, right=HEADER[2:7])
    if allowed.unmatched:
        yield Entries(
            "Allow-list entries that met nothing",
            tuple(Entry(entry.where, entry.reason) for entry in allowed.unmatched),
        )


def as_json(found: Sequence[Found], allowed: AllowList) -> dict[str, Any]:
    """The same as plain data."""
    return {
        "version": SCHEMA_VERSION,
        "clean": not any(one.alarming for one in found),
        "verdict": verdict(found),
        "places": [
            {
                "where": one.where,
                "what": one.what,
                "values": max(one.rows, one.seen),
                "seen": one.seen,
                "exact": one.exact,
                "sure": one.scaled(one.sure),
                "likely": one.scaled(one.likely),
                "unlikely": one.scaled(one.unlikely),
                "public": one.scaled(one.public),
                "margin": round(one.margin, 4),
                "looks": {looks.value: number for looks, number in one.looks.items()},
                "are_addresses": one.scaled(one.are),
                "lists": one.scaled(one.lists),
                "placeholders": one.aside,
                "raw_column": one.proposed,
                "planned": one.planned,
                "allowed": one.allowed or None,
                "unread": one.unread or None,
            }
            for one in found
        ],
        "unmatched": [entry.model_dump() for entry in allowed.unmatched],
    }


def as_toml(proposal: Proposal) -> str:
    """A plan file that loads and passes ``backfill plan``; what could not be a job is a comment with the reason."""
    parts = []
    if proposal.jobs:
        parts = [f"name = {escaping.toml(NAME)}"]
        if proposal.addresses is not None and any(isinstance(one.job, LinkJob) for one in proposal.jobs):
            parts.append(_table("[addresses]", proposal.addresses))
        parts += [_job(one) for one in proposal.jobs]
    else:
        parts = ["# nothing to plan for" if not proposal.left else "# nothing that a plan can have as it is"]
    left = [
        f"# {escaping.comment(one.where)} ({escaping.comment(one.what)}): {escaping.comment(why)}"
        for one, why in proposal.left
    ]
    return "\n\n".join([*parts, *(["\n".join(left)] if left else [])])


def _job(proposed: Proposed) -> str:
    one = proposed.found
    about = f"# {one.share:.1%} of {'' if one.exact else 'the sampled '}values are addresses"
    about += f", {one.aside:,} left aside (empty or a word for none)" if one.aside else ""
    accept = [f"# accept = [{', '.join(map(escaping.toml, proposed.accept))}]  # look at them first"]
    lines = [_table("[[jobs]]", proposed.job), about, *(accept if proposed.accept else [])]
    if not proposed.job.key_columns:
        lines.append("# no key: nothing names a row, so that rows in the quarantine are counted by reason")
    if isinstance(proposed.job, IntoJob):
        lines.append(
            f"# {escaping.comment(proposed.job.into)} stands beside it: its hash goes there, and {escaping.comment(proposed.job.raw)} is dropped once no "
            "application reads or writes it (docs/into.md)"
        )
    if proposed.no_link:
        lines.append(f"# no link: {escaping.comment(proposed.no_link)}")
    return "\n".join([*lines, *_kinds(proposed)])


def _kinds(proposed: Proposed) -> Iterator[str]:
    """A comment a kind that could stand there instead, with what it costs, or what is in its way."""
    if any(isinstance(option.job, IntoJob) for option in proposed.rewriting):
        yield "# without an address table, the kinds that can be; with into, the column goes, else it stays:"
    else:
        yield "# in its place, the kinds that can be:"
    for option in proposed.rewriting:
        if option.blocking:
            name = f"hash, into {option.job.into}" if isinstance(option.job, IntoJob) else option.job.becomes
            yield f"#   {escaping.comment(name)}: no. {escaping.comment(option.blocking[0].text)}"
            continue
        costs = [
            finding.text for finding in (*option.changes, *option.notes) if finding.code != NO_ROW_KEY.code
        ]
        known = option.job.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        keys = ", ".join(
            f"{key} = {escaping.toml(known[key])}"
            for key in ("becomes", "into", "then", "constant", "on_duplicate")
            if key in known
        )
        yield f"#   {keys}: possible." + "".join(f" {escaping.comment(cost)}" for cost in costs)


def _table(title: str, part: Part) -> str:
    """Every key, defaults as well: what the file says is then all there is to know."""
    known = part.model_dump(mode="json", by_alias=True)
    if isinstance(part, InPlaceJob):  # keys of other kinds are errors
        known = {key: value for key, value in known.items() if key in _KEYS or key in part.model_fields_set}
    return "\n".join([title, *(f"{key} = {_value(value)}" for key, value in known.items())])


def _value(value: str | list[str] | None) -> str:
    if isinstance(value, list) and value:
        return f"[{', '.join(map(escaping.toml, value))}]"
    return escaping.toml(value if isinstance(value, str) else "")


_KEYS = ("table", "schema", "key", "becomes", "raw", "unreadable")


def _number(one: Found, number: int) -> str:
    if one.unread and not one.seen:
        return "?"
    return f"{'' if one.exact or not number else '~'}{one.scaled(number):,}"


def _how_sure(one: Found) -> str:
    if one.unread:
        return ""
    return "every value read" if one.exact else f"a sample, ±{one.margin * 100:.1f} %"


def _state(one: Found) -> str:
    if one.unread:
        return f"UNREAD: {one.unread}"
    if one.allowed:
        return f"allowed: {one.allowed}"
    if one.planned:
        return "in the plan"
    if one.alarming and one.column is not None:
        kept = f", {one.aside:,} left aside" if one.aside else ""
        return (
            f"FOUND: a raw column ({one.share:.1%}{kept})"
            if one.proposed
            else f"FOUND ({one.share:.1%} are addresses{kept})"
        )
    return "FOUND" if one.alarming else ", ".join(looks.value for looks in one.looks)
