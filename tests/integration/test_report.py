"""Reports: one document, four faces; no address in any; readable in a browser, alone, by everybody."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from backfill.report.signature import checksum_of
from tests.browser import chromium, visit
from tests.databases import query
from tests.demo_template import ALL_EVENTS
from tests.faces import plain, read, strings
from tests.operator import ROOT, Operator

KINDS = {"note", "entries", "table", "picture"}
SCHEMA = json.loads((ROOT / "docs" / "report.schema.json").read_text())


def errors(document: object) -> list[str]:
    validator = Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)
    return [f"{list(error.path)}: {error.message}" for error in validator.iter_errors(document)]


class Page(HTMLParser):
    """What of a page a screen reader needs, and what it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[dict[str, int]] = []
        self.pictures: list[dict[str, str | None]] = []
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        if tag == "table":
            self.tables.append({"caption": 0, "th": 0, "scoped": 0})
        elif tag == "caption":
            self.tables[-1]["caption"] += 1
        elif tag == "th":
            self.tables[-1]["th"] += 1
            self.tables[-1]["scoped"] += found.get("scope") in ("col", "row")
        elif tag == "svg":
            self.pictures.append(found)
        for name in ("src", "href", "srcset", "action"):
            if found.get(name):
                self.loads.append(str(found[name]))


@pytest.fixture(params=["finished_run", "proved_run", "migrated"])
def operator(request: pytest.FixtureRequest) -> Operator:
    """Red, green, and when everything is gone."""
    if request.param == "migrated":
        found: Operator = request.getfixturevalue("proved_run")
        found.migrates()
        found.types("verify")
        return found
    found = request.getfixturevalue(request.param)
    if request.param == "finished_run":
        found.types("verify", expect=1)
    return found


def test_the_four_faces_say_the_same_and_none_holds_an_address(operator: Operator, tmp_path: Path) -> None:
    faces = {}
    for suffix in ("txt", "json", "md", "html"):
        operator.types("report", "--output", tmp_path / f"report.{suffix}")
        faces[suffix] = (tmp_path / f"report.{suffix}").read_text()
    document = json.loads(faces["json"])
    assert errors(document) == []
    for text in faces.values():
        assert document["verdict"] in text
        assert document["provenance"]["plan"] in text
        for table in document["tables"]:
            assert table["table"] in text
        for stage in document["gates"]:
            assert stage["change"] in text
    said = {"text": faces["txt"], "markdown": faces["md"], "html": faces["html"]}
    for face, text in said.items():
        shown = read(face, text)
        # Each was made at its own moment, which its id and its checksum have in them.
        sections = [section for section in document["sections"] if section["key"] != "signature"]
        facts = set(strings(sections)) - KINDS - {section["key"] for section in sections}
        pictures = {block["alt"] for section in sections for block in section["blocks"] if "alt" in block}
        assert [fact for fact in facts - pictures if plain(face, fact) not in shown] == []
    assert operator.types("report", "--format", "json").out.startswith("{")
    address = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
    for text in faces.values():
        assert not address.search(text), address.search(text)


