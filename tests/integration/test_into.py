"""Hashes that go into another column: from the first run to the proof that the raw column is gone."""

import json
from pathlib import Path

import psycopg2.errors
import pytest
from alembic.util import CommandError
from jsonschema import Draft202012Validator

from backfill.database.guard_trigger import guard_trigger
from backfill.plan import Discard
from tests import rewritten
from tests.databases import query
from tests.integration.test_other_chain import ENV, upgrade
from tests.operator import ROOT, Operator
from tests.rewritten import SPELT, TEXTS, UNREADABLE

ALL = (*TEXTS, *SPELT, *UNREADABLE)
JOB = {"table": "logins", "raw": "ip", "becomes": "hash", "into": "hashed_ip"}
TABLE = """
    create table logins (id bigint generated always as identity primary key, ip {type}, hashed_ip text,
                         created timestamptz not null default now() - interval '1 day', note text default 'kept');
    insert into logins (ip) select unnest(%s::text[])::{type};
    insert into logins (ip, hashed_ip) values (null, null), (null, repeat('a', 64));
"""


def hashing(
    url: str, home: Path, folder: Path, type_: str = "text", texts: tuple[str, ...] = TEXTS, **keys: object
) -> Operator:
    """An operator whose table has those texts, twice, and no hash yet."""
    query(url, TABLE.format(type=type_), list(texts) * 2)
    return rewritten.operator(url, home, rewritten.plan_file(folder, {**JOB, "time": "created", **keys}))


CHECKED = """
    create table {name} (id bigint generated always as identity primary key, ip inet, hashed_ip {type});
    insert into {name} (ip) select unnest(%s::text[])::inet;
"""


def rows(url: str) -> list[tuple[int, str | None, str | None]]:
    """Key, raw text as the application reads it, hash."""
    return query(
        url, "select id, case when ip is null then null else concat(ip) end, hashed_ip from logins order by 1"
    )


def own(url: str, *keys: int) -> None:
    """The application writes the hashes of these rows itself."""
    for key, text, _ in rows(url):
        if key in keys:
            query(url, "update logins set hashed_ip = %s where id = %s", rewritten.hashed(str(text)), key)


def counted(operator: Operator, expect: int = 0) -> dict[str, int]:
    """What ``verify`` counts of the one job, without zeros."""
    (found,) = json.loads(operator.types("verify", "--format", "json", expect=expect).out)["tables"]
    return {name: number for name, number in found["counts"].items() if number}


@pytest.mark.parametrize("type_", ["text", "visitor"])
def test_each_row_gets_the_hash_of_its_text_and_no_hash_that_stands_there_is_touched(
    database: str, home: Path, tmp_path: Path, type_: str
) -> None:
    texts = (*TEXTS, "10.0.0.0/8") if type_ == "visitor" else ALL
    query(database, "create domain caller as inet; create domain visitor as caller")
    operator = hashing(database, home, tmp_path, type_, texts)
    query(database, "update logins set hashed_ip = repeat('0', 64) where id = 1")
    before = rows(database)
    operator.types("plan")
    said = operator.types("run", "--quiet", expect=2)
    assert "explains 0 of 1 hashes that stand in logins.hashed_ip already" in said.err
    assert rows(database) == before
    operator.types("run", "--quiet", "--accept-mismatches", 1)
    for (key, text, was), (_, same, now) in zip(before, rows(database), strict=True):
        assert same == text
        readable = text is not None and rewritten.canonical(text) is not None
        assert now == (was if key == 1 or not readable else rewritten.hashed(str(text)))
    counts = counted(operator, expect=1)
    waiting = 2 * sum(rewritten.canonical(text) is None for text in texts)
    assert counts == {
        "rows": len(before),
        "raw": len(before) - 2,
        "no_address": 2,
        "right": len(before) - 3 - waiting,
        "hash_wrong": 1,
        "quarantined": waiting,
        "hashed_without_text": 1,
    }


