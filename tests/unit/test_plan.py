"""Plan files: what they may say, what they say wrong, and what their fingerprint covers."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from backfill.errors import PlanInvalid, SealUnfit, UnknownJob
from backfill.hashing.sha256 import SHA256_SUFFIX
from backfill.plan import (
    EVENT_TABLES,
    PYPI,
    Addresses,
    Discard,
    Geo,
    Hash,
    InPlaceJob,
    LinkJob,
    Plan,
    load_plan,
)
from backfill.verify.seal import sealable

DOCUMENT = Path(__file__).parents[2] / "docs" / "plan.md"
LEAST = 'name = "least"\n[addresses]\ntable = "ip_addresses"\n[[jobs]]\ntable = "events"\n'
SECTIONS: dict[str, type[BaseModel]] = {
    "Top level": Plan,
    "`[hash]`": Hash,
    "`[geo]`": Geo,
    "`[addresses]`": Addresses,
    "`[[jobs]]`": LinkJob,
    "`[[jobs]]` in place": InPlaceJob,
    "`[[discard]]`": Discard,
}


@pytest.fixture
def plan_file(tmp_path: Path):
    def write(text: str, name: str = "plan.toml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def documented_example() -> str:
    return re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)[0]


def test_no_file_means_the_built_in_plan() -> None:
    assert load_plan(None) is PYPI
    assert tuple(job.name for job in PYPI.jobs) == EVENT_TABLES
    assert [(discard.name, discard.column) for discard in PYPI.discard] == [("journals", "submitted_from")]


def test_the_least_plan_has_the_defaults_of_the_built_in_one(plan_file) -> None:
    plan = load_plan(plan_file(LEAST))
    assert plan.addresses == PYPI.addresses
    assert plan.hash.scheme is SHA256_SUFFIX.name
    assert plan.job("events") == PYPI.jobs[0].model_copy(update={"table": "events"})


def test_the_documented_example_loads_and_means_what_it_says(plan_file) -> None:
    plan = load_plan(plan_file(documented_example()))
    job = plan.job("user_unique_logins")
    assert (job.raw, job.link, job.extra, job.time) == ("ip_address", "ip_address_id", None, None)


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_document_has_every_key_with_its_default(heading: str) -> None:
    section = DOCUMENT.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|", section, re.MULTILINE)
    fields = {field.alias or name: field for name, field in SECTIONS[heading].model_fields.items()}
    assert [name for name, _default in rows] == list(fields) or {name for name, _ in rows} == set(fields)
    for name, default in rows:
        field = fields[name]
        if field.is_required():
            assert default.startswith("required"), name
        elif isinstance(field.default, str):
            assert default == f"`{field.default}`", name


BITS = """name = "n"
[[jobs]]
table = "logins"
raw = "ip"
becomes = "network"
unreadable = "keep"
widths = {{ {} }}
"""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name = ", "not TOML"),
        ("\0", "not TOML"),
        ("x = " + "[" * 20_000, "not TOML"),
        ("", "name: Field required"),
        (LEAST + 'colour = "red"\n', "jobs.0.colour: Extra inputs are not permitted"),
        (LEAST + "raw = 3\n", "jobs.0.raw: Input should be a valid string"),
        (LEAST + 'raw = ""\n', "jobs.0.raw: String should have at least 1 character"),
        (LEAST + f'raw = "{"x" * 64}"\n', "jobs.0.raw: String should have at most 63 characters"),
        (LEAST + '[hash]\nscheme = "md5"\n', "hash.scheme: Input should be 'sha256-suffix'"),
        (LEAST + '[[jobs]]\ntable = "events"\n', "have one column, ip_address_string"),
        (LEAST + '[[jobs]]\ntable = "events"\nschema = "public"\n', "have one column, ip_address_string"),
        (LEAST + '[[jobs]]\ntable = "ip_addresses"\n', "the address table cannot be a job"),
        (LEAST + '[[discard]]\ntable = "journals"\n', "discard.0.column: Field required"),
        (BITS.format("v4 = true"), "jobs.0.widths.v4: Input should be a valid integer"),
        (BITS.format("v4 = 32"), "jobs.0.widths.v4: Input should be less than or equal to 31"),
        (BITS.format("v6 = 0"), "jobs.0.widths.v6: Input should be greater than or equal to 1"),
        (LEAST.replace('"ip_addresses"', '"a"\nsentinel = "none"'), "addresses.sentinel: "),
    ],
)
def test_a_malformed_plan_is_one_line_that_names_file_and_key(plan_file, text: str, problem: str) -> None:
    path = plan_file(text)
    with pytest.raises(PlanInvalid) as caught:
        load_plan(path)
    message = str(caught.value)
    assert problem in message
    assert str(path) in message
    assert "\n" not in message


def test_an_unreadable_plan_is_one_line_too(tmp_path: Path) -> None:
    latin = tmp_path / "latin.toml"
    latin.write_bytes('name = "Zürich"'.encode("latin-1"))
    for path, problem in [
        (tmp_path / "missing.toml", "No such file"),
        (tmp_path, "directory"),
        (latin, "byte 10 is not UTF-8"),
    ]:
        with pytest.raises(PlanInvalid, match=problem) as caught:
            load_plan(path)
        assert "\n" not in str(caught.value)


def test_the_same_table_in_two_schemas_is_two_jobs(plan_file) -> None:
    plan = load_plan(plan_file(LEAST + '[[jobs]]\ntable = "events"\nschema = "old"\n'))
    assert [job.name for job in plan.jobs] == ["events", "old.events"]


def test_jobs_are_chosen_by_name_in_the_order_of_the_plan() -> None:
    assert PYPI.choose([]) == PYPI.jobs
    assert [job.name for job in PYPI.choose(["team_events", "user_events", "team_events"])] == [
        "user_events",
        "team_events",
    ]
    with pytest.raises(UnknownJob, match=r"journals.*user_events, project_events"):
        PYPI.choose(["journals"])


def test_the_fingerprint_covers_content_scheme_and_key_and_not_the_file(plan_file) -> None:
    plan = load_plan(plan_file(LEAST))
    reformatted = load_plan(plan_file("# the same\n" + LEAST + 'raw = "ip_address_string"\n', "other.toml"))
    assert reformatted.fingerprint("key") == plan.fingerprint("key")
    assert re.fullmatch(r"[0-9a-f]{64}", plan.fingerprint("key"))
    others = [
        load_plan(plan_file(LEAST + '[hash]\nscheme = "hmac-sha256"\n')).fingerprint("key"),
        load_plan(plan_file(LEAST + 'time = ""\n')).fingerprint("key"),
        plan.fingerprint("another key"),
    ]
    assert len({plan.fingerprint("key"), *others}) == 4


def test_a_plan_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        PYPI.jobs[0].raw = "other"


IN_PLACE = 'name = "p"\n[[jobs]]\ntable = "t"\nraw = "ip"\nbecomes = "hash"\nunreadable = "keep"\n'
DROPPED = 'name = "p"\n[[jobs]]\ntable = "t"\nraw = "ip"\nbecomes = "nothing"\nthen = "drop"\n'
BESIDE = '[[jobs]]\ntable = "t"\nraw = "last_ip"\nbecomes = "hash"\nunreadable = "keep"\n'


@pytest.mark.parametrize(
    ("said", "key", "columns"),
    [
        ("", None, None),
        ('key = "id"', "id", ("id",)),
        ('key = ["id"]', "id", ("id",)),
        ('key = ["user_id", "ip_hash"]', ("user_id", "ip_hash"), ("user_id", "ip_hash")),
        ("key = []", (), ()),
        ('key = ""', (), ()),
    ],
)
def test_a_key_has_a_column_several_or_none(plan_file, said: str, key, columns) -> None:
    (job,) = load_plan(plan_file(IN_PLACE + said + "\n")).jobs
    assert (job.key, job.key_columns, job.in_no_key) == (key, columns, {"ip"})
    (job,) = load_plan(plan_file(LEAST + said + "\n")).jobs
    written = {"ip_address_string", "ip_address_id", "additional"}
    assert (job.key, job.key_columns, job.in_no_key) == (key, columns, written)
    (job,) = load_plan(plan_file(IN_PLACE.replace('unreadable = "keep"', 'into = "h"') + said + "\n")).jobs
    assert (job.key, job.key_columns, job.in_no_key) == (key, columns, {"ip", "h"})


def test_plans_that_name_no_key_have_the_fingerprint_that_they_always_had(plan_file) -> None:
    assert PYPI.fingerprint("key") == "5abc7ac530465ce008c4cefb84b3ba98ab3d1ed26eaa326c857f2a9ee54ed654"
    named, unnamed = (load_plan(plan_file(LEAST + said)) for said in ('key = "id"\n', ""))
    assert named.fingerprint("key") == unnamed.fingerprint("key")
    assert load_plan(plan_file(LEAST + "key = []\n")).fingerprint("key") != unnamed.fingerprint("key")
    into = IN_PLACE.replace('unreadable = "keep"', 'into = "h"')
    named, unnamed = (load_plan(plan_file(into + said)) for said in ('key = "id"\n', ""))
    assert named.fingerprint("key") == unnamed.fingerprint("key")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (IN_PLACE + "key = 3\n", 'a column, a list of columns, or "" where the table has no key'),
        (IN_PLACE + "key = [3]\n", "a column, a list of columns"),
        (IN_PLACE + 'key = ["id", ""]\n', "1 to 63 bytes"),
        (IN_PLACE + 'key = ["id", "id"]\n', "a column is named twice"),
        (IN_PLACE + 'key = ["id", "ip"]\n', "t.ip is in the key of a job, and holds raw addresses: name another key, or none"),
        (IN_PLACE + 'key = ["id", "last_ip"]\n' + BESIDE, "t.last_ip is in the key of a job, and holds raw addresses"),
        (IN_PLACE + 'key = ["id", "old"]\n[[discard]]\ntable = "t"\ncolumn = "old"\n', "t.old is in the key of a job"),
        (IN_PLACE + 'key = ["id", "place"]\ngeo = "place"\n', "t.place is in the key of a job, and the job for t.ip writes it"),
        (IN_PLACE + 'geo = "ip"\n', "geo: it is the column of raw; places need a column of their own"),
        (IN_PLACE + 'time = { column = "at", zone = "UTC" }\ngeo = "at"\n', "geo: it is the column of time"),
        (IN_PLACE + 'geo = "place"\n' + BESIDE + 'geo = "place"\n', "one column, place"),
        (IN_PLACE + 'geo = "last_ip"\n' + BESIDE, "one column, last_ip"),
        (IN_PLACE + 'geo = "place"\n' + BESIDE + 'time = "place"\n', "t.place is the time of a job, and the job for t.ip writes it"),
        (IN_PLACE.replace('unreadable = "keep"', 'into = "h"\ngeo = "h"'), "geo: it is the column of into"),
        (LEAST + 'raw = "ip"\nkey = ["id", "ip"]\n', "events.ip is in the key of a job, and holds raw addresses: name another key, or none"),
        (LEAST + 'key = ["id", "additional"]\n', "events.additional is in the key of a job, and the job for"),
        (IN_PLACE.replace('unreadable = "keep"', 'into = "h"') + 'key = ["a", "h"]\n', "t.h is in the key of a job, and the job for t.ip writes it: name another key, or none"),
        (IN_PLACE + 'geo = ["place"]\n', "a jsonb column, or columns by key: { country_code"),
        (IN_PLACE + 'geo = {}\n', "a jsonb column, or columns by key"),
        (LEAST + 'geo = "place"\n', "geo: a link has its place in the address table, and in the column that extra names"),
        (DROPPED + 'geo = "place"\n', 'geo: beside then = "drop" it does not apply: the column goes as it is, and no row is rewritten. To keep the places, say then = "keep"'),
        (DROPPED + "widths = { v4 = 8 }\n", 'widths: beside then = "drop" it does not apply'),
        (DROPPED + 'unreadable = "keep"\n', 'unreadable: beside then = "drop" it does not apply'),
        (IN_PLACE + 'geo = { city = "" }\n', "a jsonb column, or columns by key"),
        (IN_PLACE + 'geo = { town = "city" }\n', "town: columns are filled with city, continent_code, country_code"),
        (IN_PLACE + 'geo = { latitude = "lat" }\n', "latitude: columns are filled with city"),
        (IN_PLACE + 'geo = { city = "a", region = "a" }\n', "a column is named twice"),
        (IN_PLACE + 'geo = { city = "a", region = "ip" }\n', "geo: it is the column of raw"),
        (IN_PLACE + 'geo = { city = "last_ip" }\n' + BESIDE, "one column, last_ip"),
        (IN_PLACE + 'geo = { city = "a" }\n[geo]\nkeys = ["region"]\n', "geo: city of the job for t.ip is not among keys under [geo]"),
    ],
)  # fmt: skip
def test_a_key_that_cannot_be_is_refused_by_name(plan_file, text: str, problem: str) -> None:
    with pytest.raises(PlanInvalid) as caught:
        load_plan(plan_file(text))
    assert problem in str(caught.value)
    assert "Input should be" not in str(caught.value)


def test_a_discard_names_no_row(plan_file) -> None:
    text = 'name = "p"\n[[jobs]]\ntable = "t"\nraw = "ip"\nbecomes = "nothing"\nthen = "drop"\nkey = []\n'
    assert [one.column for one in load_plan(plan_file(text)).discard] == ["ip"]


KINDS = ("link", "pseudonym", "hash", "network", "nothing")
# Row of the table → what a job says, beside the least that its kind needs.
COMBINATIONS = {
    "`link`, `extra`": 'link = "address_id"\nextra = ""',
    '`then = "keep"`': 'then = "keep"',
    '`then = "drop"`': 'then = "drop"',
    "`widths`": "widths = { v4 = 16, v6 = 32 }",
    '`constant`, with `unreadable = "keep"`': 'constant = "-"\nunreadable = "keep"',
    '`constant`, with `unreadable = "nothing"`': 'constant = "-"\nunreadable = "nothing"',
    "`unreadable`": 'unreadable = "refuse"',
    "`time`": 'time = "created"',
    "`time` and `after`": 'time = "created"\nafter = "30 days"',
    "`after` without `time`": 'after = "30 days"',
    "`path` (members of JSON)": 'path = "$.ip"',
    "`into` (another column)": 'into = "other"',
    "`into` and `unreadable`": 'into = "other"\nunreadable = "keep"',
    '`into` and `then = "drop"`': 'into = "other"\nthen = "drop"',
    '`into` and `then = "keep"`': 'into = "other"\nthen = "keep"',
    "`into` and `after`": 'into = "other"\ntime = "created"\nafter = "30 days"',
    "`geo` (a jsonb column for the place)": 'geo = "place"',
    "`geo` and `after`": 'geo = "place"\ntime = "created"\nafter = "30 days"',
    '`geo` and `then = "drop"`, without `into`': 'geo = "place"\nthen = "drop"',
    "`geo` as columns by key": 'geo = { city = "city" }',
    "`into` and `geo`": 'into = "other"\ngeo = "place"',
    '`on_duplicate = "refuse"`': 'on_duplicate = "refuse"',
    '`on_duplicate = "keep-newest"`, with `time`': 'on_duplicate = "keep-newest"\ntime = "created"',
    '`on_duplicate = "keep-newest"` without `time`': 'on_duplicate = "keep-newest"',
    "`removes` (retention of links and hashes)": 'removes = "link"',
    "a key of several columns, or none": 'key = ["a", "b"]',
}


def combinations() -> dict[tuple[str, str], bool]:
    table = DOCUMENT.read_text(encoding="utf-8").split("## Which keys go together")[1].split("\n\n")[1]
    found = {}
    for line in table.splitlines()[2:]:
        name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        found |= {(name, kind): cell == "x" for kind, cell in zip(KINDS, cells, strict=True)}
    return found


def test_the_document_s_table_has_every_combination() -> None:
    assert {name for name, _ in combinations()} == set(COMBINATIONS)


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in COMBINATIONS for kind in KINDS])
def test_a_combination_loads_or_is_refused_as_the_document_says(plan_file, name: str, kind: str) -> None:
    said = COMBINATIONS[name]
    lines = ['name = "one"', *(['[addresses]\ntable = "ip_addresses"'] if kind == "link" else []), "[[jobs]]"]
    lines += ['table = "events"', 'raw = "ip"', f'becomes = "{kind}"', said]
    drops = kind == "nothing" and '"drop"' in said
    if kind != "link" and "unreadable" not in said and "into" not in said and not drops:
        lines.append('unreadable = "keep"')
    if kind == "nothing" and "then" not in said:
        lines.append('then = "keep"')
    if combinations()[name, kind]:
        plan = load_plan(plan_file("\n".join(lines) + "\n"))
        assert [job.becomes for job in plan.jobs] == ([] if drops else [kind])
        assert len(plan.discard) == drops
        return
    with pytest.raises(PlanInvalid) as refusal:
        load_plan(plan_file("\n".join(lines) + "\n"))
    keys = re.findall(r"^(\w+) =", said, re.MULTILINE)
    assert any(f"{key}: " in str(refusal.value) for key in keys)
    assert "Extra inputs" not in str(refusal.value)


def test_what_makes_no_sense_is_refused_with_the_documents_reason(plan_file) -> None:
    table = DOCUMENT.read_text(encoding="utf-8").split("Three combinations make no sense")[1].split("\n\n")[1]
    reasons = dict(line.strip("| ").split(" | ")[:2] for line in table.splitlines()[2:])
    sealed = reasons.pop("`backfill seal` of a job in place")
    assert set(reasons) == {"`into` and `after`", '`into` and `then = "keep"`'}
    for name, why in reasons.items():
        text = (
            f'name = "one"\n[[jobs]]\ntable = "events"\nraw = "ip"\nbecomes = "hash"\n{COMBINATIONS[name]}\n'
        )
        with pytest.raises(PlanInvalid) as refusal:
            load_plan(plan_file(text))
        assert why in str(refusal.value)
    with pytest.raises(SealUnfit) as refusal:
        sealable(load_plan(plan_file(IN_PLACE)), "t")
    assert sealed in str(refusal.value)
    assert "`backfill run t`" in str(refusal.value)


def test_a_plan_without_links_needs_no_address_table_and_one_with_links_says_that_it_does(plan_file) -> None:
    job = '[[jobs]]\ntable = "events"\nraw = "ip"\n'
    plan = load_plan(plan_file(f'name = "one"\n{job}becomes = "hash"\nunreadable = "keep"\n'))
    assert plan.address_tables == ()
    with pytest.raises(PlanInvalid, match="addresses: required, since values of events become links"):
        load_plan(plan_file(f'name = "one"\n{job}'))
