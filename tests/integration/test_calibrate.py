"""Calibration: the stored pairs say which scheme is the live application's."""

import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.databases import query
from tests.demo_template import SALT
from tests.operator import Operator

FORMULAS: dict[str, Callable[[str], str]] = {
    "sha256-suffix": lambda text: hashlib.sha256((text + SALT).encode()).hexdigest(),
    "sha256-prefix": lambda text: hashlib.sha256((SALT + text).encode()).hexdigest(),
    "sha256-unsalted": lambda text: hashlib.sha256(text.encode()).hexdigest(),
    "hmac-sha256": lambda text: hmac.new(SALT.encode(), text.encode(), "sha256").hexdigest(),
}
PYPI_TOML = """name = "pypi"
[hash]
scheme = "{scheme}"
[addresses]
table = "ip_addresses"
{jobs}
[[discard]]
table = "journals"
column = "submitted_from"
time = "submitted_date"
"""
JOBS = "".join(
    f'[[jobs]]\ntable = "{table}_events"\n' for table in ("user", "project", "file", "organization", "team")
)


def rehash(url: str, formula: Callable[[str], str]) -> None:
    """As if the live application had used *formula* from the first day."""
    query(url, "update ip_addresses set hashed_ip_address = null")
    known = query(url, "select id::text, host(ip_address) from ip_addresses where id::text > '2'")
    query(
        url,
        """update ip_addresses as known set hashed_ip_address = made.hash
             from unnest(%s::uuid[], %s::text[]) as made (id, hash) where made.id = known.id""",
        [key for key, _ in known],
        [formula(host) for _, host in known],
    )


@pytest.mark.parametrize("scheme", FORMULAS)
def test_the_scheme_that_explains_the_pairs_is_found(
    fresh_demo: Operator, tmp_path: Path, scheme: str
) -> None:
    rehash(fresh_demo.url, FORMULAS[scheme])
    other = "hmac-sha256" if scheme == "sha256-suffix" else "sha256-suffix"
    plans = {}
    for name in (scheme, other):
        plans[name] = tmp_path / f"{name}.toml"
        plans[name].write_text(PYPI_TOML.format(scheme=name, jobs=JOBS))
    right, wrong = (fresh_demo.having(plan=str(plans[name])) for name in (scheme, other))
    found = json.loads(right.types("calibrate", "--format", "json").out)
    assert found["pairs"] > 10
    assert {name: number for name, number in found["explained"].items() if number} == {scheme: found["pairs"]}
    for words in (("calibrate",), ("run", "--quiet")):
        said = wrong.types(*words, expect=2)
        assert f"{scheme} explains {found['pairs']:,}: name it in the plan" in said.err
    assert query(fresh_demo.url, "select to_regnamespace('backfill')") == [(None,)]
    right.types("run", "--quiet")
    hashes = query(fresh_demo.url, "select host(ip_address), hashed_ip_address from ip_addresses where hashed_ip_address is not null")  # fmt: skip
    assert all(digest == FORMULAS[scheme](host) for host, digest in hashes if not host.startswith("::ffff"))


def test_a_wrong_salt_explains_nothing_and_nothing_is_begun(fresh_demo: Operator) -> None:
    wrong = fresh_demo.having(ip_salt="another salt, long enough too")
    before = query(fresh_demo.url, "select count(hashed_ip_address) from ip_addresses")
    for words in (("calibrate",), ("run", "--quiet")):
        said = wrong.types(*words, expect=2)
        assert "no scheme explains any: the salt is probably not the live application's" in said.err
    assert query(fresh_demo.url, "select count(hashed_ip_address) from ip_addresses") == before
    assert query(fresh_demo.url, "select to_regnamespace('backfill')") == [(None,)]


def test_strays_are_accepted_by_their_exact_number_alone(fresh_demo: Operator) -> None:
    url = fresh_demo.url
    query(url, "update ip_addresses set hashed_ip_address = md5(id::text) where id in (select id from ip_addresses where hashed_ip_address is not null and masklen(ip_address) = 32 order by id limit 2)")  # fmt: skip
    said = fresh_demo.types("run", "--quiet", expect=2)
    assert "look into the 2 others, or accept them with --accept-mismatches 2" in said.err
    for number in (1, 3):
        fresh_demo.types("run", "--quiet", "--accept-mismatches", number, expect=2)
    fresh_demo.types("run", "--quiet", "--accept-mismatches", 2)
    assert query(url, "select mismatches from backfill.runs") == [(2,)]
    assert query(url, "select count(*) from ip_addresses where length(hashed_ip_address) = 32") == [(2,)]


