"""What status, gates, report and metrics say of raw values that are older than their job allows, and of texts that a plan keeps."""

import json
import re
from pathlib import Path

import pytest
from alembic.util import CommandError
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families

from backfill.report.metrics import AGES
from backfill.verify.values import may_hold_address
from tests import rewritten
from tests.databases import query
from tests.integration.test_other_chain import ENV, upgrade
from tests.operator import ROOT, Operator
from tests.several import chain_of, job, plan_of, several

LOGINS = """
    create table logins (id bigint generated always as identity primary key, ip text, created timestamptz, raw text, value text);
    create index on logins (created);
    insert into logins (ip, created)
    select '81.2.' || n % 7 || '.' || n, now() - make_interval(days => n, hours => 1) from generate_series(0, 50) as n;
    insert into logins (ip, created) values ('81.2.3.3', null), ('81.2.3.4', now() + interval '3 days'), (null, now()),
        (' 81.2.9.0 ', now() - interval '40 days'), ('unknown', now() - interval '40 days'), ('', now() - interval '41 days'),
        ('1.2.3.4, 10.0.0.1', now() - interval '42 days'), ('2.2.2.2, 10.0.0.1', now() - interval '1 day');
"""
JOB = """
[[jobs]]
table = "logins"
raw = "ip"
becomes = "network"
unreadable = "keep"
time = "created"
after = "28 days"
"""
KEPT = {"unknown": 1, "empty": 1, "forwarded-list": 1}  # what a run has come upon: those that were due


@pytest.fixture
def mixed(database: str, home: Path, tmp_path: Path) -> Operator:
    """A plan with a job that links, and one that has an age: run, and verified."""
    made = several(database, home, tmp_path, job("users"))
    query(database, LOGINS)
    plan = Path(made.variables["BACKFILL_PLAN"])
    accepted = plan.read_text().replace("accept = [", 'accept = ["times-ahead:public.logins.created", ', 1)
    plan.write_text(accepted + JOB)
    rewritten.run(made, "--quiet")
    made.types("verify")
    return made.having(observe="0")


def stages(operator: Operator, *words: str) -> dict[str, str]:
    found = json.loads(operator.types("gates", "--format", "json", *words).out)["gates"]
    return {stage["change"]: stage["state"] for stage in found}


def gauges(file: Path) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(file.read_text()):
        found.update({sample.name: sample.value for sample in family.samples})
        assert all(sample.labels == {"job": "logins"} for sample in family.samples)
    return found


AGE = "no raw value of logins.ip older than 28 days"


