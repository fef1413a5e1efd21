"""URLs of databases: read, and shown without what may be secret.

A URL is typed by a person: a password may stand in the place of the port, behind an ``@`` too many, or in a
query. So only what is known to be harmless is shown, and libpq's messages, which repeat values, are masked.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from backfill.errors import SettingInvalid

MASK = "***"
SHORTEST = 4  # a shorter secret would be found in any text
NUMBERS = frozenset(
    {
        "port",
        "connect_timeout",
        "keepalives",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_count",
        "tcp_user_timeout",
    }
)
PUBLIC = NUMBERS | {
    "host",
    "hostaddr",
    "dbname",
    "user",
    "service",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "passfile",
    "target_session_attrs",
    "requirepeer",
    "load_balance_hosts",
    "application_name",
    "client_encoding",
}


def parse(text: str, setting: str) -> URL:
    """The URL that *setting* holds. Raises ``SettingInvalid``, without the text."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # The parser's own message repeats the text, password and all.
        raise SettingInvalid(
            setting=setting,
            problem="not a URL such as postgresql://user:password@host:5432/database "
            "(several hosts: ?host=h1:5432&host=h2:5432)",
        ) from None
    if url.drivername.partition("+")[0] not in {"postgresql", "postgres"}:
        raise SettingInvalid(
            setting=setting, problem=f"{url.drivername} is not PostgreSQL; use postgresql://"
        )
    # SQLAlchemy 2.1 reads a bare postgresql:// as psycopg 3, which is not installed.
    return url.set(drivername="postgresql+psycopg2")


def shown(url: URL) -> str:
    """*url* for people: no password, nor anything else that is not known to be harmless."""
    user = f"{quote(_shown('user', url.username), safe='*')}" if url.username else ""
    password = f":{MASK}" if url.password is not None else ""
    port = f":{url.port}" if url.port else ""
    database = quote(_shown("dbname", url.database), safe="*") if url.database else ""
    query = "&".join(
        f"{name if name in PUBLIC else quote(name)}={quote(_shown(name, value), safe='*')}"
        for name, values in url.normalized_query.items()
        for value in values
    )
    return (
        f"postgresql://{user}{password}{'@' if user or password else ''}{_host(url.host)}{port}/{database}"
        f"{'?' if query else ''}{query}"
    )


def place(url: URL) -> str:
    """Host and port, in a word."""
    hosts = [_shown("host", host) for host in url.normalized_query.get("host", ())]
    host = _host(url.host) or ",".join(hosts) or "here"
    return f"{host}:{url.port}" if url.port else host


def _host(host: str | None) -> str:
    name = _shown("host", host or "")
    return f"[{name}]" if ":" in name and MASK not in name else name


def _shown(name: str, value: str | None) -> str:
    """A parameter's value, as far as it can be shown."""
    value = value or ""
    if name not in PUBLIC or (name in NUMBERS and not value.replace(",", "").isdigit()):
        return MASK
    if "@" in value:  # user:pass@word@host: what is before is part of the password
        return f"{MASK}@{value.rpartition('@')[2]}"
    return f"{value.partition(':')[0]}:{MASK}" if name == "user" and ":" in value else value


def secrets(parameters: Mapping[str, Any]) -> set[str]:
    """Texts among connection *parameters* that no message may show."""
    found: set[str] = set()
    for name, value in parameters.items():
        text = str(value)
        left = _shown(name, text)
        if text and left != text:
            found.update({text, *_pieces(text, left)})
    return found | {form(text) for text in found for form in (quote, quote_plus)}


def _pieces(text: str, left: str) -> Iterator[str]:
    """What of *text* the mask stands for."""
    before, _, after = left.partition(MASK)
    hidden = text[len(before) : len(text) - len(after)]
    yield hidden
    yield from filter(None, hidden.replace("@", ":").split(":"))


def masked(message: str, parameters: Mapping[str, Any]) -> str:
    """*message* of the driver without the secrets of *parameters*."""
    for secret in sorted(secrets(parameters), key=len, reverse=True):
        if secret not in message:
            continue
        if len(secret) < SHORTEST:
            return "the server could not be reached, or refused the session; the message is not shown, since it may hold a password"
        message = message.replace(secret, MASK)
    return message
