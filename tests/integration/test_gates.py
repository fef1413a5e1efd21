"""Gates under attack: what must not open one, what shows them, and what stands in their way."""

import json
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from backfill.embedded.binaries import Binaries
from tests.databases import Databases, connect, dsn, query
from tests.demo_template import environment
from tests.integration.test_damage import (
    PLAIN,
    link_elsewhere,
    link_to_the_sentinel,
    some,
    take_the_geo_away,
    unlink,
    verified,
)
from tests.names import constraint, guard
from tests.operator import Operator

RAW = "ip_address_string"


# Records


def test_a_record_about_another_database_opens_nothing(
    proved_run: Operator, databases: Databases, home: Path
) -> None:
    copy = databases.copy(proved_run.url)
    try:
        there = Operator(copy, environment(copy, home))
        assert "proof of user_events: the record is about another database" in there.is_refused(
            "0003a_user_events"
        )
        there.types("verify")
        there.migrates("0003a_user_events")
    finally:
        databases.drop(copy)


@pytest.mark.parametrize(
    "edit",
    [
        "covered = true, reasons = '[]'",
        "covered = true, reasons = '[]', raw_rows = raw_rows - 1",
        "covered = true, other_spellings = '0/0'",
        "covered = true, snapshot = '1:1:'",
        "covered = true, proved = now()",
    ],
)
def test_a_record_that_was_edited_by_hand_opens_nothing(proved_run: Operator, edit: str) -> None:
    unlink(proved_run, some(proved_run, 1))
    verified(proved_run)
    query(proved_run.url, f"update backfill.coverage set {edit}")
    refusal = proved_run.is_refused("0003a_user_events")
    assert "proof of user_events: the record was changed after it was entered" in refusal


def test_a_record_with_an_earlier_date_is_noticed(proved_run: Operator) -> None:
    query(proved_run.url, "update backfill.coverage set finished = finished - interval '20 days'")
    patient = proved_run.having(observe="864000")
    asked = [c for stage in gates(patient) for c in stage["conditions"]]
    proofs = [c for c in asked if c["name"].startswith("proof of")]
    assert proofs
    assert all("was changed after it was entered" in c["evidence"] for c in proofs)
    assert not any(c["holds"] for c in asked if c["name"].startswith(("proof of", "writes to")))


def test_a_sample_opens_nothing(settled_run: Operator) -> None:
    said = settled_run.types("verify", "--sample", "50")
    assert "with 95% confidence at most" in said.out
    assert "no full verification" in settled_run.is_refused("0003a_user_events")


# What changed after the verification


def test_a_link_changed_after_the_verification_keeps_the_gate_shut(proved_run: Operator) -> None:
    link_elsewhere(proved_run, some(proved_run, 1))
    assert "links of user_events: a row with an address came" in proved_run.is_refused("0003a_user_events")


def test_a_link_of_an_odd_spelling_changed_after_the_verification_is_noticed_too(
    proved_run: Operator,
) -> None:
    url = proved_run.url
    ((key,),) = query(
        url,
        f"""select e.id::text from user_events e join ip_addresses i on i.id = e.ip_address_id
             where e.{RAW} <> host(i.ip_address) and e.{RAW} like '%%/32' limit 1""",
    )
    link_elsewhere(proved_run, [key])
    assert "links of user_events" in proved_run.is_refused("0003a_user_events")


@pytest.mark.parametrize("linked_to", ["192.0.2.69", "another spelling"])
def test_a_text_changed_after_the_verification_is_noticed_though_its_link_is_not(
    proved_run: Operator, linked_to: str
) -> None:
    url = proved_run.url
    which = "= '192.0.2.69'" if linked_to == "192.0.2.69" else "<> '192.0.2.69'"
    query(
        url,
        f"""update user_events set {RAW} = '9.9.9.9' where id = (
              select e.id from user_events e join ip_addresses i on i.id = e.ip_address_id
               where e.{RAW} <> host(i.ip_address) and host(i.ip_address) {which} limit 1)""",
    )
    assert "links of user_events" in proved_run.is_refused("0003a_user_events")


