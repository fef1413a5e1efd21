"""``backfill logs`` as an operator types it: through pipes, to files, in place."""

import gzip
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from backfill.cli.main import cli
from backfill.errors import BackfillError
from tests.operator import APART, BIN

SALT = "a salt for the tests of logs"
ADDRESS = b"198.51.100.7"
TAIL = b' - - [26/Nov/2026:20:52:06 +0000] "GET / HTTP/1.1" 200 5 "-" "curl/8"\n'
LOG = b"".join(b"198.51.100.%d" % (number % 250) + TAIL for number in range(3_000))
CITY = Path(pytest.importorskip("_geoip_geolite2").__file__).with_name("GeoLite2-City.mmdb")


def types(*words: object, given: bytes = b"", code: int = 0, **variables: str) -> Result:
    """``backfill logs WORDS…`` in this process."""
    environment = {"BACKFILL_IP_SALT": SALT, "BACKFILL_GEOIP_DB": str(CITY)} | {
        f"BACKFILL_{name.upper()}": value for name, value in variables.items()
    }
    result = CliRunner(env=environment, **APART).invoke(cli, ["logs", *map(str, words)], input=given)
    problem = result.exception
    ended = problem.exit_code if isinstance(problem, BackfillError) else result.exit_code
    assert ended == code, (result.output, problem)
    return result


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "access.log"
    path.write_bytes(LOG)
    path.chmod(0o640)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return path


def only(folder: Path, *names: str) -> bool:
    """Whether nothing else lies there, such as a file that was not finished."""
    return sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_standard_input_to_standard_output_and_the_counts_on_standard_error():
    result = types(given=LOG + b"- x\n")
    assert ADDRESS not in result.stdout_bytes
    assert result.stdout_bytes.count(b"\n") == 3_001
    assert "3,001 lines: the client address of 3,000 became a hash" in result.stderr
    assert "(unknown: 1)" in result.stderr
    assert types(given=result.stdout_bytes).stdout_bytes == result.stdout_bytes
    assert types().stdout_bytes == b""


def test_the_hash_is_that_of_the_database():
    result = types("--allow-weak-salt", given=b"1.2.3.4 x", ip_salt="pepa")
    assert result.stdout_bytes == b"a69a49383d81404e4b1df297c7baa28e1cd6c4ee1495ed5d0ab165a63a147763 x"


def test_in_place_keeps_mode_time_and_compression_and_a_second_time_changes_nothing(log, tmp_path):
    zipped = tmp_path / "access.log.1.gz"
    zipped.write_bytes(gzip.compress(LOG))
    link = tmp_path / "link"
    link.symlink_to(log)
    types("--in-place", link, zipped)
    found = log.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime) == (0o640, 1_700_000_000)
    assert link.is_symlink()
    new = log.read_bytes()
    assert gzip.decompress(zipped.read_bytes()) == new
    assert ADDRESS not in new
    assert [line.split(b" ", 1)[1] for line in new.splitlines()] == [
        line.split(b" ", 1)[1] for line in LOG.splitlines()
    ]
    result = types("--in-place", log, zipped, "--unreadable", "refuse")
    assert "0 became a hash, 6,000 had one already" in result.stderr
    assert log.read_bytes() == new
    assert only(tmp_path, "access.log", "access.log.1.gz", "link")


def test_a_file_to_a_new_file_by_the_name_that_it_gets(log, tmp_path):
    types(log, "--output", tmp_path / "new.gz")
    types(tmp_path / "new.gz", "--output", tmp_path / "new.log")
    plain = (tmp_path / "new.log").read_bytes()
    assert gzip.decompress((tmp_path / "new.gz").read_bytes()) == plain
    assert types(log).stdout_bytes == plain
    assert stat.S_IMODE((tmp_path / "new.gz").stat().st_mode) == 0o640
    assert log.read_bytes() == LOG
    folder = tmp_path / "out"
    folder.mkdir()
    types(log, tmp_path / "new.gz", "--output", folder)
    assert only(folder, "access.log", "new.gz")


def test_a_country_is_looked_up_in_the_geo_database_of_the_settings():
    assert (
        types("--country", given=b"8.8.8.8 x\n10.0.0.1 x\n").stdout_bytes.splitlines()[0].endswith(b' x "US"')
    )


def test_json_and_anywhere_and_counts_for_programs():
    line = b'{"remote_addr": "1.2.3.4", "x": "5.6.7.8"}\n'
    by_member = types("--format", "json", "--member", "remote_addr", given=line)
    assert b"5.6.7.8" in by_member.stdout_bytes
    assert b"1.2.3.4" not in by_member.stdout_bytes
    assert "`backfill logs --anywhere`" in by_member.stderr
    anywhere = types("--anywhere", given=line, log_format="json")
    assert b".8" not in anywhere.stdout_bytes
    assert json.loads(anywhere.stderr)["addresses_anywhere"] == 2


def refused(tmp_path: Path, *words: object, given: bytes = b"", **variables: str) -> str:
    """What the refusal says; nothing was made, and what is there is as it was."""
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    result = types(*words, given=given, code=2, **variables)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    assert result.stdout_bytes == b""
    said = str(result.exception) + result.stderr
    assert "198.51" not in said
    assert SALT not in said
    return said


