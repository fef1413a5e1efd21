"""Unique indexes with the raw column: what becomes of rows that would be equal, on a real server, from the typed command."""

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from psycopg2 import sql
from sqlalchemy import make_url

from backfill.database.connection import make_engine, value
from backfill.jobs.collisions import Collisions
from backfill.plan import Plan
from tests import rewritten
from tests.databases import query
from tests.operator import Operator

SCHEMA = """
    create table {name} (id bigint generated always as identity unique, who text, ip {type}, at timestamptz, note text default 'kept');
    {indexes};
"""
INSERT = "insert into {name} (who, ip, at) select who, ip::{type}, now() - make_interval(days => days) from unnest(%s::text[], %s::text[], %s::int[]) as t (who, ip, days)"
# Who, what was written, and how many days ago; then the same again, some older and some newer than what is there.
ROWS = [
    ("ann", "::ffff:81.2.3.4", 9), ("ann", "81.2.3.4", 3), ("bob", "81.2.3.4", 5), ("bob", "2a00:1:2::9", 4),
    ("bob", "2A00:1:2:0:0:0:0:9", 2), ("cid", "81.2.3.4", None), ("cid", "::ffff:81.2.3.4", 400), ("eve", "81.2.3.9", 6),
    ("eve", "81.2.3.0", 6), ("dot", "81.2.3.7", 1), (None, "81.2.3.9", 1), (None, "::ffff:81.2.3.9", 1), ("zoe", None, 1),
]  # fmt: skip
AGAIN = [
    ("ann", "81.2.3.4", 1), ("bob", "81.2.3.4", 8), ("bob", "::ffff:81.2.3.4", 0), ("cid", "81.2.3.4", None), ("fay", "9.9.9.9", 1), (None, "81.2.3.9", 1),
]  # fmt: skip

Row = tuple[str | None, str | None]


def by_who(who: str | None, now: str | None) -> Hashable:
    return None if who is None or now is None else (who, now)


@dataclass(frozen=True)
class Situation:
    """A table of its own: its unique index, what of a row is equal in it once rewritten (None: nothing ever), and its job."""

    name: str
    indexes: str
    equal: Callable[[str | None, str | None], Hashable] = by_who
    type: str = "text"
    job: dict[str, object] = field(default_factory=lambda: {"becomes": "pseudonym"})
    version: int = 140_000


NETWORK: dict[str, object] = {"becomes": "network"}
NOTHING: dict[str, object] = {"becomes": "nothing", "then": "keep"}
SITUATIONS = [
    Situation("plain", 'create unique index "100% u" on plain (who, ip)'),
    Situation("hashes", "alter table hashes add unique (who, ip) deferrable initially deferred", job={"becomes": "hash"}),
    # One of its expressions fails for rows that are not in it.
    Situation("expressions", "create unique index on expressions (lower(ip), (1 / (case when who = 'bob' then 0 else 1 end)), who text_pattern_ops) where upper(lower(upper(who))) <> 'BOB' and ip not like '%x'", lambda who, now: by_who(who, now) if who != "bob" else None, job=NETWORK),
    Situation("nulls", "create unique index on nulls (who, ip) nulls not distinct", lambda who, now: (who, now), version=150_000),
    Situation("inets", "create unique index on inets (who, ip)", type="inet", job=NETWORK),
    Situation("inet_pseudonyms", "create unique index on inet_pseudonyms (ip, who)", type="inet"),
    Situation("citexts", "create unique index on citexts (who, ip)", type="citext", job=NETWORK),
    Situation("computed", "alter table computed add g text generated always as (lower(ip) || who) stored; create unique index on computed (g)", job=NETWORK),
    Situation("everybody", "create unique index on everybody (ip) where note = 'kept'", lambda who, now: now, type="varchar(45)", job=NETWORK),
    Situation("constants", "create unique index on constants (who, ip)", job={**NOTHING, "constant": "-"}),
    Situation("blanks", "create unique index on blanks (who, ip); alter table blanks alter who set default 'x'", job=NOTHING),
    Situation("several", "create unique index a on several (who, ip); create unique index b on several (ip, lower(note), who)"),
    Situation("primary", "delete from \"primary\"; alter table \"primary\" add g text generated always as (coalesce(who, '') || coalesce(ip, '')) stored; alter table \"primary\" add primary key (g)", lambda who, now: (who or "") + (now or ""), job=NETWORK),
]  # fmt: skip
NAMED = {situation.name: situation for situation in SITUATIONS}