def test_rows_that_go_after_the_verification_are_in_nobodys_way(proved_run: Operator) -> None:
    proved_run.migrates("0003b_team_events")
    url = proved_run.url
    query(url, f"delete from user_events where id in {PLAIN.replace('%s', '5')}")
    query(
        url,
        f"insert into user_events (source_id, tag) select source_id, 'new' from user_events, generate_series(1, 1100) limit 1100; update user_events set time = now() where tag = 'new' and {RAW} is null",
    )
    proved_run.migrates("0004_user_events")


def test_a_row_inserted_under_the_guard_keeps_the_drop_from_happening(proved_run: Operator) -> None:
    proved_run.migrates("0003b_team_events")
    url = proved_run.url
    query(
        url,
        f"""insert into user_events (source_id, tag, {RAW}, ip_address_id)
            select source_id, 'late', {RAW}, ip_address_id from user_events where id in {PLAIN.replace("%s", "1")}""",
    )
    assert "writes to user_events.ip_address_string: it changed" in proved_run.is_refused()
    assert query(url, f"select count({RAW}) > 0 from user_events") == [(True,)]


# Tables that are not what the plan says


def test_a_renamed_table_is_named(proved_run: Operator) -> None:
    query(proved_run.url, "alter table user_events rename to renamed")
    assert "Table user_events does not exist" in proved_run.is_refused("0003a_user_events")
    said = proved_run.types("verify", expect=2)
    assert "Table user_events does not exist" in said.err
    assert "Table user_events does not exist" in proved_run.types("gates", expect=2).err


@pytest.mark.parametrize(("table", "column"), [("user_events", RAW), ("journals", "submitted_from")])
def test_a_renamed_column_is_not_one_that_is_gone(proved_run: Operator, table: str, column: str) -> None:
    query(proved_run.url, f"alter table {table} rename {column} to kept")
    told = f"{table}.{column} was not dropped: it stands as public.{table}.kept"
    assert told in proved_run.is_refused()
    for command in ("verify", "gates"):
        assert told in proved_run.types(command, expect=2).err
    if table == "user_events":
        assert "no-column" in proved_run.types("plan", expect=2).out


def test_a_table_without_the_column_put_in_its_place_is_no_drop(proved_run: Operator) -> None:
    for statement in (
        "alter table user_events rename to archive",
        "create table public.user_events (like archive including all)",
        "insert into user_events select * from archive",
        f"alter table user_events drop {RAW}",
        "alter table user_events add foreign key (ip_address_id) references ip_addresses",
    ):
        query(proved_run.url, statement)
    told = f"it stands as public.archive.{RAW}"
    assert told in proved_run.is_refused()
    assert told in proved_run.types("verify", expect=2).err


def test_plan_does_not_call_a_table_done_that_is_not_there(proved_run: Operator) -> None:
    query(proved_run.url, "alter table user_events rename to renamed")
    assert "no-table" in proved_run.types("plan", expect=2).out


def test_verify_without_a_column_and_without_a_proof_does_not_name_itself(fresh_demo: Operator) -> None:
    query(fresh_demo.url, f"alter table user_events rename {RAW} to kept")
    assert "and no proof of it is on record. Check the plan." in fresh_demo.types("verify", expect=2).err


