"""URLs are shown, and libpq's messages repeated, without a password, wherever in the URL it stands."""

import psycopg2
import pytest

from backfill.database import session
from backfill.database.urls import masked, parse, place, shown
from backfill.errors import SettingInvalid

SECRET = "hush-hush"
ODD = [
    f"postgresql://me:{SECRET}@127.0.0.1:1/db",
    f"postgresql://me:%68ush-hush%40x@127.0.0.1:1/db?sslpassword={SECRET}",
    f"postgresql://me@127.0.0.1:1/db?password={SECRET}",
    f"postgresql://me@127.0.0.1:1/db?sslpassword={SECRET}",
    f"postgresql:///db?host=127.0.0.1&port={SECRET}",
    f"postgresql://127.0.0.1/db?user=me:{SECRET}",
    f"postgresql://me%3A{SECRET}@127.0.0.1:1/db",
    f"postgresql://me:first@{SECRET}@127.0.0.1:1/db",
    f"postgresql://me:1@{SECRET}@127.0.0.1:1/db",
    f"postgresql://us/er:{SECRET}@127.0.0.1:1/db",
    f"postgresql://127.0.0.1:1/me:{SECRET}@db",
    f"postgresql://127.0.0.1:1/db?options=-cmy.secret%3D{SECRET}",
    f"postgresql://127.0.0.1:1/db?pass={SECRET}",
    f"postgresql://me@/db?host=x:{SECRET}@127.0.0.1&port=1",
    f"postgresql://127.0.0.1:1/db?connect_timeout={SECRET}",
    f"postgresql://me:{SECRET}@[::1]:1/db",
]


@pytest.mark.parametrize("text", ODD)
def test_no_password_is_shown_or_repeated(text: str) -> None:
    url = parse(text, "BACKFILL_DATABASE_URL")
    assert SECRET not in shown(url)
    assert "hush" not in place(url)
    parameters = url.translate_connect_args(username="user", database="dbname") | dict(url.query)
    with pytest.raises(psycopg2.Error) as caught:
        session.connect(**parameters)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("text", [SECRET, f"postgresql://me:x@host:{SECRET}/db", f"host=h password={SECRET}"])
def test_what_is_no_url_is_not_repeated(text: str) -> None:
    with pytest.raises(SettingInvalid) as caught:
        parse(text, "BACKFILL_DATABASE_URL")
    assert SECRET not in str(caught.value)


def test_what_is_harmless_is_shown() -> None:
    text = "postgresql://me@db.example:5433/pypi?sslmode=verify-full&target_session_attrs=any"
    assert shown(parse(text, "x")) == text
    assert place(parse("postgresql://me:x@db.example:5433/pypi", "x")) == "db.example:5433"
    assert shown(parse("postgresql://me:x@[::1]:5433/pypi", "x")) == "postgresql://me:***@[::1]:5433/pypi"


def test_a_password_of_a_few_letters_hides_the_whole_message() -> None:
    assert "abc" not in masked('invalid value "abc" near xabcx', {"password": "abc"})


def test_our_own_parameters_hide_no_message() -> None:
    message = 'connection to server at "10.0.4.1", port 5432 failed: FATAL:  database "x4" does not exist'
    assert masked(message, session.parameters({"host": "10.0.4.1", "requirepeer": "nobody"})) == message
