"""Every error is one line that can be filled from its fields."""

import inspect
import pickle
import string

import pytest

import backfill.errors
from backfill.errors import BackfillError

ERRORS = [
    kind
    for _name, kind in inspect.getmembers(backfill.errors, inspect.isclass)
    if issubclass(kind, BackfillError)
]


def fields(kind: type[BackfillError]) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(kind.__doc__ or "") if name is not None]


@pytest.mark.parametrize("kind", ERRORS)
def test_a_message_is_one_filled_line_and_its_fields_are_readable(kind: type[BackfillError]) -> None:
    detail = {name: f"<{name} {{x}}>" for name in fields(kind)}  # a value with braces is left alone
    error = kind(**detail)
    message = str(error)
    assert message
    assert "\n" not in message
    assert "  " not in message
    for name, value in detail.items():
        assert value in message
        assert getattr(error, name) == value
        message = message.replace(value, "")
    assert "{" not in message
    assert "}" not in message


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_says_who_has_to_act(kind: type[BackfillError]) -> None:
    assert kind.__doc__, "the docstring is the message"
    assert kind.exit_code in (1, 2) or kind in (
        backfill.errors.RunPaused,
        backfill.errors.RunCancelled,  # 3: neither done nor failed
        backfill.errors.DueInProgress,  # 75: no failure of a timer
    )


@pytest.mark.parametrize("kind", [kind for kind in ERRORS if fields(kind)])
def test_a_forgotten_field_is_noticed_where_it_is_raised(kind: type[BackfillError]) -> None:
    with pytest.raises(KeyError):
        kind()


def test_a_detail_of_several_lines_is_folded_into_one() -> None:
    error = backfill.errors.DatabaseUnreachable(url="postgresql://host/db", problem="refused\n\tis it up?\n")
    assert "refused is it up?" in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_of_a_worker_process_arrives_whole(kind: type[BackfillError]) -> None:
    error = kind(**{name: name for name in fields(kind)})
    arrived = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(arrived), str(arrived), arrived.detail) == (kind, str(error), error.detail)
