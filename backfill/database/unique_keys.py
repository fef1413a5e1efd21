"""Unique keys: unique indexes with a raw column in them, as SQL that asks which rows are equal in one.

An index says what it compares: columns and expressions, a predicate, an operator and a collation for each, and
whether NULLs are equal. ``pg_get_indexdef`` and ``pg_get_expr`` print these over the bare names of the table's columns,
so that they can be asked of any row that has columns of those names: one as it stands, or as it is going to be.
They are printed, and have to be asked, under our own search_path, in statements without bound values: a "%" in them is
one.

An expression of an index may fail for a row that is not in it, so it is asked behind the predicate: in CASE, which keeps
the order as AND does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import rows
from backfill.database.quoting import regclass
from backfill.raw_column import RawColumn

# The raw column, and what is generated from it. {table}: its number, {raw}: the column's.
DERIVED = """
    derived (number) as (
        select {raw}::int
        union
        select def.adnum::int from pg_attrdef as def
          join pg_attribute as a on a.attrelid = def.adrelid and a.attnum = def.adnum and a.attgenerated <> ''
          join pg_depend as d on d.refclassid = 'pg_class'::regclass and d.refobjid = def.adrelid
           and (d.classid = 'pg_attrdef'::regclass and d.objid = def.oid  -- the column itself, until PostgreSQL 14
                or d.classid = 'pg_class'::regclass and d.objid = def.adrelid and d.objsubid = def.adnum)
         where def.adrelid = {table} and d.refobjsubid = {raw}
    )
"""
# On a column: of the index, or of the constraint that has it.
DEPENDS = """
    d.refclassid = 'pg_class'::regclass and d.refobjid = i.indrelid
    and (d.classid = 'pg_class'::regclass and d.objid = i.indexrelid
         or d.classid = 'pg_constraint'::regclass
            and d.objid in (select con.oid from pg_constraint as con where con.conindid = i.indexrelid))