def becomes(situation: Situation, text: str | None) -> str | None:
    """What tells results of one text from those of another."""
    if text is None or situation.job["becomes"] == "nothing":
        return None if text is None or "constant" not in situation.job else "-"
    return (
        rewritten.network(text) if situation.job["becomes"] == "network" else str(rewritten.canonical(text))
    )


def fill(url: str, situation: Situation, rows: list[tuple]) -> None:
    names = {"name": f'"{situation.name}"', "type": situation.type}
    upsert = "" if "deferrable" in situation.indexes else " on conflict do nothing"
    query(url, INSERT.format(**names) + upsert, *(list(column) for column in zip(*rows, strict=True)))


def raw(url: str, name: str) -> dict[int, tuple]:
    """By key: who, the text, and the time as a number, NULL before all."""
    found = query(
        url,
        f'select id, who, case when ip is not null then concat(ip) end, coalesce(extract(epoch from at), 0) from "{name}"',
    )
    return {key: rest for key, *rest in found}


def survivors(situation: Situation, rows: dict[int, tuple]) -> set[int]:
    """Of rows that are equal, the newest; of equally new ones, that of the greatest key. *rows*: with what tells results."""
    newest: dict[Hashable, tuple] = {}
    staying = set()
    for key, (who, now, at) in rows.items():
        group = situation.equal(who, now)
        if group is None:
            staying.add(key)
        else:
            newest[group] = max(newest.get(group, (-1, -1)), (at, key))
    return staying | {key for _, key in newest.values()}


def tables(url: str, situations: list[Situation]) -> list[Situation]:
    """Those that the server can have, made."""
    ((version,),) = query(url, "select current_setting('server_version_num')::int")
    found = [situation for situation in situations if situation.version <= version]
    query(url, "create extension if not exists citext")
    for situation in found:
        query(url, SCHEMA.format(name=f'"{situation.name}"', indexes=situation.indexes, type=situation.type))
    return found


def planned(url: str, home: Path, folder: Path, situations: list[Situation], on_duplicate: str) -> Operator:
    jobs = [
        {
            "table": one.name,
            "raw": "ip",
            "unreadable": "keep",
            "time": "at",
            "on_duplicate": on_duplicate,
            **one.job,
        }
        for one in situations
    ]
    folder.joinpath(on_duplicate).mkdir(exist_ok=True)
    return rewritten.operator(url, home, rewritten.plan_file(folder / on_duplicate, *jobs))


def counted(said: str) -> dict[str, int]:
    """What dry runs say, by job."""
    found = re.findall(r"Dry run of (\S+),|equal to another row in a unique index, \w+ +(\d+)", said)
    return {name: int(number) for (name, _), (_, number) in zip(found[::2], found[1::2], strict=True)}


