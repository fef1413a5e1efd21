"""Hashes beside raw values that are not what salt and scheme make: whether the salt is wrong, or the hashes are."""

from pathlib import Path

from tests import rewritten
from tests.databases import query
from tests.demo_template import live_hash
from tests.integration.test_into import JOB, TABLE, counted, hashing, log_in, own, rows
from tests.operator import Operator
from tests.several import job, several

OTHER_SALT = "another salt of at least 16 bytes"


def remaining(operator: Operator) -> str:
    """What ``verify`` says has to be done."""
    return operator.types("verify", expect=1).out.replace("\n", " ")


def test_right_hashes_are_not_replaced_under_a_salt_that_nothing_confirms(
    database: str, home: Path, tmp_path: Path
) -> None:
    operator = hashing(database, home, tmp_path)
    wrong = operator.having(ip_salt=OTHER_SALT)
    said = wrong.types("run", "--quiet").out
    assert "logins: salt and scheme are not confirmed: as far as the ledger can tell" in said
    said = wrong.types("verify").out
    assert "not confirmed by a live hash" in said
    assert "as far as the ledger can tell, no hash that the application wrote itself" in said.replace(
        "\n", " "
    )
    for number in (7, 8, 9):
        log_in(database, f"203.0.113.{number}", rewritten.hashed(f"203.0.113.{number}"))
    before = rows(database)
    assert "`backfill repair logins --kind hash`, which tells whether" in remaining(wrong)
    for words in ((), ("--count", 3)):
        said = wrong.types("repair", "logins", "--kind", "hash", *words, expect=2)
        assert "confirms the salt, and 3 hashes are of something else" in said.err
    said = wrong.types("repair", "--format", "json")
    assert "confirms the salt" in said.err
    assert '"count": 0' in said.out
    wrong.types("repair", "--all-tables", "--kind", "hash", "--count", 0)
    said = wrong.types("run", "--quiet", expect=2)
    assert f"explains {len(before) - 5} of {len(before) - 2} hashes" in said.err
    assert "the application itself wrote none" in said.err
    assert rows(database) == before
    # What it tells to do: the right salt under another key id, and nothing of the wrong one left.
    right = operator.having(key_id="right")
    assert "--accept-mismatches" in right.types("run", "--quiet", expect=2).err
    query(database, "update logins set hashed_ip = null where ip is not null and id <= %s", len(before) - 3)
    right.types("run", "--quiet")
    assert counted(right)["right"] == len(before) - 2
    assert {text: hashed for _, text, hashed in rows(database) if text} == {
        text: rewritten.hashed(text) for _, text, _ in before if text
    }


def test_hashes_of_other_texts_are_repaired_however_many_and_foreign_ones_are_not(
    database: str, home: Path, tmp_path: Path
) -> None:
    operator = hashing(database, home, tmp_path)
    own(database, *range(2, 10))
    # Out of date before the first run, more than are right: all are counted, in whatever order they lie.
    query(
        database, "update logins set hashed_ip = %s where id between 10 and 18", rewritten.hashed("8.8.8.8")
    )
    said = operator.types("run", "--quiet", expect=2)
    assert "explains 8 of 17 hashes that stand in logins.hashed_ip already" in said.err
    operator.types("run", "--quiet", "--accept-mismatches", 8, expect=2)
    operator.types("run", "--quiet", "--accept-mismatches", 9)
    repair = ("repair", "logins", "--kind", "hash")
    # A text that is changed leaves the hash of another address of the table: the salt is still right.
    query(database, "update logins set ip = '8.8.8.0' where id <= 66")
    number = counted(operator, expect=1)["hash_wrong"]
    assert number > counted(operator, expect=1)["right"]
    assert f"--count {number}`" in operator.types(*repair).out
    operator.types(*repair, "--count", number)
    assert counted(operator)["right"] == 126
    # Of another salt: more than the application's own that agree.
    query(database, "update logins set hashed_ip = encode(sha256(hashed_ip::bytea), 'hex') where id > 117")
    before = rows(database)
    said = operator.types(*repair, expect=2).err
    assert "explain 8 hashes that the application wrote itself, and 9 others are of no address" in said
    assert "`backfill repair logins --kind hash`, which tells" in remaining(operator)
    assert rows(database) == before
    # What it tells to do.
    query(database, "update logins set hashed_ip = null where id > 117 and ip is not null")
    operator.types("run", "--quiet")
    assert counted(operator)["right"] == 126