@pytest.mark.parametrize(
    ("made", "what"),
    [
        ("create view public.odd as select * from user_events", "a view"),
        ("create materialized view public.odd as select * from user_events", "a materialized view"),
        (
            "create table public.odd (like user_events) partition by hash (id)",
            "a partitioned table",
        ),
        (
            "create foreign data wrapper w; create server s foreign data wrapper w;"
            " create foreign table public.odd (id uuid, ip_address_string text) server s",
            "a foreign table",
        ),
    ],
)
def test_a_plan_that_names_something_else_than_a_table_is_told_so(
    proved_run: Operator, tmp_path: Path, made: str, what: str
) -> None:
    query(proved_run.url, made)
    plan = tmp_path / "plan.toml"
    plan.write_text('name = "odd"\n[addresses]\ntable = "ip_addresses"\n[[jobs]]\ntable = "odd"\n')
    for words in (["run"], ["verify"], ["gates"]):
        said = proved_run.having(plan=str(plan)).types(*words, expect=2)
        assert f"odd is {what}, which is not supported" in said.err


# Offline


def psql(operator: Operator, script: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [Binaries.find().folder / "psql", "--no-psqlrc", "--quiet", dsn(operator.url)],
        input=script,
        text=True,
        capture_output=True,
        check=False,
    )


def script_of(operator: Operator, span: str) -> str:
    said = operator.having(restore_point="before", observe="0").really_types(
        "upgrade", span, "--sql", tool="alembic"
    )
    assert said.code == 0, said.err
    return said.out


def test_a_pasted_script_carries_its_gates_and_stops_at_the_first_refusal(proved_run: Operator) -> None:
    url = proved_run.url
    proved_run.migrates("0002_journals")
    script = script_of(proved_run, "0002_journals:0004_team_events")
    link_elsewhere(proved_run, some(proved_run, 1))
    done = psql(proved_run, script)
    assert done.returncode == 3
    assert "backfill refuses: guard user_events: links of user_events" in done.stderr
    assert query(url, "select version_num from backfill.alembic_version") == [("0002_journals",)]
    assert query(url, f"select count({RAW}) > 0 from team_events") == [(True,)]
    proved_run.types("repair", "user_events", "--kind", "link", "--count", 1)
    proved_run.types("verify")
    done = psql(proved_run, script)
    assert done.returncode == 0, done.stderr
    assert query(url, "select version_num from backfill.alembic_version") == [("0004_team_events",)]


def another_hash(operator: Operator, keys: list[str]) -> None:
    query(
        operator.url,
        """update ip_addresses set hashed_ip_address = encode(sha256(convert_to(host(ip_address) || 'another salt', 'UTF8')), 'hex')
            where id in (select ip_address_id from user_events where id::text = any(%s))""",
        keys,
    )


def no_hash(operator: Operator, keys: list[str]) -> None:
    query(
        operator.url,
        "update ip_addresses set hashed_ip_address = null where id in (select ip_address_id from user_events where id::text = any(%s))",
        keys,
    )


def no_address(operator: Operator, keys: list[str]) -> None:
    query(
        operator.url,
        f"update user_events set {RAW} = 'nobody knows', ip_address_id = null where id::text = any(%s)",
        keys,
    )


def a_live_writer(operator: Operator, keys: list[str]) -> None:
    query(
        operator.url,
        f"""insert into user_events (source_id, tag, {RAW}, ip_address_id, additional, time)
            select source_id, 'live', {RAW}, ip_address_id, additional, now() + '1 hour' from user_events
             where id::text = any(%s)""",
        keys,
    )


DAMAGES = {
    unlink: "`backfill run`",
    link_elsewhere: "rows are linked to another address",
    link_to_the_sentinel: "rows with an address are linked to the sentinel",
    take_the_geo_away: "rows lack the geo that their address has",
    another_hash: "rows are linked to an address with a wrong hash",
    no_hash: "rows are linked to an address without a hash",
    no_address: "rows hold a text that is no address",
}


LATER = {link_elsewhere, no_hash, take_the_geo_away}


