"""Statements that write an application's table run under its search_path: nothing in them is looked up by path."""

import re

import pytest
from psycopg2 import sql

from backfill.database.blocks import Range
from backfill.jobs import (
    address_rows,
    fill,
    in_place,
    into,
    kept_rows,
    link,
    place_column,
    row_needs,
    shared_pass,
)
from backfill.jobs.passes import pass_of
from backfill.jobs.place_column import PlaceColumn
from backfill.jobs.place_columns import PlaceColumns
from backfill.plan import PYPI, GeoKey
from backfill.shadow import rows as shadow_rows
from backfill.verify import merge, repair, settle

JOB = PYPI.jobs[0]
PLACE = PlaceColumn(JOB, "x", before=True, after=True)
KEYED = PlaceColumns(
    JOB, "", before=True, by_key=((GeoKey.CITY, "x"), (GeoKey.REGION, "y")), known_widths={"x": 9}
)
UPDATE = link.statement(
    sql.Identifier("backfill", "address_map"), JOB, pass_of(Range(0, 100), 8, 1), ["tag"], few=True
)
TEMPLATES = {
    "enter": address_rows.ENTER, "fill addresses": address_rows.FILL_ADDRESSES, "fill odd": fill.FILL_ODD,
    "settle link": settle.LINK, "settle discard": settle.DISCARD, "sentinel": settle.SENTINEL,
    "repoint": merge.REPOINT, "ban": merge.BAN, "own hash": merge.OWN_HASH, "hash": merge.HASH,
    "add": repair.ADD, "relink": repair.RELINK, "clear hash": repair.CLEAR_HASH, "set hash": repair.SET_HASH,
    "copy": shadow_rows.INSERT, "copied link": shadow_rows.LINK, "copied words": shadow_rows.EXTRA,
    "link": UPDATE, "lacks geo": row_needs.lacks_geo(JOB), "object": row_needs.object_of(sql.Identifier("x")),
    "lacks place": row_needs.lacks_place(sql.Identifier("x")), "place": sql.SQL(address_rows.PLACE),
    "text": row_needs.raw_text(JOB), "try": kept_rows.TRY, "place of link": link.PLACE_OF_LINK, "readable": row_needs.readable_place(sql.Identifier("x"), ["city"]),
    "range": Range(0, 1).holds("event"), "in place": in_place.WRITE, "into": into.WRITE, "shared": shared_pass.WRITE, "beside it": shared_pass.OTHER, "taken": shared_pass.ASSIGNMENT, "into place": into.PLACE, "place returned": place_column.RETURNED,
    "place beside": sql.SQL("set {}").format(*PLACE.assignments), "state of it": PLACE.state,
    "place by key": sql.SQL("set {}").format(KEYED.assignments[0]), "state by key": KEYED.state, "lost by key": KEYED.lost,
    "no place": in_place.NO_PLACE, "place counted": PLACE.counted,
    "as it was": PLACE.as_it_was(Range(0, 1)), "by key as it was": KEYED.as_it_was(Range(0, 1)), "same row": PLACE.same_row, "counted": place_column.COUNTED_ALONE,
}  # fmt: skip

# What calls an operator or a function by the search_path; keywords that look like functions are not.
KEYWORDS = {
    *(
        "and",
        "or",
        "not",
        "coalesce",
        "exists",
        "case",
        "when",
        "then",
        "else",
        "end",
        "any",
        "array",
        "values",
        "as",
    ),
    *(
        "select",
        "where",
        "on",
        "lateral",
        "materialized",
        "filter",
        "set",
        "join",
        "from",
        "in_range",
        "with",
        "limit",
    ),
}
LOOKED_UP = re.compile(r"\b(nullif|in|between|using|natural|like|ilike|similar|distinct\s+from)\b")


def text_of(template: sql.Composable) -> str:
    """The statement's own words: no comments, literals or quoted names, and a word for each place to fill."""
    if isinstance(template, sql.Composed):
        text = "".join(part.string if isinstance(part, sql.SQL) else " filled " for part in template.seq)
    else:
        assert isinstance(template, sql.SQL)
        text = template.string
    text = re.sub(r"--[^\n]*", "", text)
    text = re.sub(r"'(?:[^']|'')*'", " literal ", text)
    text = re.sub(r'"[^"]*"', " quoted ", text)
    return re.sub(r"\{\w*\}|%s|%\(\w+\)s", " filled ", text.lower().replace("{{", " ").replace("}}", " "))


def faults(text: str) -> list[str]:
    """What would be looked up by path."""
    found = [f"keyword {word}" for word in LOOKED_UP.findall(text)]
    rest = re.sub(r"operator\(\s*(?:pg_catalog|filled)\s*\.\s*[^\s)]+\s*\)", " ", text)
    found += [
        f"type {name}"
        for name in re.findall(r"::\s*(\w+(?:\.\s*\w+)?)", rest)
        if not name.startswith(("pg_catalog.", "filled"))
    ]
    rest = re.sub(r"::\s*\w+(?:\.\s*\w+)?", " ", rest)
    # Assignments: after "set", and after the comma that ends one.
    rest = re.sub(r"(\bset\s+|,\s*|^\s*)([\w.]+)\s+=\s", r"\1\2 ", rest)
    found += [f"operator {sign}" for sign in re.findall(r"[=<>!~+\-/|@#%^&?]+", rest)]
    found += [
        f"function {name}"
        for prefix, name in re.findall(r"(\w+\s*\.\s*)?\b([a-z_]\w*)\s*\(", rest)
        if not prefix.strip().startswith("pg_catalog")
        and name not in KEYWORDS
        and name not in ("filled", "quoted", "matched", "addresses")
    ]
    return found


@pytest.mark.parametrize("name", TEMPLATES)
def test_nothing_is_looked_up_by_path(name: str) -> None:
    assert faults(text_of(TEMPLATES[name])) == []


@pytest.mark.parametrize(
    "statement",
    [
        "select a.b = c from t", "select nullif(a, b)", "select a::text", "select length(a)", "select a || b",
        "select a in (1, 2)", "select a is distinct from b", "join t using (a)", "select a -> 'b'", "select a::public.x",
        "update t set a = b where c <> d", "select a operator(public.=) b", "select -a", "select a between 1 and 2",
    ],
)  # fmt: skip
def test_what_is_looked_up_by_path_is_found(statement: str) -> None:
    assert faults(text_of(sql.SQL(statement)))
