"""What a row needs, as SQL: the one place of the writers where NULL, JSON null, ``{}`` and non-objects are told apart.

All of it may stand in a statement that writes an application's table, under that application's search_path:
operators, functions and types are qualified. ``verify`` has conditions of its own and shares none of these.
"""

from collections.abc import Sequence

from psycopg2 import sql

from backfill.addresses import MAX_LENGTH
from backfill.database.decodable import decodable
from backfill.plan import DroppingJob, InPlaceJob, IntoJob, Job, LinkJob

NOTHING = sql.SQL("false")
MOST_BYTES = 4  # of a character, in any encoding of a server

# A place is an object with a value that says something. The edge writes "?" for a city that it does not know. Texts are
# compared with "==" alone, by their bytes: any other operator converts them to UTF-8, which fails for bytes that mean
# nothing. "strict": else an empty array is taken to pieces, of which there are none.
USABLE = sql.SQL("""(
    pg_catalog.jsonb_typeof({place}) OPERATOR(pg_catalog.=) 'object' and pg_catalog.jsonb_path_exists({place},
        'strict $.* ? (!(@.type() == "null") && (!(@.type() == "string") || !(@ == "" || @ == "?")))'::pg_catalog.jsonpath,
        '{{}}'::pg_catalog.jsonb, true)
)""")


def usable(place: sql.Composable) -> sql.Composable:
    """The jsonb *place* says where something is. NULL counts as false where a condition is asked."""
    return USABLE.format(place=place)


def lacks_place(place: sql.Composable) -> sql.Composable:
    """The jsonb *place* is NULL, JSON ``null``, or an object without a usable value: it can be overwritten."""
    return sql.SQL("""(
        {place} is null or pg_catalog.jsonb_typeof({place}) OPERATOR(pg_catalog.=) 'null'
        or (pg_catalog.jsonb_typeof({place}) OPERATOR(pg_catalog.=) 'object' and not {usable})
    )""").format(place=place, usable=usable(place))


def lacks_geo(job: LinkJob, alias: str = "event") -> sql.Composable:
    """The row's JSON can take a ``geoip_info`` and has none.

    SQL NULL and JSON ``null`` count as ``{}``; any other non-object is left alone; an existing
    ``geoip_info`` wins, unless it is JSON ``null`` or an object that says nothing, such as ``{}``.
    """
    if job.extra is None:
        return NOTHING
    extra = sql.Identifier(alias, job.extra)
    place = sql.SQL("({} OPERATOR(pg_catalog.->) 'geoip_info')").format(extra)
    # The quick look first: after a run nearly every row has its geo (0.5 microseconds instead of 1.7).
    return sql.SQL("""(
        case when pg_catalog.length({place} OPERATOR(pg_catalog.->>) 'country_code') OPERATOR(pg_catalog.>) 1 then false
             else {lacks_place}
                  and ({extra} is null or pg_catalog.jsonb_typeof({extra}) OPERATOR(pg_catalog.=) 'null'
                       or pg_catalog.jsonb_typeof({extra}) OPERATOR(pg_catalog.=) 'object') end
    )""").format(extra=extra, place=place, lacks_place=lacks_place(place))


def readable_place(place: sql.Composable, keys: Sequence[str]) -> sql.Composable:
    """The jsonb *place* says something, and has no key but *keys*: readers of events may choke on others."""
    return sql.SQL("""(
        {usable} and {place} OPERATOR(pg_catalog.-) {keys}::pg_catalog.text[]
                     OPERATOR(pg_catalog.=) '{{}}'::pg_catalog.jsonb
    )""").format(usable=usable(place), place=place, keys=sql.Literal(list(keys)))


def object_of(extra: sql.Composable) -> sql.Composable:
    """The jsonb *extra* as an object to which a key can be added; NULL and JSON ``null`` are an empty one."""
    return sql.SQL("""
        case when {extra} is null or pg_catalog.jsonb_typeof({extra}) OPERATOR(pg_catalog.=) 'null'
             then '{{}}'::pg_catalog.jsonb else {extra} end
    """).format(extra=extra)


def text_of(column: sql.Composable) -> sql.Composable:
    """A raw *column* as the text that it holds: whatever its type (char, citext, a domain) and its collation.

    Compared letter for letter, as the address map does, whose index is used so: a column's own collation, or
    its type's idea of what is equal, would call two spellings one, or keep the index from being used.
    """
    return sql.SQL('({}::pg_catalog.text collate pg_catalog."C")').format(column)


# A cast of inet to text has a mask always; what the server prints has one where it is a network. The type is not
# known here, and both branches are text: which one is taken, a row asks. Beside a NULL of no type a domain is what it
# stands for.
AS_PRINTED = sql.SQL("""
    (case when pg_catalog.pg_typeof(coalesce({column}, null)) OPERATOR(pg_catalog.=) 'pg_catalog.inet'::pg_catalog.regtype
          then pg_catalog.concat({column}) else {column}::pg_catalog.text end collate pg_catalog."C")
""")


def printed(column: sql.Composable) -> sql.Composable:
    """A raw *column* of a text-like type or of inet, as the text that the application reads."""
    return AS_PRINTED.format(column=column)


def raw_text(job: Job, alias: str = "event") -> sql.Composable:
    """The row's raw text."""
    column = sql.Identifier(alias, job.raw)
    return printed(column) if isinstance(job, InPlaceJob | IntoJob) else text_of(column)


def short(text: sql.Composable) -> sql.Composable:
    """The *text* has few enough bytes to be an address: the cheap part of ``may_be_address``, before "distinct"."""
    return sql.SQL("pg_catalog.octet_length({}) OPERATOR(pg_catalog.<=) {}").format(
        text, sql.Literal(MAX_LENGTH * MOST_BYTES)
    )


def may_be_address(text: sql.Composable) -> sql.Composable:
    """The *text* can be sent to the client, and is not too long to be an address."""
    return sql.SQL("""(
        case when {decodable} then pg_catalog.length({text}) OPERATOR(pg_catalog.<=) {most} else false end
    )""").format(decodable=decodable(text), text=text, most=sql.Literal(MAX_LENGTH))


def unlinked(job: DroppingJob, alias: str = "event") -> sql.Composed:
    """The row holds a text, and no link or hash beside it."""
    return sql.SQL("({raw} is not null and {result} is null)").format(
        raw=sql.Identifier(alias, job.raw), result=sql.Identifier(alias, job.result)
    )


def linked(job: DroppingJob, alias: str = "event") -> sql.Composed:
    """The row holds a text, and a link or hash beside it."""
    return sql.SQL("({raw} is not null and {result} is not null)").format(
        raw=sql.Identifier(alias, job.raw), result=sql.Identifier(alias, job.result)
    )
