"""From the run of an in-place job to the proof: verify, report, gates, erase and prove know a column that stays."""

import json
from pathlib import Path

import pytest

from backfill.hashing.salt import Salt
from tests import rewritten
from tests.databases import query
from tests.integration.test_undecodable import encoded  # noqa: F401
from tests.rewritten import TEXTS


def test_pseudonyms_are_proved_by_their_tag_erased_and_recognised(
    database: str, home: Path, tmp_path: Path
) -> None:
    rewritten.table(database, "logins", "inet", TEXTS)
    query(database, "create index on logins (ip)")
    plan = rewritten.plan_file(
        tmp_path, {"table": "logins", "raw": "ip", "becomes": "pseudonym", "unreadable": "refuse"}
    )
    operator = rewritten.operator(database, home, plan)
    rows = 2 * len(TEXTS)
    assert "the text is gone" not in operator.types("verify", expect=1).out
    rewritten.run(operator, "--quiet")
    said = operator.types("verify").out
    assert f"recomputed from the text: 0 of {rows}, since the text is gone" in said
    assert (
        f"by their batches' records, runs wrote {rows} values of this column in all; {rows + 3} rows are"
        in said
    )
    assert "Covered: in logins every value has the form that its job gives it." in said
    scanned = json.loads(operator.types("scan", "--format", "json", expect=None).out)
    (place,) = [one for one in scanned["places"] if one["where"] == "logins.ip"]
    assert (place["looks"], place["sure"], place["likely"]) == ({"pseudonym by its prefix": rows}, 0, 0)
    assert not place["raw_column"]
    assert "told by their prefix alone" in scanned["verdict"]
    report = operator.types("report").out
    assert "values that were rewritten keep their bytes" in report
    assert "recognised by its tag" in report
    assert "drop logins" not in report
    operator.types("gates")

    proof = json.loads(operator.types("prove", "--format", "json", expect=1).out)
    states = {(one["depth"], one["where"]): one["state"] for one in proof["findings"]}
    assert states["catalog", "logins.ip"] == "gone"
    assert states["pages", "logins"] != "gone"
    assert any("copies of addresses of this database" in one["what"] for one in proof["findings"])
    operator.types("erase")
    proof = json.loads(operator.types("prove", "--depth", "pages", "--format", "json").out)
    assert proof["verdict"].startswith("Gone: ")

    # What came since: a raw value, and one that a client made up inside the prefix.
    ((prefix,),) = query(database, "select prefix from backfill.pseudonym_prefixes")
    query(database, "insert into logins (ip) values ('192.0.2.1'), (%s)", f"fd{prefix:02x}::1")
    said = operator.types("verify", expect=1).out
    assert "1 row holds a raw address" in said
    assert f"1 row holds an address that begins with fd{prefix:02x}: and is no pseudonym" in said
    proof = json.loads(operator.types("prove", "--depth", "catalog", "--format", "json", expect=1).out)
    assert "no verification shows" in proof["findings"][0]["what"]
    operator.types("run", "--quiet")
    operator.types("verify")
    # Rewritten since the file was: its dead rows are of concern again, and so it is a target again.
    proof = json.loads(operator.types("prove", "--depth", "pages", "--format", "json", expect=1).out)
    assert any("were rewritten in place since" in one["what"] for one in proof["findings"])
    operator.types("erase")
    operator.types("prove", "--depth", "pages")


def test_pseudonyms_of_a_ledger_that_is_lost_are_known_by_their_tags_and_stay(
    database: str, home: Path, tmp_path: Path
) -> None:
    rewritten.table(database, "logins", "inet", TEXTS)
    job = {"table": "logins", "raw": "ip", "becomes": "pseudonym", "unreadable": "keep"}
    operator = rewritten.operator(database, home, rewritten.plan_file(tmp_path, job))
    rewritten.run(operator, "--quiet")
    first = rewritten.values(database, "logins")
    ((prefix,),) = query(database, "select prefix from backfill.pseudonym_prefixes")

    def lose() -> None:
        query(database, "drop schema backfill cascade")

    # The ledger, and then its one row alone: in either case nothing was made anew.
    for lost in (lose, lambda: query(database, "delete from backfill.pseudonym_prefixes")):
        lost()
        query(
            database, "insert into logins (ip, note) values ('198.51.100.7', 'new'), ('fd99::1', 'foreign')"
        )
        said = operator.types("run", "--quiet", expect=None)
        if said.code == 2:
            assert "The dry run counted 2 rows" in said.err
            assert f"Values that begin with fd{prefix:02x}: are pseudonyms of this salt" in said.out
            operator.types(*rewritten.confirmed(said))
        assert query(database, "select prefix from backfill.pseudonym_prefixes") == [(prefix,)]
        now = rewritten.values(database, "logins")
        assert now[: len(first)] == first
        assert all(
            value.startswith(f"fd{prefix:02x}:") for _, value, note in now if note in ("new", "foreign")
        )
        operator.types("verify")
        first = now
    # Under two prefixes nobody can say which was whose.
    lose()
    other = Salt(rewritten.SALT, source="test").pseudonyms(prefix % 255 + 1).pseudonym("192.0.2.1")
    query(database, "insert into logins (ip, note) values (%s, 'other')", other)
    assert "restore the schema" in operator.types("run", expect=2).err.lower()
    # With another salt, none of them is ours.
    stranger = operator.having(ip_salt="another salt, as long as it has to be")
    assert "are pseudonyms of this salt" not in stranger.types("run", expect=2).out


