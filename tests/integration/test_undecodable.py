"""Texts whose bytes the database's encoding leaves undefined cost their row, never its batch; nothing else ends in a traceback.

PostgreSQL stores them (0x81 in WIN1252), or has them because the encoding was declared wrongly. It refuses to send
them to a client that speaks UTF-8, and all that was asked for beside them.
"""

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from psycopg2 import sql
from sqlalchemy import make_url

from backfill.database.decodable import UNDEFINED, decodable, legible
from tests.databases import Databases, connect, query
from tests.demo_template import SALT, environment, fill_demo, live_hash
from tests.integration.test_types import PLAN, SCHEMA
from tests.operator import Operator

# Bytes, and whether they mean something in that encoding; None where the encoding has no such bytes.
SIMPLE = b"198.51.100.1"
WIN1252 = [b"\x811.2.3.4", b"1.2.3.4\x9d", b"\x81" * 70, b"x\\201\x8f", b"\x81, 5.6.7.8"]
DAMAGED = [b"\xff1.2.3.4", b"1.2.3.4\xc3", b"\xe2\x82", b"\xc1\x81\xc0\xb1", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff" * 70]  # fmt: skip
JAPANESE = [b"\xfe\xfe", b"\xa4\xa2 1.2.3.4"]
BAD = {"WIN1252": WIN1252, "UTF8": DAMAGED, "EUC_JP": JAPANESE}
ONE_BYTE = [
    *(f"LATIN{number}" for number in range(1, 11)), *(f"WIN{number}" for number in range(1250, 1259)),
    "WIN866", "WIN874", "KOI8R", "KOI8U", *(f"ISO_8859_{number}" for number in range(5, 9)),
]  # fmt: skip


class Encoded:
    """A database, and how bytes come into it."""

    def __init__(self, server_url: str, name: str, encoding: str) -> None:
        self.server_url, self.name, self.encoding = server_url, name, encoding
        self.url = make_url(server_url).set(database=name).render_as_string(hide_password=False)

    def put(self, statement: str, *values: object) -> None:
        """Run it as a client that sends bytes as they are; ``bytes`` in *values* become texts."""
        self._declare("SQL_ASCII")
        raw = statement
        for value in values:
            text = value.decode("latin1") if isinstance(value, bytes) else str(value)
            raw = raw.replace(
                "%s", text if isinstance(value, int) else "'" + text.replace("'", "''") + "'", 1
            )
        try:
            with closing(connect(self.url)) as connection, connection.cursor() as cursor:
                connection.set_client_encoding("SQL_ASCII")
                cursor.execute(raw.encode("latin1"))
        finally:
            self._declare(self.encoding)

    def _declare(self, encoding: str) -> None:
        query(self.server_url, "update pg_database set encoding = pg_char_to_encoding(%s) where datname = %s", encoding, self.name)  # fmt: skip


@pytest.fixture
def encoded(databases: Databases) -> Iterator[Callable[[str], Encoded]]:
    made: list[Encoded] = []

    def create(encoding: str) -> Encoded:
        name = f"test_{uuid.uuid4().hex[:12]}"
        query(databases.server_url, sql.SQL("create database {} template template0 encoding {} locale 'C'").format(sql.Identifier(name), sql.Literal(encoding)))  # fmt: skip
        made.append(Encoded(databases.server_url, name, encoding))
        return made[-1]

    yield create
    for one in made:
        databases.drop(one.url)


def somebody(place: Encoded) -> str:
    """Who has most rows that a run would link."""
    ((name,),) = query(place.url, "select username::text from users join user_events as event on source_id = users.id where ip_address_id is null and ip_address_string is not null group by 1 order by count(*) desc, 1 limit 1")  # fmt: skip
    return str(name)


def small(encoded: Callable[[str], Encoded], encoding: str, home: Path, tmp_path: Path, key: str = "bigint") -> tuple[Encoded, Operator]:  # fmt: skip
    """A plan of one job, with good rows and bad ones."""
    place = encoded(encoding)
    query(place.url, SCHEMA.format(collations="", raw="text", key=key, address_key="bigint", default="generated always as identity", hash="text"))  # fmt: skip
    place.put("insert into logins (id, ip_address) values (1, %s), (2, '5.2.0.1'), (3, '  8.8.8.8 ')", SIMPLE)
    for number, text in enumerate(BAD[encoding], 10):
        place.put("insert into logins (id, ip_address, additional) values (%s, %s, '{}')", number, text)
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN)
    return place, Operator(place.url, environment(place.url, home)).having(plan=str(plan))


