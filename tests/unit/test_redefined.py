"""What becomes of rows that were rewritten in place under another definition."""

import pytest

from backfill.database.preflight.finding import Severity
from backfill.database.preflight.redefined import Rewritten, check
from backfill.database.preflight.target import Purpose
from backfill.plan import InPlaceJob, IntoJob, Job, LinkJob
from backfill.raw_column import Widths

WIDE, NARROW = {"v4": 16, "v6": 32}, {"v4": 31, "v6": 64}


def job(becomes: str, **keys: object) -> InPlaceJob:
    given = {"table": "logins", "raw": "ip", "becomes": becomes, "unreadable": "keep", **keys}
    return InPlaceJob.model_validate(given | ({"then": "keep"} if becomes == "nothing" else {}))


def before(becomes: str, *, constant: str | None = None, same: bool = True, rows: int = 7) -> Rewritten:
    identity = job("hash").identity
    return Rewritten(identity, rows, becomes, Widths(), constant, "old", same, "monday")


LINK = LinkJob(table="logins", raw="ip", link="address_id", extra=None)
INTO = IntoJob(table="logins", raw="ip", becomes="hash", into="hashed_ip")
CASES = [
    ("pseudonym", {}, job("hash"), "would be taken for some"),
    ("pseudonym", {}, job("network"), "would be taken for some"),
    ("pseudonym", {}, LINK, "would be taken for some"),
    ("pseudonym", {}, INTO, "would be taken for some"),
    ("hash", {}, INTO, "a hash is no address"),
    ("nothing", {}, INTO, None),
    ("pseudonym", {"same": False}, job("pseudonym"), "pseudonyms of another key"),
    ("pseudonym", {}, job("pseudonym", unreadable="nothing"), None),
    ("pseudonym", {}, job("nothing"), None),
    ("network", {}, job("hash"), "would be taken for some"),
    ("network", {}, LINK, "would be taken for some"),
    ("network", {}, job("network", widths=WIDE), None),
    ("network", {}, job("network", widths=NARROW), None),
    ("network", {"same": False}, job("network"), None),
    ("hash", {}, job("pseudonym"), "a hash is no address"),
    ("hash", {}, LINK, "a hash is no address"),
    ("hash", {"same": False}, job("hash"), None),
    ("hash", {}, job("nothing"), None),
    ("nothing", {}, job("hash"), None),
    ("nothing", {"constant": "-"}, LINK, None),
    ("nothing", {"constant": "0.0.0.0"}, job("hash"), "the constant"),  # noqa: S104
    ("nothing", {"constant": "::"}, job("nothing", constant="-"), None),
]


@pytest.mark.parametrize(("was", "keys", "now", "reason"), CASES)
def test_whether_a_job_can_go_on(was: str, keys: dict, now: Job, reason: str | None) -> None:
    for purpose in (Purpose.PLAN, Purpose.WRITE, Purpose.COPY):
        (found,) = check([now], [before(was, **keys)], purpose)
        assert (found.severity is Severity.BLOCKS) is (reason is not None)
        assert found.subject == "public.logins.ip"
        assert "under key id old, rewrote 7 rows of logins" in found.text
        assert reason is None or (
            reason in found.text and ("monday" in found.fix or "BACKFILL_KEY_ID=old" in found.fix)
        )


def test_what_becomes_of_networks() -> None:
    def said(**widths: int) -> str:
        (found,) = check([job("network", widths=widths)], [before("network")], Purpose.PLAN)
        return found.text

    assert "as networks (/24 and /48). They become coarser (/16 and /48)." in said(v4=16)
    assert "do not come back" in said(v6=64)
    assert "coarser" in said(v4=16, v6=64)
    assert "do not come back" in said(v4=16, v6=64)


def test_nothing_is_said_where_no_row_was_rewritten_or_none_is_written_now() -> None:
    assert not list(check([job("hash")], [before("pseudonym", rows=0)], Purpose.WRITE))
    assert not list(check([job("hash")], [before("pseudonym")], Purpose.READ))
    other = InPlaceJob(table="sessions", raw="ip", becomes="hash", unreadable="keep")
    assert not list(check([other], [before("pseudonym")], Purpose.WRITE))
