"""A query per row through an ORM: the way it was done at PyPI in 2023, written anew from its description.

Ten thousand rows a batch in the order of time, ``IS NULL`` searched again for each, one SELECT and
perhaps one INSERT a row, the hash of the text as it stands, no geography, a second of sleep after
each batch. Kinder than the original in one thing: a text that is no address gets the sentinel
instead of ending the script. Only the first batch is done, and the rate extrapolated.
"""

import time
import uuid
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from typing import Any

from sqlalchemy import ForeignKey, create_engine, func, select
from sqlalchemy.dialects.postgresql import ENUM, INET, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from backfill.plan import PYPI
from benchmarks.contenders import Work
from benchmarks.ground import Site

BATCHES, ROWS = 1, 10_000
PAUSE_SECONDS = 1.0
SENTINEL = "192.0.2.69"


class Base(DeclarativeBase):
    """Of the two models below; they have all columns of their tables, as an application's have."""


class IpAddress(Base):
    """A row of ``ip_addresses``."""

    __tablename__ = "ip_addresses"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    ip_address: Mapped[str] = mapped_column(INET)
    is_banned: Mapped[bool] = mapped_column(default=False)
    ban_reason: Mapped[str | None] = mapped_column(
        ENUM("authentication-attempts", name="banreason", create_type=False)
    )
    ban_date: Mapped[datetime | None]
    hashed_ip_address: Mapped[str | None]
    geoip_info: Mapped[Any] = mapped_column(JSONB(none_as_null=True))


class UserEvent(Base):
    """A row of ``user_events``."""

    __tablename__ = "user_events"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    source_id: Mapped[uuid.UUID]
    tag: Mapped[str]
    time: Mapped[datetime]
    ip_address_string: Mapped[str | None]
    additional: Mapped[Any] = mapped_column(JSONB)
    ip_address_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("ip_addresses.id"))
    address: Mapped[IpAddress | None] = relationship()


@dataclass(frozen=True)
class OrmLoop:
    """The loop over a sample of ``user_events``."""

    batches: int = BATCHES
    rows: int = ROWS
    pause: float = PAUSE_SECONDS
    name: str = f"a query a row through the ORM (sample of {BATCHES * ROWS:,} rows)"
    complete: bool = False
    sampled: bool = True

    def prepare(self, site: Site) -> None:
        """Nothing."""

    def run(self, site: Site) -> Work:
        """Some batches; the longest transaction is the slowest batch."""
        engine = create_engine(site.url)
        hasher = site.salt.hasher(PYPI.hash.scheme)
        began, longest = time.monotonic(), 0.0
        with Session(engine) as session:
            for _ in range(self.batches):
                started = time.monotonic()
                unlinked = (
                    select(UserEvent)
                    .where(UserEvent.ip_address_id.is_(None), UserEvent.ip_address_string.is_not(None))
                    .order_by(UserEvent.time)
                    .limit(self.rows)
                )
                for event in session.scalars(unlinked):
                    text = _valid(event.ip_address_string or "")
                    found = session.scalars(
                        select(IpAddress).where(IpAddress.ip_address == text)
                    ).one_or_none()
                    if found is None:
                        found = IpAddress(ip_address=text, hashed_ip_address=hasher(text))
                        session.add(found)
                    event.address = found
                session.commit()
                longest = max(longest, time.monotonic() - started)
                time.sleep(self.pause)
        seconds = time.monotonic() - began
        engine.dispose()
        return Work(seconds, longest=longest)


def _valid(text: str) -> str:
    try:
        ip_address(text)
    except ValueError:
        return SENTINEL
    return SENTINEL if "%" in text else text  # inet knows no zones