def test_one_age_in_status_metrics_gates_and_report(mixed: Operator, tmp_path: Path) -> None:
    url, file = mixed.url, tmp_path / "late.prom"
    # Texts that the plan keeps wait for nobody, and have a name of their own.
    shown = json.loads(mixed.types("status", "--format", "json").out)
    assert (shown["quarantine"], shown["kept_unreadable"]) == ({}, {"logins": KEPT})
    assert shown["next"] == ["backfill verify"]
    assert "3 rows keep a text that is no address, as the plan wants." in mixed.types("status").out
    listed = json.loads(mixed.types("quarantine", "list", "--format", "json").out)
    assert (listed["rows"], sorted(row["reason"] for row in listed["kept"])) == ([], sorted(KEPT))
    assert "logins: 3 rows keep a text" in mixed.types("quarantine", "list").out
    # One of them may hold an address, and is old: late, and no run does anything about it.
    said = mixed.types("status", "--due", "--metrics-file", file, expect=1).out
    assert "No row of logins shows a raw value older than 28 days; 1 raw row has no time" in said
    assert "1 row of logins older than 28 days keeps a text that is no address and may hold one" in said
    assert "run --due" not in said
    (age,) = json.loads(mixed.types("status", "--due", "--format", "json", expect=1).out)["jobs"]
    names = (
        "rows",
        "late_rows",
        "raw_rows",
        "kept_unreadable_rows",
        "late_kept_unreadable_rows",
        "rows_ahead",
    )
    assert [age[name] for name in names] == [59, 0, 29, 4, 1, 1]
    found = gauges(file)
    late = {"backfill_ages_late_rows": 0.0, "backfill_ages_late_kept_unreadable_rows": 1.0}
    assert late.items() <= found.items()
    assert set(AGES) - set(found) == {"backfill_ages_erased_timestamp_seconds"}
    assert found["backfill_ages_limit_seconds"] == 28 * 86400
    # Late as it is, a gate of another column is neither blocked by it nor opened.
    assert stages(mixed) | {AGE: "blocked", "guard users": "next"} == stages(mixed)
    assert 'set unreadable = "nothing" in the plan' in mixed.types("gates").out
    query(url, "update logins set ip = null where ip like '1.2.3.4,%'")
    assert mixed.types("status", "--due").out.rstrip().endswith("Nothing is late.")
    assert stages(mixed)[AGE] == "done"

    query(url, "update logins set created = created - interval '1 day'")
    mixed.types("status", "--due", "--metrics-file", file, "--grace", "25 hours")
    assert gauges(file)["backfill_ages_late_rows"] == 0.0
    mixed.types("status", "--due", "--metrics-file", file, expect=1)
    found = gauges(file)
    assert found["backfill_ages_late_rows"] == 1.0
    ((oldest,),) = query(
        url, "select extract(epoch from min(created)) from logins where ip like '81.2.%%' and ip !~ '[.]0 ?$'"
    )
    assert found["backfill_ages_oldest_raw_timestamp_seconds"] == pytest.approx(float(oldest))
    assert stages(mixed) | {AGE: "blocked", "guard users": "next"} == stages(mixed)
    assert stages(mixed, "--grace", "2 days")["no raw value of logins.ip older than 30 days"] == "done"
    # A row that waits, as one that would be a duplicate does whatever becomes of texts: no run does anything about it.
    query(
        url,
        "insert into backfill.quarantine (job, row_key, key_columns, reason, run_id) values ('public.logins.ip', '7', '{id}', 'duplicate-result', 1)",
    )
    waiting = json.loads(mixed.types("status", "--due", "--format", "json", expect=1).out)
    assert (waiting["jobs"][0]["quarantined_rows"], waiting["next"]) == (
        1,
        ["backfill run --due", "backfill quarantine list"],
    )
    assert "`backfill quarantine list` for the 1 row that waits" in mixed.types("gates").out
    query(url, "delete from backfill.quarantine where reason = 'duplicate-result'")
    # The report: the four forms, one document.
    reports = {}
    for suffix in ("txt", "json", "md", "html"):
        mixed.types("report", "--output", tmp_path / f"report.{suffix}")
        reports[suffix] = re.sub(r"\s+", " ", (tmp_path / f"report.{suffix}").read_text())
        assert "1 row of logins shows a raw value older than 28 days" in reports[suffix]
        assert "A retention that never erases has not erased anything" in reports[suffix]
    document = json.loads(reports["json"])
    schema = json.loads((ROOT / "docs" / "report.schema.json").read_text())
    assert list(Draft202012Validator(schema).iter_errors(document)) == []
    assert document["verdict"].endswith("Late: 1 of 1 job.")
    assert document["next"] == ["backfill run --due"]
    assert (document["ages"]["late"], document["ages"]["jobs"][0]["late_rows"]) == (True, 1)
    assert document["quarantine"][0] == {
        "table": "logins",
        "reason": "empty",
        "waiting": 0,
        "decided": 0,
        "kept": 1,
    }
    mixed.types("report", "--check", tmp_path / "report.json")
    mixed.types("report", "--grace", "1 day", "--output", tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["ages"]["late"] is False

    # What is not late opens nothing either.
    mixed.types("run", "--due", "--quiet")
    query(url, "insert into users (ip) values ('9.9.9.9')")
    mixed.types("verify", expect=1)
    assert stages(mixed) | {AGE: "done", "guard users": "blocked"} == stages(mixed)
    # A column that stays is dropped by no revision, and no other in its place.
    chain = chain_of(plan_of(mixed), tmp_path, ENV, only=())
    (chain / "versions" / "r1.py").write_text(
        "from backfill.gates import drop_column\nrevision = '1'\ndown_revision = None\n"
        "def upgrade(): drop_column('logins', 'ip')\ndef downgrade(): pass\n"
    )
    with pytest.raises(CommandError, match=r"logins\.ip stays: its values are rewritten in place"):
        upgrade(mixed.having(restore_point="before"), chain, "head")
    # What is for links alone says what works instead.
    for command in (
        "quarantine settle logins",
        "repair logins",
        "run --strategy shadow logins",
        "run --abandon logins",
        "cutover logins",
    ):
        assert 'become "network", not links' in (said := mixed.types(*command.split(), expect=2).err), command
        assert "`backfill run logins` does what the plan asks" in said
    # Of a seal, what it would do to an application that goes on writing.
    said = mixed.types("seal", "logins", expect=2).err
    assert "a seal would discard what the application writes on purpose" in said
    assert "`backfill run logins` does what the plan asks" in said
    assert "is not sealed" in mixed.types("unseal", "logins", expect=2).err
    mixed.types("run", "logins", "--quiet")
    # A file that cannot be written is refused before anybody looks.
    refused = mixed.types("status", "--due", "--metrics-file", tmp_path / "no" / "such", expect=2)
    assert "--metrics-file" in refused.err


def test_the_table_of_ages_in_the_documents_is_the_one_in_the_code() -> None:
    text = (ROOT / "docs" / "retention.md").read_text()
    assert dict(re.findall(r"^\| `(backfill_\w+)` \| (.+) \|$", text, re.MULTILINE)) == AGES


@pytest.mark.parametrize(
    ("text", "may"),
    [
        *((text, False) for text in ("", "unknown", "-", "localhost", "(null)", "host:port")),
        *((text, True) for text in ("1.2.3.4, 10.0.0.1", "ip-10-0-0-1", "0x7f000001", "fe::ab, de::f", "x" * 65, None)),
        *((text, True) for text in ("\u0661.\u0662.\u0663.\u0664", "a\x00b", "2130706433", "host4.example")),
    ],
)  # fmt: skip
def test_a_text_that_holds_no_address_has_neither_digit_nor_two_colons(text: str | None, may: bool) -> None:
    assert may_hold_address(text) is may


INTO = """
[[jobs]]
table = "visits"
raw = "ip"
becomes = "hash"
into = "hashed"
"""


def test_what_becomes_no_link_goes_on_where_the_address_column_of_its_plan_is_gone(
    mixed: Operator, tmp_path: Path
) -> None:
    url = mixed.url
    query(url, "create table public.visits (id bigint primary key, ip inet, hashed text)")
    plan = Path(mixed.variables["BACKFILL_PLAN"])
    plan.write_text(plan.read_text() + INTO)
    mixed.types("run", "users", "visits", "--quiet")
    mixed.types("verify")
    query(url, "alter table users drop column ip")
    # Said before the addresses go: what is left to do.
    said = json.loads(mixed.types("gates", "--format", "json", expect=None).out)["gates"]
    (last,) = (stage for stage in said if stage["change"] == "drop addresses.ip_address")
    told = {one["name"]: one["evidence"] for one in last["conditions"] if not one["holds"]}
    assert told["raw columns of the event tables"] == "1 of them are still there"
    query(url, "insert into visits values (1, '203.0.113.1', null)")
    query(url, "update logins set ip = '203.0.113.2', created = now() - interval '50 days' where id = 3")
    mixed.types("verify", expect=1)
    assert (
        "proof of logins" in mixed.types("gates", expect=None).out.partition("drop addresses.ip_address")[2]
    )
    query(url, "alter table addresses drop column ip_address")
    assert mixed.types("plan", "--no-sample").out.endswith("Next: `backfill run`.\n")
    assert mixed.types("calibrate").out.endswith("calibrate with. Next: `backfill run`.\n")
    for words in (
        "run --due --quiet",
        "run --quiet",
        "verify",
        "gates",
        "report",
        "repair",
        "quarantine settle",
    ):
        mixed.types(*words.split())
    assert query(url, "select hashed is not null from visits") == [(True,)]
    assert query(url, "select ip from logins where id = 3") == [("203.0.113.0",)]
    # What was to be compared with an address cannot be any more.
    query(url, "alter table users add column ip text")
    for words in ("run --quiet", "verify"):
        assert "has no column ip_address (address)" in mixed.types(*words.split(), expect=2).err
