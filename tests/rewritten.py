"""A database of an application that keeps its columns: an operator, a plan of in-place jobs, and what each row should become.

What is expected is computed here, from the plan's words and nothing of the writers.
"""

import ipaddress
import json
import re
import shlex
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from tests.databases import query
from tests.operator import Operator, Said

SALT = "0123456789abcdef0123456789abcdef"
TEXTS = (
    *(f"81.2.{number % 7}.{number}" for number in range(40)),
    *(f"2a00:{number % 5:x}:1:2::{number + 1:x}" for number in range(19)),
    "2002:102:304:1::5",
    "8.8.8.8",
    "8.8.8.0",
    "::1",
)
SPELT = ("::ffff:1.2.3.4", "2A00:0:0:0:0:0:0:9", " 8.8.4.4", "[2a00::7]:443", "fe80::1%eth0")
UNREADABLE = ("unknown", "10.0.0.0/8", "1.2.3.4, 10.0.0.1", "x" * 300, "")
SCHEMA = """
    create table {name} (id bigint generated always as identity primary key, ip {type}, note text default 'kept');
    insert into {name} (ip) select unnest(%s::text[])::{type};
    insert into {name} (ip) select null from generate_series(1, 3);
"""


def table(url: str, name: str, type_: str, texts: tuple[str, ...]) -> None:
    """A table with a row a text, twice, and three without a value."""
    query(url, SCHEMA.format(name=name, type=type_), list(texts) * 2)


def plan_file(folder: Path, *jobs: Mapping[str, object]) -> Path:
    """A plan of those jobs, without an address table."""
    lines = ['name = "rewritten"']
    for job in jobs:
        lines.append("[[jobs]]")
        for key, value in job.items():
            text = (
                "{ " + ", ".join(f"{name} = {part}" for name, part in value.items()) + " }"
                if isinstance(value, Mapping)
                else json.dumps(value)
            )
            lines.append(f"{key} = {text}")
    path = folder / "rewritten.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def operator(url: str, home: Path, plan: Path) -> Operator:
    """Of that database and plan."""
    variables = {
        "BACKFILL_DATABASE_URL": url,
        "BACKFILL_HOME": str(home),
        "BACKFILL_IP_SALT": SALT,
        "BACKFILL_PLAN": str(plan),
    }
    return Operator(url, variables)


def confirmed(said: Said) -> list[str]:
    """The words that a refusal tells to type, with the name of a restore point, but for the program's own."""
    words = shlex.split(re.findall(r"`backfill (run [^`]*)`", said.err)[-1])
    return ["monday" if word == "NAME" else word for word in words]


def run(operator: Operator, *words: object, expect: int = 0) -> Said:
    """``backfill run``, with the consent that the first one of a definition asks for."""
    asked = operator.types("run", *words, expect=2)
    return operator.types(*confirmed(asked), expect=expect)


def values(url: str, name: str) -> list[tuple[int, str | None, str]]:
    """Rows by key, with the value as the application reads it."""
    return query(
        url, f"select id, case when ip is null then null else concat(ip) end, note from {name} order by id"
    )


def canonical(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """By hand, for the texts of this module."""
    bare = re.sub(r"^\[(.*)\]:\d+$", r"\1", text.strip()).partition("%")[0]
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def network(text: str, v4: int = 24, v6: int = 48) -> str:
    """The host's network, as a host."""
    address = canonical(text)
    assert address is not None
    bits = v4 if address.version == 4 else v6
    if getattr(address, "sixtofour", None):
        bits = min(v6, 16 + v4)
    return str(ipaddress.ip_network(f"{address}/{bits}", strict=False).network_address)


def hashed(text: str) -> str:
    """By the default scheme."""
    return sha256(f"{canonical(text)}{SALT}".encode()).hexdigest()