def test_nothing_is_written_where_something_is_wrong(log, tmp_path):
    new = tmp_path / "new"
    assert "both" not in refused(tmp_path, log, "--output", log)
    assert "it is the log itself" in refused(tmp_path, log, "--output", log)
    (tmp_path / "there").write_bytes(b"")
    assert "there already" in refused(tmp_path, log, "--output", tmp_path / "there")
    assert "there already" in refused(tmp_path, "--output", tmp_path / "there", given=LOG)
    (tmp_path / "there").unlink()
    os.link(log, tmp_path / "second name")
    assert "hard links" in refused(tmp_path, "--in-place", log)
    (tmp_path / "second name").unlink()
    with log.open("ab"):
        assert "rotate the log first" in refused(tmp_path, "--in-place", log)
    log.write_bytes(LOG + b"192.0.2.1, 192.0.2.2 x\n")
    assert "Line 3,001 has no address" in refused(tmp_path, "--in-place", log, "--unreadable", "refuse")
    assert "Line 3,001 has no address" in refused(tmp_path, log, "--output", new, "--unreadable", "refuse")
    log.write_bytes(gzip.compress(LOG)[:-9])
    assert "end too early" in refused(tmp_path, "--in-place", log)
    assert "end too early" in refused(tmp_path, log, "--output", new)
    log.write_bytes(b"BZh91AY")
    assert "bzip2" in refused(tmp_path, "--in-place", log)
    assert "No such file" in refused(tmp_path, tmp_path / "none")
    assert "it is a folder" in refused(tmp_path, tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "no file that can be replaced" in refused(tmp_path, "--in-place", tmp_path / "pipe")
    assert "no file that can be replaced" in refused(tmp_path, "--in-place", "/dev/null")
    assert "--output FOLDER" in refused(tmp_path, log, log)
    assert "it is no folder" in refused(tmp_path, log, log, "--output", new)
    assert "belong together" in refused(tmp_path, "--format", "json")
    assert "takes no --format" in refused(tmp_path, "--anywhere", "--country")
    assert "No salt is set" in refused(tmp_path, given=LOG, ip_salt="")
    assert "No geo database" in refused(tmp_path, "--country", given=LOG, geoip_db="")
    assert only(tmp_path, "access.log", "pipe")


def test_a_log_that_is_written_to_meanwhile_is_left_as_it_is(log, tmp_path, monkeypatch):
    from backfill.web.whole_file import WholeFile

    write = WholeFile.write

    def and_the_server_too(self, block):
        write(self, block)
        with log.open("ab") as server:
            server.write(ADDRESS + TAIL)

    monkeypatch.setattr(WholeFile, "write", and_the_server_too)
    result = types("--in-place", log, code=2)
    assert "written to" in str(result.exception)
    assert log.read_bytes() == LOG + ADDRESS + TAIL
    assert only(tmp_path, "access.log")


@pytest.fixture
def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BACKFILL_")}
    return kept | {"BACKFILL_IP_SALT": SALT}


def starts(environment, *words: object, **options: object) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [str(BIN / "backfill"), "logs", *map(str, words)], env=environment, stderr=subprocess.PIPE, **options
    )


def test_a_pipe_gets_each_line_when_it_is_there_and_an_end_by_a_signal_is_one(environment):
    with starts(environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        process.stdin.write(ADDRESS + TAIL)
        assert process.stdout.readline().endswith(TAIL)  # standard input is still open
        process.send_signal(signal.SIGINT)
        said = process.stderr.read().decode()
        assert process.wait(20) == 130
    assert said.startswith("backfill: SIGINT")
    assert said.count("\n") == 1


def test_a_reader_who_went_away_and_a_full_disk_end_it_quietly_and_loudly(environment, log):
    with starts(environment, log, stdout=subprocess.PIPE) as process:
        process.stdout.close()
        said = process.stderr.read().decode()
        assert process.wait(20) == 0
    assert "Error" not in said
    with Path("/dev/full").open("wb") as full, starts(environment, log, stdout=full) as process:
        said = process.stderr.read().decode()
        assert process.wait(20) == 74
    assert "No space left" in said


@pytest.mark.parametrize(("stream", "said"), [("stdin", "it is closed"), ("stdout", "it is closed")])
def test_a_stream_that_is_closed_from_the_start_is_named(stream, said, log, monkeypatch):
    from backfill.cli.logs import _one
    from backfill.web.access_log import LogFormat, Unreadable, rewriter
    from backfill.web.address_hashes import AddressHashes

    kept = rewriter(LogFormat.COMBINED, AddressHashes(str), Unreadable.PASS)
    monkeypatch.setattr(sys, stream, None)
    with pytest.raises(BackfillError, match=said):
        _one(None if stream == "stdin" else log, kept, None, in_place=False, many=False)


def test_a_signal_leaves_the_file_as_it_was_and_nothing_beside_it(environment, tmp_path):
    pipe, new = tmp_path / "pipe", tmp_path / "new"
    os.mkfifo(pipe)
    with starts(environment, pipe, "--output", new) as process, pipe.open("wb") as writer:
        writer.write(LOG)
        writer.flush()
        until = time.monotonic() + 20
        while not list(tmp_path.glob(".backfill-*")):
            assert time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read().decode()
        assert process.wait(20) == 143
    assert "as it was" in said
    assert only(tmp_path, "pipe")


def test_the_rewriting_needs_the_standard_library_alone():
    code = (
        "import backfill.web.log_files, backfill.web.access_log as log, backfill.web.address_hashes as hashes;"
        "kept = log.rewriter(log.LogFormat.COMBINED, hashes.AddressHashes(str), log.Unreadable.PASS);"
        "assert kept.block(b'::ffff:1.2.3.4 x') == b'1.2.3.4 x'"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-S", "-c", code], check=True, cwd=root, env={"PYTHONPATH": str(root)})
