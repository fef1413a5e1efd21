"""What is retried, and what never is."""

import psycopg2
import pytest
from psycopg2 import errorcodes

from backfill.database import transient
from backfill.database.transient import LIMITS, TransientError, transient_error_of


def with_state(monkeypatch, state):
    monkeypatch.setattr(transient, "sqlstate_of", lambda error: state)
    return psycopg2.OperationalError()


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (errorcodes.SERIALIZATION_FAILURE, TransientError.SERIALIZATION),
        (errorcodes.DEADLOCK_DETECTED, TransientError.DEADLOCK),
        (errorcodes.LOCK_NOT_AVAILABLE, TransientError.LOCK_TIMEOUT),
        (errorcodes.QUERY_CANCELED, TransientError.STATEMENT_TIMEOUT),
        (errorcodes.READ_ONLY_SQL_TRANSACTION, TransientError.READ_ONLY),
        (errorcodes.ADMIN_SHUTDOWN, TransientError.CONNECTION_LOST),
        (errorcodes.CANNOT_CONNECT_NOW, TransientError.CONNECTION_LOST),
        (errorcodes.CONNECTION_FAILURE, TransientError.CONNECTION_LOST),
        (None, TransientError.CONNECTION_LOST),
    ],
)
def test_what_passes(monkeypatch, state, kind):
    assert transient_error_of(with_state(monkeypatch, state)) is kind


@pytest.mark.parametrize(
    "state",
    [
        errorcodes.UNIQUE_VIOLATION,
        errorcodes.UNDEFINED_COLUMN,
        errorcodes.INSUFFICIENT_PRIVILEGE,
        errorcodes.DISK_FULL,
        errorcodes.INVALID_TEXT_REPRESENTATION,
        errorcodes.RAISE_EXCEPTION,
    ],
)
def test_what_would_come_again(monkeypatch, state):
    assert transient_error_of(with_state(monkeypatch, state)) is None


def test_a_bug_of_ours_is_no_trouble():
    assert transient_error_of(ValueError()) is None


def test_every_trouble_has_a_limit():
    assert set(LIMITS) == set(TransientError)