def test_another_column_does_not_allow_to_replace_the_hashes_of_this_one(
    database: str, home: Path, tmp_path: Path
) -> None:
    query(database, TABLE.format(type="text").replace("logins", "visits"), ["203.0.113.7", "203.0.113.8"] * 2)
    query(database, TABLE.format(type="text"), [f"81.2.0.{number}" for number in range(12)])
    jobs = JOB, {**JOB, "table": "visits"}
    operator = rewritten.operator(database, home, rewritten.plan_file(tmp_path, *jobs))
    own(database, *range(1, 11))  # logins confirms the salt; all of visits that has a hash is of another one
    query(database, "update visits set hashed_ip = encode(sha256(ip::bytea), 'hex') where id < 3")
    operator.types("run", "--quiet", "--accept-mismatches", 2)
    before = query(database, "select * from visits order by id")
    assert "`backfill repair visits --kind hash`, which tells" in remaining(operator)
    for words in ((), ("--count", 2)):
        said = operator.types("repair", "visits", "--kind", "hash", *words, expect=2).err
        assert "in this column, " in said
        assert "confirms the salt, and 2 hashes are of something else" in said
    # Nor where they do not even look like a hash: the application may have a form of its own.
    query(database, "update visits set hashed_ip = upper(hashed_ip) where id < 3")
    operator.types("repair", "visits", "--kind", "hash", "--count", 2, expect=2)
    # A hash that moved with its row is ours.
    query(database, "update visits set ip = '203.0.113.8', hashed_ip = (select hashed_ip from visits where id = 4) where id < 3")  # fmt: skip
    query(database, "update visits set ip = '203.0.113.7' where id = 1")
    operator.types("repair", "visits", "--kind", "hash", "--count", 1)
    assert before[2:] == query(database, "select * from visits order by id")[2:]


def test_what_a_run_wrote_confirms_nothing_after_the_table_was_renamed(
    database: str, home: Path, tmp_path: Path
) -> None:
    wrong = hashing(database, home, tmp_path, texts=("8.8.8.8", "8.8.8.0")).having(ip_salt=OTHER_SALT)
    wrong.types("run", "--quiet")
    query(database, "alter table logins rename to signins; alter table signins rename ip to address")
    rewritten.plan_file(tmp_path, {**JOB, "table": "signins", "raw": "address"})
    hashed = rewritten.hashed("203.0.113.7")
    query(database, "insert into signins (address, hashed_ip) values ('203.0.113.7', %s)", hashed)
    assert "the application itself wrote none" in wrong.types("run", "--quiet", expect=2).err
    said = wrong.types("verify", expect=1).out.replace("\n", " ")
    assert "`backfill repair signins --kind hash`, which tells" in said
    wrong.types("repair", "signins", "--kind", "hash", "--count", 1, expect=2)
    assert query(database, "select count(*) from signins where hashed_ip = %s", hashed) == [(1,)]


def test_one_number_accepts_the_mismatches_of_the_address_table_and_of_hashes_beside_raw_values(
    database: str, home: Path, tmp_path: Path
) -> None:
    operator = several(database, home, tmp_path, job("users"))
    known = "insert into addresses (ip_address, hashed_ip_address) values ('8.8.8.8', %s), ('1.1.1.1', %s)"
    query(database, known, live_hash("8.8.8.8"), live_hash("1.1.1.1"))
    query(database, TABLE.format(type="inet"), ["81.2.0.1", "81.2.0.2"])
    query(database, "update logins set hashed_ip = repeat('0', 64) where ip is not null")
    plan = Path(operator.variables["BACKFILL_PLAN"])
    plan.write_text(plan.read_text() + "\n[[jobs]]\n" + "\n".join(f'{key} = "{value}"' for key, value in JOB.items()))  # fmt: skip
    assert "--accept-mismatches 2;" in operator.types("run", "logins", "--quiet", expect=2).err
    operator.types("run", "logins", "--quiet", "--no-sample", "--accept-mismatches", 2)
    query(database, "update addresses set hashed_ip_address = repeat('0', 64) where ip_address = '1.1.1.1'")
    said = operator.types("run", "--quiet", expect=2).err
    assert "accept them with --accept-mismatches 3, of which 2 stand beside raw values" in said
    operator.types("run", "--quiet", "--accept-mismatches", 2, expect=2)
    operator.types("run", "--quiet", "--no-sample", "--accept-mismatches", 3)
