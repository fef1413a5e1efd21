"""Phases: names are stable, since the ledger and dashboards keep them."""

import pytest

from backfill.ledger.batches import MOVED, SHARED
from backfill.ledger.phases import CLOSE, COMPARE, COPY, FILL, INDEX, LINK, RESOLVE, Phase, Work, named

NAMES = {
    RESOLVE: "resolve",
    LINK: "link",
    FILL: "fill",
    CLOSE: "close",
    COPY: "copy",
    INDEX: "index",
    COMPARE: "compare",
    Phase(Work.RESOLVE, 1): "sweep-1-resolve",
    Phase(Work.LINK, 12): "sweep-12-link",
    MOVED: "moved-link",
    SHARED: "shared-link",
}


@pytest.mark.parametrize(("phase", "name"), NAMES.items(), ids=NAMES.values())
def test_a_phase_keeps_its_name_and_is_found_by_it(phase: Phase, name: str) -> None:
    assert (phase.name, str(phase), named(name)) == (name, name, phase)


@pytest.mark.parametrize(
    "name", ["", "sweep", "sweep-1", "sweep-0-link", "sweep-x-link", "sweep-1-links", "uplink"]
)
def test_what_is_no_name_of_a_phase_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"number|not a valid|invalid literal"):
        named(name)


def test_sweeps_share_a_batch_size_by_what_they_do_and_a_line_in_reports() -> None:
    sweeps = [Phase(Work.LINK, 1), Phase(Work.LINK, 2), Phase(Work.RESOLVE, 1)]
    assert len({phase.cost for phase in [LINK, RESOLVE, *sweeps]}) == 4
    assert {phase.group for phase in sweeps} == {"sweep"}
    assert {phase.group for phase in (LINK, MOVED, SHARED)} == {"link"}  # nothing of it was swept
    assert [phase.by_workers for phase in (*sweeps, LINK, RESOLVE, FILL)] == [
        True,
        True,
        False,
        True,
        False,
        False,
    ]
