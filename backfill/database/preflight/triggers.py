"""Triggers and rules: what the application's own code does with our writes.

None is tried out, not even in a transaction that is rolled back: it may call another server, write a file or draw
from a sequence, which no rollback undoes, and what it does with one row says little about the others. It is
named, and waits until somebody who knows it accepts it.
"""

from collections.abc import Iterator

from backfill import escaping
from backfill.database.guard_trigger import guard_trigger
from backfill.database.preflight.finding import Finding, blocks, changes, note
from backfill.database.preflight.target import Target
from backfill.database.seal_trigger import seal_trigger
from backfill.plan import InPlaceJob

LEFT_BEHIND = blocks("left-behind-trigger")
BEFORE = changes("before-trigger")
AFTER = changes("after-trigger")
DELETE = changes("delete-trigger")
RULE = blocks("rule")
PATHLESS = note("trigger-without-search-path")
RUNS_AS = note("runs-as-privileged-role")

# tgtype: 1 row, 2 before, 4 insert, 8 delete, 16 update, 64 instead. A replica trigger does not fire for us, nor a disabled one.
TRIGGERS = """
    select t.tgname, t.tgtype & 1 <> 0, t.tgtype & 2 <> 0, t.tgtype & 8 <> 0 and %(deletes)s,
           t.tgtype & 16 <> 0 and (t.tgattr::text = '' or t.tgattr::int2[] && %(written)s::int2[]) or t.tgtype & 4 <> 0 and %(inserts)s,
           t.tgqual is not null, coalesce(t.tgoldtable, t.tgnewtable) is not null, t.tgenabled = 'A',
           format('%%I.%%I', n.nspname, p.proname), p.prosrc ~* '\\mreturn\\s+null\\M',
           array(select setting from unnest(p.proconfig) as setting where setting ilike 'search_path=%%') <> '{}'
             or p.prolang in (select oid from pg_language where lanname in ('internal', 'c'))
      from pg_trigger as t
      join pg_proc as p on p.oid = t.tgfoid
      join pg_namespace as n on n.oid = p.pronamespace
     where t.tgrelid = %(table)s and not t.tgisinternal and t.tgenabled in ('O', 'A')
       and not (n.nspname = %(ledger)s and t.tgname ~ '^z[yz]_backfill_')
       and (t.tgtype & 16 <> 0 and (t.tgattr::text = '' or t.tgattr::int2[] && %(written)s::int2[])
            or t.tgtype & 4 <> 0 and %(inserts)s
            or t.tgtype & 8 <> 0 and %(deletes)s)
     order by t.tgname
"""
# Of another kind of job for this column, that an earlier plan had.
OURS = """
    select tgname from pg_trigger
     where tgrelid = %(table)s and not tgisinternal and tgname = any (%(ours)s::text[]) and tgenabled <> 'D'
"""
RULES = """
    select rulename from pg_rewrite
     where ev_class = %(table)s and ev_enabled in ('O', 'A')
       -- UPDATE, INSERT, DELETE
       and (ev_type = '2' or ev_type = '3' and %(inserts)s or ev_type = '4' and %(deletes)s)
     order by 1
"""
# Code that runs with our rights when we write: of triggers, rules, defaults, checks, generated columns and indexes.
PRIVILEGED = """
    select rolsuper or exists (select from pg_roles as m
                                where m.rolname in ('pg_write_all_data', 'pg_execute_server_program',
                                                    'pg_write_server_files', 'pg_read_all_data')
                                  and pg_has_role(current_user, m.oid, 'member')), rolname
      from pg_roles where rolname = current_user
"""
OTHERS_CODE = """
    with hanging (classid, objid, what) as (
        select 'pg_trigger'::regclass, oid, 'trigger ' || tgname from pg_trigger
         where tgrelid = %(table)s and not tgisinternal and tgenabled in ('O', 'A')
        union all
        select 'pg_rewrite'::regclass, oid, 'rule ' || rulename from pg_rewrite where ev_class = %(table)s
        union all
        select 'pg_attrdef'::regclass, oid, 'default of column ' ||
               (select attname from pg_attribute where attrelid = adrelid and attnum = adnum)
          from pg_attrdef where adrelid = %(table)s
        union all
        select 'pg_constraint'::regclass, oid, 'constraint ' || conname from pg_constraint where conrelid = %(table)s
        union all
        select 'pg_class'::regclass, indexrelid, 'index ' || indexrelid::regclass from pg_index where indrelid = %(table)s
    )
    select distinct what, format('%%I.%%I', n.nspname, p.proname), pg_get_userbyid(p.proowner)
      from hanging
      join pg_depend as d on d.classid = hanging.classid and d.objid = hanging.objid
           and d.refclassid = 'pg_proc'::regclass
      join pg_proc as p on p.oid = d.refobjid
      join pg_namespace as n on n.oid = p.pronamespace
      join pg_roles as owner on owner.oid = p.proowner
     where not p.prosecdef and not owner.rolsuper and owner.rolname <> current_user
     order by 1, 2
"""
HISTORY = " A history table would receive the old row, raw address and all."
TRANSITIONS = ", and keeps every old row of a statement in memory (transition table)"


