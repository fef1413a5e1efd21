"""The benchmarks run, and their contenders do the same work. Nothing is timed here."""

from benchmarks import report
from benchmarks.ground import ground
from benchmarks.measure import measure
from benchmarks.memory import peak
from benchmarks.orm_loop import OrmLoop
from benchmarks.our_run import OurRun
from benchmarks.single_update import SingleUpdate

EVENTS = 2_000


def test_every_contender_leaves_the_same_rows_and_the_report_says_so():
    with ground(EVENTS) as field:
        ours, update = measure(field, OurRun()), measure(field, SingleUpdate())
        loop = measure(field, OrmLoop(rows=100, pause=0))
        held = peak(field)

        assert ours.content == update.content
        assert ours.linked == update.linked > EVENTS / 2
        assert loop.linked == 100
        assert "left the same rows" in report.same_rows([ours, update, loop])
        assert len(report.table([update, ours, loop]).splitlines()) == 6
        assert held.pss_bytes > 0
        assert f"{EVENTS:,} events" in report.about(field)
