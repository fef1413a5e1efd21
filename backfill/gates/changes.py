"""Changes: the schema changes of the chain, each behind its gate.

A change asks what needs a scan first, then waits for its lock a fraction of a second at a time
(``env.py`` tries again), and asks what is quick once more under the lock.
"""

from typing import TypeVar

from alembic import op
from backfill.database.inspection import columns, has_column
from backfill.errors import SchemaUnfit, UnknownJob
from backfill.gates import conditions
from backfill.gates.conditions import CONSTRAINT, GUARD, Gate, require
from backfill.gates.script import emit, ident, literal, offline, table, tell
from backfill.plan import Discard, Job, Table

HASH_CHECK = "backfill_hash_required"

Part = TypeVar("Part", bound=Table)


def drop_discarded_column(name: str) -> None:
    """Drop a column that the plan marks ``discard``: a restore point and the write check, no coverage."""
    gate = Gate.open()
    discard = _discard(gate, name)
    change = f"drop {discard.name}.{discard.column}"
    require(
        gate,
        change,
        [conditions.restore_point(gate), conditions.unwritten(gate, discard, discard.column, discard.time)],
    )
    _lock(gate, discard)
    _drop(gate, discard, discard.column)


def guard_links(name: str) -> None:
    """Let the database refuse what would uncover a row of that table: a trigger, and a CHECK not yet valid."""
    gate = Gate.open()
    job = _job(gate, name)
    require(gate, f"guard {job.name}", [conditions.no_copy_left(gate, job)])
    if _is_gone(job):
        _pass_by(gate, job, f"guard {job.name}")
        return
    require(gate, f"guard {job.name}", _coverage(gate, job))
    _lock(gate, job)
    raw, link = f"new.{ident(job.raw)}", f"new.{ident(job.link)}"
    # A violated CHECK writes the whole row, address included, to the server log; a trigger of ours
    # speaks first, and says nothing of the row.
    emit(f"""
        create or replace function {_guard_function(gate, job)}() returns trigger language plpgsql as $guard$
        begin
            if {link} is null then
                raise exception using errcode = 'check_violation',
                    message = {literal(f"backfill: a row of {job.name} may not hold {job.raw} without {job.link}")},
                    hint = 'The column is about to be dropped: deploy the application that no longer writes it.';
            end if;
            if tg_op = 'UPDATE'
               and ({raw} is distinct from old.{ident(job.raw)}
                    or ({link} is distinct from old.{ident(job.link)} and old.{ident(job.link)} is not null))
               and coalesce(current_setting('backfill.mending', true), '') <> 'on' then
                raise exception using errcode = 'check_violation',
                    message = {literal(f"backfill: a proved row of {job.name} may not change {job.raw} or {job.link}")},
                    hint = 'Set the raw value to NULL, or leave both as they are, until the column is dropped.';
            end if;
            return new;
        end $guard$
    """)
    emit(
        f"create trigger {ident(GUARD)} before insert or update on {table(job)}"
        f" for each row when ({raw} is not null) execute function {_guard_function(gate, job)}()"
    )
    emit(
        f"alter table {table(job)} add constraint {ident(CONSTRAINT)}"
        f" check ({ident(job.raw)} is null or {ident(job.link)} is not null) not valid"
    )


def unguard_links(name: str) -> None:
    """Remove guard and CHECK."""
    gate = Gate.open()
    job = _job(gate, name)
    _lock(gate, job)
    emit(f"alter table {table(job)} drop constraint if exists {ident(CONSTRAINT)}")
    _drop_guard(gate, job)


def validate_links(name: str) -> None:
    """Let PostgreSQL check every row; in a revision of its own, so that readers and writers go on."""
    gate = Gate.open()
    job = _job(gate, name)
    if _is_gone(job):
        _pass_by(gate, job, f"validate {job.name}")
        return
    require(gate, f"validate {job.name}", [conditions.guarded(job), conditions.covered(job)])
    _timeout(gate)
    emit(f"alter table {table(job)} validate constraint {ident(CONSTRAINT)}")


def unvalidate_links(name: str) -> None:
    """Nothing to undo: a valid constraint takes nothing away, and 0003a's downgrade drops it."""
    tell(f"{name}: the constraint stays validated until it is dropped")


