"""Guard: the trigger and the CHECK that keep a table covered; how they are made, and whether they are in place.

A name proves nothing: what is looked at is the definition, and the text of the function. What a row has to have beside
its raw value is a link, or a hash in its form: whether it is the right one, no server can tell, and ``verify`` does.
"""

from collections.abc import Sequence

from backfill.database.guard_trigger import guard_trigger
from backfill.database.quoting import quoted, quoted_table
from backfill.database.session import SAFE_PATH
from backfill.gates.gate import Gate
from backfill.gates.offline_script import dollars, literal, regclass
from backfill.job_id import helper_name
from backfill.plan import DroppingJob, IntoJob
from backfill.raw_column import Table

BEFORE_ROW_INSERT_UPDATE = 1 | 2 | 4 | 16  # pg_trigger.tgtype
HASH = "^[0-9a-f]{64}$"
# As the server prints them: of a link, and of a hash in a text and in any other type like it.
CHECK_OF_LINK = ("CHECK (((%I IS NULL) OR (%I IS NOT NULL)))",)
CHECK_OF_HASH = tuple(
    f"CHECK (((%1$I IS NULL) OR ((%2$I IS NOT NULL) AND ({text} ~ '{HASH}'::text))))"
    for text in ('(%2$I COLLATE "C")', '((%2$I)::text COLLATE "C")')
)


def constraint(job: DroppingJob) -> str:
    """The CHECK that no row holds a raw value without a link, or a hash."""
    return helper_name("backfill_covered", job.raw, job.identity)


def creation(gate: Gate, job: DroppingJob) -> list[str]:
    """What puts both in place, and anew where they were changed; the CHECK is not yet valid."""
    return [
        # A violated CHECK writes the whole row, address included, to the server log; a trigger of ours
        # speaks first, and says nothing of the row.
        # As its owner: the application has no rights in our schema, and must not need any.
        f"create or replace function {_function(gate, job)}() returns trigger language plpgsql"
        f" security definer set search_path = {SAFE_PATH} as {dollars(_body(gate, job), 'guard')}",
        f"create or replace trigger {quoted(guard_trigger(job))} before insert or update on {quoted_table(job)}"
        f" for each row when (new.{quoted(job.raw)} is not null) execute function {_function(gate, job)}()",
        # Replication and session_replication_role = replica write rows as well.
        f"alter table {quoted_table(job)} enable always trigger {quoted(guard_trigger(job))}",
        f"alter table {quoted_table(job)} drop constraint if exists {quoted(constraint(job))}",
        f"alter table {quoted_table(job)} add constraint {quoted(constraint(job))}"
        f" check ({quoted(job.raw)} is null or {_given(job, quoted(job.result))}) not valid",
    ]


def removal(gate: Gate, job: DroppingJob) -> list[str]:
    """What removes the trigger; left behind, it would name a column that is gone and fail every INSERT."""
    return [
        f"drop trigger if exists {quoted(guard_trigger(job))} on {quoted_table(job)}",
        f"drop function if exists {_function(gate, job)}()",
        f"delete from {gate.ledger('let_in')} where job = {literal(job.identity)}",
    ]


def trigger_flaw(gate: Gate, job: DroppingJob) -> str:
    """What is wrong with the trigger, as an SQL expression; empty: nothing."""
    when = " FOR EACH ROW WHEN ((new.%I IS NOT NULL)) EXECUTE FUNCTION "
    return (
        "coalesce((select case when tgenabled not in ('O', 'A') then 'the trigger that keeps rows covered is disabled'"
        " when tgenabled = 'O' then 'the trigger that keeps rows covered does not fire where session_replication_role is replica'"
        f" when tgtype <> {BEFORE_ROW_INSERT_UPDATE} or tgattr::text <> ''"
        f" or strpos(pg_get_triggerdef(t.oid), format({literal(when)}, {literal(job.raw)}::text)) = 0"
        f" or p.oid is distinct from to_regprocedure({literal(_function(gate, job) + '()')})"
        f" or p.prosrc <> {literal(_body(gate, job))} or not p.prosecdef"
        f" or p.proconfig is distinct from array[{literal('search_path=' + SAFE_PATH)}]"
        " then 'the trigger that keeps rows covered is not as it was made, or its function is not' else '' end"
        " from pg_trigger as t join pg_proc as p on p.oid = t.tgfoid"
        f" where t.tgrelid = {regclass(job)} and t.tgname = {literal(guard_trigger(job))}),"
        " 'the trigger that keeps rows covered is missing')"
    )