def test_no_raw_text_of_any_event_is_in_the_report(finished_run: Operator, tmp_path: Path) -> None:
    finished_run.types("verify", expect=1)
    finished_run.types("report", "--output", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    raw = query(
        finished_run.url, f"select distinct raw from ({ALL_EVENTS}) e where length(raw) > 6 and raw ~ '[.:]'"
    )
    assert len(raw) > 100
    assert [value for (value,) in raw if value in text] == []


def test_the_schema_describes_what_verify_prints_as_well(finished_run: Operator) -> None:
    found = json.loads(finished_run.types("verify", "--format", "json", expect=1).out)
    assert errors(found) == []
    assert errors({**found, "surprise": 1})
    assert errors({**found, "title": "a report without its sections"})
    assert errors({name: value for name, value in found.items() if name != "verdict"})


def test_the_page_stands_alone_and_can_be_read_aloud(operator: Operator, tmp_path: Path) -> None:
    operator.types("report", "--output", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert "script" not in page.tags
    assert page.loads == ["data:,"]
    assert not re.search(r"url\(|@import|https?://", text)
    assert page.tables
    for table in page.tables:
        assert table["caption"] == 1
        assert table["th"] == table["scoped"] > 0
    labelled = [one for one in page.pictures if one.get("role") == "img"]
    assert labelled
    assert all(one.get("aria-label") for one in labelled)
    assert 'lang="en"' in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_what_the_database_says_cannot_write_into_the_page(finished_run: Operator, tmp_path: Path) -> None:
    finished_run.types("verify", expect=1)
    query(finished_run.url, "insert into backfill.decisions (kind, job, count, decided_by) values ('note', '<script>alert(1)</script>', 1, '<img src=x onerror=alert(1)>')")  # fmt: skip
    finished_run.types("report", "--output", tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text())
    assert "script" not in page.tags
    assert "img" not in page.tags


def test_without_a_verification_there_is_nothing_to_report(settled_run: Operator) -> None:
    assert "has no proof of user_events yet" in settled_run.types("report", expect=2).err


def test_a_touched_record_is_pointed_out(proved_run: Operator) -> None:
    query(
        proved_run.url,
        "update backfill.coverage set raw_rows = 0 where job = 'public.user_events.ip_address_string'",
    )
    assert "the record was changed after it was entered" in proved_run.types("report").out


@pytest.mark.browser
@pytest.mark.skipif(chromium() is None, reason="no Chromium here: apt-get install chromium")
def test_a_browser_renders_it_without_a_word_or_a_request(proved_run: Operator, tmp_path: Path) -> None:
    proved_run.types("report", "--output", tmp_path / "report.html")
    seen = visit(tmp_path / "report.html", tmp_path)
    assert "Covered: every row with a raw address" in seen.dom
    assert seen.dom.rstrip().endswith("</html>")
    assert (seen.console, seen.requests) == ([], [])
    picture = tmp_path / "dark.png"
    seen = visit(tmp_path / "report.html", tmp_path, screenshot=picture, dark=True)
    assert (seen.console, seen.requests) == ([], [])
    assert picture.stat().st_size > 20_000


@pytest.mark.browser
@pytest.mark.skipif(chromium() is None, reason="no Chromium here: apt-get install chromium")
def test_the_browser_test_would_notice(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text("<script>console.error('oh')</script><img src='http://127.0.0.1:9/x.png'>")
    seen = visit(page, tmp_path)
    assert seen.console
    assert seen.requests == ["http://127.0.0.1:9/x.png"]


def test_a_report_is_compared_with_the_ledger(proved_run: Operator, tmp_path: Path) -> None:
    url, path = proved_run.url, tmp_path / "report.json"
    proved_run.types("report", "--output", path)
    said = proved_run.types("report", "--check", path).out
    assert " NO " not in said
    assert "coverage of user_events" in said
    assert said.rstrip().endswith("is as the ledger has it.")

    whole = json.loads(path.read_text())

    def refused(**changed: object) -> str:
        """What is said of the report with these changes; its checksum is right."""
        content = {**whole, **changed}
        content["document"] = {**whole["document"], "sha256": checksum_of(content)}
        path.write_text(json.dumps(content))
        return proved_run.types("report", "--check", path, expect=1).out

    path.write_text(json.dumps({**whole, "verdict": "Gone."}))
    assert "the file was changed" in proved_run.types("report", "--check", path, expect=1).out
    table = {**whole["tables"][0], "counts": {**whole["tables"][0]["counts"], "wrong": 7}}
    assert "the ledger's record says something else" in refused(tables=[table, *whole["tables"][1:]])
    assert "no such record is in the ledger" in refused(recorded=[])
    assert "they are not those that are on record" in refused(decisions=[{"kind": "merge"}])
    assert "the ledger says something else of it" in refused(run={**whole["run"], "status": "failed"})
    assert "it is not what its tables say" in refused(covered=not whole["covered"])
    assert "it is not what its tables say" in refused(tables=[])
    elsewhere = {**whole["provenance"], "database": "another (1)"}
    assert "about another database" in refused(provenance=elsewhere)

    path.write_text(json.dumps(whole))
    proved_run.types("verify")  # a newer record is no contradiction
    proved_run.types("report", "--check", path)
    query(url, "update backfill.coverage set covered = not covered where job = %s", whole["tables"][0]["job"])
    assert "coverage of user_events" in proved_run.types("report", "--check", path, expect=1).out

    for content, problem in {"[]": "it is no report", "{": "not JSON at line 1", "\x00": "not JSON"}.items():
        path.write_text(content)
        assert problem in proved_run.types("report", "--check", path, expect=2).err
    assert (
        "--check takes neither"
        in proved_run.types("report", "--check", path, "--format", "json", expect=2).err
    )
