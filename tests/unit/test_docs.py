"""The documents name every command, option, setting and make target, and none that does not exist."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from backfill.cli.main import COMMANDS, cli
from backfill.cli.main import GROUPS as COMMAND_GROUPS
from backfill.settings import GROUPS, Settings
from tests import reference

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *(path for folder in ("docs", "examples") for path in sorted((ROOT / folder).rglob("*.md"))),
]
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in DOCUMENTS}
LINES = [line for text in TEXTS.values() for line in text.splitlines()]
SOURCES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in ROOT.glob("backfill/**/*.py")
}
ELSEWHERE = {"BACKFILL_TEST_DATABASE_URL"}  # of the tests, not a setting

CODE = re.compile(r"^(?: {4,}|\t)(.+)$|`([^`\n]+)`", re.MULTILINE)
FENCED = re.compile(r"^```.*?\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(group: click.Group = cli, path: str = "backfill") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        words = f"{path} {name}"
        if isinstance(command, click.Group):
            yield from commands(command, words)
        else:
            yield words, command


def options(command: click.Command) -> list[str]:
    """The long names of its options."""
    return [
        max(one.opts, key=len)
        for one in command.params
        if isinstance(one, click.Option) and one.name != "help"
    ]


def variables() -> dict[str, object]:
    """Environment variables by name, with their defaults."""
    return {
        str(field.validation_alias or f"BACKFILL_{name.upper()}"): field.default
        for name, field in Settings.model_fields.items()
    }


def targets() -> list[str]:
    """Make targets that have a line of help."""
    return re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)


def code(text: str) -> Iterator[str]:
    """Commands as somebody would type them: code spans, indented and fenced lines, without comments."""
    for found in FENCED.finditer(text):
        yield from found.group(1).splitlines()
    for found in CODE.finditer(FENCED.sub("", text)):
        yield (found.group(1) or found.group(2)).partition(" #")[0]


def says(line: str, words: str) -> bool:
    """Whether *line* has these very words, and not the beginning of longer ones."""
    return re.search(rf"(?<![\w.-]){re.escape(words)}(?![\w-])", line) is not None


@pytest.mark.parametrize(("words", "command"), [pytest.param(*found, id=found[0]) for found in commands()])
def test_every_command_stands_in_the_documents_with_all_its_options(words, command):
    about = [line for line in LINES if says(line, words)]
    assert about, f"no document mentions `{words}`"
    missing = [option for option in options(command) if not any(says(line, option) for line in about)]
    assert not missing, f"no line of a document has `{words}` together with {missing}"


def test_the_options_of_the_bare_command_stand_in_the_documents():
    assert [
        option for option in options(cli) if not any(says(line, f"backfill {option}") for line in LINES)
    ] == []


@pytest.mark.parametrize("page", reference.PAGES)
def test_the_reference_is_what_the_code_says(page):
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == reference.PAGES[page](), (
        "type `make reference`"
    )


def test_every_command_is_in_one_group_and_its_summary_is_whole():
    assert sorted(name for names in COMMAND_GROUPS.values() for name in names) == sorted(COMMANDS)
    said = " ".join(CliRunner().invoke(cli, ["--help"], terminal_width=80).output.split())
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        assert f"{name} {command.get_short_help_str(limit=1_000)}" in said


def test_every_setting_is_in_one_group():
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(Settings.model_fields)


@pytest.mark.parametrize("target", targets())
def test_every_make_target_stands_in_the_documents(target):
    assert any(says(line, f"make {target}") for line in LINES), f"no document mentions `make {target}`"


@pytest.mark.parametrize("name", TEXTS | SOURCES)
def test_every_command_that_is_mentioned_exists(name):
    spans = code(TEXTS[name]) if name in TEXTS else re.findall(r"`([^`\n]+)`", SOURCES[name])
    for span in spans:
        for found in re.finditer(r"(?:^|[\s/(\"=])backfill ((?:[a-z]+ ?)+)([^|&;]*)", span):
            node: click.Command = cli
            for word in found.group(1).split():
                if not isinstance(node, click.Group):
                    break
                inner = node.get_command(click.Context(node), word)
                assert inner is not None, f"{name}: `{span}`"
                node = inner
            known = set(options(node)) | {"--help"}
            assert set(re.findall(r"--[a-z-]+", found.group(0))) - {"--"} <= known, f"{name}: `{span}`"


@pytest.mark.parametrize("name", TEXTS | SOURCES)
def test_every_make_target_that_is_mentioned_exists(name):
    spans = code(TEXTS[name]) if name in TEXTS else re.findall(r"`([^`\n]+)`", SOURCES[name])
    for span in spans:
        for found in re.finditer(r"(?:^|\s)make((?: [a-z][a-z-]*)+)", span):
            assert set(found.group(1).split()) <= set(targets()), f"{name}: `{span}`"


@pytest.mark.parametrize("name", SOURCES)
def test_what_a_message_says_to_type_is_there_without_a_checkout(name):
    """No Makefile and no alembic.ini lies beside an installed package."""
    assert re.findall(r"(?<!`)`(?:make|alembic) [^`\n]+`(?!`)", SOURCES[name]) == []


@pytest.mark.parametrize("name", TEXTS | SOURCES)
def test_every_variable_that_is_mentioned_exists(name):
    mentioned = set(re.findall(r"\bBACKFILL_[A-Z_]*[A-Z]\b(?!_)", (TEXTS | SOURCES)[name]))
    assert mentioned <= set(variables()) | ELSEWHERE


@pytest.mark.parametrize("name", TEXTS)
def test_links_between_documents_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXTS[name]):
        assert (ROOT / name).parent.joinpath(target).exists(), f"{name}: {target}"


def test_the_readme_is_short_and_lists_every_page_under_one_kind():
    assert len(TEXTS["README.md"].splitlines()) <= 150
    listed = re.findall(
        r"^- \*\*(?:Tutorial|How to|Reference|Explanation)\*\*: (.+)$", TEXTS["README.md"], re.MULTILINE
    )
    pages = [page for line in listed for page in re.findall(r"\]\((docs/[^)]+)\)", line)]
    assert sorted(pages) == sorted(name for name in TEXTS if name.startswith("docs/"))


@pytest.mark.parametrize("name", SOURCES)
def test_documents_that_messages_name_exist(name):
    for target in re.findall(r"\bdocs/[\w-]+\.md", SOURCES[name]):
        assert target in TEXTS, f"{name}: {target}"


def test_make_alone_prints_every_target_with_a_line_of_help():
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    printed = re.findall(r"^  ([a-z-]+) +\S", shown, re.MULTILINE)
    assert printed == targets()


def test_no_document_of_a_path_on_somebodys_machine():
    assert [name for name, text in TEXTS.items() if re.search(r"/(home|work|root|Users)/", text)] == []
