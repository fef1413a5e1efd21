"""Bans: by address or hash, seen or not, at each stage of the chain, beside an application that writes the same row."""

import json
import threading
import time
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from sqlalchemy import create_engine

from backfill.hashing.salt import Salt
from backfill.ledger import keys
from tests.databases import connect, query
from tests.demo_template import SENTINEL, live_hash
from tests.integration.test_link import add_address
from tests.operator import Operator, Said

NEW, NEWER, OTHER = "203.0.113.80", "203.0.113.81", "2001:db8::80"
REASON = ("--reason", "authentication-attempts")
OLD_SALT = "the salt of an earlier key, of some length"


def bans(operator: Operator, *words: object, sends: str = "", expect: int = 0) -> Said:
    said = operator.types("ban", *REASON, *words, sends=sends, expect=expect)
    assert not [line for line in sends.split() if line in said.out + said.err]
    return said


def unbans(operator: Operator, sends: str, *words: object) -> str:
    return operator.types("unban", *words, sends=sends).out


def row(url: str, text: str) -> list[tuple[Any, ...]]:
    """Raw address, banned, reason and whether a date is set, of the row with that address's hash."""
    columns = "*" if not query(url, "select from information_schema.columns where table_name = 'ip_addresses' and column_name = 'ip_address'") else "host(ip_address)"  # fmt: skip
    raw = "null" if columns == "*" else columns
    return query(
        url,
        f"select {raw}, is_banned, ban_reason::text, ban_date is not null from ip_addresses where hashed_ip_address = %s",
        live_hash(text),
    )


BANNED, FREE = (True, "authentication-attempts", True), (False, None, False)


def decided(url: str) -> list[tuple[Any, ...]]:
    return query(
        url,
        "select kind, count, detail ->> 'reason', detail::text from backfill.decisions where kind in ('ban', 'unban') order by id",
    )


def banned_meanwhile(operator: Operator, upsert: str, *values: object) -> None:
    """The application's upsert is not committed yet when the ban begins."""
    with closing(connect(operator.url, autocommit=False)) as live, live.cursor() as cursor:
        cursor.execute(upsert, values)
        thread = threading.Thread(target=bans, args=(operator,), kwargs={"sends": NEWER})
        thread.start()
        waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        for _ in range(500):
            if query(operator.url, waiting)[0][0]:
                break
            time.sleep(0.01)
        live.commit()
        thread.join()


def test_before_the_chain_a_row_has_its_address(fresh_demo: Operator) -> None:
    operator, url = fresh_demo, fresh_demo.url
    assert "it is one of: authentication-attempts" in operator.types("ban", sends=NEW, expect=2).err
    assert (
        "it is one of: authentication-attempts"
        in operator.types("ban", "--reason", "x", sends=NEW, expect=2).err
    )
    assert "the sentinel" in bans(operator, sends=SENTINEL, expect=2).err
    assert "No row has the hash" in bans(operator, "--hash", live_hash(NEW), expect=2).err
    said = bans(operator, sends=f"{NEW}\n203.0.113.0/24", expect=2).err
    assert "line 2: it is a network" in said
    assert row(url, NEW) == []
    said = bans(operator, sends=NEW).out
    assert "1 banned." in said
    assert "Key id default is not on record" in said
    assert row(url, NEW) == [(NEW, *BANNED)]
    assert "1 already banned." in bans(operator, sends=f"::ffff:{NEW}").out
    assert "1 already banned." in bans(operator, "--hash", live_hash(NEW)).out
    assert "1 unbanned." in unbans(operator, NEW, "--reason", "by mistake")
    assert row(url, NEW) == [(NEW, *FREE)]
    assert "1 not banned." in unbans(operator, NEW)
    assert "no row" in unbans(operator, "198.51.100.99")
    # A row of the application without a hash gets it with the ban; another's upsert under way is waited for.
    network = add_address(url, "203.0.113.0/24")
    query(url, "update ip_addresses set is_banned = true, ban_reason = 'authentication-attempts', ban_date = now() where id = %s", network)  # fmt: skip
    add_address(url, OTHER)
    many = f"{OTHER}\n{NEW}\n{OTHER.upper()}\n"
    said = bans(operator, sends=many).out
    assert "2 would be banned." in said
    assert "`backfill ban --reason authentication-attempts --count 2`" in said
    assert row(url, NEW) == [(NEW, *FREE)]
    assert "the count found is 2" in bans(operator, "--count", "3", sends=many, expect=2).err
    assert "2 banned." in bans(operator, "--count", "2", sends=many).out
    assert row(url, OTHER) == [(OTHER, *BANNED)]
    assert f"network around it, row {network}" in unbans(operator, NEW)
    banned_meanwhile(operator, "insert into ip_addresses (ip_address) values (%s) on conflict (ip_address) do update set hashed_ip_address = 'x'", NEWER)  # fmt: skip
    assert row(url, NEWER) == [(NEWER, *BANNED)]
    found = decided(url)
    assert [one[:3] for one in found] == [
        ("ban", 1, REASON[1]), ("unban", 1, "by mistake"), ("ban", 2, REASON[1]), ("unban", 1, None), ("ban", 1, REASON[1]),
    ]  # fmt: skip
    assert not [one for one in found for text in (NEW, NEWER, OTHER) if text in one[3]]
    # A trigger that keeps the row as it was is named, and nothing is recorded.
    query(
        url,
        """create function public.keeps() returns trigger language plpgsql as 'begin new.is_banned := old.is_banned;
             new.ban_reason := old.ban_reason; new.ban_date := old.ban_date; return new; end';
           create trigger keeps before update on ip_addresses for each row execute function public.keeps()""",
    )
    said = operator.types("ban", *REASON, sends=NEW, expect=2).err
    assert "keeps" in said
    assert len(decided(url)) == len(found)