def test_what_the_application_writes_meanwhile_is_swept_left_or_found_wrong(
    database: str, home: Path, tmp_path: Path
) -> None:
    operator = hashing(database, home, tmp_path)
    own(database, 8, 9)
    hashed_itself = rewritten.hashed("203.0.113.2")
    live = [
        "insert into logins (ip) values ('203.0.113.1')",  # without a hash: a sweep finds it
        f"insert into logins (ip, hashed_ip) values ('203.0.113.2', '{hashed_itself}')",
        "insert into logins (ip) values ('nobody'), (null)",
        "update logins set ip = '203.0.113.3' where id = 1",  # before its hash, or after it
    ]

    def meanwhile(phase: object) -> None:
        if live and "link" in str(phase):
            query(database, ";".join(live))
            live.clear()

    operator.hooked(before_phase=meanwhile).types("run", "--quiet")
    assert not live
    found = {text: hashed for _, text, hashed in rows(database)}
    assert found["203.0.113.1"] == rewritten.hashed("203.0.113.1")
    assert found["203.0.113.2"] == hashed_itself
    assert found["nobody"] is None
    assert found["203.0.113.3"] == rewritten.hashed("203.0.113.3")
    query(database, "update logins set ip = '203.0.113.4' where id in (2, 3)")  # a text beside another's hash
    operator.types("run", "--quiet")
    assert {hashed for _, text, hashed in rows(database) if text == "203.0.113.4"} != {
        rewritten.hashed("203.0.113.4")
    }
    (record,) = json.loads(operator.types("verify", "--format", "json", expect=1).out)["tables"]
    assert record["counts"]["hash_wrong"] == 2
    assert record["wrong_keys"] == ["2", "3"]
    assert operator.types("repair", "--format", "json").out.count("logins") >= 1
    operator.types("repair", "--all-tables", "--kind", "hash", "--count", 2)
    assert query(database, "select kind, count from backfill.decisions where kind = 'repair'") == [
        ("repair", 2)
    ]
    assert counted(operator, expect=1)["quarantined"] == 1
    query(database, "update logins set hashed_ip = repeat('e', 64) where ip = 'nobody'")  # its own idea of it
    assert counted(operator)["own_hash_kept"] == 1
    assert "of the application's own" in operator.types("verify").out


def test_a_trigger_that_undoes_is_named_and_nothing_is_called_written(
    database: str, home: Path, tmp_path: Path
) -> None:
    operator = hashing(database, home, tmp_path)
    before = rows(database)
    undo = """
        create or replace function undo() returns trigger language plpgsql as $$ begin {} end $$;
        create or replace trigger undo before update on logins for each row execute function undo()
    """
    for body, says in (
        ("new.hashed_ip := null; return new;", "do not hold what was written"),
        ("new.hashed_ip := upper(new.hashed_ip); return new;", "do not hold what was written"),
        ("return null;", "may have kept"),
    ):
        query(database, undo.format(body))
        said = operator.types("run", "--quiet", "--accept", "before-trigger:public.logins.undo", expect=None)
        assert says in said.out + said.err
        assert rows(database) == before
    assert counted(operator, expect=1)["hash_missing"] == 2 * len(TEXTS)