@pytest.mark.parametrize("encoding", ONE_BYTE)
def test_what_is_undefined_is_what_the_server_cannot_send(
    encoded: Callable[[str], Encoded], encoding: str
) -> None:
    place = encoded(encoding)
    asked = sql.SQL("select {}, {} from (select convert_from(%s, %s)) as t (x)").format(decodable(sql.SQL("x")), legible(sql.SQL("x")))  # fmt: skip
    undefined = []
    with closing(connect(place.url)) as connection, connection.cursor() as cursor:
        connection.set_client_encoding("UTF8")
        for byte in range(0x80, 0x100):
            text = bytes([0x61, byte])
            cursor.execute(asked, (text, encoding))
            ((said, shown),) = cursor.fetchall()
            try:
                cursor.execute("select convert_from(%s, %s)", (text, encoding))
                assert (said, shown) == (True, *cursor.fetchone()), hex(byte)
            except psycopg2.errors.UntranslatableCharacter:
                assert (said, shown) == (False, "a?"), hex(byte)
                undefined.append(byte)
    assert bytes(undefined) == UNDEFINED.get(encoding, b"")


def test_what_is_not_well_formed_is_what_the_server_cannot_send(encoded: Callable[[str], Encoded]) -> None:
    place = encoded("UTF8")
    query(place.url, "create table t (id int, x text)")
    samples = [*DAMAGED, *("aé€😀\x7f\x01\\201".encode()[:end] for end in range(1, 16)), b"\xef\xbf\xbf", b"\xf0\x8f\xbf\xbf", b"\xe0\x9f\xbf", b"\xf5\x80\x80\x80", b"\x80", b"\xed\x9f\xbf"]  # fmt: skip
    for number, text in enumerate(samples):
        place.put("insert into t values (%s, %s)", number, text)
    found = query(place.url, sql.SQL("select id, {}, {} from t order by 1").format(decodable(sql.SQL("x")), legible(sql.SQL("x"))))  # fmt: skip
    for number, said, shown in found:
        try:
            expected = samples[number].decode()
        except UnicodeDecodeError:
            assert not said, samples[number]
            assert "?" in shown
        else:
            assert (said, shown) == (True, expected)


@pytest.mark.parametrize("encoding", BAD)
def test_such_a_row_waits_in_the_quarantine_and_the_others_go_on(encoded: Callable[[str], Encoded], home: Path, tmp_path: Path, encoding: str) -> None:  # fmt: skip
    place, operator = small(encoded, encoding, home, tmp_path)
    operator.types("plan")
    operator.types("run", "--quiet")
    bad = {str(number): "undecodable" for number, _ in enumerate(BAD[encoding], 10)}
    assert operator.waiting("logins") == bad
    linked = query(place.url, "select l.id, host(a.ip_address) from logins l join ip_addresses a on a.id = l.ip_address_id order by 1")  # fmt: skip
    assert linked == [(1, "198.51.100.1"), (2, "5.2.0.1"), (3, "8.8.8.8")]
    operator.types("run", "--quiet")  # again: nothing is left to do, and nothing is tried for ever
    said = json.loads(operator.types("verify", "--format", "json", expect=1).out)
    (record,) = (one for one in said["tables"] if one["table"] == "logins")
    assert record["counts"]["quarantined"] == len(bad)
    assert f"--count {len(bad)}" in str(record["reasons"])
    assert json.loads(operator.types("scan", "--format", "json", expect=None).out)["places"]
    operator.types("quarantine", "settle", "logins", "--as", "sentinel", "--count", len(bad))
    operator.types("verify")
    operator.types("report", "--format", "json")


def test_discarded_and_dangling_rows_of_that_kind(encoded: Callable[[str], Encoded], home: Path, tmp_path: Path) -> None:  # fmt: skip
    place, operator = small(encoded, "UTF8", home, tmp_path)
    query(place.url, "alter table logins drop constraint logins_ip_address_id_fkey")
    query(place.url, "update logins set ip_address_id = 987 where id = 10")
    operator.types("run", "--quiet")
    said = operator.types("verify", expect=1).out
    assert "repair logins --kind dangling --count 1" in said
    operator.types("repair", "logins", "--kind", "dangling", "--count", 1)
    operator.types("run", "--quiet")
    waiting = operator.waiting("logins")
    assert waiting["10"] == "undecodable"
    operator.types("quarantine", "settle", "logins", "--as", "discard", "--count", len(waiting))
    operator.types("verify")
    assert query(place.url, "select count(*) from logins where ip_address is null") == [(len(waiting),)]


def test_a_hash_that_cannot_be_read_is_wrong_and_repaired(encoded: Callable[[str], Encoded], home: Path, tmp_path: Path) -> None:  # fmt: skip
    place, operator = small(encoded, "UTF8", home, tmp_path)
    query(place.url, "delete from logins where id >= 10")
    query(place.url, "insert into ip_addresses (ip_address, hashed_ip_address) values ('8.8.8.8', %s)", live_hash("8.8.8.8"))  # fmt: skip
    operator.types("run", "--quiet")
    place.put("update ip_addresses set hashed_ip_address = hashed_ip_address || %s where ip_address = '5.2.0.1'", b"\xc3")  # fmt: skip
    operator.types("calibrate", expect=2)
    said = operator.types("verify", expect=1).out
    assert "repair ip_addresses --kind hash --count 1" in said
    operator.types("repair", "ip_addresses", "--kind", "hash", "--count", 1)
    operator.types("verify")