"""
WHOLE_ROW = "concat(i.indexprs::text, i.indpred::text) ~ ':varattno (0|-[0-9]+) '"
FIND = """
    with {derived}
    select c.relname, i.indisprimary, i.indisexclusion, {whole_row}, i.indisvalid,
           coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false),
           pg_get_expr(i.indpred, i.indrelid),
           array(select pg_get_indexdef(i.indexrelid, number, false) from generate_series(1, i.indnkeyatts) as number order by number),
           array(select a.attname::text from pg_attribute as a
                  where a.attrelid = i.indrelid and a.attnum > 0
                    and (a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])
                         or (i.indexprs is not null or i.indpred is not null)
                            and exists (select from pg_depend as d where d.refobjsubid = a.attnum and {depends}))
                  order by a.attnum),
           array(select a.attnotnull::text from unnest(i.indkey::int2[]) with ordinality as k (number, place)
                   left join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.number
                  where k.place <= i.indnkeyatts order by k.place),
           array(select case when n.oid is not null then format('%I.%I', n.nspname, o.collname) end
                   from unnest(i.indcollation::oid[]) with ordinality as k (number, place)
                   left join pg_collation as o on o.oid = k.number left join pg_namespace as n on n.oid = o.collnamespace
                  order by k.place),
           -- The operator of each, where it is what its type calls equal.
           array(select case when ours.amopopr in
                             (select usual.amopopr from pg_opclass as def
                                join pg_amop as usual on usual.amopfamily = def.opcfamily and usual.amopstrategy = 3
                               where def.opcmethod = class.opcmethod and def.opcdefault and def.opcintype = class.opcintype)
                             then format('OPERATOR(%I.%s)', n.nspname, op.oprname) end
                   from unnest(i.indclass::oid[]) with ordinality as k (number, place)
                   join pg_opclass as class on class.oid = k.number
                   left join pg_amop as ours on ours.amopfamily = class.opcfamily and ours.amopstrategy = 3
                    and ours.amoplefttype = class.opcintype and ours.amoprighttype = class.opcintype
                   left join pg_operator as op on op.oid = ours.amopopr
                   left join pg_namespace as n on n.oid = op.oprnamespace
                  order by k.place)
      from pg_index as i join pg_class as c on c.oid = i.indexrelid
     where i.indrelid = {table} and (i.indisunique or i.indisexclusion)
       and (exists (select from derived where number = any ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
            or (i.indexprs is not null or i.indpred is not null)
               and (exists (select from pg_depend as d join derived on d.refobjsubid = derived.number where {depends})
                    or {whole_row}))
     order by 1
"""
GENERATED = sql.SQL("""
    select a.attname, pg_get_expr(def.adbin, def.adrelid)
      from pg_attrdef as def
      join pg_attribute as a on a.attrelid = def.adrelid and a.attnum = def.adnum and a.attgenerated <> ''
     where def.adrelid = {table}
""")
# NULLs that are equal: each further column with one doubles the look-ups of a row, and most of them ask nothing.
MOST_APART = 4

NUMBER = "(select a.attnum from pg_attribute as a where a.attrelid = {table} and a.attname = {name} and not a.attisdropped)"
# Type, length and collation, as a value has to have them to be compared as one of the column.
TYPE = sql.SQL("""
    select format_type(a.atttypid, a.atttypmod), case when n.oid is not null then format('%I.%I', n.nspname, o.collname) end
      from pg_attribute as a
      left join pg_collation as o on o.oid = a.attcollation left join pg_namespace as n on n.oid = o.collnamespace
     where a.attrelid = {table} and a.attname = {name}
""")


@dataclass(frozen=True)
class UniqueKey:
    """A unique index of a table. *problem*: why it cannot be asked which rows are equal in it; empty where it can."""

    name: str
    primary: bool
    problem: str
    nulls_are_equal: bool
    predicate: str | None
    expressions: tuple[str, ...]
    columns: tuple[str, ...]  # that it reads
    not_null: tuple[bool, ...]
    computed: tuple[bool, ...]  # an expression, and no column
    collations: tuple[str | None, ...]
    operators: tuple[str, ...]

    @property
    def values(self) -> list[sql.Composable]:
        """What it compares, over the bare names of columns, each in its collation."""
        return [
            sql.SQL("(({}){})").format(
                sql.SQL(expression),
                sql.SQL(f" collate {collation}" if collation else ""),
            )
            for expression, collation in zip(self.expressions, self.collations, strict=True)
        ]

    @property
    def holds(self) -> sql.Composable:
        """A row with those bare columns is in the index. May be NULL, which is no."""
        return sql.SQL("({})").format(sql.SQL(self.predicate or "true"))

    @property
    def may_fail(self) -> bool:
        """An expression of it could be asked of a row that is not in it."""
        return self.predicate is not None and any(self.computed)

    @property
    def can_meet(self) -> sql.Composable:
        """The same of a row that another one can be equal to. Never NULL."""
        if self.nulls_are_equal:
            return sql.SQL("coalesce({}, false)").format(self.holds)
        present = sql.SQL(" and ").join(sql.SQL("{} is not null").format(value) for value in self.values)
        return sql.SQL("(case when {} then {} else false end)").format(self.holds, present)

    def equals(self, wanted: str, *, guarded: bool) -> list[sql.Composable]:
        """A row with those bare columns is equal to the row *wanted*, whose columns are named as ``place`` says: one of these.

        Where NULLs are equal, each asks for NULL in other columns: an index finds NULL, or a value, and never either.
        *guarded*: it can be asked of a row that is not in the index, and finds less by it.
        """
        apart = [
            number for number, not_null in enumerate(self.not_null) if self.nulls_are_equal and not not_null
        ]
        return [
            self._equal(wanted, dict(zip(apart, nulls, strict=False)), guarded=guarded)
            for nulls in product((False, True), repeat=min(len(apart), MOST_APART))
        ]

    def _equal(self, wanted: str, is_null: dict[int, bool], *, guarded: bool) -> sql.Composable:
        """With NULL in those columns, or none; in further ones, either."""
        parts = []
        for number, (value, operator) in enumerate(zip(self.values, self.operators, strict=True)):
            other = sql.Identifier(wanted, place(number))
            both_null = sql.SQL("({} is null and {} is null)").format(value, other)
            equal: sql.Composable = sql.SQL("{} {} {}").format(value, sql.SQL(operator), other)
            if is_null.get(number, False):
                equal = both_null
            elif self.nulls_are_equal and not self.not_null[number] and number not in is_null:
                equal = sql.SQL("({} or {})").format(equal, both_null)
            if guarded and self.computed[number]:
                equal = sql.SQL("case when {} then {} end").format(self.holds, equal)
            parts.append(equal)
        return sql.SQL(" and ").join(parts)

    @property
    def named_values(self) -> sql.Composable:
        """``values``, named for ``equals``."""
        return sql.SQL(", ").join(
            sql.SQL("{} as {}").format(value, sql.Identifier(place(number)))
            for number, value in enumerate(self.values)
        )


def coarsest(keys: Sequence[UniqueKey]) -> UniqueKey | None:
    """The one in which rows are equal whenever they are in any other; None where there is none, or it cannot be told."""
    if len(keys) == 1:
        return keys[0]
    for key in keys:
        if key.predicate is None and all(
            set(zip(key.expressions, key.collations, key.operators, strict=True))
            <= set(zip(other.expressions, other.collations, other.operators, strict=True))
            and key.nulls_are_equal >= other.nulls_are_equal
            for other in keys
        ):
            return key
    return None


def place(number: int) -> str:
    """What the value of that number is called; no column is."""
    return f"backfill key {number}"


def find(connection: Connection, part: RawColumn) -> list[UniqueKey]:
    """Unique indexes and exclusion constraints of the table with its raw column in them, by name."""
    table = sql.SQL("({}::oid)").format(regclass(part))
    raw = sql.SQL(NUMBER).format(table=table, name=sql.Literal(part.raw_column))
    derived = sql.SQL(DERIVED).format(table=table, raw=raw)
    statement = sql.SQL(FIND).format(
        derived=derived, table=table, whole_row=sql.SQL(WHOLE_ROW), depends=sql.SQL(DEPENDS)
    )
    return [_key(*row) for row in rows(connection, statement)]


def _key(
    name: str, primary: bool, exclusion: bool, whole_row: bool, valid: bool, nulls_are_equal: bool, predicate: str | None,
    expressions: list[str], columns: list[str], not_null: list[str | None], collations: list[str | None], operators: list[str | None],
) -> UniqueKey:  # fmt: skip
    if exclusion:
        problem = "it is an exclusion constraint"
    elif whole_row:
        problem = "it compares whole rows"
    elif not valid:
        problem = "it is not valid"
    elif None in operators:
        problem = "it compares by an operator class of its own"
    else:
        problem = ""
    return UniqueKey(
        name=name,
        primary=primary,
        problem=problem,
        nulls_are_equal=nulls_are_equal,
        predicate=predicate,
        expressions=tuple(expressions),
        columns=tuple(columns),
        not_null=tuple(one == "true" for one in not_null),
        computed=tuple(one is None for one in not_null),
        collations=tuple(collations),
        operators=tuple(one or "" for one in operators),
    )


def generated(connection: Connection, part: RawColumn) -> dict[str, sql.Composable]:
    """Generated columns of the table, and how each is computed over the bare names of others."""
    found = rows(connection, GENERATED.format(table=regclass(part)))
    return {name: sql.SQL("({})").format(sql.SQL(text)) for name, text in found}


def cast(connection: Connection, part: RawColumn) -> sql.Composable:
    """What makes a text a value as the raw column has it: ``::type`` and its collation."""
    statement = TYPE.format(table=regclass(part), name=sql.Literal(part.raw_column))
    ((type_, collation),) = rows(connection, statement)
    return sql.SQL(f"::{type_}{f' collate {collation}' if collation else ''}")
