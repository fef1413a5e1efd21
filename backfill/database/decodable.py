"""Decodable: whether a text's bytes mean anything in the encoding of the database.

Some encodings leave bytes undefined (0x81 in WIN1252), PostgreSQL stores them all the same, and a client that speaks
UTF-8 gets an error in the place of such a text, and of all others that were asked for beside it. A database whose
encoding was declared wrongly holds worse. So the server is asked before it sends a text, by its bytes: ``length``,
``left`` and ``btrim`` fail on them as well.

All of it may stand in a statement that writes an application's table: what it uses is qualified. Nothing here can
fail for any bytes.
"""

from collections.abc import Mapping

from psycopg2 import sql

# Types whose text is ASCII, whatever they hold.
ASCII = frozenset(
    [
        "int2",
        "int4",
        "int8",
        "oid",
        "numeric",
        "float4",
        "float8",
        "uuid",
        "bool",
        "date",
        "time",
        "timetz",
        "timestamp",
        "timestamptz",
        "interval",
        "inet",
        "cidr",
        "macaddr",
    ]
)

# Encodings of one byte a character, and the bytes for which the server has none. The tests hold it against the server.
UNDEFINED: Mapping[str, bytes] = {
    "WIN1250": bytes.fromhex("8183889098"),
    "WIN1251": bytes.fromhex("98"),
    "WIN1252": bytes.fromhex("818d8f909d"),
    "WIN1253": bytes.fromhex("81888a8c8d8e8f90989a9c9d9e9faad2ff"),
    "WIN1254": bytes.fromhex("818d8e8f909d9e"),
    "WIN1255": bytes.fromhex("818a8c8d8e8f909a9c9d9e9fcad9dadbdcdddedffbfcff"),
    "WIN1257": bytes.fromhex("8183888a8c90989a9c9fa1a5"),
    "WIN1258": bytes.fromhex("818a8d8e8f909a9d9e"),
    "WIN874": bytes.fromhex("81828384868788898a8b8c8d8e8f9098999a9b9c9d9e9fdbdcdddefcfdfeff"),
    "LATIN3": bytes.fromhex("a5aebec3d0e3f0"),
    "ISO_8859_6": bytes.fromhex(
        "a1a2a3a5a6a7a8a9aaabaeafb0b1b2b3b4b5b6b7b8b9babcbdbec0dbdcdddedff3f4f5f6f7f8f9fafbfcfdfeff"
    ),
    "ISO_8859_7": bytes.fromhex("aed2ff"),
    "ISO_8859_8": bytes.fromhex("a1bfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddefbfcff"),
}

# Well-formed UTF-8, as two hexadecimal digits a byte: neither overlong nor a surrogate, nor beyond U+10FFFF.
UTF8 = (
    "[0-7].|c[2-9a-f][89ab].|d.[89ab].|e0[ab].[89ab].|e[1-9a-cef][89ab].[89ab].|ed[89].[89ab]."
    "|f0[9ab].[89ab].[89ab].|f[123][89ab].[89ab].[89ab].|f48.[89ab].[89ab]."
)
# Which of their characters UTF-8 lacks cannot be said in a few words. No address has any but ASCII, and beside it
# the ideographic space: whatever else a text holds there, it is not asked for.
EAST_ASIAN = ("EUC_JP", "EUC_CN", "EUC_KR", "EUC_TW", "EUC_JIS_2004", "MULE_INTERNAL")
ASCII_AND_SPACE = "[0-7].|a1a1"

BYTES = sql.SQL(r"""
    pg_catalog.decode(pg_catalog.replace(({text})::pg_catalog.text collate pg_catalog."C", E'\\', E'\\\\'), 'escape')
""")
# The first look is cheap, and tells nearly all: escaped, other bytes than ASCII take four characters.
DECODABLE = sql.SQL("""(
    case when pg_catalog.octet_length(pg_catalog.encode({bytes}, 'escape'))
              OPERATOR(pg_catalog.=) pg_catalog.octet_length(({text})::pg_catalog.text) then true
         else (pg_catalog.encode({bytes}, 'hex') collate pg_catalog."C") OPERATOR(pg_catalog.~) case {patterns} else '' end end
)""")
MARKED = sql.SQL(r"""
    pg_catalog.replace(pg_catalog.regexp_replace(pg_catalog.encode({bytes}, 'escape'), E'\\\\[0-7]{{3}}', '?', 'g'),
                       E'\\\\', E'\\')
""")


def decodable(text: sql.Composable) -> sql.Composable:
    """Whether the server can send *text*, as SQL; NULL for NULL."""
    return DECODABLE.format(text=text, bytes=bytes_of(text), patterns=_PATTERNS)


def bytes_of(text: sql.Composable) -> sql.Composable:
    """The bytes of *text* as they are stored, as SQL."""
    return BYTES.format(text=text)


def if_decodable(text: sql.Composable, otherwise: sql.Composable | None = None) -> sql.Composable:
    """*text* where the server can send it, else NULL, or *otherwise*. NULL stays NULL."""
    return sql.SQL("(case when {} is false then {} else {} end)").format(
        decodable(text), otherwise or sql.SQL("null"), text
    )


def escaped(text: sql.Composable) -> sql.Composable:
    """*text* where the server can send it; else its bytes, each that is not ASCII as a backslash and three octal digits."""
    return if_decodable(text, sql.SQL("pg_catalog.encode({}, 'escape')").format(bytes_of(text)))


def legible(text: sql.Composable) -> sql.Composable:
    """*text* where the server can send it; else with a question mark for each byte that is not ASCII."""
    return if_decodable(text, MARKED.format(bytes=bytes_of(text)))


def _defined(undefined: bytes) -> str:
    """Any byte but those, as hexadecimal digits."""
    missing = {f"{byte:02x}" for byte in undefined}
    digits = "0123456789abcdef"
    return "|".join(
        first + "[" + "".join(second for second in digits if first + second not in missing) + "]"
        for first in digits
        if any(first + second not in missing for second in digits)
    )


def _patterns() -> sql.Composable:
    known = {"UTF8": UTF8, **{name: _defined(undefined) for name, undefined in UNDEFINED.items()}}
    known |= dict.fromkeys(EAST_ASIAN, ASCII_AND_SPACE)
    return sql.SQL(" ").join(
        sql.SQL("when pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.=) {} then {}").format(
            sql.Literal(name), sql.Literal(f"^({pattern})*$")
        )
        for name, pattern in known.items()
    )


_PATTERNS = _patterns()
