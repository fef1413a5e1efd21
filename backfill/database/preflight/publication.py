"""Publications: whether an UPDATE may be published at all, and what of the old row is."""

from collections.abc import Iterator

from backfill.database.preflight.finding import Finding, blocks, changes, note
from backfill.database.preflight.target import Target

NO_IDENTITY = blocks("no-replica-identity")
FILTER = blocks("publication-filter")
OLD_ROW = changes("old-row-published")
PUBLISHED = note("published")

# pg_publication_tables knows tables that are published by name, by schema, and all of them.
PUBLICATIONS = """
    select p.pubname
      from pg_publication_tables as t
      join pg_publication as p on p.pubname = t.pubname
      join pg_class as c on c.oid = %(table)s
      join pg_namespace as n on n.oid = c.relnamespace
     where t.schemaname = n.nspname and t.tablename = c.relname and (p.pubupdate or p.pubdelete and %(deletes)s)
     order by 1
"""
IDENTITY = """
    select i.indkey::int2[] from pg_index as i
     where i.indrelid = %(table)s and i.indisvalid
       and (i.indisreplident and %(kind)s = 'i' or i.indisprimary and i.indimmediate and %(kind)s = 'd')
"""
# Columns of a row filter (new in 15); of those, an UPDATE needs each in the replica identity.
FILTERED = """
    select p.pubname, d.refobjsubid
      from pg_publication_rel as r
      join pg_publication as p on p.oid = r.prpubid and (p.pubupdate or p.pubdelete and %(deletes)s)
      join pg_depend as d on d.classid = 'pg_publication_rel'::regclass and d.objid = r.oid
           and d.refclassid = 'pg_class'::regclass and d.refobjid = r.prrelid and d.refobjsubid > 0
     where r.prrelid = %(table)s and to_jsonb(r) ->> 'prqual' is not null
"""
LOGICAL = """
    select current_setting('wal_level') = 'logical'
           and exists (select from pg_replication_slots where slot_type = 'logical' and database = current_database())
"""


def check(target: Target) -> Iterator[Finding]:
    """Replica identity, row filters, and the old row."""
    if not target.writes:
        return
    name, subject, kind = target.part.name, target.subject, target.relation.replica_identity
    publications = [publication for (publication,) in target.ask(PUBLICATIONS, deletes=target.deletes)]
    listed = ", ".join(publications)
    found = target.ask(IDENTITY, kind=kind)
    identity = set(found[0][0]) if found else set()
    if publications and kind != "f" and not identity:
        yield NO_IDENTITY(
            subject,
            f"{name} is published ({listed}) and has no replica identity: every UPDATE of it fails.",
            f"alter table {name} replica identity using index …; (a unique index over columns that are NOT NULL)",
        )
    outside = sorted(
        {
            p
            for p, number in target.ask(FILTERED, deletes=target.deletes)
            if kind != "f" and number not in identity
        }
    )
    if outside and identity:
        yield FILTER(
            subject,
            f"Publication {', '.join(outside)} selects rows of {name} by a column outside its replica identity: every UPDATE fails.",
            "Put that column into the replica identity, or drop the filter.",
        )
    whole = kind == "f" or target.raw_number in identity
    if whole and (publications or target.ask(LOGICAL)[0][0]):
        yield OLD_ROW(
            subject,
            f"Each UPDATE of {name} sends the old row, raw address and all, to subscribers: "
            f"its replica identity has the raw column in it{f' (publication {listed})' if listed else ''}.",
            f"alter table {name} replica identity default; or accept it.",
        )
    elif publications:
        yield PUBLISHED(
            subject,
            f"{name} is published ({listed}): subscribers receive every row that is changed here.",
            "Erase and prove do not reach them.",
        )
