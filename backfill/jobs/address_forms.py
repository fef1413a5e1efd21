"""Address forms: whether a text is, or stands for, an address without host bits, as SQL that raises for no text.

A server before 16 cannot be asked whether a text is an address: a cast raises. A regular expression that lets through
valid addresses alone could come before it, inside CASE, which keeps the order; but its states are built anew for each
text, 30 microseconds for an address of version 4 and 146 for one of version 6, most of what a run took. The spellings
that results have are told by plain functions of text, in 3 to 5; the expression decides about the rest.

All of it may stand in a statement that writes an application's table: everything is qualified.
"""

from psycopg2 import sql

from backfill.database.decodable import bytes_of
from backfill.raw_column import Widths

_GROUP = "[0-9a-f]{1,4}"
# Up to seven groups around one "::", or eight without.
_V6 = "|".join(
    (
        f"({_GROUP}:){{7}}{_GROUP}",
        f"({_GROUP}:){{1,7}}:",
        f":(:{_GROUP}){{1,7}}",
        "::",
        *(f"({_GROUP}:){{1,{before}}}(:{_GROUP}){{1,{7 - before}}}" for before in range(1, 7)),
    )
)
LONGEST = 39  # characters that it takes
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
# As the server prints what has nothing before its last two groups: a network too, where more than 96 bits are kept.
V4_IN_V6 = sql.Literal(rf"^::{_BYTE}(\.{_BYTE}){{3}}$")

# Asked of the bytes: what an address is written with. Most functions of text fail on undecodable bytes, and come after it.
ALPHABET_V6 = "0123456789abcdef:"
ALPHABET_V4 = "0123456789."
ONLY = sql.SQL(
    "(pg_catalog.ltrim(x.bytes, {}::pg_catalog.bytea) OPERATOR(pg_catalog.=) ''::pg_catalog.bytea)"
)
# As pseudonyms are: eight groups of four digits, or of up to four. As networks are: up to seven, before an end of zeros.
# What is neither, the expression decides.
SHORT = sql.SQL("pg_catalog.octet_length(pg_catalog.split_part(x.text, ':', {})) OPERATOR(pg_catalog.<=) 4")
COLONS = sql.SQL("""
    (pg_catalog.octet_length(x.text) OPERATOR(pg_catalog.-) pg_catalog.octet_length(pg_catalog.replace(x.text, ':', '')))
""")
USUAL = sql.SQL("""
    (case when x.text OPERATOR(pg_catalog.~~) '____:____:____:____:____:____:____:____'
               and {colons} OPERATOR(pg_catalog.=) 7 then true
          when pg_catalog."left"(x.text, 1) OPERATOR(pg_catalog.=) ':' or not ({short}) then false
          when pg_catalog.strpos(x.text, '::') OPERATOR(pg_catalog.=) 0
          then {colons} OPERATOR(pg_catalog.=) 7 and pg_catalog."right"(x.text, 1) OPERATOR(pg_catalog.<>) ':'
          else pg_catalog.strpos(x.text, '::') OPERATOR(pg_catalog.=)
               (pg_catalog.octet_length(x.text) OPERATOR(pg_catalog.-) 1)
               and {colons} OPERATOR(pg_catalog.<=) 8 end)
""").format(colons=COLONS, short=sql.SQL(" and ").join(SHORT.format(sql.Literal(n)) for n in range(1, 9)))
# Four numbers up to 255. Zeros before them, which a cast takes, are for whoever compares the text with what is printed.
DOTTED = sql.SQL("""
    (case when pg_catalog.octet_length(x.text) OPERATOR(pg_catalog.>) 15
            or pg_catalog.octet_length(x.text) OPERATOR(pg_catalog.-)
               pg_catalog.octet_length(pg_catalog.replace(x.text, '.', '')) OPERATOR(pg_catalog.<>) 3
            or pg_catalog.strpos('.' OPERATOR(pg_catalog.||) x.text OPERATOR(pg_catalog.||) '.', '..') OPERATOR(pg_catalog.>) 0
          then false
          else 255 OPERATOR(pg_catalog.>=) all (pg_catalog.string_to_array(x.text, '.')::pg_catalog.int8[]) end)
""")
# The text is worked out once, and not where it is named ("offset 0"): of some types that costs more than what is asked.
FORM = sql.SQL("""
    (select case when pg_catalog.octet_length(x.text) OPERATOR(pg_catalog.>) {longest} then false
                 when {only_v6} then case when {usual} then true else x.text OPERATOR(pg_catalog.~) {address} end
                 when {only_v4} then {dotted}
                 when {only_both} then x.text OPERATOR(pg_catalog.~) {v4_in_v6}
                 else false end
       from (select {text} as text, {bytes} as bytes offset 0) as x)
""")


def network(address: sql.Composable, widths: Widths) -> sql.Composable:
    """The *address* (inet) without its host bits, as the text of a host. Of 6to4 no more than of the IPv4 in it."""
    # "case x when" looks up an operator by the path.
    return sql.SQL("""
        pg_catalog.host(pg_catalog.network(pg_catalog.set_masklen({address},
            case when pg_catalog.family({address}) OPERATOR(pg_catalog.=) 4 then {v4}
                 when {address} OPERATOR(pg_catalog.<<=) '2002::/16'::pg_catalog.inet then {v6_of_6to4}
                 else {v6} end)))
    """).format(
        address=address,
        v4=sql.Literal(widths.v4),
        v6=sql.Literal(widths.v6),
        v6_of_6to4=sql.Literal(min(widths.v6, 16 + widths.v4)),
    )


def begins(text: sql.Composable, prefix: sql.Composable) -> sql.Composable:
    """The *text*, with the collation "C", is an address in lower case that begins with *prefix*, ``fd7a:``. False for any other text.

    Its place in the order of bytes comes first: it tells all raw addresses from results, raises for no bytes, and
    costs a fiftieth of the form.
    """
    return sql.SQL("""(
        case when {text} OPERATOR(pg_catalog.>=) {prefix}
                  and {text} OPERATOR(pg_catalog.<) pg_catalog.replace({prefix}, ':', ';')
             then {form} else false end
    )""").format(text=text, prefix=prefix, form=_form(text))


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


def _form(text: sql.Composable) -> sql.Composable:
    """The *text* is the spelling of an address, as the server prints it or longer. Asks its bytes first."""
    return FORM.format(
        text=text,
        bytes=bytes_of(text),
        longest=sql.Literal(LONGEST),
        only_v6=ONLY.format(sql.Literal(ALPHABET_V6)),
        only_v4=ONLY.format(sql.Literal(ALPHABET_V4)),
        only_both=ONLY.format(sql.Literal(ALPHABET_V4 + ":")),
        v4_in_v6=V4_IN_V6,
        usual=USUAL,
        dotted=DOTTED,
        address=sql.Literal(f"^({_V6})$"),
    )