def test_without_a_pair_it_says_that_nothing_could_be_checked(fresh_demo: Operator) -> None:
    query(fresh_demo.url, "update ip_addresses set hashed_ip_address = null")
    assert "nothing could be checked" in fresh_demo.types("calibrate").out
    assert "Salt and formula are not confirmed" in fresh_demo.types("run", "--quiet").out


def test_hashes_that_no_live_one_confirms_are_right_under_their_key_and_no_more(
    fresh_demo: Operator, tmp_path: Path
) -> None:
    """What the first run wrote agrees with its own salt: neither a second run nor a new name makes that a proof."""
    query(fresh_demo.url, "update ip_addresses set hashed_ip_address = null")
    other = fresh_demo.having(ip_salt="another salt than the live application's")
    other.types("run", "--quiet")
    query(fresh_demo.url, "delete from user_events where id in (select id from user_events limit 1)")
    again = other.types("run", "--quiet").out
    assert "an earlier run may have written them" in again
    assert "Calibrated" not in again
    assert "confirm neither salt nor formula" in other.types("calibrate").out
    renamed = other.having(key_id="renamed")
    assert "an earlier run may have written them" in renamed.types("run", "--quiet").out
    assert query(fresh_demo.url, "select distinct confirmed from backfill.runs") == [(0,)]
    other.settles_everything()
    said = other.types("verify").out
    claim = "every hash is right under key id default, not confirmed by a live hash."
    assert claim in said
    assert "every hash is right." not in said
    found = json.loads(other.types("verify", "--format", "json").out)
    assert claim in found["verdict"]
    assert next(one for one in found["tables"] if one["kind"] == "addresses")["confirmed_by"] == 0
    for suffix in ("txt", "md", "html", "json"):
        report = tmp_path / f"report.{suffix}"
        other.types("report", "--output", report)
        assert "not confirmed by a live hash" in report.read_text()
        assert "every hash is right." not in report.read_text()
    gates = json.loads(other.types("gates", "--format", "json", expect=None).out)
    assert "hashes right under key id default, not confirmed by a live hash" in json.dumps(gates)
    # One that the application writes now is another one: nothing says that ours is right, and `repair` says so. Also where
    # the column is NOT NULL.
    query(fresh_demo.url, "update ip_addresses set hashed_ip_address = repeat('a', 64) where id = (select id from ip_addresses where hashed_ip_address is not null limit 1)")  # fmt: skip
    query(fresh_demo.url, "alter table ip_addresses alter hashed_ip_address set not null")
    for left, words in ((1, ()), (0, ("--count", 1))):
        said = other.types("repair", "ip_addresses", "--kind", "hash", *words)
        assert "confirms the salt, and 1 hash is of something else" in said.err
        assert query(fresh_demo.url, "select count(*) from ip_addresses where hashed_ip_address = repeat('a', 64)") == [(left,)]  # fmt: skip


def test_a_live_hash_confirms_and_stays_the_confirmation(fresh_demo: Operator) -> None:
    assert "Calibrated: sha256-suffix explains" in fresh_demo.types("run", "--quiet").out
    ((before,),) = query(fresh_demo.url, "select confirmed from backfill.runs")
    assert before > 0
    assert "Calibrated" in fresh_demo.types("run", "--quiet").out
    assert query(fresh_demo.url, "select distinct confirmed from backfill.runs") == [(before,)]
    fresh_demo.settles_everything()
    assert "every hash is right." in fresh_demo.types("verify").out


def test_a_salt_that_differs_from_the_last_runs_is_told_by_its_key_id(finished_run: Operator) -> None:
    query(finished_run.url, "update ip_addresses set hashed_ip_address = null")
    wrong = finished_run.having(ip_salt="another salt, long enough too")
    said = wrong.types("run", "--quiet", expect=2)
    assert "The salt is not the one that key id default stood for in an earlier run" in said.err
    assert query(finished_run.url, "select count(hashed_ip_address) from ip_addresses") == [(0,)]
    for words in (("quarantine", "settle", "user_events", "--as", "sentinel", "--count", 1), ("addresses", "merge", "--count", 1)):  # fmt: skip
        assert "key id default" in wrong.types(*words, expect=2).err
    wrong.having(key_id="second").types("run", "--quiet")
    assert query(finished_run.url, "select key_id from backfill.keys order by 1") == [
        ("default",),
        ("second",),
    ]


def test_the_ledger_holds_a_verifier_and_not_the_salt(finished_run: Operator) -> None:
    ((nonce, verifier),) = query(finished_run.url, "select nonce, verifier from backfill.keys")
    assert hashlib.scrypt(SALT.encode(), salt=bytes(nonce), n=2**14, r=8, p=1, dklen=32) == bytes(verifier)
