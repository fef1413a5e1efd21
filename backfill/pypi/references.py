"""References: every table of a database that refers to one person, and those of the plan that do not.

What is asked comes from the catalog, not from a list: each foreign key to the person's row, on any of its
columns; in tables of the plan, which may refer to a person without a foreign key, also each column whose value
is the person's key or name, and JSON that names them. From these, on to the addresses that they are linked to.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.columns import column_type
from backfill.database.connection import rows
from backfill.database.quoting import table
from backfill.plan import Plan
from backfill.raw_column import Table

KEY, USERNAME = "id", "username"

# Foreign keys to a table: whose, on which columns, to which, and whether this role may read them.
FOREIGN_KEYS = sql.SQL("""
    select n.nspname::text, c.relname::text, has_table_privilege(c.oid, 'SELECT'),
           array(select a.attname::text from unnest(con.conkey) with ordinality as k (number, place)
                   join pg_attribute as a on a.attrelid = con.conrelid and a.attnum = k.number order by k.place),
           array(select a.attname::text from unnest(con.confkey) with ordinality as k (number, place)
                   join pg_attribute as a on a.attrelid = con.confrelid and a.attnum = k.number order by k.place)
      from pg_constraint as con
      join pg_class as c on c.oid = con.conrelid and not c.relispartition
      join pg_namespace as n on n.oid = c.relnamespace
     where con.contype = 'f' and con.conparentid = 0 and n.nspname <> %(ledger)s
       and con.confrelid = (select t.oid from pg_class as t join pg_namespace as s on s.oid = t.relnamespace
                             where s.nspname = %(schema)s and t.relname = %(table)s)
     order by 1, 2, con.conname
""")

MEMBERS = sql.SQL("""
    select a.attname::text, base.typname::text, has_table_privilege(c.oid, 'SELECT'),
           exists (select from pg_constraint as con  -- a key of the table's own, or of another table than the person's
                    where con.conrelid = c.oid and a.attnum = any (con.conkey) and con.contype in ('p', 'f'))
      from pg_class as c
      join pg_namespace as n on n.oid = c.relnamespace
      join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      join pg_type as given on given.oid = a.atttypid
      join pg_type as base on base.oid = case when given.typtype = 'd' then given.typbasetype else given.oid end
     where n.nspname = %(schema)s and c.relname = %(table)s
     order by a.attnum
""")

# Any text in the document that is the person's name or key. Bound, as every value is.
_NAMED = "jsonb_path_exists(row.{}::jsonb, '$.** ? (@ == $key || @ == $name)', jsonb_build_object('key', %(user)s::text, 'name', %(username)s::text))"


@dataclass(frozen=True)
class Reference:
    """Rows of one table that refer to the person; *of* is their condition, on ``row``."""

    part: Table
    of: sql.Composed
    via: str


@dataclass(frozen=True)
class NotAsked:
    """A table that was not asked, and why."""

    table: str
    why: str


def references(
    connection: Connection, plan: Plan, people: Table, ledger_schema: str, known: Sequence[tuple[str, str]]
) -> tuple[list[Reference], list[NotAsked]]:
    """Where else the person is named than in the *known* (table, column)s."""
    found: list[Reference] = []
    left: list[NotAsked] = []
    keyed: set[tuple[str, str]] = set()
    for part, readable, own, theirs in foreign_keys(connection, people, ledger_schema):
        keyed.add((part.schema_, part.table))
        if len(own) == 1 and (part.name, own[0]) in known:
            continue
        via = ", ".join(own)
        if not readable:
            left.append(NotAsked(part.name, f"its reference by {via} may not be read by this role"))
            continue
        found.append(Reference(part, _same(connection, part, own, people, theirs), via))
    for part in {(one.schema_, one.table): one for one in (*plan.jobs, *plan.discard)}.values():
        by_value, why = _by_value(connection, part, people, known, keyed)
        found += by_value
        asked_anyhow = (part.schema_, part.table) in keyed or any(name == part.name for name, _ in known)
        if why and not asked_anyhow:
            left.append(NotAsked(part.name, why))
    return _joined(found) + list(_linked(connection, plan, _joined(found), ledger_schema)), left


def foreign_keys(
    connection: Connection, target: Table, ledger_schema: str
) -> Iterator[tuple[Table, bool, list[str], list[str]]]:
    """Those that refer to *target*: table, whether this role may read it, columns on either side."""
    values = {"schema": target.schema_, "table": target.table, "ledger": ledger_schema}
    for schema, name, readable, own, theirs in rows(connection, FOREIGN_KEYS, values):
        yield Table.model_validate({"schema": schema, "table": name}), readable, own, theirs


def _same(
    connection: Connection, part: Table, own: Sequence[str], people: Table, theirs: Sequence[str]
) -> sql.Composed:
    """That each column of the key has the value which the person's row has."""
    each = [
        sql.SQL("row.{} {} (select person.{} from {} as person where person.{} = %(user)s)").format(
            sql.Identifier(mine),
            column_type(connection, part, mine).equals,
            sql.Identifier(his),
            table(people),
            sql.Identifier(KEY),
        )
        for mine, his in zip(own, theirs, strict=True)
    ]
    return sql.SQL(" and ").join(each)