def check_flaw(part: Table, name: str, definitions: Sequence[str], *columns: str, validated: bool) -> str:
    """What is wrong with a CHECK of one of those *definitions*, with ``%I`` for each of the columns, as an SQL expression."""
    words = ", ".join(f"{literal(column)}::text" for column in columns)
    expected = ", ".join(
        f"format({literal(definition)}, {words}){valid}"
        for definition in definitions
        for valid in ("", " || ' NOT VALID'")
    )
    # PostgreSQL 18 knows constraints that are not enforced; an older catalog has no such column.
    return (
        "coalesce((select case when not coalesce((to_jsonb(c) ->> 'conenforced')::boolean, true) then 'it is not enforced'"
        f" when pg_get_constraintdef(c.oid) not in ({expected}) then 'it has another definition'"
        + (" when not c.convalidated then 'it is not validated'" if validated else "")
        + f" else '' end from pg_constraint as c where c.conrelid = {regclass(part)}"
        f" and c.conname = {literal(name)}), 'it is missing')"
    )


def constraint_flaw(job: DroppingJob, *, validated: bool) -> str:
    """What is wrong with the CHECK; empty: nothing."""
    definitions = CHECK_OF_HASH if isinstance(job, IntoJob) else CHECK_OF_LINK
    return check_flaw(job, constraint(job), definitions, job.raw, job.result, validated=validated)


def uncovered(job: DroppingJob) -> str:
    """A row holds a raw value without what it has to have beside it, as an SQL condition."""
    return f"{quoted(job.raw)} is not null and not ({_given(job, quoted(job.result))})"


def _given(job: DroppingJob, result: str) -> str:
    """*result* is there, and of its form. Never NULL."""
    if not isinstance(job, IntoJob):
        return f"{result} is not null"
    # Of a column with a collation that ignores case, the pattern would take other digits.
    return f'{result} is not null and ({result}::text collate pg_catalog."C") operator(pg_catalog.~) {literal(HASH)}'


def _function(gate: Gate, job: DroppingJob) -> str:
    return quoted(gate.schema, helper_name("guard", job.table, job.identity))


def _body(gate: Gate, job: DroppingJob) -> str:
    """Refuses what would uncover a row, saying nothing of it, and counts each row that it lets in.

    In a row of its own, since a counter would make writers wait for each other. As text, so that no operator
    of the application's path decides what is the same.
    """
    raw, link = (f"new.{quoted(name)}" for name in (job.raw, job.result))
    raw_before, link_before = (f"old.{quoted(name)}" for name in (job.raw, job.result))
    what = f"a hash in {job.result}" if isinstance(job, IntoJob) else job.result
    return f"""
        begin
            if not ({_given(job, link)}) then
                raise exception using errcode = 'check_violation',
                    message = {literal(f"backfill: a row of {job.name} may not hold {job.raw} without {what}")},
                    hint = 'The column is about to be dropped: deploy the application that no longer writes it.';
            end if;
            if tg_op = 'UPDATE' then
                if {raw}::text is not distinct from {raw_before}::text
                   and {link}::text is not distinct from {link_before}::text then
                    return new;
                end if;
                if ({raw}::text is distinct from {raw_before}::text or {link_before} is not null)
                   and coalesce(current_setting('backfill.repairing', true), '') <> 'on' then
                    raise exception using errcode = 'check_violation',
                        message = {literal(f"backfill: a proved row of {job.name} may not change {job.raw} or {job.result}")},
                        hint = 'Set the raw value to NULL, or leave both as they are, until the column is dropped.';
                end if;
            end if;
            insert into {gate.ledger("let_in")} (job, transaction)
            values ({literal(job.identity)}, pg_current_xact_id()::text);
            return new;
        end """
