"""Conditions: each a name, a boolean and its evidence as SQL, and the command that fixes it."""

from backfill import escaping
from backfill.database.quoting import quoted, quoted_table
from backfill.database.seal_trigger import seal_trigger
from backfill.gates.gate import Condition, Gate, of_proof
from backfill.gates.guard import check_flaw, constraint, constraint_flaw, trigger_flaw, uncovered
from backfill.gates.offline_script import literal, regclass
from backfill.ledger.raw_columns import PLACE, STANDS
from backfill.ledger.tables import coverage as record
from backfill.plan import Discard, DroppingJob, IntoJob, LinkJob
from backfill.raw_column import RawColumn, Table

HASH_CHECK = "backfill_hash_required"  # of the address table
NOT_VERIFIED = "'no full verification of it is on record for this plan'"  # SQL
# Of the newest coverage record.
COVERED, REASONS = of_proof(record.c.covered), of_proof(record.c.reasons)
FINISHED, CONFIRMED_BY = of_proof(record.c.finished), of_proof(record.c.confirmed_by)
RAW_ROWS, NEWEST_RAW = of_proof(record.c.raw_rows), of_proof(record.c.newest_raw)
RAW_COLUMN = of_proof(record.c.raw_column)
KEY_ID, SNAPSHOT = of_proof(record.c.key_id), of_proof(record.c.snapshot)
OTHER_SPELLINGS, HASH_CHECKSUM = of_proof(record.c.other_spellings), of_proof(record.c.hash_checksum)

NEWER_ROWS = 1_000  # so many newest rows without a value are evidence that nothing writes it any more


def restore_point(gate: Gate) -> Condition:
    """A backup was named. On record, not verifiable: the report says so."""
    return Condition(
        "restore point",
        "true" if gate.restore_point else "false",
        literal(f"named {gate.restore_point}" if gate.restore_point else "none was named"),
        "make a backup that you can go back to and name it: BACKFILL_RESTORE_POINT=NAME, or `backfill migrate --restore-point NAME`"
        " (in a chain of your own: alembic -x restore_point=NAME)",
    )


def proved(gate: Gate, part: RawColumn) -> Condition:
    """A full verification of this column of this database under this plan passed, and no run ended after it."""
    later = f"exists (select from {gate.ledger('runs')} as run where greatest(run.finished, run.heartbeat) > {FINISHED})"
    confirmation = (
        f" || case when {CONFIRMED_BY} = 0 then"
        f" ', hashes right under key id ' || {KEY_ID} || ', not confirmed by a live hash' else '' end"
    )
    moved = f"coalesce({RAW_COLUMN} <> {_place(part)}, false)"  # NULL where it is dropped
    sound = f"{COVERED} and not {gate.altered} and not {gate.foreign} and not {later} and not {moved}"
    return Condition(
        f"proof of {part.label}",
        f"coalesce({gate.latest(part.identity, sound)}, false)",
        "coalesce("
        + gate.latest(
            part.identity,
            f"case when {gate.foreign} then 'the record is about another database'"
            f" when {gate.altered} then 'the record was changed after it was entered'"
            f" when {moved} then 'table or column was replaced or renamed after the last verification'"
            f" when {later} then 'a run is newer than the last verification'"
            f" when {COVERED} then 'covered'{confirmation}"
            f" else 'the last verification says: ' || coalesce({REASONS} ->> 0, 'not covered') end",
        )
        + f", {NOT_VERIFIED})",
        "`backfill run`, then `backfill verify`",
    )


def _place(part: RawColumn) -> str:
    """Numbers of its raw column in the catalog, as SQL; NULL where it is gone."""
    return PLACE.format(
        schema=literal(part.schema_), name=literal(part.table), column=literal(part.raw_column)
    )


def links(gate: Gate, job: LinkJob) -> Condition:
    """Every row's text is, letter for letter, the address that it is linked to; or was verified, and is the same.

    The second kind are other spellings of an address and what an operator settled: their number, and
    a checksum of their links and texts, stand in the record. So a link or a text that was changed
    after the verification is found, and rows that are plainly right may go meanwhile. No key is part of it:
    a table may have none, and which of two rows has a link and a text that were verified together, does not matter.
    """
    part, text = gate.plan.addresses, _text(job)
    others = (
        f"select {_checksum(f'event.{quoted(job.link)}', text)}"
        f" from {quoted_table(job)} as event left join {quoted_table(part)} as known"
        f" on known.{quoted(part.key)} = event.{quoted(job.link)}"
        f" where event.{quoted(job.raw)} is not null and {text} is distinct from abbrev(known.{quoted(part.address)})"
    )
    verified = gate.latest(job.identity, OTHER_SPELLINGS)
    return Condition(
        f"links of {job.label}",
        f"(select counted in ('0/0', {verified}) from ({others}) as now (counted))",
        f"case when {verified} is null then {NOT_VERIFIED} else"
        " 'a row with an address came, or a link or a text was changed, after the last verification' end",
        "`backfill run`, then `backfill verify`",
        held="each row's text is its linked address, or was verified with this link",
    )