def drop_raw_column(name: str) -> None:
    """Drop the raw column of an event table: coverage, writes, guard, constraint, restore point."""
    gate = Gate.open()
    job = _job(gate, name)
    change = f"drop {job.name}.{job.raw}"
    standing = [conditions.guarded(job), conditions.validated(job)]
    if _is_gone(job):
        _pass_by(gate, job, change)
        return
    require(gate, change, [conditions.restore_point(gate), *_coverage(gate, job), *standing])
    _lock(gate, job)
    require(
        gate,
        change,
        [conditions.proved(gate, job), conditions.settled(gate, job), *standing],
    )
    _drop_guard(gate, job)  # left behind, it would name a column that is gone and fail every INSERT
    _drop(gate, job, job.raw)


def restore_raw_column(name: str, sql_type: str) -> None:
    """Put an empty column back; says that the data is gone. The guard comes back with 0003a."""
    gate = Gate.open()
    job = _job(gate, name)
    _restore(gate, job, job.raw, sql_type)


def restore_column(name: str, sql_type: str) -> None:
    """Put the empty column of a discard back."""
    gate = Gate.open()
    discard = _discard(gate, name)
    _restore(gate, discard, discard.column, sql_type)


def make_address_optional() -> None:
    """Let the application write addresses by their hash alone."""
    gate = Gate.open()
    part = gate.plan.addresses
    change = f"make {part.name}.{part.address} optional"
    require(
        gate,
        change,
        [
            conditions.restore_point(gate),
            conditions.raw_columns_gone(gate),
            conditions.proved(gate, part),
            conditions.settled(gate, part),
        ],
    )
    _lock(gate, part)
    emit(f"alter table {table(part)} alter column {ident(part.address)} drop not null")


def restore_address_required() -> None:
    """NOT NULL again, unless there are rows without an address: then it stays optional, and says so."""
    gate = Gate.open()
    part = gate.plan.addresses
    _lock(gate, part)
    without = f"exists (select from {table(part)} where {ident(part.address)} is null)"
    emit(
        f"do $restore$ begin if not {without} then"
        f" alter table {table(part)} alter column {ident(part.address)} set not null; end if; end $restore$"
    )
    tell(f"{part.name}.{part.address} is required again, unless there are rows without one")


def propose_hash_required() -> None:
    """A CHECK that new rows carry a hash; old rows are read in the next revision."""
    gate = Gate.open()
    part = gate.plan.addresses
    require(gate, f"require {part.name}.{part.hash}", [conditions.proved(gate, part)])
    _lock(gate, part)
    emit(
        f"alter table {table(part)} add constraint {ident(HASH_CHECK)}"
        f" check ({ident(part.hash)} is not null) not valid"
    )


def unpropose_hash_required() -> None:
    """Remove the CHECK."""
    gate = Gate.open()
    part = gate.plan.addresses
    _lock(gate, part)
    emit(f"alter table {table(part)} drop constraint if exists {ident(HASH_CHECK)}")


def make_hash_required() -> None:
    """NOT NULL through the validated CHECK: the scan holds no lock that a writer would meet."""
    gate = Gate.open()
    part = gate.plan.addresses
    _timeout(gate)
    emit(f"alter table {table(part)} validate constraint {ident(HASH_CHECK)}")
    emit(f"alter table {table(part)} alter column {ident(part.hash)} set not null")
    emit(f"alter table {table(part)} drop constraint {ident(HASH_CHECK)}")


def restore_hash_optional() -> None:
    """NOT NULL off; the CHECK of the revision before comes back."""
    gate = Gate.open()
    part = gate.plan.addresses
    _lock(gate, part)
    emit(f"alter table {table(part)} alter column {ident(part.hash)} drop not null")
    emit(
        f"alter table {table(part)} add constraint {ident(HASH_CHECK)}"
        f" check ({ident(part.hash)} is not null) not valid"
    )


