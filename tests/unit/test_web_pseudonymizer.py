"""From address to hash for the live application: the backfill's hashes, its rules for the salt, and nothing to install."""

import os
import pickle
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.errors import BackfillError, NoAddress, SaltMissing, SaltUnusable, SettingInvalid, UnknownKeyId
from backfill.hashing.salt import Salt
from backfill.hashing.schemes import scheme_names
from backfill.settings import Settings, variables
from backfill.web import Key, Pseudonymizer
from backfill.web.pseudonymizer import FALSE, TRUE, VARIABLES
from tests.unit.test_hashing import GOLDEN

ROOT = Path(__file__).resolve().parents[2]
SECRET = "correct horse battery staple"
OLD = Key("2023", Salt("pepa", source="test", allow_weak=True))


def test_web_is_imported_with_the_standard_library_alone():
    code = (
        "import backfill.web, sys;"
        "print(sorted({name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "['__main__', 'backfill']", done.stderr


@pytest.mark.parametrize(("scheme", "text", "digest"), GOLDEN)
def test_its_hashes_are_those_of_the_backfill(scheme, text, digest):
    pseudonymizer = Pseudonymizer(Key("default", OLD.salt, scheme))
    assert pseudonymizer.hash(text) == digest
    assert pseudonymizer.hash(f" {text.upper()}\t") == digest  # an odd spelling is the same address


@given(st.ip_addresses())
def test_every_key_id_has_its_hash_and_the_current_one_comes_first(address):
    current = Key("2025", Salt(SECRET, source="test"), "hmac-sha256")
    hashes = Pseudonymizer(current, OLD).hashes(str(address))
    assert list(hashes) == ["2025", "2023"]
    assert hashes["2023"] == Pseudonymizer(OLD).hash(str(address))
    assert hashes["2025"] == Pseudonymizer(current).hash(str(address))
    assert Pseudonymizer(current, OLD).hash(str(address), "2023") == hashes["2023"]


@pytest.mark.parametrize(
    "text", ["", "unknown", "1.2.3.4, 5.6.7.8", "10.0.0.0/8", "010.1.2.3", "x" * 8_000, "\udcff"]
)
def test_what_is_no_address_has_no_hash_and_is_not_repeated(text):
    with pytest.raises(NoAddress) as caught:
        Pseudonymizer(OLD).hashes(text)
    assert not text or text not in str(caught.value).replace("(unknown)", "")


def test_an_unknown_key_id_is_refused_with_the_known_ones():
    with pytest.raises(UnknownKeyId, match=r"for key id 2024\. Known are: 2023"):
        Pseudonymizer(OLD).hash("1.2.3.4", "2024")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Pseudonymizer(),
        lambda: Pseudonymizer(OLD, OLD),
        lambda: Key("20 23", OLD.salt),
        lambda: Key("2023\n", OLD.salt),
        lambda: Key("2023", OLD.salt, "md5"),
    ],
)
def test_keys_that_make_no_sense_are_refused(make):
    with pytest.raises((SaltMissing, SettingInvalid)):
        make()


# From environment and file, as the command line does


@pytest.fixture
def salt_file(tmp_path, monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "salt"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    return path


def test_salt_and_key_id_come_from_environment_or_file(salt_file, monkeypatch):
    monkeypatch.setenv("BACKFILL_IP_SALT_FILE", str(salt_file))
    monkeypatch.setenv("backfill_key_id", "2025")  # in whatever case, as the command line
    from_file = Pseudonymizer.from_environment(older=[OLD])
    assert from_file.key_ids == ("2025", "2023")
    monkeypatch.setenv("BACKFILL_IP_SALT_FILE", "")  # empty is unset
    monkeypatch.setenv("BACKFILL_IP_SALT", SECRET)
    assert Pseudonymizer.from_environment().hash("1.2.3.4") == from_file.hash("1.2.3.4")
    assert Pseudonymizer(Key.from_file("a", salt_file)).hash("::1") == from_file.hash("::1")


@pytest.mark.parametrize(
    ("variables_set", "mode", "error"),
    [
        ({}, 0o600, SaltMissing),
        ({"BACKFILL_IP_SALT_FILE": "FILE"}, 0o644, SaltUnusable),
        ({"BACKFILL_IP_SALT_FILE": "FILE", "BACKFILL_ACCEPT_OPEN_SALT_FILE": "1"}, 0o622, SaltUnusable),
        ({"BACKFILL_IP_SALT_FILE": "FILE", "BACKFILL_IP_SALT": SECRET}, 0o600, SettingInvalid),
        ({"BACKFILL_IP_SALT": SECRET[:7]}, 0o600, SaltUnusable),
        ({"BACKFILL_IP_SALT": f"'{SECRET}'"}, 0o600, SaltUnusable),
        ({"BACKFILL_IP_SALT": f"{SECRET}\udcff"}, 0o600, SaltUnusable),
        ({"BACKFILL_IP_SALT": SECRET, "BACKFILL_SALT_EXACT": SECRET}, 0o600, SettingInvalid),
        ({"BACKFILL_IP_SALT": SECRET, "BACKFILL_KEY_ID": "a b"}, 0o600, SettingInvalid),
        ({"BACKFILL_IP_SALT": SECRET, "BACKFILL_KEYID": "2025"}, 0o600, SettingInvalid),
    ],
)
def test_what_the_command_line_refuses_is_refused_and_shows_no_salt(
    salt_file, monkeypatch, variables_set, mode, error
):
    salt_file.chmod(mode)
    for name, value in variables_set.items():
        monkeypatch.setenv(name, value.replace("FILE", str(salt_file)))
    with pytest.raises(error) as caught:
        Pseudonymizer.from_environment()
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    shown = [line for line in shown if __file__ not in line]  # the test knows the secret
    assert not [line for line in shown if SECRET[:7] in line]


def test_an_open_file_is_accepted_where_the_operator_says_so(salt_file, monkeypatch):
    salt_file.chmod(0o644)
    monkeypatch.setenv("BACKFILL_IP_SALT_FILE", str(salt_file))
    for value in TRUE:
        monkeypatch.setenv("BACKFILL_ACCEPT_OPEN_SALT_FILE", value.upper())
        assert Pseudonymizer.from_environment()
        assert Settings.load().accept_open_salt_file
    for value in FALSE:
        monkeypatch.setenv("BACKFILL_ACCEPT_OPEN_SALT_FILE", value)
        assert not Settings.load().accept_open_salt_file
        with pytest.raises(SaltUnusable):
            Pseudonymizer.from_environment()


def test_the_other_settings_of_the_command_line_are_no_misspelt_ones(salt_file, monkeypatch):
    assert set(VARIABLES) < set(variables())
    monkeypatch.setenv("BACKFILL_IP_SALT_FILE", str(salt_file))
    for name in set(variables()) - set(VARIABLES):
        monkeypatch.setenv(name, "1")
    assert Pseudonymizer.from_environment()


def test_a_pseudonymizer_shows_and_pickles_no_salt():
    pseudonymizer = Pseudonymizer(Key("2025", Salt(SECRET, source="test")))
    assert repr(pseudonymizer) == str(pseudonymizer) == "Pseudonymizer(2025 (sha256-suffix))"
    assert SECRET not in repr(Key("2025", Salt(SECRET, source="test")))
    for thing in (pseudonymizer, Key("2025", Salt(SECRET, source="test"))):
        with pytest.raises(TypeError, match="does not travel"):
            pickle.dumps(thing)


def test_every_scheme_may_be_named():
    assert [Key("a", OLD.salt, name).scheme for name in scheme_names()] == scheme_names()
    assert issubclass(NoAddress, BackfillError)
