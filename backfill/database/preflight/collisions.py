"""Collisions: rows that a unique key with the link, or the hash, in it would no longer let stand beside each other.

Two spellings of one address are two texts, and become one link or hash; two rows of the address table that are one address
become one by a merge. Both are counted before anything is written, by the client, which alone knows spellings.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg2 import sql

from backfill.addresses import Reason, canonicalise
from backfill.database.connection import driver
from backfill.database.decodable import escaped, if_decodable
from backfill.database.preflight.finding import Finding, blocks
from backfill.database.preflight.target import Purpose, Target
from backfill.database.row_key import RowKey, row_key
from backfill.database.shown_key import shown_keys
from backfill.plan import Addresses, DroppingJob, IntoJob

COLLISION = blocks("link-collision")
HASHES = blocks("hash-collision")

NAMED = 5  # rows that the finding names
CURSOR_ROWS = 5_000

# Whole unique indexes, by columns and without expressions; keys WITHOUT OVERLAPS are exclusion constraints.
UNIQUE = """
    select c.relname, i.indrelid::bigint, n.nspname, t.relname, link.attname,
           array(select a.attname::text from unnest(i.indkey::int2[]) with ordinality as k (number, place)
                   join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.number
                  where k.place <= i.indnkeyatts and k.number <> link.attnum order by k.place),
           coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false)
      from pg_index as i
      join pg_class as c on c.oid = i.indexrelid
      join pg_class as t on t.oid = i.indrelid
      join pg_namespace as n on n.oid = t.relnamespace
      join pg_attribute as link on link.attrelid = i.indrelid
           and link.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])
     where i.indisunique and not i.indisexclusion and i.indexprs is null and i.indpred is null
       and {which}
     order by 1
"""
OF_A_JOB = "i.indrelid = %(table)s and link.attname = %(link)s"
# Tables outside the plan: a merge changes their links too.
OF_OTHERS = """
    exists (select from pg_constraint as k where k.contype = 'f' and k.confrelid = %(table)s
               and k.conrelid = i.indrelid and k.conkey[1] = link.attnum)
    and n.nspname || '.' || t.relname <> all (%(planned)s)
"""

ROWS = sql.SQL("""
    select {number}, {name}, {raw}, {host}
      from {table} as event {joined}
     where (event.{link} is not null or {raw} is not null) and {whole}
     order by 1
""")
JOINED = sql.SQL("left join {addresses} as known on known.{key} = event.{link}")


@dataclass(frozen=True)
class _Unique:
    """A unique index with the link in it."""

    index: str
    table: int
    schema: str
    name: str
    link: str
    others: Sequence[str]
    nulls_are_equal: bool


def check(target: Target) -> Iterator[Finding]:
    """Counted exactly, row by row, where there is such an index; nothing is read where there is none."""
    if not target.writes:
        return
    if isinstance(target.part, DroppingJob):
        for row in target.ask(UNIQUE.format(which=OF_A_JOB), link=target.part.result):
            yield from _colliding(target, _Unique(*row), target.part)
    elif isinstance(target.part, Addresses) and target.purpose in (Purpose.PLAN, Purpose.REMEDY):
        planned = [f"{job.schema_}.{job.table}" for job in target.plan.jobs]
        for row in target.ask(UNIQUE.format(which=OF_OTHERS), planned=planned):
            yield from _colliding(target, _Unique(*row), None)


def _colliding(target: Target, unique: _Unique, job: DroppingJob | None) -> Iterator[Finding]:
    number, names = 0, list[str]()
    group, seen = None, set[str]()
    for rank, name, raw, host in _rows(target, unique, job):
        if rank != group:
            group, seen = rank, set()
        address = canonicalise(host if host is not None else raw or "")
        if isinstance(address, Reason):
            continue  # it is not linked
        if str(address) in seen:
            number += 1
            if len(names) < NAMED:
                names.append(name)
        seen.add(str(address))
    if number:
        names = names if job is None else list(map(shown_keys(target.connection, job), names))
        table = f"{unique.schema}.{unique.name}"
        others = f" for equal {', '.join(unique.others)}" if unique.others else ""
        kind, would = (
            (HASHES, "get the hash of an") if isinstance(job, IntoJob) else (COLLISION, "be linked to an")
        )
        yield kind(
            f"{table}.{unique.index}",
            f"Unique key {unique.index} of {table} has {unique.link} in it, and {number:,} {'row' if number == 1 else 'rows'} would {would} address that another "
            f"row has already{others}: {'row' if number == 1 else 'rows'} {', '.join(names)}{' and more' if number > NAMED else ''}.",
            f"Delete or change those that are not needed; or drop {unique.index}, and make it anew when the rows are right.",
        )


def _rows(target: Target, unique: _Unique, job: DroppingJob | None) -> Iterator[tuple[Any, ...]]:
    others = [sql.Identifier("event", name) for name in unique.others]
    usable = job is not None and job.raw in target.columns
    key = row_key(target.connection, job) if job is not None else RowKey(())
    if isinstance(job, IntoJob):  # of a hash that stands there, its text tells whose it should be
        host: sql.Composable = sql.SQL("null::text")
        joined: sql.Composable = sql.SQL("")
    else:
        addresses = target.plan.addresses
        if addresses.address not in _columns_of_addresses(target):
            return
        host = sql.SQL("host(known.{})").format(sql.Identifier(addresses.address))
        joined = JOINED.format(
            addresses=sql.Identifier(addresses.schema_, addresses.table),
            key=sql.Identifier(addresses.key),
            link=sql.Identifier(unique.link),
        )
    statement = ROWS.format(
        # By the types' own equality, which a text is not: citext, numeric.
        number=sql.SQL("dense_rank() over (order by {})").format(sql.SQL(", ").join(others))
        if others
        else sql.SQL("1"),
        name=escaped(key.text()) if key.columns else sql.SQL("event.ctid::text"),
        raw=if_decodable(_text_of(target, job)) if job is not None and usable else sql.SQL("null::text"),
        table=sql.Identifier(unique.schema, unique.name),
        host=host,
        joined=joined,
        link=sql.Identifier(unique.link),
        whole=sql.SQL(" and ").join(sql.SQL("{} is not null").format(name) for name in others)
        if others and not unique.nulls_are_equal
        else sql.SQL("true"),
    )
    with driver(target.connection).cursor(name="backfill_collisions") as cursor:
        cursor.itersize = CURSOR_ROWS
        cursor.execute(statement)
        yield from cursor


def _text_of(target: Target, job: DroppingJob) -> sql.Composable:
    """As the application reads it: a cast of inet to text has a mask always."""
    form = "concat(event.{})" if target.columns[job.raw].base == "inet" else "event.{}::text"
    return sql.SQL(form).format(sql.Identifier(job.raw))


def _columns_of_addresses(target: Target) -> set[str]:
    addresses = target.plan.addresses
    found = target.ask(
        """
        select a.attname from pg_attribute as a join pg_class as c on c.oid = a.attrelid
          join pg_namespace as n on n.oid = c.relnamespace
         where n.nspname = %(schema)s and c.relname = %(name)s and a.attnum > 0 and not a.attisdropped
        """,
        schema=addresses.schema_,
        name=addresses.table,
    )
    return {name for (name,) in found}
