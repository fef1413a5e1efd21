"""Raw keys: unique keys, foreign keys and indexes with a raw column in them that a job rewrites in place.

Two spellings of one address become equal, and an application that goes on as before inserts the raw value again,
beside its earlier result. What becomes of such rows is for the plan to say (``on_duplicate``).
"""

from collections.abc import Iterator

from backfill.database import unique_keys
from backfill.database.preflight.finding import Finding, blocks, note
from backfill.database.preflight.target import Target
from backfill.database.row_key import row_key
from backfill.database.unique_keys import UniqueKey
from backfill.plan import InPlaceJob

UNIQUE = blocks("raw-in-unique-key")
DECIDED = note("duplicates-decided")
UNUSED = note("on-duplicate-unused")
REFERRED = blocks("duplicates-referred-to")
FOREIGN_KEY = blocks("raw-in-foreign-key")
INDEXED = note("raw-in-index")

# Of its columns, its expressions (a whole row is column 0) or its predicate.
INDEXES = """
    with {derived}
    select c.relname
      from pg_index as i join pg_class as c on c.oid = i.indexrelid
     where i.indrelid = %(table)s and not (i.indisunique or i.indisexclusion)
       and (exists (select from derived where number = any (i.indkey::int2[]))
            or (i.indexprs is not null or i.indpred is not null)
               and (exists (select from pg_depend as d join derived on d.refobjsubid = derived.number where {depends})
                    or concat(i.indexprs::text, i.indpred::text) ~ ':varattno 0 '))
     order by 1
"""
FOREIGN_KEYS = """
    with {derived}
    select con.conname, con.conrelid = %(table)s and exists (select from derived where number = any (con.conkey)),
           con.conrelid::regclass::text, con.confrelid::regclass::text
      from pg_constraint as con
     where con.contype = 'f'
       and (con.conrelid = %(table)s and exists (select from derived where number = any (con.conkey))
            or con.confrelid = %(table)s and exists (select from derived where number = any (con.confkey)))
     order by 1
"""
REFERRING = """
    select con.conname, con.conrelid::regclass::text from pg_constraint as con
     where con.contype = 'f' and con.confrelid = %(table)s
     order by 1, 2
"""
UPDATED = """
    select tgname from pg_trigger
     where tgrelid = %(table)s and not tgisinternal and tgenabled in ('O', 'A') and tgtype & 16 <> 0
       and (tgattr::text = '' or %(raw)s = any (tgattr::int2[]))
     order by 1
"""
DERIVED = unique_keys.DERIVED.format(table="%(table)s", raw="%(raw)s")


def check(target: Target) -> Iterator[Finding]:
    """By name; what an index costs is told beside it."""
    job = target.part
    if not target.writes or not isinstance(job, InPlaceJob) or not target.raw_number:
        return
    yield from _unique(target, job)
    if job.deletes:
        for name, table in target.ask(REFERRING):
            yield REFERRED(
                target.column(name),
                f"Foreign key {name} of {table} refers to {job.name}: with a duplicate, rows of {table} would go or be changed.",
                'Use on_duplicate = "refuse", or drop the foreign key.',
            )
    for name, ours, table, other in target.ask(FOREIGN_KEYS.format(derived=DERIVED)):
        yield FOREIGN_KEY(
            target.column(name),
            f"Foreign key {name} ties {job.name}.{job.raw} to {other}."
            if ours
            else f"Foreign key {name} of {table} refers to {job.name}.{job.raw}.",
            "Both sides would have to change at once, which is not supported by this version. Drop it first.",
        )
    asked = INDEXES.format(derived=DERIVED, depends=unique_keys.DEPENDS)
    indexes = [name for (name,) in target.ask(asked)]
    if indexes:
        yield INDEXED(
            target.column(job.raw),
            f"{job.name}.{job.raw} is in {'index' if len(indexes) == 1 else 'indexes'} {', '.join(indexes)}: no rewritten row is "
            "heap-only, so every index of the table gets an entry for it.",
            "Expect a slower run and larger indexes. Old entries keep raw addresses until they are vacuumed or erased.",
        )


def _unique(target: Target, job: InPlaceJob) -> Iterator[Finding]:
    keys = unique_keys.find(target.connection, job)
    usable = [key for key in keys if not key.problem]
    for key in keys:
        if key.problem:
            yield UNIQUE(
                target.column(key.name),
                f"{_called(key)} {key.name} of {job.name} has {job.raw} in it, and {key.problem}: which rows would be equal in it "
                "cannot be told.",
                f"Leave {job.raw} out of the plan; or, where no statement of the application needs it, drop {key.name}.",
            )
        elif job.on_duplicate is None:
            yield UNIQUE(
                target.column(key.name),
                f"{_called(key)} {key.name} of {job.name} has {job.raw} in it. Two spellings of one address become equal, and an "
                "application that goes on as before inserts the address again, beside its earlier result.",
                'Say in the plan what becomes of them: on_duplicate = "refuse" (they wait in the quarantine), or "keep-newest" '
                "(the older row is deleted).",
            )
        else:
            yield DECIDED(
                target.column(key.name),
                f"{_called(key)} {key.name} of {job.name} has {job.raw} in it. Of rows that become equal in it, "
                + (
                    "the older one is deleted."
                    if job.deletes
                    else "one stays raw, and waits in the quarantine."
                ),
                "The dry run counts them.",
            )
    if job.deletes and usable and unique_keys.coarsest(usable) is None:
        names = ", ".join(key.name for key in usable)
        yield UNIQUE(
            target.column(usable[0].name),
            f"Several unique indexes of {job.name} have {job.raw} in them ({names}), and none of them decides for the others: a "
            "row could be deleted for the sake of one that is deleted for the sake of a third.",
            'Use on_duplicate = "refuse".',
        )
    if job.deletes and usable:
        for (name,) in target.ask(UPDATED):
            yield UNIQUE(
                target.column(name),
                f"Trigger {name} of {job.name} fires when a row is rewritten, and may set {job.time_column}: which of two rows is the "
                "newer one would depend on which was rewritten first, and the newest could be deleted.",
                f'Disable the trigger for the run (alter table … disable trigger {name}), or use on_duplicate = "refuse".',
            )
    if job.on_duplicate == "refuse" and usable and not row_key(target.connection, job).columns:
        yield UNIQUE(
            target.column(usable[0].name),
            f"Nothing names the rows of {job.name} that would wait in the quarantine because of {usable[0].name}: it has no key.",
            'Use on_duplicate = "keep-newest", or name a key in the plan.',
        )
    if job.on_duplicate is not None and not keys:
        yield UNUSED(
            target.column(job.raw),
            f"The plan says on_duplicate for {job.name}.{job.raw}, and no unique index has this column in it.",
            "Nothing is deleted or refused on account of it.",
        )


def _called(key: UniqueKey) -> str:
    if "exclusion" in key.problem:
        return "Exclusion constraint"
    return "Primary key" if key.primary else "Unique index"
