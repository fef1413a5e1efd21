"""Refusals: what a copy could not carry, so that its table is not copied."""

from collections.abc import Sequence

from sqlalchemy import Connection, Engine

from backfill import escaping
from backfill.database.row_key import row_key
from backfill.errors import CannotBeCopied, OneCopyATable, ShadowExists
from backfill.ledger import shadow_copies
from backfill.plan import Job, LinkJob
from backfill.shadow.cutover import leftovers
from backfill.shadow.names import ABSENT_KEY
from backfill.shadow.table_definition import Asker

REFUSED = (
    """
    select problem from (
        select case when relkind <> 'r' then 'it is not a plain table'
                    when relispartition then 'it is a partition'
                    when reloftype <> 0 then 'it is a table of type ' || reloftype::regtype
                    when relpersistence = 't' then 'it is temporary'
                    when relam <> (select oid from pg_am where amname = 'heap') then 'its access method is not heap'
                    when reltablespace <> 0 then 'it lies in a tablespace of its own' end as problem
          from pg_class where oid = {table}) as kind
     where problem is not null
    """,
    """
    select case when i.indisreplident then 'replica identity' else 'clustering' end
           || ' on index ' || i.indexrelid::regclass || ', which names the raw column'
      from pg_index as i
     where i.indrelid = {table} and (i.indisreplident or i.indisclustered) and {raw} = any (i.indkey)
    """,
    "select 'foreign key ' || conname || ' of ' || conrelid::regclass || ', which points at the raw column'"
    " from pg_constraint where contype = 'f' and confrelid = {table} and {raw} = any (confkey)",
    "select 'it is not yours: its owner is ' || pg_get_userbyid(relowner) from pg_class"
    " where oid = {table} and not pg_has_role(relowner, 'member')",
    "select 'inheritance: ' || inhrelid::regclass || ' inherits from ' || inhparent::regclass"
    " from pg_inherits where inhrelid = {table} or inhparent = {table}",
    "select 'rule ' || rulename from pg_rules where format('%I.%I', schemaname, tablename) = {whole}",
    "select 'foreign key ' || conname || ', which points at its own table' from pg_constraint"
    " where contype = 'f' and conrelid = {table} and confrelid = {table}",
    "select 'foreign key ' || conname || ' of the partitioned table ' || conrelid::regclass from pg_constraint"
    " join pg_class as c on c.oid = conrelid where contype = 'f' and confrelid = {table} and c.relkind = 'p'",
    "select 'constraint ' || conname || ', which names the raw column' from pg_constraint"
    " where conrelid = {table} and contype in ('c', 'f', 'x') and {raw} = any (conkey)",
    "select 'check constraint ' || conname || ', which is not valid' from pg_constraint"
    " where conrelid = {table} and contype in ('c', 'n') and not convalidated and not {raw} = any (conkey)",
    "select 'index ' || c.relname || ', which is invalid' from pg_index join pg_class as c on c.oid = indexrelid"
    " where indrelid = {table} and not indisvalid",
    "select 'index ' || c.relname || ', which lies in a tablespace of its own' from pg_index"
    " join pg_class as c on c.oid = indexrelid where indrelid = {table} and c.reltablespace <> 0",
    # Whatever was made with the raw column in it.
    """
    select distinct pg_describe_object(classid, objid, objsubid) || ', which names the raw column'
      from pg_depend
     where refclassid = 'pg_class'::regclass and refobjid = {table} and refobjsubid = {raw} and deptype <> 'i'
       and (classid in ('pg_rewrite'::regclass, 'pg_trigger'::regclass, 'pg_policy'::regclass,
                        'pg_publication_rel'::regclass)
            or classid = 'pg_class'::regclass and objid = {table}  -- a generated column, until 14
            or classid = 'pg_attrdef'::regclass
               and exists (select from pg_attrdef where oid = objid and adnum <> {raw}))
     order by 1
    """,
    # A trigger's function is a text; only its own words tell that it reads the column.
    """
    select 'trigger ' || tgname || ', whose function names the raw column'
      from pg_trigger join pg_proc as p on p.oid = tgfoid
      join pg_attribute as a on a.attrelid = {table} and a.attnum = {raw}
     where tgrelid = {table} and not tgisinternal and tgname !~ '^zz_backfill_note'
       and strpos(p.prosrc, a.attname) > 0 order by 1
    """,
    """
    select distinct 'materialized view ' || v.oid::regclass
      from pg_depend as d join pg_rewrite as r on r.oid = d.objid join pg_class as v on v.oid = r.ev_class
     where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = {table}
       and v.relkind <> 'v' and v.oid <> {table} order by 1
    """,
    "select 'publication ' || p.pubname || ', which has a row filter or a list of columns'"
    " from pg_publication_rel as r join pg_publication as p on p.oid = r.prpubid where r.prrelid = {table}"
    " and (to_jsonb(r) ->> 'prqual' is not null or to_jsonb(r) ->> 'prattrs' is not null)",  # both new in 15
    "select 'a subscription that fills it' from pg_subscription_rel where srrelid = {table} limit 1",
    "select 'security label of ' || provider from pg_seclabel where classoid = 'pg_class'::regclass and objoid = {table}",
    # Anything else that stands on the table or on its row type: functions, columns of other tables, extensions.
    """
    select distinct pg_describe_object(classid, objid, objsubid)
      from pg_depend
     where (refclassid = 'pg_class'::regclass and refobjid = {table}
            and classid not in ('pg_class'::regclass, 'pg_constraint'::regclass, 'pg_trigger'::regclass,
                'pg_policy'::regclass, 'pg_rewrite'::regclass, 'pg_statistic_ext'::regclass,
                'pg_attrdef'::regclass, 'pg_publication_rel'::regclass, 'pg_type'::regclass))
        or (refclassid = 'pg_type'::regclass and deptype <> 'i'
            and refobjid in (select unnest(array[c.reltype, t.typarray]) from pg_class as c
                               join pg_type as t on t.oid = c.reltype where c.oid = {table}))
     order by 1
    """,
    """
    select distinct pg_describe_object(classid, objid, objsubid)
      from pg_depend join pg_class as c on c.oid = objid
     where classid = 'pg_class'::regclass and refclassid = 'pg_class'::regclass and refobjid = {table}
       and objid <> {table} and c.relkind not in ('i', 'S', 't') order by 1
    """,
    "select 'it belongs to an extension' from pg_depend where classid = 'pg_class'::regclass"
    " and objid = {table} and deptype in ('e', 'x')",
)