@pytest.mark.parametrize("encoding", ["WIN1252", "UTF8"])
def test_a_copy_quarantines_them_too(encoded: Callable[[str], Encoded], home: Path, tmp_path: Path, encoding: str) -> None:  # fmt: skip
    place, operator = small(encoded, encoding, home, tmp_path)
    said = operator.types("run", "--strategy", "shadow", "--quiet", expect=None)
    waiting = operator.waiting("logins")
    assert waiting == {str(number): "undecodable" for number, _ in enumerate(BAD[encoding], 10)}, said
    operator.types("quarantine", "settle", "logins", "--as", "sentinel", "--count", len(waiting))
    operator.types("run", "--strategy", "shadow", "--quiet")
    assert query(place.url, "select count(*) from logins where ip_address_id is null") == [(0,)]


def test_a_key_of_that_kind_blocks_before_the_first_write(encoded: Callable[[str], Encoded], home: Path, tmp_path: Path) -> None:  # fmt: skip
    place, operator = small(encoded, "WIN1252", home, tmp_path, key="varchar(12)")
    place.put("update logins set id = %s where id = '11'", b"k\x81")
    for words in (("plan",), ("run", "--quiet")):
        said = operator.types(*words, expect=2)
        text = said.out + said.err
        assert "1 key in logins.id cannot be sent by the server" in text
        assert r"k\201" in text
        assert "PGCLIENTENCODING=WIN1252" in text
    assert query(place.url, "select to_regclass('backfill.runs')") == [(None,)]


@pytest.mark.parametrize("change", ["alter table logins add column %s int", "create index %s on logins (id)", "alter table logins add constraint %s check (true)"])  # fmt: skip
def test_a_name_of_that_kind_blocks_before_the_first_write(encoded: Callable[[str], Encoded], home: Path, tmp_path: Path, change: str) -> None:  # fmt: skip
    place, operator = small(encoded, "WIN1252", home, tmp_path)
    place.put(change.replace("%s", '"n\x81"'))
    for words in (("plan",), ("run", "--quiet"), ("verify",)):
        said = operator.types(*words, expect=2)
        assert r"n\201" in said.out + said.err
        assert "Rename it" in said.out + said.err
    assert query(place.url, "select to_regclass('backfill.runs')") == [(None,)]


@pytest.mark.parametrize("encoding", ["WIN1252", pytest.param("UTF8", marks=pytest.mark.slow)])
def test_the_whole_chain_with_such_texts_everywhere(encoded: Callable[[str], Encoded], home: Path, encoding: str) -> None:  # fmt: skip
    """Raw texts, JSON, a discarded column, and columns that nobody asked about."""
    place = encoded(encoding)
    fill_demo(place.url, 1_000)
    operator = Operator(place.url, environment(place.url, home))
    bad, user = BAD[encoding][:2], somebody(place)
    which = f"id in (select id from user_events where source_id = (select id from users where username = '{user}') and ip_address_id is null and ip_address_string is not null order by id limit 2)"  # fmt: skip
    place.put(f"update user_events set ip_address_string = %s where {which}", bad[0])
    place.put(f"update user_events set additional = jsonb_build_object('note', %s::text, %s::text, 1) where {which}", bad[0], bad[1])  # fmt: skip
    place.put("update journals set submitted_from = %s where id in (select id from journals limit 3)", bad[1])
    place.put("update users set name = %s where username = %s", bad[1], user)
    operator.types("plan")
    operator.types("scan", "--format", "json", expect=None)
    operator.types("calibrate")
    operator.types("run", "--quiet")
    assert list(operator.waiting("user_events").values()).count("undecodable") == 2
    operator.settles_everything()
    operator.types("verify")
    assert "user_events.ip_address_string" in operator.types("disclose", user).out
    shown = operator.having().types("disclose", user, "--format", "json")
    assert json.loads(shown.out)["items"]
    operator.migrates()
    operator.types("erase", expect=None)
    operator.types("prove", "--format", "json", expect=None)
    operator.types("report", "--format", "json")
    assert SALT not in shown.out


def test_data_that_is_shown_marks_what_cannot_be_read(encoded: Callable[[str], Encoded], home: Path, tmp_path: Path) -> None:  # fmt: skip
    place = encoded("UTF8")
    fill_demo(place.url, 500)
    operator = Operator(place.url, environment(place.url, home))
    user = somebody(place)
    place.put("update users set name = %s where username = %s", b"Zo\xeb", user)
    place.put("update user_events set additional = jsonb_build_object('note', %s::text) where source_id = (select id from users where username = %s)", b"\xff", user)  # fmt: skip
    out = tmp_path / "data.json"
    operator.types("disclose", user, "--show-data", out)
    data = out.read_text()
    assert "Zo?" in data
    assert '"note": "?"' in data
