"""The benchmarks run, and their contenders do the same work. Nothing is timed here."""

import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import picture, record, report, residue, resolve_alone
from benchmarks.contenders import all_contenders
from benchmarks.ground import ground
from benchmarks.key_batches import KeyBatches
from benchmarks.live_writer import live_writer
from benchmarks.measure import Terms, measure
from benchmarks.orm_loop import OrmLoop
from benchmarks.our_run import OurRun
from benchmarks.our_shadow import OurShadow
from benchmarks.rewrite import Rewrite
from benchmarks.single_update import SingleUpdate
from tests.databases import connect, query

EVENTS = 2_000


@pytest.fixture(scope="module")
def field():
    with ground(EVENTS, 300) as field:
        yield field


@pytest.mark.slow
def test_every_contender_leaves_the_same_rows_and_the_report_says_so(field, tmp_path: Path) -> None:
    terms = Terms(sitting="here", about="somewhere")
    contenders = (
        SingleUpdate(),
        KeyBatches(rows=300),
        OurRun(),
        OurShadow(),
        Rewrite(),
        OrmLoop(rows=100, pause=0),
    )
    found = [measure(field, one, 1, terms) for one in contenders]
    update, batched, ours, shadow, floor, loop = found

    assert update.content == batched.content == ours.content is not None
    assert update.linked == batched.linked == ours.linked > EVENTS / 2
    assert loop.linked == 100
    assert "left the same rows" in report.same_rows(found)
    assert "DIFFER" in report.same_rows([update, replace(ours, content="other")])
    assert update.raw_left == ours.raw_left == update.raw_known > 150  # every text is still in the file
    assert shadow.raw_left == 0
    assert ours.pss_bytes > 10_000_000
    assert (
        floor.fresh_bytes <= floor.table_bytes <= 1.2 * floor.fresh_bytes
    )  # the live writer wrote meanwhile
    assert loop.whole_seconds == loop.seconds * field.waiting / 100
    assert not any(one.write_errors for one in found)

    for one in found:
        one.write(tmp_path / "records")
    again = record.read([tmp_path / "records"])
    assert again == found
    assert len(report.table(again).splitlines()) == len(found) + 2
    drawn = picture.draw([*again, replace(update, series="growth")], tmp_path / "drawn.svg")
    assert all(one.contender in drawn.read_text() for one in found if not one.sampled)
    assert f"{EVENTS:,} events" in report.about(field)


def test_the_demo_has_as_many_addresses_as_were_asked_for(field) -> None:
    assert 290 <= field.made.distinct <= 310


def test_the_live_writer_sees_a_lock(field) -> None:
    with (
        field.site() as site,
        live_writer(site.url) as block,
        closing(connect(site.url, autocommit=False)) as other,
    ):
        time.sleep(0.5)
        other.cursor().execute("lock table user_events")
        time.sleep(0.7)
        other.rollback()
        time.sleep(0.3)
    assert block.statement >= 0.6
    assert block.operations > 10


def test_a_text_in_the_file_is_found_and_a_longer_one_is_not_taken_for_it(field) -> None:
    with field.site() as site:
        query(
            site.url, "update user_events set ip_address_string = '123.45.67.89' where ip_address_id is null"
        )
        assert residue.left(site.url, frozenset({b"123.45.67.89"})) == 1
        assert residue.left(site.url, frozenset({b"23.45.67.89", b"123.45.67.8"})) == 0


def test_resolve_is_measured_beside_a_bare_load(field) -> None:
    (found,) = resolve_alone.measure(field, 1)
    assert found.texts > 250
    assert found.resolve > 0
    assert found.bare > 0
    assert "resolve / bare" in resolve_alone.table([found])


def test_contenders_have_names_of_their_own() -> None:
    names = [one.name for one in all_contenders()]
    assert len(names) == len(set(names)) == 8
