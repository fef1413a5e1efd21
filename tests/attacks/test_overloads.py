"""Another role's code does not run as us: whatever it makes in a schema of our path, no statement of ours calls it."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import make_url

from backfill.database import open_sessions
from tests.attacks.overloads import TAKEN, take_over
from tests.chain import goes_the_whole_way
from tests.databases import connect, query
from tests.operator import Operator


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Statements that our sessions ran; and which of them called something of somebody else, by what it called."""
    found: dict[str, set[str]] = {"statements": set()}
    note = open_sessions.Cursor._note

    def listening(self: Any, method: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return note(self, method, *arguments, **options)
        finally:
            said = (self.query or b"").decode(errors="replace")
            found["statements"].add(said)
            for notice in self.connection.notices:
                if TAKEN in notice:
                    found.setdefault(notice.partition(TAKEN)[2].strip(), set()).add(said)
            self.connection.notices.clear()

    monkeypatch.setattr(open_sessions.Cursor, "_note", listening)
    return found


@pytest.fixture
def stranger(server_url: str) -> Iterator[str]:
    """Whose objects they are. A superuser, whom the preflight trusts: else it would name them and end the command."""
    name = f"stranger_{uuid.uuid4().hex[:8]}"
    query(server_url, f"create role {name} superuser")
    yield name
    query(server_url, f"drop role if exists {name}")


def lends_itself(url: str) -> set[str]:
    """What a session without our settings calls there: the attack works."""
    with closing(connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "select lower('A'::text), count(*) from (values ('x'::text)) as v (t) where t = 'x'::text"
        )
        return {notice.partition(TAKEN)[2].strip() for notice in connection.notices}


def copies_a_table(operator: Operator) -> Any:
    """The other strategy, to the end: a copy in another order of columns, swapped in, the old table dropped."""
    operator.types("run", "user_events", "--strategy", "shadow", "--quiet", expect=None)
    number = len(operator.waiting("user_events"))
    operator.types("quarantine", "settle", "user_events", "--as", "sentinel", "--count", number)
    number = len(operator.waiting("ip_addresses"))
    operator.types("addresses", "merge", "--count", number)
    operator.types("run", "user_events", "--strategy", "shadow", "--quiet")
    operator.types("cutover", "user_events")
    operator.types("cutover", "--finish", "user_events")
    return query(
        operator.url,
        "select e.id::pg_catalog.text, additional::pg_catalog.text, hashed_ip_address from public.user_events e"
        " left join public.ip_addresses a on a.id operator(pg_catalog.=) ip_address_id order by 1",
    )


@pytest.mark.parametrize("way", [goes_the_whole_way, pytest.param(copies_a_table, marks=pytest.mark.slow)])
def test_no_overload_of_what_we_call_is_called_by_us(
    fresh_demo: Operator,
    operator_of: Any,
    stranger: str,
    heard: dict[str, set[str]],
    way: Callable[[Operator], Any],
) -> None:
    before = way(fresh_demo)
    statements = heard.pop("statements")
    heard["statements"] = set()
    assert len(statements) > 100
    attacked = operator_of("demo")
    name = make_url(attacked.url).database
    query(attacked.url, f"grant create, usage on schema public to {stranger}")
    # The worst path: what is not in pg_catalog is found first, be it of the same types.
    query(attacked.url, f"alter database {name} set search_path = public, pg_catalog")
    try:
        assert take_over(attacked.url, stranger, statements) > 1_000
        assert lends_itself(attacked.url) == {"lower(text)", "text = text", "count(*)", "type text"}
        after = way(attacked)
    finally:
        query(attacked.url, f"alter database {name} reset all")
        query(attacked.url, f"set search_path = pg_catalog; drop owned by {stranger} cascade")
    heard.pop("statements")
    assert {called: sorted(by)[0][:500] for called, by in heard.items()} == {}
    assert after == before
