"""docs/kinds.md: its examples are what the code makes, its kinds are those of the plan."""

import re
from ipaddress import ip_address
from typing import get_args

from backfill.addresses import network_text
from backfill.ledger.counts import Count
from backfill.plan import IN_PLACE, LINK, InPlaceJob
from backfill.raw_column import Widths
from tests.operator import ROOT
from tests.unit.test_hashing import PEPA

TEXT = (ROOT / "docs" / "kinds.md").read_text(encoding="utf-8")
ADDRESSES = ("1.2.3.4", "2001:db8::1")


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table under that heading, without its head."""
    section = TEXT[TEXT.index(f"## {heading}") :]
    found = [line for line in section.split("\n## ")[0].splitlines() if line.startswith("|")]
    table = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in found]
    return table[2:]


def test_its_examples_are_what_the_code_makes() -> None:
    said = {row[0]: row[1:3] for row in rows("What an address becomes")}
    assert list(said) == [LINK, *IN_PLACE]
    pseudonyms, hasher, widths = PEPA.pseudonyms(0x4A), PEPA.hasher("sha256-suffix"), Widths()
    assert said["pseudonym"] == [pseudonyms.pseudonym(text) for text in ADDRESSES]
    assert said["hash"] == [hasher(text) for text in ADDRESSES]
    assert said["network"] == [network_text(ip_address(text), widths.v4, widths.v6) for text in ADDRESSES]


def test_it_has_every_kind_and_every_fate_of_an_unreadable_text() -> None:
    assert [row[0] for row in rows("What a proof can say")] == [LINK, *IN_PLACE]
    heading = TEXT[TEXT.index("## What is kept and lost") :].splitlines()[1]
    assert re.findall(r"`([a-z]+)`", heading) == [LINK, *IN_PLACE]
    fates = get_args(InPlaceJob.model_fields["unreadable"].annotation)
    assert [row[0] for row in rows("Texts that are no address")] == list(fates)
    assert {name for name in re.findall(r"`([a-z]+_[a-z]+)`", TEXT) if name in set(Count)} == {
        Count.KEPT_UNREADABLE,
        Count.FOREIGN_PREFIX,
    }
