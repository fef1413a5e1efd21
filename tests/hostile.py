"""One hostile set of names: what other people's catalogs, rows and variables may be called."""

from pathlib import Path

from tests.databases import query
from tests.demo_template import environment, live_hash
from tests.operator import Operator

ESC = "\x1b"
BIDI = "\u202e"
TITLE = f"{ESC}]0;owned\x07"
SCHEMA = f'S "%s; {ESC}[2J'
TABLE = f"lo|g`in $(id) '%(x)s\n{BIDI}<b>#"
COLUMN = f"100% :ip {TITLE}\n| x"
LINK = f"link%s\t{BIDI}`"
ADDRESSES = "Addr | esses %d :a"
KEY = "i d%"
ROW_KEY = f"key{TITLE}\n| `{BIDI}<script>alert(1)</script>"
CITY = f"city|{TITLE}\n`x`<b>"
RESTORE_POINT = f"100%% of {ESC}[31m'it'\n| `now` <i>"
APPLICATION = f"app{ESC}[5m|%s"

NEVER = (ESC, "\x07", BIDI, "\r", "\x9b")  # on a terminal, in a log, in Markdown or a label


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def toml(text: str) -> str:
    return '"' + "".join(f"\\U{ord(letter):08X}" for letter in text) + '"'


def hostile(url: str, folder: Path) -> Operator:
    """An operator of a database in which everything has such a name, with a plan for it."""
    schema, table, addresses = quoted(SCHEMA), quoted(TABLE), quoted(ADDRESSES)
    for statement in (
        f"create schema {schema}",
        f"create table {schema}.{addresses} ({quoted(KEY)} bigint generated always as identity primary key, "
        "address inet not null unique, digest text unique, place jsonb)",
        f"create table {schema}.{table} ({quoted(KEY)} text primary key, {quoted(COLUMN)} text, "
        f"{quoted(LINK)} bigint references {schema}.{addresses}, additional jsonb, time timestamp default now() - interval '1 day')",
    ):
        query(url, statement)
    for number, text in enumerate(["8.8.8.8", "203.0.113.9", "1.1.1.1", "unknown", "not an address"]):
        query(
            url,
            f"insert into {schema.replace('%', '%%')}.{table.replace('%', '%%')} values (%s, %s)",
            f"{ROW_KEY}{number}",
            text,
        )
    query(
        url,
        f"insert into {schema.replace('%', '%%')}.{addresses.replace('%', '%%')} (address, digest) values ('8.8.8.8', %s)",
        live_hash("8.8.8.8"),
    )
    (folder / "plan.toml").write_text(
        f"""name = {toml(TABLE[:40])}
[addresses]
schema = {toml(SCHEMA)}
table = {toml(ADDRESSES)}
key = {toml(KEY)}
address = "address"
hash = "digest"
geo = "place"
banned = ""
ban_reason = ""
ban_date = ""
[geo]
keys = ["country_code", "country_name", "country_code3", "continent_code"]
[[jobs]]
schema = {toml(SCHEMA)}
table = {toml(TABLE)}
key = {toml(KEY)}
raw = {toml(COLUMN)}
link = {toml(LINK)}
"""
    )
    variables = environment(url, folder) | {"PGAPPNAME": APPLICATION}
    return Operator(url, variables).having(plan=str(folder / "plan.toml"), restore_point=RESTORE_POINT)
