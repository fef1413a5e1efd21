"""What a scan found: for a terminal, for machines, and as entries for a plan. Counts and places, never a value."""

from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from backfill.scan.allowlist import AllowList
from backfill.scan.found import Found

SCHEMA_VERSION = 1  # of the JSON; a key may be added, none may change its meaning


def verdict(found: Sequence[Found]) -> str:
    """The one sentence."""
    alarming = [one for one in found if one.alarming]
    if not alarming:
        return "Nothing that looks like an address, except where it is allowed."
    unread = sum(bool(one.unread) for one in alarming)
    places = f"Addresses that nobody allowed in {_counted(len(alarming) - unread)}"
    return f"{places}; {_counted(unread)} could not be read." if unread else f"{places}."


def _counted(number: int) -> str:
    return "1 place" if number == 1 else f"{number:,} places"


def as_text(found: Sequence[Found], allowed: AllowList) -> str:
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
            _state(one),
        ]
        for one in order
    ]
    header = ["place", "type", "values", "sure", "likely", "unlikely", "public", "how sure", ""]
    right = ("left", "left", "right", "right", "right", "right", "right", "left", "left")
    parts = [tabulate(body, header, disable_numparse=True, colalign=right)] if body else []
    if allowed.unmatched:
        lines = [f"- {entry.where} ({entry.reason})" for entry in allowed.unmatched]
        parts.append("Allow-list entries that met nothing:\n" + "\n".join(lines))
    return "\n\n".join([*parts, verdict(found)])


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
                "planned": one.planned,
                "allowed": one.allowed or None,
                "unread": one.unread or None,
            }
            for one in found
        ],
        "unmatched": [{"where": entry.where, "reason": entry.reason} for entry in allowed.unmatched],
    }


def as_toml(found: Sequence[Found]) -> str:
    """Entries for a plan file, to be completed: key, link and time are the operator's to name."""
    jobs, others = [], []
    for one in found:
        if not one.alarming or one.unread:
            continue
        place, _, column = one.where.rpartition(".")
        textual = one.what in ("text", "varchar", "bpchar", "citext") and " " not in one.where
        if one.planned:
            others.append(f"# {one.where}: the plan has it already")
        elif textual and one.sure + one.likely > one.judged / 2:
            schema, _, table = place.rpartition(".")
            jobs.append(
                "[[jobs]]\\n".replace("\\n", "\n")
                + (f"schema = {_quoted(schema)}\n" if schema else "")
                + f"table = {_quoted(table)}\nraw = {_quoted(column)}\n"
                + f"# {one.scaled(one.sure + one.likely):,} of {max(one.rows, one.seen):,} values look like addresses\n"
                + f"# link = {_quoted(column + '_id')}  # to be created: references the address table\n"
                + '# key = "id"\n# time = ""\n# extra = ""'
            )
        else:
            others.append(
                f"# {one.where} ({one.what}): no plan takes it out; change the application, then rewrite its values"
            )
    return "\n\n".join([*jobs, *(["\n".join(others)] if others else [])]) or "# nothing to plan for"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


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
    return "FOUND" if one.alarming else ", ".join(looks.value for looks in one.looks)
