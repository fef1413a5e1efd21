"""What a shell offers: commands, options, and the names of the plan's jobs and tables; without a database."""

import pytest

from tests.operator import Operator

JOBS = ["user_events", "project_events", "file_events", "organization_events", "team_events"]


def offered(line: str, **variables: str) -> list[str]:
    """What bash would show after *line* and a tab."""
    asked = {
        "_BACKFILL_COMPLETE": "bash_complete",
        "COMP_WORDS": f"backfill {line}",
        "COMP_CWORD": str(1 + line.count(" ")),
        # Where nothing answers: to complete, no database is asked.
        "BACKFILL_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    }
    said = Operator("", asked | variables).is_told()
    assert (said.code, said.err) == (0, "")
    return [one.partition(",")[2] for one in said.out.splitlines() if one]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("qu", ["quarantine"]),
        ("quarantine ", ["list", "settle"]),
        ("run ", JOBS),
        ("plan te", ["team_events"]),
        ("plan user_events pro", ["project_events"]),
        ("quarantine settle org", ["organization_events"]),
        ("erase ip", ["ip_addresses"]),
        ("seal jour", ["journals"]),
        ("run --strategy ", ["in-place", "shadow"]),
        ("status --wat", ["--watch"]),
        ("--ver", ["--version"]),
    ],
)
def test_a_shell_is_offered_commands_options_and_names_of_the_plan(line, names):
    assert offered(line) == names


def test_names_come_from_the_plan_that_is_set_and_a_plan_that_cannot_be_read_offers_none(tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text(
        'name = "x"\n[addresses]\ntable = "places"\n[[jobs]]\ntable = "visits"\nraw = "ip"\nlink = "place_id"\n'
    )
    assert offered("run ", BACKFILL_PLAN=str(plan)) == ["visits"]
    plan.write_text("name = ")
    assert offered("run ", BACKFILL_PLAN=str(plan)) == []
    assert offered("run ", BACKFILL_NONSENSE="1") == []