@pytest.mark.parametrize(
    "names",
    [("plain", "expressions"), pytest.param(tuple(NAMED), marks=pytest.mark.slow)],
    ids=["few", "all"],
)
def test_of_rows_that_become_equal_the_newest_stays(
    database: str, home: Path, tmp_path: Path, names: tuple[str, ...]
) -> None:
    situations = tables(database, [NAMED[name] for name in names])
    operator = planned(database, home, tmp_path, situations, "keep-newest")
    refusing = planned(database, home, tmp_path, situations, "refuse")
    accept = [
        word
        for one in situations
        if "generated" in one.indexes
        for word in ("--accept", f"generated-from-raw:public.{one.name}.g")
    ]
    told: dict[str, dict[int, Hashable]] = {one.name: {} for one in situations}
    for number, rows in enumerate((ROWS, AGAIN)):
        expected: dict[str, set[int]] = {}
        lost: dict[str, int] = {}
        for situation in situations:
            fill(database, situation, rows)
            name, known = situation.name, told[situation.name]
            found = raw(database, name)
            for key, (_, ip, _) in found.items():
                known.setdefault(key, becomes(situation, ip))
            expected[name] = survivors(
                situation, {key: (who, known[key], at) for key, (who, _, at) in found.items()}
            )
            lost[name] = len(found) - len(expected[name])
        untouched = {one.name: raw(database, one.name) for one in situations}
        # Counted before anything is done, by the plan that refuses them and by the one that deletes.
        refused = refusing.types("run", "--quiet", *accept, expect=2)
        assert (
            f"plain: {lost['plain']} rows would become equal to another one in a unique index (100% u), and"
            in refused.err
        )
        assert counted(refused.out) == lost
        assert {one.name: raw(database, one.name) for one in situations} == untouched
        if number == 0:
            asked = operator.types("run", "--quiet", *accept, expect=2)
            assert f", and {sum(lost.values())} rows to be deleted as duplicates" in asked.err
            said = operator.types(*rewritten.confirmed(asked)).out
        else:  # consent is given once
            said = operator.types("run", "--quiet", *accept).out
        for name, number_of in lost.items():
            assert re.search(
                rf"{name}: {number_of} rows? (was|were) deleted as (a duplicate|duplicates) of", said
            )
        for situation in situations:
            after = raw(database, situation.name)
            assert set(after) == expected[situation.name], situation
            # What is told apart by the results is what is told apart by the addresses.
            known = told[situation.name]
            assert len({(who, ip) for who, ip, _ in after.values()}) == len(
                {(who, known[key]) for key, (who, _, _) in after.items()}
            )
    total = query(database, "select sum(deleted) from backfill.batches")
    assert total == query(
        database,
        "select count(*) from generate_series(1, %s)",
        sum(len(known) for known in told.values()) - sum(map(len, expected.values())),
    )
    assert re.search(
        r"by the same records, \d+ rows were deleted as duplicates", operator.types("verify").out
    )


def test_what_is_refused_waits_and_stops_nothing(database: str, home: Path, tmp_path: Path) -> None:
    (plain,) = tables(database, [NAMED["plain"]])
    operator = planned(database, home, tmp_path, [plain], "refuse")
    fill(database, plain, [("ann", "81.2.3.4", 3), ("bob", "81.2.3.4", 3)])
    rewritten.run(operator, "--quiet")
    # The application inserts the address again, in two spellings; and one that nobody has.
    fill(database, plain, [("ann", "81.2.3.4", 1), ("ann", "::ffff:81.2.3.4", 0), ("ann", "9.9.9.9", 0)])
    before = raw(database, "plain")
    said = operator.types("run", "--quiet").out
    after = raw(database, "plain")
    assert [after[key] == before[key] for key in (1, 2, 3, 4, 5)] == [True, True, True, True, False]
    assert query(database, "select row_key, reason from backfill.quarantine order by 1") == [
        ("3", "duplicate-result"), ("4", "duplicate-result"),
    ]  # fmt: skip
    assert re.search(r"plain +5 +1 +2 +0 +2 +0\n", said)
    shown = operator.types("verify", expect=1).out
    assert "2 rows hold a raw address: 2 wait for another row" in shown  # a run alone would leave them
    assert "Next: `backfill quarantine list`, then `backfill run`" in shown
    assert "To fix it: `backfill quarantine list plain`, which" in operator.types("gates", expect=1).out
    listed = operator.types("quarantine", "list").out
    assert "duplicate-result" in listed
    assert "decide as shown. Next: `backfill run`, then `backfill verify`" in listed
    # One of them is not needed, and neither is the result.
    query(database, "delete from plain where id in (1, 3)")
    operator.types("run", "--quiet")
    assert raw(database, "plain")[4][1].startswith("fd")
    assert query(database, "select count(*) from backfill.quarantine") == [(0,)]
    operator.types("verify")
    operator.types("gates")


