"""Forms: what the value of an in-place job looks like, as SQL over the value's text.

True for what is in the form, false for anything else, NULL and undecodable bytes included; nothing here fails for any
text, mask or zone id. A cast stands behind a pattern in the same CASE, and patterns read the text's bytes, since
``left`` and ``starts_with`` fail on some. What a value in the form proves, and what it does not, is said in ``in_place``.
"""

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import value
from backfill.database.decodable import bytes_of
from backfill.database.quoting import regclass
from backfill.hashing.pseudonym import prefix_text
from backfill.plan import InPlaceJob, Job

NO_HASH = "[^0-9a-f]"  # "{64}" takes ten times as long
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
DOTTED = rf"{_BYTE}(\.{_BYTE}){{3}}"
_GROUP = "[0-9a-fA-F]{1,4}"
# Eight groups, or fewer with one "::" that stands for at least one; or "::" and what is IPv4 in IPv6.
COLONS = "|".join(
    (
        f"({_GROUP}:){{7}}{_GROUP}",
        f"({_GROUP}:){{1,7}}:",
        *(f"({_GROUP}:){{1,{before}}}(:{_GROUP}){{1,{7 - before}}}" for before in range(6, 0, -1)),
        f":((:{_GROUP}){{1,7}}|:)",
        rf"::([fF]{{4}}:)?{DOTTED}",
    )
)
LONGEST = 45  # characters of an address that those patterns take

# Qualified: a repair compares them under the application's path.
INET = sql.SQL('(pg_catalog.abbrev(event.{}) collate pg_catalog."C")')
TEXT = sql.SQL('(event.{}::pg_catalog.text collate pg_catalog."C")')
IS_INET = sql.SQL("""
    with recursive base as (
        select a.atttypid as oid from pg_attribute as a where a.attrelid = {table} and a.attname = %s
        union all
        select t.typbasetype from base join pg_type as t on t.oid = base.oid where t.typtype = 'd'
    )
    select exists (select from base where oid = 'inet'::regtype)
""")

IS_HASH = sql.SQL("""(
    case when octet_length({text}) = 64 then {bytes} !~ {pattern} else false end
)""")
MATCHES = sql.SQL("""(
    case when octet_length({text}) <= {longest} then {bytes} ~ {pattern} else false end
)""")
IS_NETWORK = sql.SQL("""(
    case when octet_length({text}) > {longest} then false
         when {bytes} ~ {dotted} then host(network(set_masklen({text}::inet, {v4}))) = host({text}::inet)
         when {bytes} ~ {colons}
         then host(network(set_masklen({text}::inet,
                  case when {text}::inet <<= '::ffff:0.0.0.0/96' then 96 + {v4}
                       when {text}::inet <<= '2002::/16' then least(16 + {v4}, {v6})
                       else {v6} end)))
              = host({text}::inet)
         else false end
)""")


def value_text(connection: Connection, job: Job) -> sql.Composable:
    """The raw value of ``event`` as text: letter for letter, or as the server prints an ``inet``, without a full mask."""
    is_inet = value(connection, IS_INET.format(table=regclass(job)), (job.raw,))
    return (INET if is_inet else TEXT).format(sql.Identifier(job.raw))


def in_form(job: InPlaceJob, text: sql.Composable, prefix: int | None = None) -> sql.Composable:
    """*text* has the form of what *job* makes, as far as the server can tell: of a pseudonym it knows the *prefix* alone.

    False for NULL, which is no value. *prefix*: None where no pseudonym was ever made.
    """
    match job.becomes:
        case "hash":
            known = is_hash(text)
        case "network":
            known = is_network(text, job.widths.v4, job.widths.v6)
        case "pseudonym" if prefix is not None:
            known = has_prefix(text, prefix)
        case _:
            known = sql.SQL("false")
    if job.constant is None:
        return known
    return sql.SQL("({} or coalesce({} = {}, false))").format(known, _plain(text), sql.Literal(job.constant))


def is_hash(text: sql.Composable) -> sql.Composable:
    """*text* is 64 lower-case hexadecimal digits."""
    return IS_HASH.format(text=_plain(text), bytes=_ascii(text), pattern=sql.Literal(NO_HASH))


def has_prefix(text: sql.Composable, prefix: int) -> sql.Composable:
    """*text* begins as every pseudonym of that *prefix* does. Its tag is for the client to check."""
    return MATCHES.format(
        text=_plain(text),
        bytes=_ascii(text),
        longest=sql.Literal(LONGEST),
        pattern=sql.Literal(f"^{prefix_text(prefix)}[0-9a-f:]*$"),
    )


def is_plain_address(text: sql.Composable) -> sql.Composable:
    """*text* is an address with nothing around it. There are others, which a client has to read."""
    return MATCHES.format(
        text=_plain(text),
        bytes=_ascii(text),
        longest=sql.Literal(LONGEST),
        pattern=sql.Literal(f"^({DOTTED}|{COLONS})$"),
    )


def is_network(text: sql.Composable, v4_bits: int, v6_bits: int) -> sql.Composable:
    """*text* is an address without a mask, in which only that many leading bits are set.

    IPv4 in IPv6 (``::ffff:…``) counts as IPv4, as in ``addresses.canonicalise``; of 6to4 the IPv4 that is in it.
    """
    return IS_NETWORK.format(
        text=_plain(text),
        bytes=_ascii(text),
        longest=sql.Literal(LONGEST),
        dotted=sql.Literal(f"^{DOTTED}$"),
        colons=sql.Literal(f"^({COLONS})$"),
        v4=sql.Literal(v4_bits),
        v6=sql.Literal(v6_bits),
    )


def _plain(text: sql.Composable) -> sql.Composable:
    """Letter for letter, whatever the column's type and collation call equal."""
    return sql.SQL('({}::text collate "C")').format(text)


def _ascii(text: sql.Composable) -> sql.Composable:
    """Its bytes as ASCII; those beyond become a backslash and digits, which no pattern takes."""
    return sql.SQL("""(encode({}, 'escape') collate "C")""").format(bytes_of(text))
