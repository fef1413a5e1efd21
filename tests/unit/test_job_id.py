"""Identities: no two columns have the same, and neither have the names that are made of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.errors import AmbiguousJob, UnknownJob
from backfill.job_id import LONGEST, helper_name, identity, name_beside
from backfill.plan import PYPI, Addresses, Discard, LinkJob, Plan
from backfill.raw_column import find

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=15)
LONG = "x" * 60
IP = Addresses(table="ip_addresses")


def plan(*parts: LinkJob | Discard, addresses: Addresses = IP) -> Plan:
    jobs = tuple(part for part in parts if isinstance(part, LinkJob)) or PYPI.jobs
    return Plan(
        name="x",
        addresses=addresses,
        jobs=jobs,
        discard=tuple(part for part in parts if isinstance(part, Discard)),
    )


def labels(plan: Plan) -> list[str]:
    return [part.label for part in plan.parts]


@given(st.tuples(NAMES, NAMES, NAMES), st.tuples(NAMES, NAMES, NAMES))
def test_two_columns_never_have_one_identity(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert (identity(*one) == identity(*other)) == (one == other)


def test_dots_quotes_and_case_are_told_apart() -> None:
    ways = [
        ("a.b", "c", "d"),
        ("a", "b.c", "d"),
        ("a", "b", "c.d"),
        ("A", "b", "c"),
        ("a", "b", "c"),
        ('a"', "b", "c"),
    ]
    assert len({identity(*way) for way in ways}) == len(ways)
    assert identity("public", "user_events", "ip") == "public.user_events.ip"
    assert identity("public", 'a."b', "%s") == 'public."a.""b"."%s"'


@pytest.mark.parametrize("one", ["a", LONG + "aaa", "ü" * 31 + "a", "日" * 21])
@pytest.mark.parametrize("other", ["b", LONG + "bbb", "ü" * 31 + "b", "日" * 20 + "本"])
def test_names_that_agree_where_postgresql_cuts_do_not_meet(one: str, other: str) -> None:
    first, second = (helper_name("guard", name, identity("public", name, "ip")) for name in (one, other))
    assert first != second
    assert first.startswith("guard_")
    assert max(len(name.encode()) for name in (first, second)) <= LONGEST
    beside = [
        name_beside(name, suffix) for name in (one, other) for suffix in ("_shadow", "_before_backfill")
    ]
    assert len(set(beside)) == 4
    assert max(len(name.encode()) for name in beside) <= LONGEST


def test_a_table_of_its_own_is_called_by_its_name() -> None:
    assert labels(PYPI) == [*(job.table for job in PYPI.jobs), "ip_addresses", "journals"]
    assert PYPI.jobs[0].identity == "public.user_events.ip_address_string"


def test_what_shares_a_table_is_called_by_its_column_as_well() -> None:
    job, discard = LinkJob(table="users", raw="ip"), Discard(table="users", column="old_ip")
    again = Discard(table="users", column="ip", schema="audit")
    assert labels(plan(job, discard, again)) == ["users.ip", "ip_addresses", "users.old_ip", "audit.users"]
    assert job.label == "users"  # as it stands alone: a plan labels its own copies


def test_labels_that_would_be_equal_are_identities() -> None:
    parts = (
        LinkJob(table="a", raw="b"),
        Discard(table="a", column="c"),
        Discard(table="b", schema="a", column="d"),
    )
    assert labels(plan(*parts)) == ["public.a.b", "ip_addresses", "a.c", "a.b.d"]
    assert len(set(labels(plan(*parts, Discard(table="a.b", column="e"))))) == 5


def test_a_job_is_found_by_whatever_names_it_alone() -> None:
    jobs = LinkJob(table="users", raw="ip"), LinkJob(table="users", raw="old", link="old_id", extra=None)
    found = plan(*jobs, LinkJob(table="events", schema="audit"))
    for name in ("users.ip", "public.users.ip"):
        assert found.job(name).raw == "ip"
    for name in ("events", "audit.events", "audit.events.ip_address_string"):
        assert found.job(name).schema_ == "audit"
    with pytest.raises(AmbiguousJob, match=r"users could be any of: users\.ip, users\.old\."):
        found.job("users")
    with pytest.raises(UnknownJob, match=r"users\.ip, users\.old, audit\.events"):
        found.job("users.new")
    assert [job.raw for job in found.choose(["users.old", "users.ip", "public.users.ip"])] == ["ip", "old"]


def test_the_table_in_public_goes_before_one_of_the_same_name() -> None:
    found = plan(LinkJob(table="events"), LinkJob(table="events", schema="old"))
    assert found.job("events").schema_ == "public"
    assert found.job("old.events").schema_ == "old"


def test_a_job_and_a_discard_of_one_table_are_told_apart_by_what_is_asked() -> None:
    found = plan(LinkJob(table="users", raw="ip"), Discard(table="users", column="old_ip"))
    assert found.job("users").raw == "ip"
    assert find("users", found.discard).column == "old_ip"
    with pytest.raises(AmbiguousJob):
        find("users", found.parts)


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ([LinkJob(table="t", raw="a"), LinkJob(table="t", raw="b")], "have one column, ip_address_id"),
        ([LinkJob(table="t", raw="a"), LinkJob(table="t", raw="b", link="c")], "have one column, additional"),
        ([LinkJob(table="t", raw="a"), LinkJob(table="t", raw="a", link="c", extra=None)], "have one column, a"),
        ([LinkJob(table="t", raw="a"), Discard(table="t", column="a")], "have one column, a"),
        ([LinkJob(table="t"), Discard(table="t", column="ip_address_id")], "have one column, ip_address_id"),
        ([Discard(table="t", column="a"), Discard(table="t", column="a", schema="public")], "have one column, a"),
        ([Discard(table="ip_addresses", column="ip_address")], "have one column, ip_address"),
        ([Discard(table="ip_addresses", column="hashed_ip_address")], "have one column, hashed_ip_address"),
        ([LinkJob(table="t"), Discard(table="t", column="time")], "t.time is the time of a job, and holds raw addresses"),
        ([LinkJob(table="t", key="id"), Discard(table="t", column="id")], "t.id is in the key of a job, and holds raw addresses: name another key"),
        ([LinkJob(table="t", key="ip_address_id")], "t.ip_address_id is in the key of a job, and the job for t.ip_address_string writes it"),
        ([LinkJob(table="t", key="ip_address_string")], "t.ip_address_string is in the key of a job"),
    ],
)  # fmt: skip
def test_a_column_has_one_place_in_a_plan(parts: list[LinkJob | Discard], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        plan(*parts)


def test_a_name_that_postgresql_would_cut_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 63 bytes"):
        LinkJob(table="ü" * 32)
    assert LinkJob(table="ü" * 31).label == "ü" * 31