@pytest.mark.parametrize(
    "damage", [pytest.param(one, marks=pytest.mark.slow if one in LATER else ()) for one in DAMAGES]
)
def test_a_pasted_script_refuses_what_a_verification_found(
    proved_run: Operator, damage: Callable[[Operator, list[str]], None]
) -> None:
    """The script was written while all was well; what it is run on is another matter."""
    proved_run.migrates("0002_journals")
    script = script_of(proved_run, "0002_journals:0004_team_events")
    damage(proved_run, some(proved_run, 3))
    proved_run.types("verify", expect=1)
    done = psql(proved_run, script)
    assert done.returncode == 3
    assert (
        "backfill refuses: guard user_events: proof of user_events: the last verification says" in done.stderr
    )
    assert DAMAGES[damage] in done.stderr
    assert "HINT:" in done.stderr
    assert query(proved_run.url, "select version_num from backfill.alembic_version") == [("0002_journals",)]
    for name in ("user_events", "team_events"):
        assert query(proved_run.url, f"select count({RAW}) > 0 from {name}") == [(True,)]


@pytest.mark.parametrize(
    ("damage", "at"),
    [
        pytest.param(damage, at, marks=pytest.mark.slow if later else ())
        for at, quick in (("0002_journals", 1), ("0003b_team_events", 5))
        for number, damage in enumerate(
            [a_live_writer, unlink, link_elsewhere, link_to_the_sentinel, no_address]
        )
        for later in [number >= quick]
    ],
)
def test_a_pasted_script_refuses_what_happened_after_the_verification(
    proved_run: Operator, damage: Callable[[Operator, list[str]], None], at: str
) -> None:
    proved_run.migrates(at)
    script = script_of(proved_run, f"{at}:0004_team_events")
    if at != "0002_journals":  # as somebody does who knows how to switch the guard off
        query(proved_run.url, f"alter table user_events disable trigger {guard('user_events')}")
        query(proved_run.url, f"alter table user_events drop constraint {constraint('user_events')}")
    damage(proved_run, some(proved_run, 3))
    if at != "0002_journals":
        query(proved_run.url, f"alter table user_events enable always trigger {guard('user_events')}")
    done = psql(proved_run, script)
    assert done.returncode == 3
    assert "backfill refuses: " in done.stderr
    said = "writes to user_events" if damage is a_live_writer else "links of user_events"
    assert said in done.stderr
    assert query(proved_run.url, "select version_num from backfill.alembic_version") == [(at,)]
    assert query(proved_run.url, f"select count({RAW}) > 0 from user_events") == [(True,)]


def test_a_pasted_script_refuses_an_edited_record(proved_run: Operator) -> None:
    proved_run.migrates("0002_journals")
    script = script_of(proved_run, "0002_journals:0004_team_events")
    unlink(proved_run, some(proved_run, 1))
    verified(proved_run)
    query(proved_run.url, "update backfill.coverage set covered = true, reasons = '[]'")
    done = psql(proved_run, script)
    assert done.returncode == 3
    assert "the record was changed after it was entered" in done.stderr


# Patience


def test_a_busy_table_is_waited_for_and_the_session_in_the_way_is_named(proved_run: Operator) -> None:
    proved_run.migrates("0001_expand")
    busy, found = threading.Event(), threading.Event()
    pids: list[int] = []

    def hold() -> None:
        with closing(connect(proved_run.url, autocommit=False)) as connection, connection.cursor() as cursor:
            cursor.execute("set application_name = 'a slow report'")
            cursor.execute("select pg_backend_pid(), count(*) from journals group by 1")
            pids.append(cursor.fetchone()[0])
            busy.set()
            found.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    busy.wait(60)
    impatient = proved_run.having(lock_timeout_ms="50", restore_point="before")
    upgrade = impatient.starts("upgrade", "0002_journals", tool="alembic")
    assert upgrade.stdout
    line = upgrade.stdout.readline()
    assert f"journals is busy; trying again (1 of 20). In the way: session {pids[0]} (a slow report" in line
    assert "idle in transaction" in line
    found.set()
    holder.join()
    out, err = upgrade.communicate(timeout=120)
    assert upgrade.returncode == 0, out + err


