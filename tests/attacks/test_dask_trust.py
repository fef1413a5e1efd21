"""What a Dask cluster is trusted with: nothing without certificates, and no result without a look at it."""

import pickle

import pytest

from backfill.database.transient import TransientError
from backfill.engine import batch_result, dask_security, worker
from backfill.engine.run_batch import BatchResult, RetryPolicy
from backfill.engine.worker import BatchRef
from backfill.errors import DaskInsecure, ExecutorUnusable
from backfill.ledger.batches import PassCounts
from backfill.plan import load_plan
from tests.operator import Operator

pytest.importorskip("distributed")
ACCOUNT = PassCounts(rows=5, already_linked=1, written=3, quarantined=1, seconds=0.5)
OUTCOMES = [
    BatchResult(7, ACCOUNT),
    BatchResult(7, PassCounts()),
    BatchResult(7, error="42501: permission denied"),
    BatchResult(7, halved=TransientError.LOCK_TIMEOUT),
    BatchResult(7, stopped=True),
    BatchResult(7, lost=True),
    BatchResult(7, rewritten=True),
    BatchResult(7, map_incomplete=True),
]


@pytest.fixture
def configured(tmp_path, monkeypatch):
    """Three files, as Dask's variables name them."""
    for name, variable in dask_security.VARIABLES.items():
        path = tmp_path / name
        path.write_text("a certificate\n")
        path.chmod(0o600)
        monkeypatch.setenv(variable, str(path))
    import dask

    with dask.config.set({}):
        dask.config.refresh()
        yield tmp_path
    monkeypatch.undo()
    dask.config.refresh()


@pytest.mark.parametrize(
    "address",
    [
        "tcp://scheduler:8786",
        "tcp://127.0.0.1:8786",
        "tcp://[::1]:8786",
        "127.0.0.1:8786",
        "ws://h:1",
        "inproc://x",
        "",
    ],
)
def test_an_address_without_tls_is_refused_on_loopback_too(configured, address):
    with pytest.raises(DaskInsecure, match="tls:// address") as caught:
        dask_security.security(address)
    assert "--protocol tls" in str(caught.value)
    assert "--tls-ca-file" in str(caught.value)


@pytest.mark.parametrize("missing", dask_security.VARIABLES)
def test_each_file_has_to_be_named_and_there(configured, monkeypatch, missing):
    import dask

    assert dask_security.security("tls://h:8786")
    variable = dask_security.VARIABLES[missing]
    monkeypatch.setenv(variable, str(configured / "gone"))
    dask.config.refresh()
    with pytest.raises(DaskInsecure, match="No such file"):
        dask_security.security("tls://h:8786")
    monkeypatch.delenv(variable)
    dask.config.refresh()
    with pytest.raises(DaskInsecure, match=f"{variable} is not set"):
        dask_security.security("tls://h:8786")


def test_a_key_that_others_may_read_is_refused(configured):
    (configured / "tls_client_key").chmod(0o644)
    with pytest.raises(DaskInsecure, match="chmod 600"):
        dask_security.security("tls://h:8786")


def test_a_worker_or_scheduler_that_also_listens_in_the_clear_ends_the_run():
    dask_security.require_encrypted("tls://h:1", ["tls://a:1", "tls://b:1"])
    with pytest.raises(DaskInsecure, match="worker tcp://b:1 listens without TLS"):
        dask_security.require_encrypted("tls://h:1", ["tls://a:1", "tcp://b:1"])
    with pytest.raises(DaskInsecure, match="scheduler tcp://h:1 listens without TLS"):
        dask_security.require_encrypted("tcp://h:1", [])
    assert issubclass(DaskInsecure, ExecutorUnusable)  # what the driver ends a run by


def test_run_refuses_before_it_does_anything(fresh_demo: Operator):
    said = fresh_demo.types("run", "--quiet", "--dask", "tcp://127.0.0.1:8786", expect=2)
    assert "it is not a tls:// address" in said.err
    assert "Calibrated" not in said.out


@pytest.mark.parametrize("outcome", OUTCOMES, ids=str)
def test_a_result_travels_as_plain_data(outcome):
    plain = batch_result.as_plain(outcome)
    assert batch_result.from_plain(plain, 7) == outcome
    assert b"backfill" not in pickle.dumps(plain)  # no class of ours, nor anybody's


@pytest.mark.parametrize("variable", ["BACKFILL_IP_SALT", "BACKFILL_IP_SALT_FILE"])
def test_a_worker_whose_environment_names_the_salt_does_not_work(monkeypatch, variable):
    monkeypatch.setenv(variable, "a salt that a worker has no use for")
    monkeypatch.setattr(worker, "_bench", None)
    answer = worker.link_from_environment(
        BatchRef(1, "public.user_events.ip_address_string", 1), "backfill", "", RetryPolicy()
    )
    assert "start it without BACKFILL_IP_SALT" in answer[batch_result.REFUSED]
    assert "no use for" not in str(answer)


def test_a_worker_whose_plan_lets_other_values_be_copied_does_not_work(monkeypatch, tmp_path):
    theirs = tmp_path / "plan.toml"
    theirs.write_text(
        'name = "n"\naccept = ["before-trigger:public.a.b"]\n[[jobs]]\ntable = "a"\nraw = "ip"\nbecomes = "hash"\nunreadable = "keep"\n'
    )
    plan = load_plan(theirs)
    assert worker.digest_of(plan) == worker.digest_of(plan.model_copy(update={"accept": ()}))
    monkeypatch.setenv("BACKFILL_PLAN", str(theirs))
    monkeypatch.setenv("BACKFILL_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setattr(worker, "_bench", None)
    ours = plan.model_copy(update={"accept": (*plan.accept, "raw-copied:public.history.ip")})
    answer = worker.link_from_environment(
        BatchRef(1, "public.a.ip", 1), "backfill", worker.digest_of(ours), RetryPolicy()
    )
    assert 'its "accept" names other copies' in answer[batch_result.REFUSED]
    worker.stop()


class Evil(dict):
    """Not plain, however it looks."""


GOOD = batch_result.as_plain(BatchResult(7, ACCOUNT))
ODD_ACCOUNTS = [
    {"written": -1},
    {"written": True},
    {"written": 1.5},
    {"written": 2**63},
    {"written": "1"},
    {"already_linked": "none"},
    {"seconds": float("nan")},
    {"seconds": float("inf")},
    {"seconds": -1.0},
    {"more": 1},
]
ODD = [
    None,
    7,
    "done",
    [],
    {},
    b"",
    Evil(GOOD),
    BatchResult(7, ACCOUNT),
    GOOD | {"batch_id": 8},
    GOOD | {"batch_id": "7"},
    GOOD | {"batch_id": True},
    GOOD | {"more": 1},
    {name: value for name, value in GOOD.items() if name != "lost"},
    GOOD | {"lost": 1},
    GOOD | {"lost": True},  # and an counts
    GOOD | {"counts": None},  # nothing at all
    GOOD | {"counts": ACCOUNT},
    GOOD | {"counts": None, "error": 1},
    GOOD | {"counts": None, "error": "x" * 3_000},
    GOOD | {"counts": None, "halved": "no-such-trouble"},
    GOOD | {"counts": None, "halved": []},
    *(GOOD | {"counts": GOOD["counts"] | odd} for odd in ODD_ACCOUNTS),
]


@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[-60:])
def test_what_is_no_result_of_that_batch_is_not_used(value):
    with pytest.raises(batch_result.NotAResult) as caught:
        batch_result.from_plain(value, 7)
    assert len(str(caught.value)) < 60