def test_where_nulls_are_equal_a_row_is_looked_up_and_not_looked_for(database: str) -> None:
    """Half of the rows have NULL in the index's first column."""
    query(
        database,
        """create table logins (id int primary key, who text, ip text);
           insert into logins select n, case when n % 2 = 0 then 'u' || n end, '10.0.' || n / 250 || '.' || n % 250 from generate_series(1, 3000) as n;
           create unique index u on logins (who, ip); analyze logins""",
    )
    nulls_are_equal = int(query(database, "show server_version_num")[0][0]) >= 150_000
    if nulls_are_equal:
        query(database, "drop index u; create unique index u on logins (who, ip) nulls not distinct")
    plan = Plan.model_validate(
        {"name": "n", "jobs": [{"table": "logins", "raw": "ip", "unreadable": "keep", **NETWORK, "on_duplicate": "refuse"}]}
    )  # fmt: skip
    counters = "select coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) from pg_stat_xact_user_tables where relname = 'logins'"
    with make_engine(make_url(database), ledger_schema="backfill").begin() as connection:
        collisions = Collisions.of(connection, plan.in_place_jobs[0])
        becomes = sql.SQL("'10.0.' || event.id / 250 || '.' || event.id % 2 + 8")
        lost = list(
            collisions.losing(connection, becomes, sql.SQL("(select) as none"), sql.SQL("event.id < 401"))
        )
        assert collisions.unmatched(connection, lost) == 0
        read = value(connection, sql.SQL(counters))
    # Of those without a name, all but one of each address; before 15 no two of them meet.
    assert len(lost) == (198 if nulls_are_equal else 0)
    assert read < 3 * 3000, read


def test_rows_that_are_equal_once_two_columns_are_rewritten_are_counted_before(
    database: str, home: Path, tmp_path: Path
) -> None:
    """By each column alone none of them meets another one."""
    query(
        database,
        """create table pairs (id int primary key, ip text, peer inet, at timestamptz);
           create unique index on pairs (ip, peer);
           insert into pairs values (1, '81.2.3.4', '81.2.4.4', now()), (2, '::ffff:81.2.3.4', '::ffff:81.2.4.4', now() - interval '1 day'),
                                    (3, '81.2.3.5', '81.2.4.4', now()), (4, '81.2.3.6', '81.2.4.4', now()), (5, '::ffff:81.2.3.6', '81.2.4.4', now())""",
    )
    shared = {"table": "pairs", "unreadable": "keep", "time": "at"}

    def operator(on_duplicate: str) -> Operator:
        jobs = [{**shared, "becomes": becomes, "raw": raw, "on_duplicate": on_duplicate} for raw, becomes in (("ip", "pseudonym"), ("peer", "network"))]  # fmt: skip
        return rewritten.operator(database, home, rewritten.plan_file(tmp_path, *jobs))

    refused = operator("refuse").types("run", "--quiet", expect=2)
    assert counted(refused.out) == {"pairs.ip": 1, "pairs.peer": 1}
    deleting = operator("keep-newest")
    asked = deleting.types("run", "--quiet", expect=2)
    assert counted(asked.out) == {"pairs.ip": 1, "pairs.peer": 1}
    assert "and 2 rows to be deleted as duplicates" in asked.err
    deleting.types(*rewritten.confirmed(asked))
    assert query(database, "select array_agg(id order by id) from pairs") == [([1, 3, 5],)]
    assert query(database, "select sum(deleted) from backfill.batches") == [(2,)]
    deleting.types("verify")
