"""The demo database as tests want it: small, made once a session, cloned in a moment, dumped to compare."""

import hashlib
import json
from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address
from typing import Any

import geoip2.database
import geoip2.errors
import iso3166
from sqlalchemy import make_url

from backfill.geo.city import bundled_geo_path
from backfill.pypi.demo import create_demo
from tests.databases import query

EVENTS = 3_000
SALT = "the salt of the tests, of some length"
TABLES = ("user_events", "project_events", "file_events", "organization_events", "team_events")
SENTINEL = "192.0.2.69"
GEO_PATH = bundled_geo_path()

# Rows of all event tables under one roof, while they still have their raw column.
ALL_EVENTS = " union all ".join(
    f"select '{name}' as name, id, time, ip_address_string as raw, additional, ip_address_id as link from {name}"
    for name in TABLES
)


def live_hash(text: str) -> str:
    """What the live application stores for an address: the formula, by hand."""
    return hashlib.sha256((text + SALT).encode()).hexdigest()


def fill_demo(url: str, events: int = EVENTS) -> None:
    """Make the demo in the empty database at *url*."""
    assert GEO_PATH
    create_demo(
        url,
        events=events,
        seed=1,
        hash_address=live_hash,
        geo_path=GEO_PATH,
        report=lambda line: None,
    )


def environment(url: str, home: Any) -> dict[str, str]:
    """What an operator of the database at *url* has set."""
    return {
        "BACKFILL_DATABASE_URL": make_url(url)
        .set(drivername="postgresql")
        .render_as_string(hide_password=False),
        "BACKFILL_IP_SALT": SALT,
        "BACKFILL_GEOIP_DB": str(GEO_PATH),
        "BACKFILL_HOME": str(home),
        "BACKFILL_WORKERS": "1",
        "BACKFILL_PASSES": "2",  # of eight, on so few rows, each is a transaction for nothing
    }


def addresses(url: str) -> dict[str, str]:
    """``id → host(ip_address)`` of every address row."""
    return dict(query(url, "select id::text, host(ip_address) from ip_addresses"))


def canonical_dump(url: str) -> dict[str, Any]:
    """Everything that a run decides, without the identifiers that it draws by lot.

    Events: id, address of the link, ``additional``. Addresses: text, hash, geo, ban. Quarantine.
    """
    events = query(
        url,
        f"""select e.name, e.id::text, e.raw, ip.ip_address::text, e.additional
              from ({ALL_EVENTS}) e left join ip_addresses ip on ip.id = e.link order by 1, 2""",
    )
    known = query(
        url,
        """select ip_address::text, hashed_ip_address, geoip_info, is_banned, ban_reason::text, ban_date
             from ip_addresses order by 1""",
    )
    quarantined = query(
        url,
        """select q.job, coalesce(ip.ip_address::text, q.row_key), q.reason, q.decision_id is null
             from backfill.quarantine q left join ip_addresses ip on ip.id::text = q.row_key order by 1, 2""",
    )
    return {"events": events, "addresses": known, "quarantine": quarantined}


def digest(rows: Iterable[Any]) -> str:
    """A short name for many rows: a failing comparison of thousands of them is not readable."""
    return hashlib.sha256(json.dumps(list(rows), default=str, sort_keys=True).encode()).hexdigest()


def read_by_hand(text: str) -> str | None:
    """The address that *text* spells, found by another road than the product's: parts cut off, one by one."""
    if len(text) > 64:
        return None
    text = text.strip().lower()
    if text.startswith("[") and "]" in text:
        text = text[1:].split("]")[0]
    elif text.count(".") == 3 and text.count(":") == 1:
        text = text.split(":")[0]
    text = text.split("%")[0]
    for suffix, colon in (("/32", False), ("/128", True)):
        if text.endswith(suffix) and (":" in text) is colon:
            text = text.removesuffix(suffix)
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


class GeoByHand:
    """The six fields of the built-in plan by way of geoip2's own models, which a run goes round."""

    def __init__(self) -> None:
        assert GEO_PATH
        self._reader = geoip2.database.Reader(GEO_PATH)

    def __call__(self, address: str) -> dict[str, Any] | None:
        if not ip_address(address).is_global:
            return None
        try:
            found = self._reader.city(address)
        except geoip2.errors.AddressNotFoundError:
            return None
        code = found.country.iso_code
        country = iso3166.countries_by_alpha2.get(code) if code else None
        fields = {
            "city": found.city.name,
            "continent_code": found.continent.code,
            "country_code3": country.alpha3 if country else None,
            "country_code": code,
            "country_name": found.country.name,
            "region": found.subdivisions[0].iso_code if found.subdivisions else None,
        }
        return {name: value for name, value in fields.items() if value is not None} or None

    def close(self) -> None:
        self._reader.close()
