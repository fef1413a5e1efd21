"""Operations: the schema changes of the chain, each behind its gate.

A change asks what needs a scan first, then waits for its lock a fraction of a second at a time
(``env.py`` tries again), and asks what is quick once more under the lock.
"""

from alembic import op
from backfill.database.columns import columns, has_column
from backfill.database.guard_trigger import GUARD
from backfill.database.quoting import quoted, quoted_table
from backfill.database.seal_trigger import seal_removal, seal_trigger
from backfill.errors import AmbiguousJob, ColumnMoved, KindUnfit, UnknownJob
from backfill.gates import conditions, guard, requirements, steps
from backfill.gates.gate import ChainUnfit, Gate, require
from backfill.gates.lock import lock, timeout
from backfill.gates.named_columns import require_columns
from backfill.gates.offline_script import ask, dollars, emit, literal, offline, tell
from backfill.gates.steps import Step
from backfill.gates.transaction import Needs, gated
from backfill.ledger import raw_columns
from backfill.plan import Discard, DroppingJob, InPlaceJob
from backfill.raw_column import RawColumn, Some, find


@gated(Needs.NO_LOCK)
def drop_discarded_column(name: str) -> None:
    """Drop a column that the plan marks ``discard``: a restore point and the write check, no coverage.

    *name* as in every function here: an identity, ``table.column``, or the table where that says enough.
    """
    gate = Gate.open()
    discard = _discard(gate, name)
    _require_dropped(gate, discard)
    if not offline() and not has_column(op.get_bind(), discard, discard.column):
        tell(f"{discard.name}.{discard.column} is gone already: nothing is left to drop")
        return
    require_columns(gate, discard)
    _require_needs(gate, steps.discard(gate, discard))
    lock(gate, discard)
    _drop(gate, discard)


@gated(Needs.OWN)
def guard_links(name: str) -> None:
    """Let the database refuse what would uncover a row of that table: a trigger, and a CHECK not yet valid."""
    gate = Gate.open()
    job = _job(gate, name)
    step = steps.guard(gate, job)
    if _is_gone(gate, job, step.change):
        return
    require_columns(gate, job)
    _require_needs(gate, step)
    lock(gate, job)
    for statement in guard.creation(gate, job):
        emit(statement)


def require_no_guard() -> None:
    """Refuse to take the ledger from a guard, which would fail every INSERT, and from pseudonyms, which it alone tells from addresses."""
    schema = str(op.get_context().version_table_schema)
    guards = (
        "select string_agg(format('%s on %s', tgname, tgrelid::regclass), ', ') from pg_trigger"
        " join pg_proc on pg_proc.oid = tgfoid join pg_namespace as n on n.oid = pronamespace"
        f" where nspname = {literal(schema)} and starts_with(tgname, {literal(GUARD)})"
    )
    _refuse_where(guards, "guards write to this ledger", "Undo the revisions that made them: unguard_links.")
    prefixes = f"select string_agg(key_id, ', ') from {quoted(schema, 'pseudonym_prefixes')}"
    _refuse_where(
        prefixes, "without this ledger pseudonyms would be taken for addresses, of key id", "Keep it."
    )


def _refuse_where(found_by: str, told: str, helps: str) -> None:
    """Raises ``ChainUnfit``, or has the script raise, where the query *found_by* finds a name."""
    if offline():
        body = (
            f" begin if ({found_by}) is not null then raise exception using message = 'backfill refuses: {told}: '"
            f" || ({found_by}), hint = {literal(helps)}; end if; end "
        )
        emit(f"do {dollars(body, 'ledger')}")
    elif (found := ask(found_by)[0][0]) is not None:
        raise ChainUnfit(problem=f"{told}: {found}. {helps}")


@gated(Needs.ANY)
def unguard_links(name: str) -> None:
    """Remove guard and CHECK."""
    gate = Gate.open()
    job = _job(gate, name)
    lock(gate, job)
    emit(f"alter table {quoted_table(job)} drop constraint if exists {quoted(guard.constraint(job))}")
    _drop_guard(gate, job)


@gated(Needs.OWN)
def validate_links(name: str) -> None:
    """Let PostgreSQL check every row; in a revision of its own, so that readers and writers go on."""
    gate = Gate.open()
    job = _job(gate, name)
    step = steps.validation(gate, job)
    if _is_gone(gate, job, step.change):
        return
    require_columns(gate, job)
    _require_needs(gate, step)
    timeout(gate)
    emit(f"alter table {quoted_table(job)} validate constraint {quoted(guard.constraint(job))}")


def unvalidate_links(name: str) -> None:
    """Nothing to undo: a valid constraint takes nothing away, and 0003a's downgrade drops it."""
    tell(f"{name}: the constraint stays validated until it is dropped")