def test_junk_inside_the_prefix_and_undecodable_bytes_are_quarantined_and_no_pseudonyms(
    encoded,  # noqa: F811
    home: Path,
    tmp_path: Path,
) -> None:
    place = encoded("UTF8")
    rewritten.table(place.url, "logins", "text", TEXTS[:3])
    for name in ("networks", "hashes"):
        rewritten.table(place.url, name, "text", TEXTS[:3])
    plan = rewritten.plan_file(
        tmp_path,
        {"table": "logins", "raw": "ip", "becomes": "pseudonym", "unreadable": "refuse"},
        {"table": "networks", "raw": "ip", "becomes": "network", "unreadable": "refuse"},
        {"table": "hashes", "raw": "ip", "becomes": "hash", "unreadable": "refuse"},
    )
    operator = rewritten.operator(place.url, home, plan)
    rewritten.run(operator, "--quiet")
    ((prefix,),) = query(place.url, "select prefix from backfill.pseudonym_prefixes")
    start = f"fd{prefix:02x}:"
    for text in (f"{start}junk", f"{start}:1, 1.2.3.4", f"{start}:{'x' * 80}", f"{start}:/64"):
        query(place.url, "insert into logins (ip) values (%s)", text)
    for text in (f"{start}:1%eth0", f"{start.upper()}:1"):
        query(place.url, "insert into logins (ip) values (%s)", text)
    for damaged in (b"1.2.3.4\xc3", start.encode() + b":1\xc3"):
        place.put("insert into logins (ip) values (%s)", damaged)
    place.put("insert into networks (ip) values (%s)", b"1.2.3.0\xc3")  # an expression sees the address alone
    place.put("insert into hashes (ip) values (%s)", b"a" * 64 + b"\xc3")
    operator.types("run", "--quiet")
    others = "select job, reason from backfill.quarantine where job not like '%logins%' order by 1"
    assert query(place.url, others) == [
        (f"public.{name}.ip", "undecodable") for name in ("hashes", "networks")
    ]
    waiting = query(
        place.url,
        "select reason, count(*)::int from backfill.quarantine where job like '%logins%' group by 1 order by 1",
    )
    assert waiting == [
        ("forwarded-list", 1),
        ("network", 1),
        ("not-an-address", 1),
        ("too-long", 1),
        ("undecodable", 2),
    ]
    operator.types("verify", expect=1)
    # Another run alone would change nothing.
    assert "To fix it: `backfill quarantine list logins`" in operator.types("gates", expect=1).out
    ((counts, quarantined),) = query(
        place.url, "select counts, quarantined from backfill.coverage where job like '%logins%'"
    )
    assert quarantined == dict(waiting)
    assert (counts["in_form"], counts["still_raw"], counts["foreign_prefix"]) == (8, 0, 0)


@pytest.mark.slow
def test_without_a_salt_networks_are_verified_and_every_public_address_counts_in_the_files(
    database: str, home: Path, tmp_path: Path
) -> None:
    rewritten.table(database, "logins", "text", (*TEXTS, "1.2.3.4, 10.0.0.1"))
    plan = rewritten.plan_file(
        tmp_path, {"table": "logins", "raw": "ip", "becomes": "network", "unreadable": "keep"}
    )
    operator = rewritten.operator(database, home, plan)
    del operator.variables["BACKFILL_IP_SALT"]
    rewritten.run(operator, "--quiet")
    said = operator.types("verify").out
    assert "except 2 texts that are no address and may hold one" in said
    assert "forwarded-list 2" in said
    record = json.loads(operator.types("verify", "--format", "json").out)["tables"][0]
    assert (record["kind"], record["becomes"], record["counts"]["kept_unreadable"]) == (
        "in_place",
        "network",
        2,
    )
    proof = json.loads(operator.types("prove", "--format", "json", expect=1).out)
    assert "status --due" not in json.dumps(proof)  # no job has an age
    told = [one["what"] for one in proof["findings"]]
    assert "the column stays, with 2 texts that are no address, and may hold one" in told
    assert "what logins became does not tell which addresses were there, so every public one counts" in told