def _text(job: LinkJob) -> str:
    """The raw value of ``event`` letter for letter, as verify compares, whatever the column's type and collation call equal.

    An ``inet`` as the server prints it, without a full mask. Of what type it is, the server is asked, once a statement: a
    script is written without one.
    """
    raw = f"event.{quoted(job.raw)}"
    is_inet = (
        "exists (with recursive base (oid) as ("
        f"select atttypid from pg_attribute where attrelid = {regclass(job)} and attname = {literal(job.raw)}"
        " union all select typbasetype from base join pg_type using (oid) where typtype = 'd')"
        " select from base where oid = 'pg_catalog.inet'::regtype)"
    )
    return f'((case when {is_inet} then concat({raw}) else {raw}::text end) collate "C")'


def _checksum(result: str, text: str) -> str:
    """Number and checksum of rows, as the judges make them: of *result*, and eight bits of the *text*'s hash."""
    return f"count(*)::text || '/' || coalesce(sum(hash_record_extended(row({result}, hashtext({text}) & 255), 0)), 0)"


def pairs(gate: Gate, job: IntoJob) -> Condition:
    """Every row has the text and the hash that were verified: no server can tell whether they belong together.

    All of them are compared, by their number and a checksum of hashes and eight bits of each text's hash: a row that
    came, went or was changed after the verification is found. As with ``links``, no key is part of it. Nothing less
    will do: a row that an UPDATE moves while ranges are read may have been read in none, a trigger says nothing of rows that
    were not looked at, and writers can go round it (a child table, session_replication_role).
    """
    result, text = (f'(event.{quoted(name)}::text collate "C")' for name in (job.into, job.raw))
    now = (
        f"select {_checksum(result, text)}"
        f" from {quoted_table(job)} as event where event.{quoted(job.raw)} is not null"
    )
    verified = gate.latest(job.identity, OTHER_SPELLINGS)
    return Condition(
        f"hashes of {job.label}",
        f"coalesce(({now}) = {verified}, false)",
        f"case when {verified} is null then {NOT_VERIFIED} else"
        " 'a row with an address came or went, or a hash or a text was changed, after the last verification' end",
        "`backfill run`, then `backfill verify`",
        held="each row has the text and the hash that were verified",
    )


def hashes(gate: Gate) -> Condition:
    """Every row that still has its address has the hash that was verified with it: after the drop nothing can tell.

    Of the address the checksum has eight bits of a hash, as in ``links``: they tell that it was changed, all but once in
    256 times a row, and cannot tell it.
    """
    part = gate.plan.addresses
    now = (
        f"select coalesce(bit_xor(hash_record_extended(row({quoted(part.key)}, {quoted(part.hash)}, hashinet({quoted(part.address)}) & 255), 0))"
        f" filter (where {quoted(part.address)} is not null), 0)::text from {quoted_table(part)}"
    )
    verified = gate.latest(part.identity, HASH_CHECKSUM)
    return Condition(
        f"hashes of {part.label}",
        f"coalesce(({now}) = {verified}, false)",
        f"case when {verified} is null then {NOT_VERIFIED} else"
        " 'a hash or an address was changed, or a row with an address came or went, after the last verification' end",
        "`backfill run`, then `backfill verify`",
        held="those that were verified",
    )


def settled(gate: Gate, part: RawColumn, reason: str | None = None) -> Condition:
    """Nothing of this table waits in the quarantine, whatever the *reason*, or for that one."""
    waiting = (
        f"(select coalesce(sum(entry.rows), 0) from {gate.ledger('quarantine')} as entry"
        f" where entry.job = {literal(part.identity)} and entry.decision_id is null"
        f"{f' and entry.reason = {literal(reason)}' if reason else ''})"
    )
    # The number is in the evidence, which a script works out when it runs.
    fix = f"`backfill quarantine list {escaping.word(part.label)}`, which says what settles them"
    return Condition(
        f"quarantine of {part.label}",
        f"{waiting} = 0",
        f"case {waiting} when 1 then '1 row waits' else {waiting} || ' rows wait' end || ' for a decision'",
        fix,
    )


