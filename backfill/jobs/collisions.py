"""Collisions: which rows would be equal in a unique index, once the rows that a statement is about to write are written.

Two spellings of one address become one value; and an application that goes on as before inserts the address again,
beside the value that it became. The rows that are to be written are put into a temporary table as they will be, and
beside them the rows that stand and are equal to one of these by an index (``unique_keys``). Then all are gone over in
the order of who stays: a row loses when a row before it stays and is equal to it in some index. So a row loses only to
one that stays, however many indexes there are.

All of it is asked under our own search_path.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database import unique_keys
from backfill.database.connection import driver, execute, rows, value
from backfill.database.quoting import regclass, table
from backfill.database.row_key import row_key
from backfill.database.unique_keys import UniqueKey
from backfill.plan import InPlaceJob

FETCHED = 10_000

# As they will be. What is generated is computed from what the row will hold.
WRITTEN = sql.SQL("""
    create temporary table backfill_written on commit drop as
    select "backfill tid", "backfill xmin", false as "backfill stands", "backfill time", {row_keys} {columns}
      from (select event.ctid as "backfill tid", event.xmin::text as "backfill xmin", {time} as "backfill time",
                   {row_keys_of_event} {others}
                   ({value}){cast} as {raw}
              from {table} as event, {source}
             where {which}) as written
""")
# By the index, row after row: "offset 0" keeps the planner from reading all of the table instead. A look-up for each
# of what may be equal, NULL or not.
STANDING = sql.SQL("""
    insert into pg_temp.backfill_written
    select distinct on (found."backfill tid") found.*
      from (select {named} from pg_temp.backfill_written where not "backfill stands" and {holds}) as "backfill wanted"
     cross join lateral (select * from ({equal}) as any_of_them offset 0) as found
     where not exists (select from pg_temp.backfill_written as known where known."backfill tid" = found."backfill tid")
""")
EQUAL = sql.SQL("select {what} from {table} as standing where {holds} and {equals}")
FOUND = sql.SQL(
    """standing.ctid as "backfill tid", standing.xmin::text, true, {time}, {row_keys} {columns}"""
)
# Rows of one index that are equal have its number of the first of them.
CONTEST = sql.SQL("""
    select "backfill place", "backfill tid"::text, "backfill stands", {firsts}
      from (select "backfill place", "backfill tid", "backfill stands", {groups}
              from (select *, row_number() over (order by {order}) as "backfill place" from pg_temp.backfill_written) as placed) as grouped
     where {meets}
     order by "backfill place"
""")
GROUP = sql.SQL("""
    case when {can_meet} then min("backfill place") over (partition by {can_meet}, {values}) end as {first},
    case when {can_meet} then count(*) over (partition by {can_meet}, {values}) end as {number}
""")
OTHER_COLUMNS = sql.SQL("""
    select a.attname from pg_attribute as a
     where a.attrelid = {table} and a.attnum > 0 and not a.attisdropped order by a.attnum
""")
# Of each row that lost by an index, whether a row that is equal to it in that index stands.
UNMATCHED = sql.SQL("""
    select count(*)
      from (select {named} from pg_temp.backfill_written
             where "backfill tid" = any ({lost}::tid[])) as "backfill wanted"
     where not exists (select from ({equal}) as any_of_them offset 0)
