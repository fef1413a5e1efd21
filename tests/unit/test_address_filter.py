"""What a log shows in the place of addresses: by ``logging``, by gunicorn."""

import io
import logging
import time
from datetime import timedelta
from ipaddress import ip_address
from types import SimpleNamespace

import pytest
from gunicorn.config import Config
from hypothesis import given
from hypothesis import strategies as st

from backfill.hashing.salt import Salt
from backfill.web import AddressFilter, Client, Key, Pseudonymizer
from backfill.web.gunicorn_logger import HashLogger

PSEUDONYMIZER = Pseudonymizer(Key("2025", Salt("correct horse battery staple", source="test")))
FOUR, SIX = "198.51.100.7", "2001:db8::7"
HASH, HASH_OF_SIX = PSEUDONYMIZER.hash(FOUR), PSEUDONYMIZER.hash(SIX)


@pytest.fixture
def log():
    """A logger whose lines are in ``written``."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.addFilter(AddressFilter(PSEUDONYMIZER))
    logger = logging.Logger("test")  # noqa: LOG001  # of nobody else
    logger.addHandler(handler)
    return SimpleNamespace(logger=logger, handler=handler, written=written)


@pytest.mark.parametrize(
    ("message", "arguments", "expected"),
    [
        ("login from %s", (FOUR,), f"login from {HASH}"),
        ("login from %r", (FOUR,), f"login from '{HASH}'"),
        ("login from %s", (ip_address(SIX),), f"login from {HASH_OF_SIX}"),
        (f"[{SIX}]:443 and {FOUR}:80", (), f"[{HASH_OF_SIX}]:443 and {HASH}:80"),
        (f"100 % of {FOUR}", (), f"100 % of {HASH}"),
        ("%(who)s", ({"who": FOUR},), HASH),
        ("%d.%d.%d.%d", (198, 51, 100, 7), HASH),
        (ValueError(FOUR), (), HASH),
        ("%d s, %.2f, %s", (3, 0.25, None), "3 s, 0.25, None"),
        ("version 1.2.3 at 10:11:12", (), "version 1.2.3 at 10:11:12"),
        ("Mozilla/5.0 Chrome/120.0.0.0", (), "Mozilla/5.0 Chrome/120.0.0.0"),
        (
            f"peer:{SIX}:443, %28{FOUR}%29 /a/{FOUR}/",
            (),
            f"peer:{PSEUDONYMIZER.hash(SIX + ':443')}, %28{HASH}%29 /a/{HASH}/",
        ),
        ("2001:db8:1:2:3:4:5:6:443.", (), f"{PSEUDONYMIZER.hash('2001:db8:1:2:3:4:5:6')}:443."),
        (f"::ffff:{FOUR}. {SIX}.", (), f"{HASH}. {HASH_OF_SIX}."),
        ("std::vector :: 1.2.3.4.5 v1.2.3.4 10:11:12.5", (), "std::vector :: 1.2.3.4.5 v1.2.3.4 10:11:12.5"),
        (
            "[26/Nov/2026:21:24:43 +0000] 02:42:ac:11:00:02",
            (),
            "[26/Nov/2026:21:24:43 +0000] 02:42:ac:11:00:02",
        ),
        (f"\udcff {FOUR} ä", (), f"\udcff {HASH} ä"),
    ],
)
def test_an_address_in_a_record_is_its_hash(log, message, arguments, expected):
    log.logger.warning(message, *arguments)
    assert log.written.getvalue().rstrip("\n") == expected


def test_a_traceback_and_further_fields_show_hashes(log):
    log.handler.setFormatter(logging.Formatter("%(client)s %(message)s"))
    try:
        raise ValueError(f"no route to {FOUR}")  # noqa: TRY301
    except ValueError:
        log.logger.exception("failed", extra={"client": SIX}, stack_info=True)
    written = log.written.getvalue()
    assert written.startswith(f"{HASH_OF_SIX} failed\nTraceback")
    assert f"no route to {HASH}" in written
    assert FOUR not in written


def test_arguments_stay_apart_for_formatters_that_take_them_so(log):
    records = []
    log.handler.emit = records.append
    log.logger.info('%s - "%s %s HTTP/%s" %d', f"{FOUR}:4711", "GET", "/", "1.1", 200)  # as uvicorn does
    assert records[0].args == (f"{HASH}:4711", "GET", "/", "1.1", 200)


def test_a_record_that_cannot_be_formatted_is_left_to_the_handler(log, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log.logger.warning("%d", FOUR)
    log.logger.warning("next")
    assert log.written.getvalue() == "next\n"


def test_gunicorn_writes_the_clients_hash_and_no_address(tmp_path, monkeypatch):
    monkeypatch.setenv("BACKFILL_IP_SALT", "correct horse battery staple")
    config = Config()
    config.set("accesslog", str(tmp_path / "access.log"))
    config.set("errorlog", str(tmp_path / "error.log"))
    config.set(
        "access_log_format",
        '%(h)s "%(r)s" %(s)s "%({x-forwarded-for}i)s" "%({referer}i)s" %({remote_addr}e)s',
    )
    logger = HashLogger(config)
    request = SimpleNamespace(headers=[("X-Forwarded-For", f"{FOUR}, {SIX}"), ("REFERER", f'"{SIX}"')])
    answer = SimpleNamespace(status="200 OK", headers=[], sent=2)
    environ = {
        "REQUEST_METHOD": "GET",
        "RAW_URI": f"/?of={SIX}",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": FOUR,
    }
    logger.access(
        answer, request, environ | {"backfill.client": Client((HASH_OF_SIX,))}, timedelta(seconds=1)
    )
    logger.access(answer, request, environ, timedelta(seconds=1))  # not behind the middleware
    logger.warning("Invalid request from ip=%s: %s", FOUR, "junk")
    for handler in logger.access_log.handlers + logger.error_log.handlers:
        handler.close()
    line = f'"GET /?of={HASH_OF_SIX} HTTP/1.1" 200 "{HASH}, {HASH_OF_SIX}" "\\"{HASH_OF_SIX}\\"" {HASH}\n'
    assert (tmp_path / "access.log").read_text() == f"{HASH_OF_SIX} {line}- {line}"
    assert f"Invalid request from ip={HASH}: junk" in (tmp_path / "error.log").read_text()


@given(
    st.ip_addresses().filter(int),  # not ::, which is punctuation in many a text
    st.sampled_from(["%s", "(%s)", "for=%s;", '"%s",', "[%s]:443", "/%s/b", "%s.", "ip:%s", "\t%s\n"]),
)
def test_any_address_in_any_surroundings_is_found(address, around):
    record = logging.LogRecord("a", 20, "a.py", 1, around.replace("%s", str(address)), (), None)
    AddressFilter(PSEUDONYMIZER).filter(record)
    assert str(address) not in record.getMessage()


@pytest.mark.parametrize(
    "text", [":" * 20_000, "1:" * 20_000, "1." * 20_000, f"{SIX} " * 500, "a:.:" * 9_000]
)
def test_a_long_line_takes_its_time_and_no_more(text):
    began = time.process_time()
    record = logging.LogRecord("a", 20, "a.py", 1, text, (), None)
    AddressFilter(PSEUDONYMIZER).filter(record)
    assert SIX not in record.getMessage()
    assert time.process_time() - began < 5
