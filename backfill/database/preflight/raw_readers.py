"""Raw readers: what reads a raw column that a job rewrites in place, and what keeps a copy of its old values."""

from collections.abc import Iterator

from backfill.database.preflight.finding import Finding, changes, note
from backfill.database.preflight.target import Target
from backfill.plan import InPlaceJob

MATERIALIZED = changes("materialized-view-of-raw")
POLICY = changes("policy-on-raw")
VIEW = note("view-of-raw")
STATISTICS = note("statistics-of-raw")

# Views that name the column, and views of these, whichever of their columns they read.
VIEWS = """
    with recursive reader (oid) as (
        select r.ev_class from pg_depend as d join pg_rewrite as r on r.oid = d.objid
         where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
           and d.refobjid = %(table)s and d.refobjsubid = %(raw)s and r.ev_class <> d.refobjid
        union
        select r.ev_class from reader join pg_depend as d on d.refclassid = 'pg_class'::regclass and d.refobjid = reader.oid
          join pg_rewrite as r on r.oid = d.objid
         where d.classid = 'pg_rewrite'::regclass and r.ev_class <> reader.oid
    )
    select format('%%I.%%I', n.nspname, c.relname), c.relkind = 'm'
      from reader join pg_class as c on c.oid = reader.oid join pg_namespace as n on n.oid = c.relnamespace
     where c.relkind in ('v', 'm')
     order by 1
"""
POLICIES = """
    select p.polname from pg_policy as p
      join pg_depend as d on d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_class'::regclass
     where p.polrelid = %(table)s and d.refobjid = %(table)s and d.refobjsubid = %(raw)s
     group by 1 order by 1
"""
STATISTICS_OBJECTS = """
    select s.stxname from pg_statistic_ext as s
      join pg_depend as d on d.classid = 'pg_statistic_ext'::regclass and d.objid = s.oid and d.refclassid = 'pg_class'::regclass
     where s.stxrelid = %(table)s and d.refobjid = %(table)s and d.refobjsubid = %(raw)s
     group by 1 order by 1
"""


def check(target: Target) -> Iterator[Finding]:
    """Views, policies and statistics."""
    job = target.part
    if not target.writes or not isinstance(job, InPlaceJob) or not target.raw_number:
        return
    name = f"{job.name}.{job.raw}"
    for view, materialized in target.ask(VIEWS):
        if materialized:
            yield MATERIALIZED(
                target.column(view),
                f"Materialized view {view} reads {name}, or a view of it, and keeps raw addresses until it is refreshed.",
                f"After the run: refresh materialized view {view}; accept it.",
            )
        else:
            yield VIEW(
                target.column(view), f"View {view} reads {name}, or a view of it.", "It shows the results."
            )
    for (policy,) in target.ask(POLICIES):
        yield POLICY(
            target.column(policy),
            f"Policy {policy} of {job.name} has {job.raw} in it: who sees a row, or may write it, may change with the result.",
            "Look at it; then accept it.",
        )
    for (statistics,) in target.ask(STATISTICS_OBJECTS):
        yield STATISTICS(
            target.column(statistics),
            f"Statistics {statistics} of {job.name} have {job.raw} in them, and may hold raw addresses until the next ANALYZE.",
            f"After the run: analyze {job.name};",
        )