def unwritten(gate: Gate, part: RawColumn, time: str | None) -> Condition:
    """Nothing fills the column any more: a NULL newest row proves nothing where those are normal."""
    name, raw = quoted_table(part), quoted(part.raw_column)
    ways = [is_sealed(part)]
    unasked = gate.observe == 0 and isinstance(part, Discard)
    if unasked:
        ways.append("true")
    newest = f"max({quoted(time)}) filter (where {raw} is not null)" if time else "null"
    ways.append(
        "coalesce("
        + gate.latest(
            part.identity,
            f"not {gate.altered} and not {gate.foreign}"
            f" and clock_timestamp() - {FINISHED} >= make_interval(secs => {gate.observe})"
            f" and (select count({raw}) = {RAW_ROWS}"
            f" and ({newest})::text is not distinct from {NEWEST_RAW} from {name})",
        )
        + ", false)"
    )
    if time:
        ways.append(
            f"(select count(*) = {NEWER_ROWS} and count(newest.{raw}) = 0"
            f" from (select {raw} from {name} order by {quoted(time)} desc limit {NEWER_ROWS}) as newest)"
        )
    return Condition(
        f"writes to {part.name}.{part.raw_column}",
        "(" + " or ".join(ways) + ")",
        f"case when {is_sealed(part)} then 'sealed' else coalesce("
        + gate.latest(
            part.identity,
            f"case when (select count({raw}) from {name}) = {RAW_ROWS}"
            f" then 'verified ' || extract(epoch from clock_timestamp() - {FINISHED})::bigint || ' s ago'"
            + (f" when {ways[-1]} then 'the newest {NEWER_ROWS} rows are without a value'" if time else "")
            + " else 'it changed since the last verification' end",
        )
        + f", 'nobody has looked yet{', which BACKFILL_OBSERVE=0 allows' if unasked else ''}')"
        + f" || {literal(f'; it has to stay unchanged for {gate.observe:.0f} s, or the newest {NEWER_ROWS} rows be without a value')} end",
        f"deploy the change that stops writing it, `backfill verify`, wait {gate.observe:.0f} s (BACKFILL_OBSERVE)"
        + ("" if part.identity in gate.never_null else f"; or `backfill seal {escaping.word(part.label)}`"),
    )


def is_sealed(part: RawColumn) -> str:
    """Whether a trigger of ours discards what is written to the raw column."""
    return _has_trigger(part, seal_trigger(part))


def _has_trigger(part: Table, name: str) -> str:
    return (
        f"exists (select from pg_trigger where tgrelid = {regclass(part)} and tgname = {literal(name)}"
        " and tgenabled in ('O', 'A'))"
    )


def covered(job: DroppingJob) -> Condition:
    """No row holds a raw value without a link, or hash; asked first, since a failed VALIDATE says no more than its name."""
    number = f"(select count(*) from {quoted_table(job)} where {uncovered(job)})"
    what = "hash" if isinstance(job, IntoJob) else "link"
    return Condition(
        f"rows of {job.label}",
        f"{number} = 0",
        f"{number} || ' rows hold an address and no {what}'",
        "`backfill run`, then `backfill verify`",
    )


def no_copy_left(gate: Gate, part: RawColumn) -> Condition:
    """No shadow copy of the table is in the making, and no old table waits to be dropped: it holds every address."""
    entry = (
        f"from {gate.ledger('shadows')} as shadow where shadow.table_name = {literal(part.table_identity)}"
    )
    return Condition(
        f"shadow copy of {part.label}",
        f"not exists (select {entry})",
        "coalesce((select case when shadow.stage = 'swapped' then 'the table from before the cut-over is still there,"
        f" with every address in it' else 'a copy is in the making' end {entry}), 'none')",
        f"`backfill cutover {escaping.word(part.label)}`, then `backfill cutover --finish {escaping.word(part.label)}`"
        f" (or `backfill run --abandon {escaping.word(part.label)}` before the cut-over)",
    )


AGAIN = (
    "`alter table … enable always trigger …` where it is there; otherwise `backfill migrate REVISION --down` to before the table's 0003a revision, then"
    " upgrade again; in a chain of your own: guard_links, validate_links"
)


