"""Hash column: whether a table has a column for the hash of a raw value, and what a job would cost that writes there.

An application has such a column where it writes hashes already, or is about to. What it is called has to say whose hash it
is: a table with an address may have the hash of a password as well.
"""

import re
from collections.abc import Collection, Iterable

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import rows
from backfill.database.preflight.columns import TEXTUAL
from backfill.database.preflight.finding import blocks
from backfill.plan import IntoJob
from backfill.scan.columns import Column
from backfill.scan.rewriting import Option, option

OF_HASHES = frozenset({"hash", "hashed", "hmac", "sha256", "digest"})
OF_ADDRESSES = frozenset({"ip", "ips", "addr", "address", "ipaddr", "ipaddress", "remote"})
SEEN = 1_000  # values of it that are looked at
OTHER_VALUES = blocks("into-other-values")
VALUES = sql.SQL("""
    select count(*) from (select {into}::text as value from {table} where {into} is not null limit {seen}) as stored
     where value collate "C" !~ '^[0-9a-f]{{64}}$'
""")


def beside(
    column: Column, others: Iterable[tuple[str, str]], raw: Collection[str], written: Collection[str]
) -> str | None:
    """The column for the hash of *column*; none where there is none, or more than one could be it.

    *others*: the table's columns and their types; *raw*: those that hold addresses; *written*: those that are another job's.
    """
    found = [
        name
        for name, type_ in others
        if type_ in TEXTUAL and name not in raw and name not in written and _is_for(name, column.name)
    ]
    exact = [name for name in found if _words(name) - OF_HASHES == _words(column.name)]
    alone = set(raw) <= {column.name}  # of two raw columns, one of the name "ip_hash" may be either's
    candidates = exact or (found if alone else [])
    return candidates[0] if len(candidates) == 1 else None


def _is_for(name: str, raw: str) -> bool:
    words = _words(name)
    whose = words - OF_HASHES
    return bool(whose) and whose != words and whose <= _words(raw) | OF_ADDRESSES


def _words(name: str) -> frozenset[str]:
    """``hashedIpAddress`` and ``hashed_ip_address`` alike."""
    return frozenset(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_")) - {""}


def hashing(
    connection: Connection,
    column: Column,
    into: str,
    key: tuple[str, ...],
    time: str,
    ledger_schema: str,
    accept: Iterable[str],
) -> Option:
    """The job that writes there. Reads the catalog, and some of the values that stand there."""
    job = IntoJob.model_validate(
        {"table": column.table, "schema": column.schema, "key": key, "raw": column.name, "becomes": "hash"}
        | {"into": into, "time": time}
    )
    statement = VALUES.format(table=column.identifier, into=sql.Identifier(into), seen=sql.Literal(SEEN))
    ((others,),) = rows(connection, statement)
    more = []
    if others:
        more.append(
            OTHER_VALUES(
                f"{column.where}",
                f"{into} holds values that are no hash (64 lower-case hexadecimal digits): {others:,} of the first {SEEN:,}.",
                "Name another column.",
            )
        )
    return option(connection, job, ledger_schema, accept, more)
