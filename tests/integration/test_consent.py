"""Consent: what has to be said before the first row is rewritten in place, once a definition, and who asks for it."""

import re
from pathlib import Path

import pytest

from backfill.cli import consent
from backfill.ledger import consents
from tests import rewritten
from tests.databases import query
from tests.operator import Operator
from tests.rewritten import SPELT, TEXTS, UNREADABLE

HASHES = {
    "table": "hashes",
    "raw": "ip",
    "becomes": "hash",
    "unreadable": "keep",
    "time": {"column": '"seen"'},
}
NETWORKS = {"table": "networks", "raw": "ip", "becomes": "network", "unreadable": "nothing"}
NETWORK_ALREADY = 4  # 81.2.0.0 and 8.8.8.0, twice
READABLE, NO_ADDRESS = 2 * len((*TEXTS, *SPELT)), 2 * len(UNREADABLE)


def rows(url: str) -> list[list[tuple]]:
    return [rewritten.values(url, name) for name in ("hashes", "networks")]


@pytest.fixture
def operator(database: str, home: Path, tmp_path: Path) -> Operator:
    """Of two tables, of which nothing was rewritten yet."""
    for name in ("hashes", "networks"):
        rewritten.table(database, name, "text", (*TEXTS, *SPELT, *UNREADABLE))
    query(database, "alter table hashes add seen timestamp default '2020-02-03 04:05'")
    query(
        database,
        "update hashes set seen = 'infinity' where id = 2; update hashes set seen = null where id = 3",
    )
    return rewritten.operator(database, home, rewritten.plan_file(tmp_path, HASHES, NETWORKS))