# The seal


def test_a_seal_on_journals_discards_counts_and_fires_nothing_else(proved_run: Operator) -> None:
    url = proved_run.url
    serials = query(url, "select id, last_serial, xmin::text from projects order by id")
    proved_run.types("seal", "journals")
    assert query(url, "select id, last_serial, xmin::text from projects order by id") == serials
    query(
        url,
        "create role app; grant insert, select on journals to app; grant select, update on projects to app; grant usage on sequence journals_id_seq to app",
    )
    try:
        query(
            url,
            "set role app; insert into journals (name, action, submitted_from) select null, 'new', '198.51.100.9' from generate_series(1, 3); reset role",
        )
    finally:
        query(url, "drop owned by app; drop role app")
    assert query(url, "select count(submitted_from), count(*) from journals where action = 'new'") == [(0, 3)]
    assert "At most 3 raw values" in proved_run.types("unseal", "journals").out
    assert query(url, "select kind, count from backfill.decisions where job = 'public.journals.submitted_from' order by id") == [("seal", 0), ("unseal", 3)]  # fmt: skip
    assert "is not sealed" in proved_run.types("unseal", "journals", expect=2).err
    patient = proved_run.having(observe="864000")  # without the seal it is the writes that count again
    assert "writes to journals.submitted_from" in patient.is_refused("0002_journals")
    query(
        url, "insert into journals (name, action, submitted_from) values (null, 'unsealed', '198.51.100.9')"
    )
    assert query(url, "select count(submitted_from) from journals where action = 'unsealed'") == [(1,)]
    query(url, "insert into journals (name, action) select null, 'gone' from generate_series(1, 1000)")
    (said,) = (
        c
        for stage in gates(patient)
        for c in stage["conditions"]
        if c["name"] == "writes to journals.submitted_from"
    )
    assert said["holds"]
    assert said["evidence"].startswith("the newest 1000 rows are without a value;")


def test_a_seal_leaves_old_values_alone_and_goes_with_its_column(proved_run: Operator) -> None:
    url = proved_run.url
    kept = query(url, f"select count({RAW}) from user_events")
    proved_run.types("seal", "user_events")
    assert "was sealed already" in proved_run.types("seal", "user_events").out
    query(url, "update user_events set tag = tag || '!'")
    assert query(url, f"select count({RAW}) from user_events") == kept
    sealed = [c for stage in gates(proved_run) for c in stage["conditions"] if "user_events" in c["name"]]
    assert any(c["evidence"] == "sealed" and c["holds"] for c in sealed)
    proved_run.types("seal", "journals")
    proved_run.having(observe="864000").migrates("0002_journals")
    proved_run.migrates("0004_user_events")
    assert query(url, "select count(*) from pg_trigger where tgname like 'zy_backfill_seal%'") == [(0,)]
    assert query(url, "select count(*) from pg_proc where pronamespace = 'backfill'::regnamespace and proname like 'seal%'") == [(0,)]  # fmt: skip
    query(url, "insert into user_events (source_id, tag) select source_id, 'after' from user_events limit 1")
    query(url, "insert into journals (name, action) values (null, 'after')")


def test_what_cannot_be_sealed_is_said(proved_run: Operator) -> None:
    assert "No job is called nothing" in proved_run.types("seal", "nothing", expect=2).err


# What shows them


def gates(operator: Operator) -> list[dict]:
    return json.loads(operator.types("gates", "--format", "json", expect=None).out)["gates"]


