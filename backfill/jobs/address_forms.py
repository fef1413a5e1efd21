"""Address forms: whether a text is, or stands for, an address without host bits, as SQL that raises for no text.

A server before 16 cannot be asked whether a text is an address: a cast raises. So a regular expression that lets
through valid addresses alone comes before it, inside CASE, which keeps the order.

All of it may stand in a statement that writes an application's table: everything is qualified.
"""

from psycopg2 import sql

from backfill.database.decodable import bytes_of
from backfill.plan import Widths

_OCTET = r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_GROUP = "[0-9a-f]{1,4}"
_V4 = rf"{_OCTET}(\.{_OCTET}){{3}}"
# Up to seven groups around one "::", or eight without; the dotted form of the last two is no network but a host.
_V6 = "|".join(
    (
        f"({_GROUP}:){{7}}{_GROUP}",
        f"({_GROUP}:){{1,7}}:",
        f":(:{_GROUP}){{1,7}}",
        "::",
        *(f"({_GROUP}:){{1,{before}}}(:{_GROUP}){{1,{7 - before}}}" for before in range(1, 7)),
    )
)
ADDRESS = f"^({_V4}|{_V6})$"
LONGEST = 39  # characters that it takes


def network(address: sql.Composable, widths: Widths) -> sql.Composable:
    """The *address* (inet) without its host bits, as the text of a host."""
    # "case x when" looks up an operator by the path.
    return sql.SQL("""
        pg_catalog.host(pg_catalog.network(pg_catalog.set_masklen({address},
            case when pg_catalog.family({address}) OPERATOR(pg_catalog.=) 4 then {v4} else {v6} end)))
    """).format(address=address, v4=sql.Literal(widths.v4), v6=sql.Literal(widths.v6))


def begins(text: sql.Composable, prefix: sql.Composable) -> sql.Composable:
    """The *text* is an address in lower case that begins with *prefix*. False for any other text, NULL or not.

    The form comes first: ``starts_with`` raises on bytes that cannot be decoded.
    """
    return sql.SQL("""(
        case when {form}
             then coalesce(pg_catalog.starts_with({text}, {prefix}), false) else false end
    )""").format(text=text, form=_form(text), prefix=prefix)


def is_network(text: sql.Composable, widths: Widths) -> sql.Composable:
    """The *text* is a host in canonical spelling that has no bits beyond *widths*. False for any other text."""
    return sql.SQL("""(
        case when {form}
             then {network} OPERATOR(pg_catalog.=) {text} else false end
    )""").format(
        text=text,
        form=_form(text),
        network=network(sql.SQL("({}::pg_catalog.inet)").format(text), widths),
    )


def _form(text: sql.Composable) -> sql.Composable:
    """The *text* is the spelling of an address.

    By its bytes: of a text that ends in half a character, an expression sees what is before it, and a cast raises.
    """
    return sql.SQL("""
        case when pg_catalog.octet_length({text}) OPERATOR(pg_catalog.<=) {longest}
             then (pg_catalog.encode({bytes}, 'escape') collate pg_catalog."C") OPERATOR(pg_catalog.~) {address}
             else false end
    """).format(text=text, longest=sql.Literal(LONGEST), bytes=bytes_of(text), address=sql.Literal(ADDRESS))