def _by_value(
    connection: Connection,
    part: Table,
    people: Table,
    known: Sequence[tuple[str, str]],
    keyed: set[tuple[str, str]],
) -> tuple[list[Reference], str]:
    """Columns of a table of the plan that may hold the person's key or name; and why none, where there is none."""
    members = rows(connection, MEMBERS, {"schema": part.schema_, "table": part.table})
    if not members:
        return [], "there is no such table"
    if not members[0][2]:
        return [], "it may not be read by this role"
    key_type, name_type = (
        next((kind for name, kind, *_ in rows(connection, MEMBERS, {"schema": people.schema_, "table": people.table}) if name == column), "")
        for column in (KEY, USERNAME)
    )  # fmt: skip
    has_key = (part.schema_, part.table) in keyed
    found = []
    for name, kind, _, spoken_for in members:
        if (part.name, name) in known or spoken_for:
            continue
        column = sql.Identifier(name)
        if kind in ("json", "jsonb"):
            found.append(Reference(part, sql.SQL(_NAMED).format(column), f"{name} (names them)"))
        elif has_key:
            continue  # what its foreign keys say is enough
        elif kind == key_type == "uuid":  # of small numbers, too many would be somebody else's
            found.append(Reference(part, sql.SQL("row.{} = %(user)s").format(column), name))
        elif kind == name_type and kind in ("citext", "text", "varchar"):
            equals = column_type(connection, part, name).equals
            found.append(Reference(part, sql.SQL("row.{} {} %(username)s").format(column, equals), name))
    return found, "" if found else "no reference to the user"


def _joined(found: Sequence[Reference]) -> list[Reference]:
    """One reference a table: a row that names somebody twice is one row."""
    by_table: dict[tuple[str, str], list[Reference]] = {}
    for one in found:
        by_table.setdefault((one.part.schema_, one.part.table), []).append(one)
    return [
        Reference(
            group[0].part,
            sql.SQL(" or ").join(sql.SQL("({})").format(one.of) for one in group),
            ", ".join(one.via for one in group),
        )
        for group in by_table.values()
    ]


def _linked(
    connection: Connection, plan: Plan, found: Sequence[Reference], ledger_schema: str
) -> Iterator[Reference]:
    """Rows of the address table that those rows are linked to: by foreign key, or as a job says."""
    addresses = plan.addresses
    links = {
        (part.schema_, part.table, own[0], theirs[0])
        for part, _, own, theirs in foreign_keys(connection, addresses, ledger_schema)
        if len(own) == 1
    }
    links |= {(job.schema_, job.table, job.link, addresses.key) for job in plan.link_jobs}
    each, names = [], []
    for one in found:
        columns = {name for name, *_ in rows(connection, MEMBERS, {"schema": one.part.schema_, "table": one.part.table})}  # fmt: skip
        for schema, name, link, key in sorted(links):
            if (schema, name) != (one.part.schema_, one.part.table) or link not in columns:
                continue
            each.append(
                sql.SQL("address.{} in (select row.{} from {} as row where {})").format(
                    sql.Identifier(key), sql.Identifier(link), table(one.part), one.of
                )
            )
            names.append(f"{one.part.name}.{link}")
    if each and rows(connection, MEMBERS, {"schema": addresses.schema_, "table": addresses.table}):
        inner = sql.SQL("select address.{key} from {addresses} as address where {each}").format(
            key=sql.Identifier(addresses.key), addresses=table(addresses), each=sql.SQL(" or ").join(each)
        )
        of = sql.SQL("row.{} in ({})").format(sql.Identifier(addresses.key), inner)
        yield Reference(addresses, of, ", ".join(names))
