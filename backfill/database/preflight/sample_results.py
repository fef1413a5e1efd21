"""Sample results: values of the form that a job in place writes, for trying what the schema says of them.

No salt is needed for a form: the digits are those of some hash. What is written in fact is ``backfill.jobs``'.
"""

import hashlib
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network

from backfill.plan import InPlaceJob, IntoJob
from backfill.raw_column import Widths

# Ordinary addresses, short and long ones.
ADDRESSES = (
    "198.51.100.77",
    "8.8.8.8",
    "203.0.113.254",
    "2001:db8::1",
    "2a02:908:1234:5678:9abc:def0:1357:2468",
    "2606:4700::6810:85e5",
)
HASH_DIGITS = 64
PSEUDONYM_LENGTH = len("fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")


@dataclass(frozen=True)
class Sample:
    """What becomes of an address; *address* is None where the result is the same for every text."""

    address: str | None
    result: str | None


def samples(job: InPlaceJob | IntoJob) -> tuple[Sample, ...]:
    """Pairs of a value and what *job* makes of it."""
    if isinstance(job, IntoJob):  # what is made of an address stands where no address stood
        return tuple(Sample(None, hashlib.sha256(address.encode()).hexdigest()) for address in ADDRESSES)
    found = [Sample(address, result) for address in ADDRESSES for result in _results(job, address)]
    if job.becomes == "nothing" or job.unreadable == "nothing":
        found.append(Sample(None, job.constant))
    return tuple(found)


def longest(job: InPlaceJob) -> int:
    """Characters of the longest result."""
    of_kind = {
        "hash": HASH_DIGITS,
        "pseudonym": PSEUDONYM_LENGTH,
        "network": _longest_network(job.widths),
    }.get(job.becomes, 0)
    return max(of_kind, len(job.constant or ""))


def _results(job: InPlaceJob, address: str) -> tuple[str, ...]:
    digest = hashlib.sha256(address.encode())
    if job.becomes == "hash":
        return (digest.hexdigest(),)
    if job.becomes == "pseudonym":
        return (str(IPv6Address(b"\xfd\x7a" + digest.digest()[:14])),)
    if job.becomes == "network":
        kept = job.widths.v6 if ":" in address else job.widths.v4
        return (str(ip_network(f"{address}/{kept}", strict=False).network_address),)
    return ()


def _longest_network(widths: Widths) -> int:
    v4 = IPv4Network(f"255.255.255.255/{widths.v4}", strict=False)
    v6 = IPv6Network(f"{IPv6Address(2**128 - 1)}/{widths.v6}", strict=False)
    return max(len(str(v4.network_address)), len(str(v6.network_address)))