def test_what_stands_beside_it_in_a_plan_and_what_does_not_know_it(
    database: str, home: Path, tmp_path: Path
) -> None:
    query(database, TABLE.format(type="text"), list(UNREADABLE))
    rewritten.table(database, "seen", "text", TEXTS)
    plan = rewritten.plan_file(
        tmp_path, JOB, {"table": "seen", "raw": "ip", "becomes": "network", "unreadable": "keep"}
    )
    operator = rewritten.operator(database, home, plan)
    rewritten.run(operator, "--quiet")
    operator.types("verify", expect=1)
    said = operator.types("run", "--strategy", "shadow", "logins", expect=2).err
    assert "The values of logins become hashes in hashed_ip, not links" in said
    assert "its unreadable" not in said
    assert "logins" in operator.types("run", "--due", "logins", expect=2).err
    assert "no address table" in operator.types("calibrate", expect=2).err
    assert "guard_links" in operator.types("gates", "--checklist").out
    assert "logins.hashed_ip" not in operator.types("scan", "--format", "json", expect=None).out
    operator.types("seal", "logins")
    log_in(database, "203.0.113.1", None)
    assert "203.0.113.1" not in {text for _, text, _ in rows(database)}
    # Under another plan, the seal would discard what is rewritten in place.
    in_place = {"table": "logins", "raw": "ip", "becomes": "pseudonym", "unreadable": "keep"}
    (tmp_path / "later").mkdir()
    later = rewritten.operator(database, home, rewritten.plan_file(tmp_path / "later", in_place))
    for command in ("plan", "run"):
        said = later.types(command, expect=2)
        assert command != "plan" or "left-behind-trigger: " in said.out
        assert "discards every value that is written" in said.out + said.err
        assert "backfill unseal logins" in said.out + said.err
    before = rows(database)
    later.types("unseal", "logins")
    assert rows(database) == before
    assert "discards every value" not in later.types("plan", expect=None).out
    guard = guard_trigger(Discard(table="logins", column="ip"))
    query(
        database,
        f"""create function unchanged() returns trigger language plpgsql as 'begin return new; end';
            create trigger "{guard}" before update on logins for each row execute function unchanged()""",
    )
    assert "refuses every raw value without a link or hash" in later.types("plan", expect=2).out
    query(database, "drop function unchanged() cascade")
    # NOT NULL: what cannot be discarded says what would help.
    query(database, "delete from logins where ip is null; alter table logins alter ip set not null")
    settle = ("quarantine", "settle", "logins", "--as", "discard", "--count", len(UNREADABLE))
    said = operator.types(*settle, expect=2).err
    assert "logins.ip cannot be NULL: it is NOT NULL" in said
    assert "alter column ip drop not null" in said
    assert "sentinel" not in said


REVISIONS = {
    "guard": ("f00000000001", None, "guard_links('logins')", "unguard_links('logins')"),
    "validate": ("f00000000002", "f00000000001", "validate_links('logins')", "unvalidate_links('logins')"),
    "drop": ("f00000000003", "f00000000002", "drop_column('logins', 'ip')", "restore_raw_column('logins', 'text')"),
}  # fmt: skip


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """The application's own alembic folder, with our three steps in it."""
    versions = tmp_path / "migrations" / "versions"
    versions.mkdir(parents=True)
    (versions.parent / "env.py").write_text(ENV)
    (versions.parent / "script.py.mako").write_text("")
    for name, (revision, before, up, down) in REVISIONS.items():
        (versions / f"{name}.py").write_text(
            f"from backfill.gates import *\nrevision, down_revision = {revision!r}, {before!r}\n"
            f"def upgrade(): {up}\ndef downgrade(): {down}\n"
        )
    return versions.parent


def refused(operator: Operator, chain: Path, to: str) -> str:
    """What the gate of that revision says."""
    with pytest.raises(CommandError) as refusal:
        upgrade(operator, chain, to)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def log_in(url: str, ip: str | None, hashed: str | None) -> None:
    """What the live application does."""
    query(url, "insert into logins (ip, hashed_ip, created) values (%s, %s, now())", ip, hashed)


def test_guard_and_check_are_known_again_whatever_type_holds_the_hashes(
    database: str, home: Path, tmp_path: Path, chain: Path
) -> None:
    types = {"a": "varchar(80)", "b": "char(64)", "c": "citext", "d": "hash64"}
    query(database, "create domain hash64 as varchar(64); create extension citext")
    before, number = None, 0
    for revision in (chain / "versions").iterdir():
        revision.unlink()
    for name, type_ in types.items():
        query(database, CHECKED.format(name=name, type=type_), list(TEXTS))
        for step in (f"guard_links('{name}')", f"validate_links('{name}')", f"drop_column('{name}', 'ip')"):
            number += 1
            (chain / "versions" / f"r{number}.py").write_text(
                f"from backfill.gates import *\nrevision, down_revision = 'r{number}', {before!r}\n"
                f"def upgrade(): {step}\ndef downgrade(): pass\n"
            )
            before = f"r{number}"
    plan = rewritten.plan_file(tmp_path, *({**JOB, "table": name} for name in types))
    operator = rewritten.operator(database, home, plan).having(observe="0", restore_point="monday")
    operator.types("run", "--quiet")
    operator.types("verify")
    upgrade(operator, chain, "head")
    columns = "select count(*) from information_schema.columns where column_name = "
    assert query(database, f"{columns} 'ip'") == [(0,)]
    assert query(database, f"{columns} 'hashed_ip'") == [(len(types),)]