""")
EXPLAIN = sql.SQL("explain (format json) {}")
INDEX_SCANS = ("Index Scan", "Index Only Scan")


@dataclass(frozen=True)
class Collision:
    """A row that would be equal to another one, which stays."""

    lost: str  # where the row lies, as text
    stands: bool  # it is not among those to be written
    stays: str
    key: int  # of the indexes, in their order


@dataclass(frozen=True)
class Collisions:
    """Of one job and its table. The temporary table is there until the transaction ends."""

    job: InPlaceJob
    keys: Sequence[UniqueKey]
    names: frozenset[str] = frozenset()  # of all unique indexes with the raw column in them
    row_key: Sequence[str] = ()  # what names a row; of equally new ones, the greatest stays

    @classmethod
    def of(cls, connection: Connection, job: InPlaceJob) -> "Collisions":
        """With the unique indexes that the table has now. Where rows are deleted, one decides for all."""
        keys = [key for key in unique_keys.find(connection, job) if not key.problem]  # others block the run
        decides = unique_keys.coarsest(keys) if job.deletes else None
        names = frozenset(key.name for key in keys)
        return cls(job, keys if decides is None else [decides], names, row_key(connection, job).columns)

    def losing(
        self,
        connection: Connection,
        written: sql.Composable,
        source: sql.Composable,
        which: sql.Composable,
        besides: Mapping[str, sql.Composable] | None = None,
    ) -> Iterable[Collision]:
        """The rows that lose, when the rows *which* (``event``, of *source*) become what *written* says, as text.

        *besides*: what other columns become with it, each of its type.
        """
        self._collect(connection, written, source, which, besides or {})
        return _losing(self._contest(connection))

    def unmatched(self, connection: Connection, lost: Sequence[Collision]) -> int:
        """Of rows that lost and are gone: those to which no row is equal that stands."""
        missing = 0
        for number, key in enumerate(self.keys):
            places = [one.lost for one in lost if one.key == number]
            if places:
                unmatched = partial(UNMATCHED.format, named=key.named_values, lost=sql.Literal(places))
                missing += value(connection, self._looking(connection, key, sql.SQL("true"), unmatched))
        return missing

    def _collect(
        self,
        connection: Connection,
        written: sql.Composable,
        source: sql.Composable,
        which: sql.Composable,
        besides: Mapping[str, sql.Composable],
    ) -> None:
        computed = unique_keys.generated(connection, self.job)
        names = [name for (name,) in rows(connection, OTHER_COLUMNS.format(table=regclass(self.job)))]
        needed = [name for name in names if any(name in key.columns for key in self.keys)]
        columns = _listed(
            sql.SQL("{} as {}").format(computed[name], sql.Identifier(name))
            if name in computed
            else sql.Identifier(name)
            for name in needed
        )
        statement = WRITTEN.format(
            row_keys=_ended(sql.Identifier(name) for name, _ in self._row_keys("event")),
            row_keys_of_event=_ended(
                sql.SQL("{} as {}").format(column, sql.Identifier(name))
                for name, column in self._row_keys("event")
            ),
            columns=columns,
            time=self._time("event"),
            others=_ended(
                sql.SQL("{} as {}").format(besides[name], sql.Identifier(name))
                if name in besides
                else sql.Identifier("event", name)
                for name in names
                if name != self.job.raw and name not in computed
            ),
            value=written,
            cast=unique_keys.cast(connection, self.job),
            raw=sql.Identifier(self.job.raw),
            table=table(self.job),
            source=source,
            which=which,
        )
        execute(connection, sql.SQL("drop table if exists pg_temp.backfill_written")).close()
        execute(connection, statement).close()
        found = FOUND.format(
            time=self._time("standing"),
            row_keys=_ended(column for _, column in self._row_keys("standing")),
            columns=_listed(sql.Identifier("standing", name) for name in needed),
        )
        for key in self.keys:
            standing = partial(STANDING.format, named=key.named_values, holds=key.holds)
            execute(connection, self._looking(connection, key, found, standing)).close()

    def _looking(
        self,
        connection: Connection,
        key: UniqueKey,
        what: sql.Composable,
        statement: Callable[..., sql.Composable],
    ) -> sql.Composable:
        """The *statement*, to which it is told as ``equal`` how to find *what* of the rows that are equal to the one wanted.

        An expression finds them by the index that has it; where the planner reads rows that are not in the index, it is
        asked behind the predicate.
        """

        def looking(*, guarded: bool) -> sql.Composable:
            each = (
                EQUAL.format(what=what, table=table(self.job), holds=key.holds, equals=equals)
                for equals in key.equals("backfill wanted", guarded=guarded)
            )
            return statement(equal=sql.SQL(" union all ").join(each))

        unguarded = looking(guarded=False)
        if not key.may_fail or self._by_index(connection, unguarded, key):
            return unguarded
        return looking(guarded=True)

    @staticmethod
    def _by_index(connection: Connection, statement: sql.Composable, key: UniqueKey) -> bool:
        """Rows that stand are read by that index, and nothing is asked of them but what it holds."""
        ((plans,),) = rows(connection, EXPLAIN.format(statement))
        return all(
            node["Node Type"] in INDEX_SCANS and node["Index Name"] == key.name and "Filter" not in node
            for node in _nodes(plans[0]["Plan"])
            if node.get("Alias", "").startswith("standing")
        )

    def _contest(self, connection: Connection) -> Iterable[tuple[Any, ...]]:
        numbers = range(len(self.keys))
        statement = CONTEST.format(
            firsts=_listed(sql.Identifier(f"backfill first {number}") for number in numbers),
            groups=_listed(
                GROUP.format(
                    can_meet=key.can_meet,
                    # For a row that is not in the index, its expressions may fail.
                    values=_listed(
                        sql.SQL("case when {} then {} end").format(key.holds, one) for one in key.values
                    ),
                    first=sql.Identifier(f"backfill first {number}"),
                    number=sql.Identifier(f"backfill number {number}"),
                )
                for number, key in enumerate(self.keys)
            ),
            order=self._order,
            meets=sql.SQL(" or ").join(
                sql.SQL("{} > 1").format(sql.Identifier(f"backfill number {number}")) for number in numbers
            ),
        )
        with driver(connection).cursor(name="backfill_contest") as cursor:
            cursor.itersize = FETCHED
            cursor.execute(statement)
            yield from cursor

    @property
    def _order(self) -> sql.Composable:
        """Who stays comes first: of equal rows the newest, and where nothing is deleted, the one that stands."""
        newest: list[sql.Composable] = [sql.SQL('"backfill time" desc nulls last')]
        newest += [sql.SQL("{} desc").format(sql.Identifier(name)) for name, _ in self._row_keys("")]
        newest += [sql.SQL('"backfill tid" desc')]
        if self.job.on_duplicate == "refuse":
            newest = [sql.SQL('"backfill stands" desc'), *newest]
        return _listed(newest)

    def _time(self, alias: str) -> sql.Composable:
        column = self.job.time_column
        return sql.SQL("null::int") if column is None else sql.Identifier(alias, column)

    def _row_keys(self, alias: str) -> list[tuple[str, sql.Composable]]:
        """The row's key, by names that no column has."""
        return [
            (f"backfill row {number}", sql.Identifier(alias, name))
            for number, name in enumerate(self.row_key)
        ]


def _ended(parts: Iterable[sql.Composable]) -> sql.Composable:
    """Each with a comma behind it: what comes next is there always."""
    return sql.SQL("").join(sql.SQL("{}, ").format(part) for part in parts)


def _listed(parts: Iterable[sql.Composable]) -> sql.Composable:
    return sql.SQL(", ").join(parts)


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Of a plan, and of all below it."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


def _losing(contest: Iterable[tuple[Any, ...]]) -> Iterable[Collision]:
    """*contest*: place, where it lies, whether it stands, and by index the first row that is equal to it."""
    staying: dict[tuple[int, int], str] = {}
    for _, tid, stands, *firsts in contest:
        groups = [(number, first) for number, first in enumerate(firsts) if first is not None]
        taken = next((group for group in groups if group in staying), None)
        if taken is None:
            staying.update(dict.fromkeys(groups, tid))
        else:
            yield Collision(tid, stands, staying[taken], taken[0])