def test_from_0005a_on_a_hash_alone_will_do_once_the_application_writes_so(proved_run: Operator) -> None:
    operator, url = proved_run, proved_run.url
    operator.migrates("0005a_ip_address_optional")
    bans(operator, sends=NEW)
    # The application of the deployment before goes on by the raw address, and meets no hash without one.
    query(url, "insert into ip_addresses (ip_address, hashed_ip_address) values (%s, %s) on conflict (ip_address) do update set hashed_ip_address = excluded.hashed_ip_address", NEW, live_hash(NEW))  # fmt: skip
    assert row(url, NEW) == [(NEW, *BANNED)]
    query(url, "insert into ip_addresses (hashed_ip_address) values ('of the new deployment')")
    bans(operator, sends=OTHER)
    assert row(url, OTHER) == [(None, *BANNED)]
    engine = create_engine(url, execution_options={"schema_translate_map": {None: "backfill"}})
    with engine.begin() as connection:
        keys.record(connection, "2022", Salt(OLD_SALT, source="a test"))
    engine.dispose()
    assert "Not under key id 2022" in bans(operator, sends=OTHER).out


def test_after_the_chain_bans_survive_a_rotation_and_a_concurrent_insert(
    migrated: Operator, tmp_path
) -> None:
    operator, url = migrated, migrated.url
    (tmp_path / "old").write_text(OLD_SALT)
    (tmp_path / "old").chmod(0o600)
    old = Salt(OLD_SALT, source="a test").hasher("sha256-suffix")
    engine = create_engine(url, execution_options={"schema_translate_map": {None: "backfill"}})
    with engine.begin() as connection:
        keys.record(connection, "2022", Salt(OLD_SALT, source="a test"))
    engine.dispose()
    salts = ("--salt-file", f"2022={tmp_path / 'old'}")
    bans(operator, *salts, sends=NEW)
    state = "select is_banned from ip_addresses where hashed_ip_address = any (%s)"
    assert query(url, state, [live_hash(NEW), old(NEW)]) == [(True,), (True,)]
    assert "what it knows of these addresses is as it was" in unbans(operator, NEW)
    assert sorted(query(url, state, [live_hash(NEW), old(NEW)])) == [(False,), (True,)]
    unbans(operator, NEW, *salts)
    assert query(url, state, [live_hash(NEW), old(NEW)]) == [(False,), (False,)]
    banned_meanwhile(operator, "insert into ip_addresses (hashed_ip_address) values (%s) on conflict (hashed_ip_address) do update set geoip_info = '{}'", live_hash(NEWER))  # fmt: skip
    assert row(url, NEWER) == [(None, *BANNED)]
    # And the other way round: the application comes to the row while the ban is not committed.
    query(url, "insert into ip_addresses (hashed_ip_address) values (%s) on conflict (hashed_ip_address) do nothing", live_hash(NEWER))  # fmt: skip
    with pytest.raises(psycopg2.errors.UniqueViolation):
        query(url, "insert into ip_addresses (hashed_ip_address) values (%s)", live_hash(NEWER))
    bans(operator, "--hash", "b" * 64)
    assert query(url, state, ["b" * 64]) == [(True,)]
    said = json.loads(operator.types("unban", "--hash", "b" * 64, "--format", "json").out)
    assert [one["state"] for one in said["outcomes"]] == ["unbanned"]
    operator.types("verify")