def test_nothing_is_rewritten_before_a_dry_run_a_restore_point_and_its_number(
    operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, before = operator.url, rows(operator.url)
    said = operator.types("plan", "--no-sample").out
    assert (
        "networks is rewritten in place: the first `backfill run` counts its rows, changes nothing," in said
    )
    assert said.endswith(" Next: `backfill run`.\n")
    number = READABLE + READABLE - NETWORK_ALREADY + NO_ADDRESS
    asked = operator.types("run", "--quiet", "--workers", "2", expect=2)
    assert f"`backfill run --workers 2 --quiet --restore-point NAME --rewrite {number}`." in asked.err
    for line in (
        "Dry run of hashes, which becomes hash in place. Nothing was changed.",
        f"to be rewritten {READABLE}",
        "no address (too-long), kept 2",
        "no address (forwarded-list), removed 2",
        f"distinct texts {len({*TEXTS, *SPELT, *UNREADABLE}) - 1}",  # one is too long to be sent
        f"already in the form of a network {NETWORK_ALREADY}",
        "seen from 2020-02-03 04:05:00 to infinity.",
    ):
        assert line in re.sub(r" +", " ", asked.out), asked.out
    assert not [text for text in (*TEXTS[:9], *SPELT) if text in asked.out + asked.err]
    counts = "select job, rewrites from backfill.dry_runs order by id"
    assert query(url, counts) == [("public.hashes.ip", READABLE), ("public.networks.ip", number - READABLE)]

    said = operator.types("plan", "--no-sample").out
    assert f"To confirm it: `backfill run hashes --restore-point NAME --rewrite {READABLE}`." in said

    def refused(*words: object, says: str) -> None:
        assert says in operator.types("run", "--quiet", *words, expect=2).err
        assert rows(url) == before
        assert query(url, "select from backfill.decisions") == []

    refused("--rewrite", number, says="No restore point is named")
    refused("--rewrite", number - 1, "--restore-point", "monday", says=f"and --rewrite says {number - 1}.")
    query(url, "update backfill.dry_runs set finished = now() - interval '25 hours'")
    refused("--rewrite", number, "--restore-point", "monday", says="no dry run of the last 24 hours counted")

    # The engine does not rely on the command: neither where a run begins, nor in a batch.
    with monkeypatch.context() as patch:
        patch.setattr(consent, "require", lambda *given: None)
        refused(says="is not on record for this database")
        patch.setattr(consents, "given", lambda *given: True)
        said = operator.types("run", "--quiet", expect=1)
        assert "is not on record for this database" in said.err
        assert rows(url) == before

    assert "may be rewritten in place" in rewritten.run(operator, "--quiet").out
    (found,) = query(
        url,
        """select count, decided_by, detail ->> 'restore point', detail ->> 'key id' from backfill.decisions
            where kind = 'rewrite' and job = 'public.hashes.ip'""",
    )
    assert (found[0], *found[2:]) == (READABLE, "monday", "default")
    after = rows(url)
    assert after != before

    # It is about this database, whether a role may ask for the system's identifier or not: no dump restored elsewhere.
    stored = query(url, "select detail ->> 'database' from backfill.decisions where kind = 'rewrite'")[0][0]
    database = "update backfill.decisions set detail = detail || jsonb_build_object('database', %s::text) where kind = 'rewrite'"
    query(url, database, f"{stored}1")
    assert "--restore-point NAME" in operator.types("run", "--quiet", "hashes", expect=2).err
    query(url, database, f"unknown/{stored.partition('/')[2]}")

    # Once a definition: not when it is repeated, whatever came meanwhile.
    query(url, "insert into networks (ip) values ('203.0.113.7')")
    operator.types("run", "--quiet")
    assert query(url, "select count(*) from networks where ip = '203.0.113.0'") == [(1,)]
    rewritten.plan_file(tmp_path, HASHES, {**NETWORKS, "widths": {"v4": 16}})
    again = operator.types("run", "--quiet", "networks", expect=2).err
    assert "--restore-point NAME --rewrite" in again
    assert operator.having(key_id="next", ip_salt="f" * 32).types("run", "hashes", "--quiet", expect=2)

    # A plan that changed after the first rows.
    said = operator.types("plan", "--no-sample").out
    assert "hashes: consent to this definition is on record." in said
    assert "rewritten-before: Runs before, under key id default, rewrote" in said
    assert "as networks (/24 and /48). They become coarser (/16 and /48)." in said
    rewritten.plan_file(tmp_path, {**HASHES, "becomes": "pseudonym"}, {**NETWORKS, "becomes": "hash"})
    said = operator.types("plan", "--no-sample", expect=2).out
    assert said.count("rewritten-otherwise: Runs before") == 2
    now = rows(url)
    assert "restore point monday" in operator.types("run", "--quiet", expect=2).err
    assert rows(url) == now


def test_a_text_that_is_no_address_is_refused_before_the_first_row(
    operator: Operator, tmp_path: Path
) -> None:
    before = rows(operator.url)
    rewritten.plan_file(tmp_path, {**HASHES, "unreadable": "refuse"})
    said = operator.types("run", "--quiet", expect=2).err
    assert f"hashes: {NO_ADDRESS} rows hold a text that is no address (empty 2, forwarded-list 2," in said
    assert operator.types("run", "--rewrite", READABLE, "--restore-point", "x", expect=2).err == said
    assert rows(operator.url) == before
    query(operator.url, "delete from hashes where ip = any (%s)", list(UNREADABLE))
    assert f"--rewrite {READABLE}`" in operator.types("run", "--quiet", expect=2).err


def test_stored_hashes_have_to_confirm_the_salt_before_anything_is_hashed_in_place(
    operator: Operator, tmp_path: Path
) -> None:
    query(
        operator.url,
        """create table ip_addresses (id uuid primary key default gen_random_uuid(), ip_address inet unique,
               hashed_ip_address text unique, geoip_info jsonb);
           insert into ip_addresses (ip_address, hashed_ip_address) values ('192.0.2.1', repeat('0', 64))""",
    )
    plan = rewritten.plan_file(tmp_path, HASHES)
    bans = 'banned = ""\nban_reason = ""\nban_date = ""\n'
    plan.write_text(f'{plan.read_text()}[addresses]\ntable = "ip_addresses"\n{bans}')
    before = rows(operator.url)
    assert "explains 0 of 1 live hashes" in operator.types("run", "--quiet", expect=2).err
    assert query(operator.url, "select from pg_namespace where nspname = 'backfill'") == []
    query(operator.url, "update ip_addresses set hashed_ip_address = %s", rewritten.hashed("192.0.2.1"))
    assert f"--rewrite {READABLE}`" in operator.types("run", "--quiet", expect=2).err
    assert rows(operator.url) == before