def guarded(gate: Gate, part: DroppingJob) -> Condition:
    """The guard trigger is in place, enabled, and ours."""
    flaw = trigger_flaw(gate, part)
    return Condition(f"guard of {part.label}", f"{flaw} = ''", flaw, AGAIN, held="in place", by_chain=True)


def checked(part: DroppingJob) -> Condition:
    """The CHECK is in place, enforced, and ours; PostgreSQL may still have to read the rows."""
    flaw = constraint_flaw(part, validated=False)
    return Condition(
        f"constraint of {part.label}",
        f"{flaw} = ''",
        f"{literal(constraint(part) + ': ')} || {flaw}",
        AGAIN,
        held="in place",
        by_chain=True,
    )


def countable(gate: Gate) -> Condition:
    """The guard counts with the rights of the role that makes it, which need not be the ledger's owner."""
    place = literal(gate.ledger("let_in"))
    return Condition(
        "rights of the guard",
        f"has_schema_privilege({literal(gate.schema)}, 'usage') and has_table_privilege({place}, 'insert, delete')",
        f"current_user || ' may not write {gate.schema}.let_in, in which the guard counts the rows that it lets in'",
        f"grant insert, select, delete on {gate.ledger('let_in')} to the role of this chain, or run it as the ledger's owner",
        held="sufficient",
    )


def none_let_in(gate: Gate, job: DroppingJob) -> Condition:
    """The guard has let no row in since the proof: nobody has verified what it did.

    It enters each in its own transaction. Whatever the snapshot from before the proof's first look does not
    show may have come later; a few that the proof has seen count as well.
    """
    proof = gate.latest(job.identity, f"{SNAPSHOT}::pg_snapshot")
    seen = f"pg_visible_in_snapshot(entry.transaction::xid8, {proof})"
    number = (
        f"(select count(*) from {gate.ledger('let_in')} as entry"
        f" where entry.job = {literal(job.identity)} and not coalesce({seen}, false))"
    )
    return Condition(
        f"rows let in by the guard of {job.label}",
        f"{number} = 0 and current_setting('transaction_isolation') = 'read committed'",
        f"case when {number} = 0 then 'this transaction is ' || current_setting('transaction_isolation')"
        " || ', and would not see them: read committed is needed'"
        f" else {number} || ' with an address came after the last verification' end",
        "`backfill verify`, then again; where they keep coming, deploy the change that stops writing it",
        held="none since the last verification",
    )


def validated(part: DroppingJob) -> Condition:
    """PostgreSQL itself has checked that no row holds an address without a link, or hash."""
    flaw = constraint_flaw(part, validated=True)
    return Condition(
        f"constraint of {part.label}",
        f"{flaw} = ''",
        f"{literal(constraint(part) + ': ')} || {flaw}",
        AGAIN,
        held="validated",
        by_chain=True,
    )


def hash_checked(gate: Gate) -> Condition:
    """The CHECK that rows have a hash is in place, enforced, and ours."""
    part = gate.plan.addresses
    flaw = check_flaw(part, HASH_CHECK, ("CHECK ((%I IS NOT NULL))",), part.hash, validated=False)
    return Condition(
        f"constraint of {part.label}",
        f"{flaw} = ''",
        f"{literal(HASH_CHECK + ': ')} || {flaw}",
        "`backfill migrate 0005a_ip_address_optional --down`, then `backfill migrate 0005c_hash_required`; in a chain of your own:"
        " propose_hash_required in a revision before",
        held="in place",
        by_chain=True,
    )


def raw_columns_gone(gate: Gate) -> Condition:
    """Every table has lost the raw column that was to go."""
    coverage = gate.ledger("coverage")
    left = (
        " + ".join(
            f"greatest(({_columns(job, job.raw)}), ({stands} is not null)::int)"
            for job in gate.plan.dropping_jobs
            for stands in [STANDS.format(coverage=coverage, job=literal(job.identity))]
        )
        or "0"
    )
    return Condition(
        "raw columns of the event tables",
        f"({left}) = 0",
        f"({left}) || ' of them are still there'",
        "`backfill migrate`, revision by revision; in a chain of your own: its drops",
        by_chain=True,
    )


def _columns(job: DroppingJob, name: str) -> str:
    return (
        f"select count(*) from pg_attribute where attrelid = {regclass(job)}"
        f" and attname = {literal(name)} and not attisdropped"
    )