def refusals_of(connection: Connection, job: Job) -> list[str]:
    """What a copy could not carry, each by name; empty when there is nothing."""
    ask = Asker(connection, job)
    return [*_unfit_key(connection, job), *(text for query in REFUSED for (text,) in ask(query))]


def has_fit_key(connection: Connection, job: Job) -> bool:
    """Whether one column names its rows, and the copy knows which: what is captured, replayed and compared is told by it."""
    return row_key(connection, job).columns == (ABSENT_KEY if job.key is None else job.key,)


def _unfit_key(connection: Connection, job: Job) -> list[str]:
    if has_fit_key(connection, job):
        return []
    columns = row_key(connection, job).columns
    named = f"by {', '.join(columns)}" if columns else "by nothing"
    return [
        f"rows that are named {named} (it needs a key of one column, which the plan names unless it is {ABSENT_KEY})"
    ]


def require_copyable(connection: Connection, job: LinkJob) -> None:
    """Raises ``CannotBeCopied`` or ``ShadowExists``; changes nothing."""
    before = leftovers(connection, job)
    if before is not None:
        raise ShadowExists(
            table=job.label,
            state=f"{before} of an earlier cut-over is still there",
            fix=f"Next: `backfill cutover --finish {escaping.word(job.label)}`.",
        )
    what = refusals_of(connection, job)
    connection.rollback()
    if what:
        raise CannotBeCopied(table=job.label, what="; ".join(what))


def require_one_a_table(jobs: Sequence[LinkJob]) -> None:
    """Raises ``OneCopyATable`` where two jobs share a table: a copy is made for one of them."""
    first: dict[str, LinkJob] = {}
    for job in jobs:
        other = first.setdefault(job.table_identity, job)
        if other is not job:
            raise OneCopyATable(first=other.label, second=job.label)


def require_no_other_copy(engine: Engine, jobs: Sequence[LinkJob]) -> None:
    """Raises ``ShadowExists`` where a table has a copy for another job of it; asks the ledger."""
    with engine.begin() as connection:
        for job in jobs:
            other = shadow_copies.of_table(connection, job)
            if other is not None and other.job != job.identity:
                raise ShadowExists(
                    table=job.label,
                    state=f"its table has a copy for {other.job}, and a table has one copy at a time",
                    fix=f"`backfill cutover {escaping.word(other.job)}`, or `backfill run --abandon {escaping.word(other.job)}`, comes first.",
                )
