"""The grants of docs/roles.md are enough, command by command, and no more than that is given."""

import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.databases import query
from tests.operator import Operator

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "roles.md").read_text(encoding="utf-8")


def grants(heading: str) -> str:
    """The SQL under that heading."""
    section = DOCUMENT.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    block = re.search(r"```sql\n(.*?)```", section, re.DOTALL)
    assert block, heading
    return block.group(1)


class Roles:
    """The document's roles under names of this test's own."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.suffix = uuid.uuid4().hex[:8]
        self.runner, self.owner = f"ip_backfill_{self.suffix}", f"pypi_owner_{self.suffix}"
        self.database = str(make_url(operator.url).database)
        self.query(f"create role {self.runner} login; create role {self.owner}")
        self.query(f"revoke all on database {self.database} from public")
        for (name,) in query(operator.url, "select tablename from pg_tables where schemaname = 'public'"):
            self.query(f"alter table public.{name} owner to {self.owner}")
        self.query(f"grant usage, create on schema public to {self.owner}")

    def query(self, statement: str) -> None:
        query(self.operator.url, statement)

    def give(self, heading: str) -> None:
        text = grants(heading).replace("ip_backfill", self.runner).replace("pypi_owner", self.owner)
        self.query("set search_path = public; " + text.replace("database pypi", f"database {self.database}"))

    @property
    def runs(self) -> Operator:
        url = make_url(self.operator.url).set(drivername="postgresql", username=self.runner)
        return self.operator.having(database_url=url.render_as_string(hide_password=False))

    def forget(self) -> None:
        self.query(f"reassign owned by {self.runner}, {self.owner} to current_user")
        self.query(
            f"drop owned by {self.runner}, {self.owner}; drop role {self.runner}; drop role {self.owner}"
        )


@pytest.fixture
def roles(fresh_demo: Operator) -> Iterator[Roles]:
    made = Roles(fresh_demo)
    yield made
    made.forget()


FIRST = "calibrate, plan, run, settle, merge, repair, verify, report, gates"


def test_the_whole_way_with_the_grants_of_the_document(roles: Roles) -> None:
    roles.give(FIRST)
    operator = roles.runs
    operator.types("calibrate")
    said = operator.types("plan")
    assert "Nothing is in the way" in said.out
    operator.types("run", "--quiet")
    operator.settles_everything()
    operator.types("verify")
    operator.types("report")
    operator.types("gates", "--restore-point", "before", expect=None)
    assert "permission denied for table journals" in operator.is_refused("0002_journals")
    roles.give("seal, migrate, cutover")
    operator.migrates()
    roles.query(f"revoke {roles.owner} from {roles.runner}")
    operator.types("verify")
    roles.give("seal, migrate, cutover")
    said = operator.types("erase", expect=1)
    assert "user_events: vacuum" in said.out.replace("VACUUM FULL", "vacuum")
    assert "pg_statistic: LEFT" in said.out
    said = operator.types("prove", expect=1)


def test_each_grant_is_needed(roles: Roles) -> None:
    """Taken away one by one, each is named by what refuses; so the document asks for nothing too much."""
    roles.give(FIRST)
    roles.runs.types("plan", "--no-sample")
    for table, privilege in (
        ("user_events", "select"),
        ("user_events", "update"),
        ("ip_addresses", "select"),
        ("ip_addresses", "insert"),
        ("ip_addresses", "update"),
        ("journals", "select"),
    ):
        roles.query(f"revoke {privilege} on public.{table} from {roles.runner}")
        said = roles.runs.types("plan", "--no-sample", expect=None)
        assert f"lacks {privilege.upper()} on {table}" in said.out + said.err
        roles.query(f"grant {privilege} on public.{table} to {roles.runner}")
    for privilege, said in (("create", "ledger-schema"), ("temporary", "temporary-tables")):
        roles.query(f"revoke {privilege} on database {roles.database} from {roles.runner}")
        assert said in roles.runs.types("plan", "--no-sample", expect=2).out
        roles.query(f"grant {privilege} on database {roles.database} to {roles.runner}")


def test_seal_is_content_with_trigger_on_the_table(roles: Roles) -> None:
    roles.give(FIRST)
    roles.query(f"grant trigger on public.user_events to {roles.runner}")
    roles.runs.types("run", "--quiet")
    roles.runs.types("seal", "user_events")


def test_a_cutover_with_the_grants_of_the_document(roles: Roles) -> None:
    roles.give(FIRST)
    roles.give("seal, migrate, cutover")
    roles.runs.types("run", "--quiet", "--strategy", "shadow", "team_events")
