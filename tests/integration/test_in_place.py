"""Kinds that keep the column: what every row becomes, on a real server, from the command as it is typed."""

import ipaddress
from pathlib import Path

import pytest
from sqlalchemy import make_url

from backfill.database.connection import make_engine
from backfill.hashing.salt import Salt
from backfill.ledger import batches
from backfill.ledger.phases import LINK
from tests import rewritten
from tests.databases import query
from tests.rewritten import SALT, SPELT, TEXTS, UNREADABLE

ALL = (*TEXTS, *SPELT, *UNREADABLE)


def pseudonym(url: str, text: str) -> str:
    ((prefix,),) = query(url, "select prefix from backfill.pseudonym_prefixes")
    return str(Salt(SALT, source="test").pseudonyms(prefix).pseudonym(str(rewritten.canonical(text))))


def one_job(
    url: str, home: Path, folder: Path, type_: str, texts: tuple[str, ...], **keys: object
) -> "rewritten.Operator":
    rewritten.table(url, "logins", type_, texts)
    job = {"table": "logins", "raw": "ip", "unreadable": "keep", **keys}
    return rewritten.operator(url, home, rewritten.plan_file(folder, job))


@pytest.mark.parametrize(
    ("kind", "type_"),
    [(kind, type_) for kind in ("pseudonym", "network") for type_ in ("text", "varchar(45)", "visitor")],
)
def test_each_row_becomes_what_its_text_asks_for_and_nothing_twice(
    database: str, home: Path, tmp_path: Path, kind: str, type_: str, consents
) -> None:
    """A domain over inet is printed as an inet is, without a full mask."""
    texts = (*TEXTS, "10.0.0.0/8") if type_ == "visitor" else tuple(text for text in ALL if len(text) <= 45)
    query(database, "create domain caller as inet; create domain visitor as caller")
    operator = one_job(database, home, tmp_path, type_, texts, becomes=kind)
    before = rewritten.values(database, "logins")
    assert "in the quarantine" not in consents(operator)  # the plan has said what becomes of the unreadable
    after = rewritten.values(database, "logins")
    assert [key for key, _, _ in after] == [key for key, _, _ in before]
    for (_, was, _), (_, now, note) in zip(before, after, strict=True):
        assert note == "kept"
        if was is None or rewritten.canonical(was) is None:
            assert now == was
        else:
            assert now == (pseudonym(database, was) if kind == "pseudonym" else rewritten.network(was))
    operator.types("run", "--quiet")  # again: nothing is left to be done
    assert rewritten.values(database, "logins") == after
    written = query(
        database,
        "select run_id, sum(written) from backfill.batches where phase = 'link' group by 1 order by 1",
    )
    assert written[0][1] > 0
    assert [number for _, number in written[1:]] == [0] * (len(written) - 1)


def test_hash_and_nothing_with_what_the_plan_says_of_texts_that_are_no_address(
    database: str, home: Path, tmp_path: Path, consents
) -> None:
    for name in ("hashes", "blanks", "constants"):
        rewritten.table(database, name, "text", ALL)
    query(database, "alter table constants alter ip set default ''")
    plan = rewritten.plan_file(
        tmp_path,
        {"table": "hashes", "raw": "ip", "becomes": "hash", "unreadable": "nothing"},
        {"table": "blanks", "raw": "ip", "becomes": "nothing", "then": "keep", "unreadable": "keep"},
        {
            "table": "constants",
            "raw": "ip",
            "becomes": "nothing",
            "then": "keep",
            "constant": "-",
            "unreadable": "nothing",
        },
    )
    query(database, "delete from constants where ip is null; alter table constants alter ip set not null")
    operator = rewritten.operator(database, home, plan)
    before = {name: rewritten.values(database, name) for name in ("hashes", "blanks", "constants")}
    consents(operator)
    for name, rows in before.items():
        for (_, was, _), (_, now, _) in zip(rows, rewritten.values(database, name), strict=True):
            readable = was is not None and rewritten.canonical(was) is not None
            if name == "hashes":
                assert now == (rewritten.hashed(was) if was is not None and readable else None)
            elif name == "blanks":
                assert now == (None if readable else was)
            else:
                assert now == "-"


def test_what_a_client_wrote_inside_the_prefix_is_an_address_and_a_copied_pseudonym_is_none(
    database: str, home: Path, tmp_path: Path, consents
) -> None:
    operator = one_job(database, home, tmp_path, "inet", TEXTS, becomes="pseudonym")
    consents(operator)
    ((prefix,),) = query(database, "select prefix from backfill.pseudonym_prefixes")
    made_up, copied = f"fd{prefix:02x}::1", rewritten.values(database, "logins")[0][1]
    query(database, "insert into logins (ip) values (%s), (%s), ('fd00::1'), ('192.0.2.1')", made_up, copied)
    before = rewritten.values(database, "logins")
    operator.types("run", "--quiet")
    after = rewritten.values(database, "logins")
    assert after[:-4] == before[:-4]
    assert [now for _, now, _ in after[-4:]] == [
        pseudonym(database, made_up),
        copied,
        pseudonym(database, "fd00::1"),
        pseudonym(database, "192.0.2.1"),
    ]