def test_gates_shows_every_change_and_touches_nothing(proved_run: Operator) -> None:
    before = query(proved_run.url, "select count(*), max(id) from backfill.coverage")
    stages = gates(proved_run)
    assert len(stages) == 1 + 5 + 5 + 5 + 3
    by_change = {stage["change"]: stage for stage in stages}
    assert by_change["guard user_events"]["state"] == "later"
    drop = by_change["drop user_events.ip_address_string"]
    assert (drop["state"], drop["revision"]) == ("blocked", "0004_user_events")
    holding = {c["name"]: c["holds"] for c in drop["conditions"]}
    assert holding["proof of user_events"]
    assert holding["links of user_events"]
    assert not holding["guard of user_events"]
    assert not holding["restore point"]
    assert [c["name"] for c in drop["conditions"] if c["by_chain"]] == [
        "guard of user_events",
        "constraint of user_events",
    ]
    text = proved_run.types("gates", expect=1).out
    assert text.startswith("Blocked: drop journals.submitted_from. To fix it: make a backup")
    assert "+ proof of user_events: covered" in text
    assert query(proved_run.url, "select count(*), max(id) from backfill.coverage") == before
    assert query(proved_run.url, "select version_num from backfill.alembic_version") == [("0001_expand",)]


def test_where_everything_is_ready_one_step_is_next_and_all_others_are_later(proved_run: Operator) -> None:
    text = proved_run.types("gates", "--restore-point", "last night's").out
    assert text.startswith(
        """Next: `backfill migrate 0002_journals --restore-point 'last night'"'"'s'` (drop journals.submitted_from)."""
    )
    assert "+ restore point: named last night's" in text
    assert "- guard of user_events: comes with an earlier step" in text
    assert "opens" not in text
    assert "downgrade" not in text
    named = proved_run.having(restore_point="nightly")
    assert [stage["state"] for stage in gates(named)] == ["next"] + 18 * ["later"]
    for count, (revision, following) in enumerate(pairwise(STEPS), 1):
        named.migrates(revision)
        if revision == "0004_team_events":
            named.types("verify")
        assert [stage["state"] for stage in gates(named)] == count * ["done"] + ["next"] + (18 - count) * [
            "later"
        ]
        assert named.types("gates").out.startswith(f"Next: `backfill migrate {following}` (")
    named.migrates()
    assert {stage["state"] for stage in gates(named)} == {"done"}
    assert named.types("gates").out.startswith("Everything is done. Next: `backfill erase`")


TABLES = ("user_events", "project_events", "file_events", "organization_events", "team_events")
STEPS = (
    "0002_journals",
    *(f"{part}_{table}" for part in ("0003a", "0003b", "0004") for table in TABLES),
    "0005a_ip_address_optional",
    "0005c_hash_required",
    "0005d_drop_ip_address",
)


def test_only_what_was_upgraded_and_lost_asks_for_a_downgrade(proved_run: Operator) -> None:
    named = proved_run.having(restore_point="nightly")
    named.migrates("0003b_team_events")
    query(named.url, f"drop trigger {guard('team_events')} on team_events")
    text = named.types("gates", expect=1).out
    assert "blocked guard team_events" in text
    assert "- the chain has passed this step, and what it made is gone" in text
    assert (
        "- `backfill migrate 0003a_organization_events --down`, then `backfill migrate 0003a_team_events`"
        in text
    )
    assert text.startswith(
        "Blocked: guard team_events. To fix it: `backfill migrate 0003a_organization_events --down`"
    )


def test_the_checklist_puts_each_deploy_before_its_revision(proved_run: Operator) -> None:
    steps = json.loads(proved_run.types("gates", "--checklist", "--format", "json").out)["steps"]
    said = [step["what"] for step in steps]
    places = [
        next(place for place, what in enumerate(said) if text in what)
        for text in (
            "nothing reads or writes journals.submitted_from",
            "migrate 0002_journals",
            "nothing writes user_events.ip_address_string",
            "migrate 0003a_team_events",
            "the models have no ip_address_string",
            "migrate 0004_team_events",
            "migrate 0005a_ip_address_optional",
            "is upserted by hashed_ip_address",
            "migrate 0005d_drop_ip_address",
        )
    ]
    assert places == sorted(places)
    assert {step["who"] for step in steps} == {"application", "operator"}
