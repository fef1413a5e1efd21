"""Jobs whose hash goes into another column, with the place of each address: looked up again from every text."""

import json
from collections.abc import Callable
from pathlib import Path

from tests import rewritten
from tests.databases import query
from tests.integration.test_geo_in_place import city_file, looked_up  # noqa: F401
from tests.integration.test_run import Interrupted, in_order
from tests.operator import Operator

TEXTS = (*rewritten.TEXTS, *rewritten.SPELT, "9.9.9.9", "10.1.2.3", "unknown")
SMALL = ("run", "--quiet", "--batch-blocks", "2")
OWN = {"country_code": "ZZ"}
JOB = {"table": "logins", "raw": "ip", "becomes": "hash", "into": "hashed", "geo": "place"}


def shown(url: str) -> list[tuple]:
    return query(url, "select id, ip, hashed, place from public.logins order by id")


def counted(operator: Operator, expect: int) -> tuple[dict, str]:
    (record,) = json.loads(operator.types("verify", "--format", "json", expect=expect).out)["tables"]
    return record["counts"], " ".join((*record["reasons"], *record["notes"]))


def test_each_row_gets_hash_and_place_and_verify_looks_every_place_up_again(
    database: str,
    home: Path,
    tmp_path: Path,
    city_file: Path,  # noqa: F811
    looked_up: Callable,  # noqa: F811
) -> None:
    query(
        database,
        """create table public.logins (id bigint generated always as identity primary key, ip text, hashed text, place jsonb, note text);
           insert into public.logins (ip, note) select ip, repeat('x', 200) from unnest(%s::text[]) as ip""",
        [text for text in TEXTS if len(text) < 100] * 3 + [None],
    )
    # The application's: a hash without a place, places of its own, what is none and what cannot become one.
    for key, place in ((3, None), (4, "{}"), (5, json.dumps(OWN)), (6, '["DE"]')):
        query(database, "update public.logins set hashed = %s, place = %s where id = %s", rewritten.hashed(TEXTS[key - 1]), place, key)  # fmt: skip
    query(database, "update public.logins set place = case id % 3 when 0 then '{\"city\": \"?\"}' when 1 then 'null' end::jsonb where id > 50")  # fmt: skip
    query(database, f"update public.logins set place = '{json.dumps(OWN)}' where id in (60, 65)")
    before = shown(database)
    operator = rewritten.operator(database, home, rewritten.plan_file(tmp_path, JOB)).having(
        geoip_db=str(city_file), workers="1", passes="2"
    )
    assert "BACKFILL_GEOIP_DB" in operator.having(geoip_db="").types("run", expect=2).err
    operator.types("plan")

    def some(number: int) -> None:
        if number > 3:
            raise Interrupted

    try:
        operator.hooked(before_batch=in_order(some)).types(*SMALL)
    except Interrupted:
        query(database, "truncate backfill.address_map")
    counts, said = counted(operator, 1)
    assert counts["geo_missing"] > 20
    assert (
        f"{counts['geo_missing']} rows lack in place the place that their address has: `backfill run`" in said
    )
    run = operator.types(*SMALL)
    assert "Resuming run 1" in run.out
    own = missing = placed = 0
    for (key, text, was, place), (_, same, hashed, now) in zip(before, shown(database), strict=True):
        assert same == text
        readable = text is not None and rewritten.canonical(text) is not None
        assert hashed == (was or (rewritten.hashed(text) if readable else None)), key
        right = looked_up(text)
        if place in (OWN, ["DE"]) or right is None:
            assert now == place, key
        else:
            assert now == right, key
            placed += 1
        own += now == OWN
        missing += now == ["DE"] and right is not None
    assert own == 3
    waiting = sum(text == "unknown" for _, text, _, _ in before)
    operator.types("quarantine", "settle", "logins", "--as", "discard", "--count", waiting)
    counts, said = counted(operator, 0)
    assert (counts["geo"], counts["own_place_kept"], counts["geo_has_no_place"]) == (
        placed + own,
        own,
        missing,
    )
    assert counts["geo_missing"] == 0
    assert (
        f"places recomputed from the text: {placed} of {placed + own} are what the geo database has now; 3 are"
        in said
    )

    # A place that is taken away, or that was never written, keeps the table from being covered until the next run.
    query(database, "update public.logins set place = null where id = 1; insert into public.logins (ip, hashed) values (%s, %s)", "81.2.1.1", rewritten.hashed("81.2.1.1"))  # fmt: skip
    huge = f'{{"seen": {"9" * 5_000}}}'  # more digits than a reader of JSON takes
    deep = '{"seen": ' + "[" * 3_000 + "]" * 3_000 + "}"
    query(
        database,
        "update public.logins set place = case id when 7 then %s else %s end::jsonb where id in (7, 8)",
        huge,
        deep,
    )
    counts, said = counted(operator, 1)
    assert counts["geo_missing"] == 2
    assert counts["own_place_kept"] == own + 2
    again = operator.types("run", "--quiet")
    assert "logins.place: 2 rows have the place of the address, 0 kept their own, 0 have none" in again.out
    assert counted(operator, 0)[0]["geo_missing"] == 0
    assert "own place kept" in operator.types("report").out
