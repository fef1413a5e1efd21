"""The chain that lies in the folder is the one of the list, change by change, and in its order."""

from alembic.config import Config
from alembic.script import ScriptDirectory

from backfill.database import revisions
from backfill.gates import __all__ as public
from backfill.gates.checklist import checklist
from backfill.gates.gate import Gate
from backfill.gates.steps import FIRST, steps
from backfill.plan import PYPI

GATE = Gate(PYPI, "0", "backfill", None, 0.0, 500)


def test_the_revisions_are_those_of_the_list_in_its_order():
    config = Config()
    config.set_main_option("script_location", str(revisions.folder()))
    walked = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert walked[::-1] == [FIRST, *(revision for step in steps(GATE) for revision in step.revisions)]


def test_each_calls_what_gates_offer_for_a_chain_of_the_applications_own():
    for step in steps(GATE):
        calls = [call.partition("(")[0] for call in step.call.split(", then ")]
        assert len(calls) == len(step.revisions)
        assert set(calls) <= set(public)


def test_the_checklist_goes_through_all_of_them():
    text = " ".join(what for _, what in checklist(GATE))
    last_of_each_kind = {step.call.partition("(")[0]: step.revisions[-1] for step in steps(GATE)}
    assert [name for name in last_of_each_kind.values() if f"`backfill migrate {name}`" not in text] == []


def test_the_checklist_of_a_plan_without_jobs_goes_to_the_last_drop():
    """What PyPI has left today: only the address table. It failed at the first job, which is none."""
    told = checklist(Gate(PYPI.model_copy(update={"jobs": ()}), "0", "backfill", None, 0.0, 500))
    assert any("drops ip_addresses.ip_address" in what for _, what in told)
    assert not any("user_events" in what for _, what in told)