def drop_address_column() -> None:
    """Drop the address itself, after an observation period without a new raw value."""
    gate = Gate.open()
    part = gate.plan.addresses
    change = f"drop {part.name}.{part.address}"
    require(
        gate,
        change,
        [
            conditions.restore_point(gate),
            conditions.raw_columns_gone(gate),
            conditions.proved(gate, part),
            conditions.settled(gate, part),
            conditions.unwritten(gate, part, part.address, None),
        ],
    )
    _lock(gate, part)
    require(gate, change, [conditions.proved(gate, part), conditions.settled(gate, part)])
    _drop(gate, part, part.address)


def restore_address_column(sql_type: str) -> None:
    """Put an empty address column back, optional and unique as it was."""
    gate = Gate.open()
    part = gate.plan.addresses
    _restore(gate, part, part.address, sql_type)
    emit(f"alter table {table(part)} add unique ({ident(part.address)})")


def _coverage(gate: Gate, job: Job) -> list[conditions.Condition]:
    return [
        conditions.proved(gate, job),
        conditions.settled(gate, job),
        conditions.settled(gate, gate.plan.addresses),
        conditions.unwritten(gate, job, job.raw, job.time),
    ]


def _is_gone(job: Job) -> bool:
    """Whether a shadow copy took the table's place: no raw column is left to guard or to drop.

    An offline script is written for tables that still have it: run on another, its first statement
    about the column fails, and psql stops there.
    """
    return not offline() and not has_column(op.get_bind(), job, job.raw)


def _pass_by(gate: Gate, job: Job, change: str) -> None:
    """The same proof, of a column that went with the old table."""
    require(
        gate,
        change,
        [conditions.no_copy_left(gate, job), conditions.proved(gate, job), conditions.settled(gate, job)],
    )
    tell(f"{job.name}.{job.raw} is gone already, with the table that a shadow copy replaced")


def _job(gate: Gate, name: str) -> Job:
    try:
        return _existing(gate.plan.job(name))
    except UnknownJob:
        raise SchemaUnfit(
            problem=f"This chain changes {name}, which plan {gate.plan.name} does not have. Unset BACKFILL_PLAN, "
            "or write the revisions of your plan into your own chain (docs/migrate.md)."
        ) from None


def _discard(gate: Gate, name: str) -> Discard:
    for discard in gate.plan.discard:
        if discard.name == name:
            return _existing(discard)
    raise SchemaUnfit(
        problem=f"This chain discards a column of {name}, which plan {gate.plan.name} does not. Unset BACKFILL_PLAN, "
        "or write the revisions of your plan into your own chain (docs/migrate.md)."
    )


def _existing(part: Part) -> Part:
    if not offline():
        found = columns(op.get_bind(), part)
        if isinstance(found, str):
            raise SchemaUnfit(problem=found)
    return part


def _guard_function(gate: Gate, job: Job) -> str:
    return ident(gate.schema, f"guard_{job.table}"[:63])


def _drop_guard(gate: Gate, job: Job) -> None:
    emit(f"drop trigger if exists {ident(GUARD)} on {table(job)}")
    emit(f"drop function if exists {_guard_function(gate, job)}()")


def _timeout(gate: Gate) -> None:
    # SET LOCAL: a plain SET would leak into the revisions that follow.
    emit(f"set local lock_timeout = '{gate.lock_timeout_ms}ms'")


def _lock(gate: Gate, part: Table) -> None:
    _timeout(gate)
    emit(f"lock table {table(part)} in access exclusive mode")


def _drop(gate: Gate, part: Table, column: str) -> None:
    emit(f"alter table {table(part)} drop column {ident(column)}")
    emit(
        f"insert into {gate.ledger('decisions')} (kind, table_name, count, detail, decided_by)"
        f" values ('drop', {literal(part.name)}, 0, jsonb_build_object('column', {literal(column)}::text,"
        f" 'restore point', {literal(gate.restore_point or '')}::text), current_user)"
    )
    tell(f"{part.name}.{column} is dropped; restore point {gate.restore_point}")


def _restore(gate: Gate, part: Table, column: str, sql_type: str) -> None:
    _lock(gate, part)
    emit(f"alter table {table(part)} add column {ident(column)} {sql_type}")
    tell(f"{part.name}.{column} is back, and empty: its data is gone. Only the restore point still has it")