def test_a_prefix_that_lives_in_the_data_is_never_drawn(
    database: str, home: Path, tmp_path: Path, consents
) -> None:
    living = tuple(f"fd{byte:02x}:1::1" for byte in range(256) if byte != 0x4A)
    operator = one_job(database, home, tmp_path, "inet", living, becomes="pseudonym")
    consents(operator)
    assert query(database, "select prefix from backfill.pseudonym_prefixes") == [(0x4A,)]


def test_a_trigger_that_changes_what_is_written_fails_the_batch_and_is_named_as_a_cause(
    database: str, home: Path, tmp_path: Path, consents
) -> None:
    operator = one_job(database, home, tmp_path, "text", TEXTS, becomes="network")
    query(
        database,
        """create function up() returns trigger language plpgsql as
           $$ begin new.ip := new.ip || ' '; return new; end $$;
           create trigger up before update on logins for each row execute function up()""",
    )
    before = rewritten.values(database, "logins")
    said = consents(operator, "before-trigger:public.logins.up", expect=1)
    assert "do not hold what was written" in said
    assert rewritten.values(database, "logins") == before


def test_another_key_id_cannot_take_pseudonyms_for_addresses(
    database: str, home: Path, tmp_path: Path, consents
) -> None:
    operator = one_job(database, home, tmp_path, "inet", TEXTS, becomes="pseudonym")
    consents(operator)
    after = rewritten.values(database, "logins")
    said = operator.having(key_id="next", ip_salt="f" * 32).types("run", "--quiet", expect=2)
    assert "pseudonyms of another key cannot be told from addresses" in said.err
    assert rewritten.values(database, "logins") == after
    said = operator.types("migrate", "base", "--down", expect=2)
    assert (
        "without this ledger pseudonyms would be taken for addresses, of key id: default. Keep it."
        in said.err
    )


def test_pseudonyms_are_addresses_that_the_server_takes(
    database: str, home: Path, tmp_path: Path, consents
) -> None:
    operator = one_job(database, home, tmp_path, "varchar(45)", TEXTS, becomes="pseudonym")
    consents(operator)
    for _, now, _ in rewritten.values(database, "logins"):
        assert now is None or str(ipaddress.ip_address(now)) == now
    assert query(database, "select count(*) from logins where ip is not null and ip <> host(ip::inet)") == [
        (0,)
    ]


@pytest.fixture
def consents():
    """Runs with whatever the first run of a definition asks for."""

    def run(operator, *accept: str, expect: int = 0) -> str:
        accepted = [word for name in accept for word in ("--accept", name)]
        said = rewritten.run(operator, "--quiet", *accepted, expect=expect)
        return said.out + said.err

    return run


def test_the_constant_in_the_place_of_a_text_that_is_no_address_is_a_result(
    database: str, home: Path, tmp_path: Path, consents
) -> None:
    texts = ("8.8.8.8", "unknown", "x" * 300)
    for name in ("logins", "others"):
        rewritten.table(database, name, "text", texts)
    jobs = [
        {"table": name, "raw": "ip", "becomes": "hash", "unreadable": "nothing", "constant": constant}
        for name, constant in (("logins", "-"), ("others", "192.0.2.1"))
    ]
    operator = rewritten.operator(database, home, rewritten.plan_file(tmp_path, *jobs))
    consents(operator)
    for name, constant in (("logins", "-"), ("others", "192.0.2.1")):
        found = {now for _, now, _ in rewritten.values(database, name)}
        assert found == {rewritten.hashed("8.8.8.8"), constant, None}
    operator.types("run", "--quiet")
    written = query(database, "select sum(written) from backfill.batches where run_id = 2")
    assert written == [(0,)]
    assert query(database, "select count(*) from backfill.quarantine where decision_id is null") == [(0,)]


def test_an_inet_that_a_trigger_keeps_ends_no_run_and_what_was_written_to_a_moved_table_is_known(
    database: str, home: Path, tmp_path: Path, consents
) -> None:
    operator = one_job(database, home, tmp_path, "inet", TEXTS, becomes="pseudonym")
    query(
        database,
        """create function keeps() returns trigger language plpgsql as
           $$ begin return case when old.id = 1 then null else new end; end $$;
           create trigger keeps before update on logins for each row execute function keeps()""",
    )
    said = consents(operator, "before-trigger:public.logins.keeps")
    assert "stay" in said
    assert "42804" not in said
    before = query(database, "select sum(written) from backfill.batches where phase ~ 'link$'")
    with make_engine(make_url(database), ledger_schema="backfill").begin() as connection:
        batches.forget(connection, 1, phase=LINK)
    kept = query(
        database, "select phase, written from backfill.batches where phase ~ 'link$' and written > 0"
    )
    assert sum(number for _, number in kept) == before[0][0] > 0
    assert "moved-link" in {phase for phase, _ in kept}
