"""Address forms: whether a text is, or stands for, an address without host bits, as SQL that raises for no text.

A server before 16 cannot be asked whether a text is an address: a cast raises. So a regular expression that lets
through valid addresses alone comes before it, inside CASE, which keeps the order.

All of it may stand in a statement that writes an application's table: everything is qualified.
"""

from psycopg2 import sql

from backfill.database.decodable import bytes_of
from backfill.raw_column import Widths

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
    """The *text*, with the collation "C", is an address in lower case that begins with *prefix*, ``fd7a:``. False for any other text.

    Its place in the order of bytes comes first: it tells all raw addresses from results, raises for no bytes, and
    costs a fiftieth of the form, which took most of the time of a run. Next the shape that most results have.
    """
    return sql.SQL("""(
        case when {text} OPERATOR(pg_catalog.>=) {prefix}
                  and {text} OPERATOR(pg_catalog.<) pg_catalog.replace({prefix}, ':', ';')
             then case when {plain} OPERATOR(pg_catalog.~) '^[0-9a-f]{{4}}(:[0-9a-f]{{1,4}}){{7}}$' then true
                       else {form} end
             else false end
    )""").format(text=text, prefix=prefix, plain=_plain(text), form=_form(text))


def is_network(text: sql.Composable, widths: Widths) -> sql.Composable:
    """The *text* is a host in canonical spelling that has no bits beyond *widths*. False for any other text."""
    return sql.SQL("""(
        case when {may_be} then
             case when {form} then {network} OPERATOR(pg_catalog.=) {text} else false end
             else false end
    )""").format(
        may_be=_may_be_network(text, widths),
        text=text,
        form=_form(text),
        network=network(sql.SQL("({}::pg_catalog.inet)").format(text), widths),
    )


def _may_be_network(text: sql.Composable, widths: Widths) -> sql.Composable:
    """By its last two bytes, where *widths* are whole numbers of what stands between two dots or colons."""
    if widths.v4 % 8 or widths.v6 % 16:
        return sql.SQL("true")
    return sql.SQL(r"""
        (select ending OPERATOR(pg_catalog.=) '\x2e30'::pg_catalog.bytea or ending OPERATOR(pg_catalog.=) '\x3a3a'::pg_catalog.bytea
                or ending OPERATOR(pg_catalog.=) '\x3a30'::pg_catalog.bytea
           from pg_catalog.substr({bytes}, pg_catalog.octet_length({text}) OPERATOR(pg_catalog.-) 1) as ending)
    """).format(bytes=bytes_of(text), text=text)


def _plain(text: sql.Composable) -> sql.Composable:
    """The *text* with what is not ASCII escaped.

    Of a text that ends in half a character, an expression sees what is before it, and a cast raises.
    """
    return sql.SQL("""(pg_catalog.encode({}, 'escape') collate pg_catalog."C")""").format(bytes_of(text))


def _form(text: sql.Composable) -> sql.Composable:
    """The *text* is the spelling of an address."""
    return sql.SQL("""
        case when pg_catalog.octet_length({text}) OPERATOR(pg_catalog.<=) {longest}
             then {plain} OPERATOR(pg_catalog.~) {address} else false end
    """).format(text=text, longest=sql.Literal(LONGEST), plain=_plain(text), address=sql.Literal(ADDRESS))