@gated(Needs.NO_LOCK)
def drop_raw_column(name: str) -> None:
    """Drop the raw column of an event table: coverage, writes, guard, constraint, restore point."""
    gate = Gate.open()
    job = _job(gate, name)
    step = steps.drop(gate, job)
    if _is_gone(gate, job, step.change):
        return
    require_columns(gate, job)
    _require_needs(gate, step)
    lock(gate, job)
    require(gate, step.change, requirements.under_lock(gate, job))
    _drop_guard(gate, job)  # left behind, it would name a column that is gone and fail every INSERT
    _drop(gate, job)


@gated(Needs.NO_LOCK)
def require_coverage(name: str) -> None:
    """Refuse unless that table is covered and nothing writes its raw column; for a revision in any chain."""
    gate = Gate.open()
    job = _job(gate, name)
    require_columns(gate, job)
    require(
        gate, f"go on with {job.label}", [conditions.restore_point(gate), *requirements.coverage(gate, job)]
    )


def drop_column(name: str, column: str) -> None:
    """The safe drop of a column that the plan names, behind the gate of its kind; for a revision in any chain.

    That of an event table asks for ``guard_links`` and ``validate_links`` in revisions before it.
    """
    plan = Gate.open().plan
    meant = [
        part
        for part in plan.parts
        if part.raw_column == column
        and name in (part.name, f"{part.schema_}.{part.table}", part.table_identity)
    ]
    if not meant:
        raise ChainUnfit(
            problem=f"Plan {plan.name} does not say that {name}.{column} is to go. Name it there, or drop it yourself."
        )
    (part,) = meant  # no column is in a plan twice
    if isinstance(part, DroppingJob):
        drop_raw_column(part.identity)
    elif isinstance(part, Discard):
        drop_discarded_column(part.identity)
    elif isinstance(part, InPlaceJob):
        raise ChainUnfit(
            problem=f"{part.name}.{part.raw} stays: its values are rewritten in place, and plan {plan.name} does not say that it is"
            " to go. Nothing was dropped. Take this call out of the revision."
        )
    else:
        drop_address_column()


@gated(Needs.ANY)
def restore_raw_column(name: str, sql_type: str) -> None:
    """Put an empty column back; says that the data is gone. The guard comes back with 0003a."""
    gate = Gate.open()
    _restore(gate, _job(gate, name), sql_type)


@gated(Needs.ANY)
def restore_column(name: str, sql_type: str) -> None:
    """Put the empty column of a discard back."""
    gate = Gate.open()
    _restore(gate, _discard(gate, name), sql_type)


@gated(Needs.NO_LOCK)
def make_address_optional() -> None:
    """Let the application write addresses by their hash alone."""
    gate = Gate.open()
    part = gate.plan.addresses
    require_columns(gate, part)
    _require_needs(gate, steps.address_optional(gate))
    lock(gate, part)
    emit(f"alter table {quoted_table(part)} alter column {quoted(part.address)} drop not null")


@gated(Needs.ANY)
def restore_address_required() -> None:
    """NOT NULL again, unless there are rows without an address: then it stays optional, and says so."""
    gate = Gate.open()
    part = gate.plan.addresses
    lock(gate, part)
    without = f"exists (select from {quoted_table(part)} where {quoted(part.address)} is null)"
    emit(
        f"do $restore$ begin if not {without} then"
        f" alter table {quoted_table(part)} alter column {quoted(part.address)} set not null; end if; end $restore$"
    )
    tell(f"{part.name}.{part.address} is required again, unless there are rows without one")


@gated(Needs.OWN)
def propose_hash_required() -> None:
    """A CHECK that new rows carry a hash; old rows are read in the next revision."""
    gate = Gate.open()
    part = gate.plan.addresses
    require_columns(gate, part)
    _require_needs(gate, steps.hash_required(gate))
    lock(gate, part)
    emit(f"alter table {quoted_table(part)} drop constraint if exists {quoted(conditions.HASH_CHECK)}")
    emit(
        f"alter table {quoted_table(part)} add constraint {quoted(conditions.HASH_CHECK)}"
        f" check ({quoted(part.hash)} is not null) not valid"
    )


@gated(Needs.ANY)
def unpropose_hash_required() -> None:
    """Remove the CHECK."""
    gate = Gate.open()
    part = gate.plan.addresses
    lock(gate, part)
    emit(f"alter table {quoted_table(part)} drop constraint if exists {quoted(conditions.HASH_CHECK)}")


@gated(Needs.OWN)
def make_hash_required() -> None:
    """NOT NULL through the validated CHECK: the scan holds no lock that a writer would meet."""
    gate = Gate.open()
    part = gate.plan.addresses
    # With another definition NOT NULL would read every row itself, under its strong lock.
    require(gate, steps.hash_required(gate).change, [conditions.hash_checked(gate)])
    timeout(gate)
    emit(f"alter table {quoted_table(part)} validate constraint {quoted(conditions.HASH_CHECK)}")
    emit(f"alter table {quoted_table(part)} alter column {quoted(part.hash)} set not null")
    emit(f"alter table {quoted_table(part)} drop constraint {quoted(conditions.HASH_CHECK)}")