def check(target: Target) -> Iterator[Finding]:
    """Triggers that fire, rules, and whose code runs with whose rights."""
    if not target.writes:
        return
    name = target.part.name
    if isinstance(target.part, InPlaceJob):
        yield from _left_behind(target, target.part)
    found = target.ask(TRIGGERS, ledger=target.ledger_schema, inserts=target.inserts, deletes=target.deletes)
    for (
        trigger,
        row,
        before,
        deleting,
        writing,
        conditional,
        transition,
        always,
        function,
        null,
        has_path,
    ) in found:
        when = "where its WHEN holds" if conditional else "each time"
        each = "row" if row else "statement"
        kept = TRANSITIONS if transition else ""
        even = ", on replicas too" if always else ""
        said = f"Trigger {trigger} of {name} runs {function} {'before' if before else 'after'} each {each} that is written, {when}{kept}{even}"
        if deleting:
            yield DELETE(
                target.column(trigger),
                f"Trigger {trigger} of {name} runs {function} {'before' if before else 'after'} each {each} that is deleted, {when}{kept}{even}. "
                "It may keep the row, or copy it elsewhere.",
                _fix(target, trigger),
            )
        if not writing:
            pass
        elif before and row:
            may = (
                " It says RETURN NULL, which leaves a row as it is."
                if null
                else " It may change, refuse or skip rows."
            )
            if isinstance(target.part, InPlaceJob):
                may += HISTORY
            yield BEFORE(target.column(trigger), f"{said}.{may}", _fix(target, trigger))
        else:
            yield AFTER(
                target.column(trigger),
                f"{said}.{HISTORY}",
                _fix(target, trigger),
            )
        if not has_path:
            yield PATHLESS(
                target.column(trigger),
                f"Function {function} of trigger {trigger} has no search_path of its own: names in it are looked up by the caller's.",
                f"alter function {function} set search_path = …;",
            )
    for (rule,) in target.ask(RULES, inserts=target.inserts, deletes=target.deletes):
        yield RULE(
            target.column(rule),
            f"Rule {rule} of {name} rewrites what is written to it, so that counts mean nothing.",
            f"alter table {name} disable rule {rule}; for the run, or drop it.",
        )
    yield from _runs_as(target)


def _left_behind(target: Target, job: InPlaceJob) -> Iterator[Finding]:
    """Ours, of a link or of a hash in another column: each would change or refuse what is to be written."""
    seal, guard = seal_trigger(job), guard_trigger(job)
    for (trigger,) in target.ask(OURS, ours=[seal, guard]):
        does, helps = {
            seal: (
                "discards every value that is written, the application's as well",
                f"backfill unseal {escaping.word(job.label)}",
            ),
            guard: (
                "refuses every raw value without a link or hash beside it",
                "backfill migrate --down, with that plan, to the revision before it",
            ),
        }[trigger]
        yield LEFT_BEHIND(
            target.column(trigger),
            f"Trigger {trigger} of {target.part.name}, which an earlier plan for {job.label} asked for, {does}.",
            f"Remove it first: {helps}.",
        )


def _fix(target: Target, trigger: str) -> str:
    return f"Look at it, then accept it; or alter table {target.part.name} disable trigger {trigger}; for the run."


def _runs_as(target: Target) -> Iterator[Finding]:
    ((privileged, role),) = target.ask(PRIVILEGED)
    if not privileged:
        return
    for what, function, owner in target.ask(OTHERS_CODE):
        yield RUNS_AS(
            target.column(what.rpartition(" ")[2]),
            f"The {what} of {target.part.name} runs {function}, which {owner} may rewrite, with the rights of {role}.",
            "Use a role with fewer rights: docs/preflight.md has the grants of each command.",
        )