# What a drop has to see, whether the guard does or not, each with what takes it back.
UNSEEN = (
    (
        "set session_replication_role = replica; alter table logins enable trigger user;"
        "update logins set hashed_ip = repeat('2', 64) where id = 14",
        "set session_replication_role = replica; update logins set hashed_ip = {} where id = 14;"
        "alter table logins enable always trigger {}",
    ),
    (
        "create table child () inherits (logins); insert into child (id, ip, hashed_ip) values (1000, '203.0.113.13', repeat('2', 64))",
        "drop table child",
    ),
    (
        """create or replace function later() returns trigger language plpgsql as
               $$ begin new.hashed_ip := repeat('2', 64); return new; end $$;
           create trigger zzz before update on logins for each row execute function later();
           update logins set note = 'seen' where id = 14; drop trigger zzz on logins""",
        "set session_replication_role = replica; alter table logins disable trigger user;"
        "update logins set hashed_ip = {} where id = 14; alter table logins enable always trigger {}",
    ),
)


def test_the_whole_way(database: str, home: Path, tmp_path: Path, chain: Path) -> None:
    operator = hashing(database, home, tmp_path, texts=ALL).having(observe="0", restore_point="monday")
    guard, validate, drop = (revision for revision, *_ in REVISIONS.values())
    assert "ledger" in refused(operator, chain, guard)
    script = upgrade(operator, chain, "head", sql=True)
    assert script.count("hashes of logins") == 2  # before the guard, and before the drop
    own(database, 8, 9)
    operator.types("run", "--quiet")
    before = rows(database)
    # Closed: rows in the quarantine, until they are settled; a hash that is wrong, until it is repaired.
    operator.types("verify", expect=1)
    waiting = 2 * sum(rewritten.canonical(text) is None for text in ALL)
    assert f"quarantine of logins: {waiting} rows wait" in refused(operator, chain, guard)
    said = operator.types("quarantine", "settle", "logins", "--as", "sentinel", "--count", waiting, expect=2)
    assert "no hash stands for none" in said.err
    assert f"--as discard --count {waiting}" in operator.types("quarantine", "list").out
    operator.types("quarantine", "settle", "logins", "--as", "discard", "--count", waiting)
    query(database, "update logins set hashed_ip = repeat('0', 64) where id = 1")
    assert counted(operator, expect=1)["hash_wrong"] == 1
    assert "proof of logins: the last verification says: 1 row has another value in hashed_ip" in refused(
        operator, chain, guard
    )
    said = operator.types("repair", "logins", "--kind", "link", "--count", 1, expect=2)
    assert "hash is for logins" in said.err
    operator.types("repair", "logins", "--kind", "hash", "--count", 1)
    query(
        database, "insert into logins (ip, hashed_ip) values ('nobody', repeat('e', 64))"
    )  # its own idea of it
    log_in(database, "203.0.113.9", None)  # of the old application
    assert counted(operator, expect=1)["hash_missing"] == 1
    assert "1 row has an address and no hash" in refused(operator, chain, guard)
    operator.types("run", "--quiet")
    assert "hash_missing" not in counted(operator)
    assert rows(database)[: len(before)] == [
        (key, text if text is None or rewritten.canonical(text) else None, hashed)
        for key, text, hashed in before
    ]
    # Changed after the proof: neither count nor newest time tells.
    query(database, "update logins set hashed_ip = repeat('0', 64) where id = 1")
    assert "hashes of logins: a row with an address came or went" in refused(operator, chain, guard)
    query(database, "update logins set hashed_ip = %s where id = 1", before[0][2])
    said = operator.types("gates", "--format", "json", expect=None).out
    assert {"change": "guard logins", "state": "next"}.items() <= json.loads(said)["gates"][0].items()
    upgrade(operator, chain, guard)
    # The guard, and an INSERT of the old application: refused without a word about the row.
    for hashed in (None, "203.0.113.10", "A" * 64):
        with pytest.raises(psycopg2.errors.CheckViolation) as refusal:
            log_in(database, "203.0.113.10", hashed)
        assert "may not hold ip without a hash in hashed_ip" in str(refusal.value)
        assert "203.0.113" not in str(refusal.value)
        assert refusal.value.diag.message_detail is None
    for change in ("hashed_ip = repeat('1', 64)", "ip = '203.0.113.11'"):
        with pytest.raises(psycopg2.errors.CheckViolation, match="a proved row of logins may not change"):
            query(database, f"update logins set {change} where id = 1")
    query(
        database,
        "update logins set note = 'changed' where id = 1; insert into logins (hashed_ip) values (null)",
    )
    upgrade(operator, chain, validate)
    log_in(database, "203.0.113.12", "0" * 64)  # let in, and counted: nobody has looked whose hash that is
    assert "rows let in by the guard of logins: 1" in refused(operator, chain, drop)
    assert counted(operator, expect=1)["hash_wrong"] == 1
    operator.types("repair", "logins", "--kind", "hash", "--count", 1)
    proved = counted(operator)
    assert proved["right"] == proved["raw"] - 1
    trigger = query(database, "select tgname from pg_trigger where tgname ~ 'backfill_guard'")[0][0]
    for change, back in UNSEEN:
        query(database, change)
        assert "hashes of logins: a row with an address came or went" in refused(operator, chain, drop), (
            change
        )
        query(database, back.format(f"'{before[13][2]}'", trigger))
        assert json.loads(operator.types("gates", "--format", "json").out)["gates"][2]["state"] == "next", (
            back
        )
    query(database, "delete from logins where id = 13")
    assert "hashes of logins: a row with an address came or went" in refused(operator, chain, drop)
    counted(operator)
    upgrade(operator, chain, drop)
    # Gone: only the form of a hash is left to read.
    assert query(database, "select count(*) from pg_trigger where tgname ~ 'backfill'") == [(0,)]
    after = counted(operator)
    assert after["hash_of_right_form"] == proved["raw"] + 1 - 1
    assert after["own_hash_kept"] == 1
    own_text = "except 1 text that is no address, with a hash of the application's own"
    assert own_text in operator.types("verify").out
    said = operator.types("report", "--format", "json").out
    assert f"after a proof that in logins every address had its own hash beside it, {own_text}" in said
    assert "linked to the right address" not in said
    assert "203.0.113" not in said
    assert json.loads(said)["tables"][0]["kind"] == "into"
    Draft202012Validator(json.loads((ROOT / "docs" / "report.schema.json").read_text())).validate(
        json.loads(said)
    )
    operator.types("gates")
    operator.types("status", expect=None)
    proof = json.loads(operator.types("prove", "--format", "json", expect=1).out)
    assert ("logins.ip", "gone") in {(one["where"], one["state"]) for one in proof["findings"]}
    # By the hashes that stand in the column, which are all that is known of the addresses.
    assert any("copies of addresses of this database" in one["what"] for one in proof["findings"])
    operator.types("erase")
    proof = json.loads(operator.types("prove", "--depth", "pages", "--format", "json").out)
    assert proof["verdict"].startswith("Gone: ")
    assert "logins.ip is gone, and was covered: done." in operator.types("run").out


def test_what_a_refused_repair_says_can_be_done_under_the_guard(
    database: str, home: Path, tmp_path: Path, chain: Path
) -> None:
    operator = hashing(database, home, tmp_path, texts=("8.8.8.8",)).having(observe="0")
    operator.types("run", "--quiet", "--no-sample")
    operator.types("verify")
    guard, *_ = (revision for revision, *_ in REVISIONS.values())
    upgrade(operator, chain, guard)
    log_in(database, "203.0.113.7", "0" * 64)
    said = operator.types("repair", "logins", "--kind", "hash", expect=2).err
    assert (
        "take back the revision with guard_links by `alembic downgrade`; upgrade again after `backfill verify`"
        in said
    )
    forget = "update logins set hashed_ip = null where hashed_ip = repeat('0', 64)"
    with pytest.raises(psycopg2.errors.CheckViolation):
        query(database, forget)
    upgrade(operator, chain, "base", down=True)
    query(database, forget)
    operator.types("run", "--quiet", "--no-sample")
    operator.types("verify")
    upgrade(operator, chain, guard)