@gated(Needs.ANY)
def restore_hash_optional() -> None:
    """NOT NULL off; the CHECK of the revision before comes back."""
    gate = Gate.open()
    part = gate.plan.addresses
    lock(gate, part)
    emit(f"alter table {quoted_table(part)} alter column {quoted(part.hash)} drop not null")
    emit(
        f"alter table {quoted_table(part)} add constraint {quoted(conditions.HASH_CHECK)}"
        f" check ({quoted(part.hash)} is not null) not valid"
    )


@gated(Needs.NO_LOCK)
def drop_address_column() -> None:
    """Drop the address itself, after an observation period without a new raw value."""
    gate = Gate.open()
    part = gate.plan.addresses
    step = steps.address_drop(gate)
    require_columns(gate, part)
    _require_needs(gate, step)
    lock(gate, part)
    # The table of addresses has no guard that counts what is changed. So this one scan is under the lock: a third of a
    # second a million rows.
    require(
        gate,
        step.change,
        [conditions.proved(gate, part), conditions.settled(gate, part), conditions.hashes(gate)],
    )
    _drop(gate, part)


@gated(Needs.ANY)
def restore_address_column(sql_type: str) -> None:
    """Put an empty address column back, optional and unique as it was."""
    gate = Gate.open()
    part = gate.plan.addresses
    _restore(gate, part, sql_type)
    emit(f"alter table {quoted_table(part)} add unique ({quoted(part.address)})")


def _require_needs(gate: Gate, step: Step) -> None:
    require(gate, step.change, step.needs())


def _is_gone(gate: Gate, job: DroppingJob, change: str) -> bool:
    """Whether a shadow copy took the table's place: no raw column is left to guard or to drop; the proof has to stand.

    An offline script is written for tables that still have it: run on another, its first statement
    about the column fails, and psql stops there.
    """
    if offline() or has_column(op.get_bind(), job, job.raw):
        return False
    _require_dropped(gate, job)
    require(gate, change, requirements.replaced(gate, job))
    tell(f"{job.name}.{job.raw} is gone already, with the table that a shadow copy replaced")
    return True


def _require_dropped(gate: Gate, part: RawColumn) -> None:
    """What is gone was dropped, and not renamed. A script says so by failing at the column."""
    if not offline():
        try:
            raw_columns.require_dropped(op.get_bind(), gate.schema, part)
        except ColumnMoved as error:
            raise ChainUnfit(problem=str(error)) from None


def _job(gate: Gate, name: str) -> DroppingJob:
    try:
        return _existing(gate.plan.dropping_job(name))
    except (AmbiguousJob, KindUnfit) as error:
        raise ChainUnfit(problem=str(error)) from None
    except UnknownJob:
        raise ChainUnfit(
            problem=f"This chain changes {name}, which plan {gate.plan.name} does not have. Unset BACKFILL_PLAN, "
            "or write the revisions of your plan into your own chain (docs/migrate.md)."
        ) from None


def _discard(gate: Gate, name: str) -> Discard:
    try:
        return _existing(find(name, gate.plan.discard))
    except (AmbiguousJob, KindUnfit) as error:
        raise ChainUnfit(problem=str(error)) from None
    except UnknownJob:
        raise ChainUnfit(
            problem=f"This chain discards a column of {name}, which plan {gate.plan.name} does not. Unset BACKFILL_PLAN, "
            "or write the revisions of your plan into your own chain (docs/migrate.md)."
        ) from None


def _existing(part: Some) -> Some:
    if not offline():
        found = columns(op.get_bind(), part)
        if isinstance(found, str):
            raise ChainUnfit(problem=found)
    return part


def _drop_guard(gate: Gate, job: DroppingJob) -> None:
    for statement in guard.removal(gate, job):
        emit(statement)


def _drop(gate: Gate, part: RawColumn) -> None:
    column = part.raw_column
    _drop_seal(gate, part)
    emit(f"alter table {quoted_table(part)} drop column {quoted(column)}")
    emit(
        f"insert into {gate.ledger('decisions')} (kind, job, count, detail, decided_by)"
        f" values ('drop', {literal(part.identity)}, 0, jsonb_build_object('column', {literal(column)}::text,"
        f" 'restore point', {literal(gate.restore_point or '')}::text), current_user)"
    )
    tell(f"{part.name}.{column} is dropped; restore point {gate.restore_point}")


def _drop_seal(gate: Gate, part: RawColumn) -> None:
    # Whether there is one or not: a script cannot look.
    emit(f"delete from {gate.ledger('seals')} where job = {literal(part.identity)}")
    emit(f"drop trigger if exists {quoted(seal_trigger(part))} on {quoted_table(part)}")
    for statement in seal_removal(gate.schema, part):
        emit(statement)


def _restore(gate: Gate, part: RawColumn, sql_type: str) -> None:
    column = part.raw_column
    lock(gate, part)
    emit(f"alter table {quoted_table(part)} add column {quoted(column)} {sql_type}")
    tell(f"{part.name}.{column} is back, and empty: its data is gone. Only the restore point still has it")
