"""Pure: what a value is in a column whose values are rewritten in place.

Shared with the writer are the canonical form, and the key that makes pseudonyms; neither its map nor its SQL.
"""

from ipaddress import IPv6Address, ip_address

from backfill.addresses import MAX_LENGTH, Address, Reason, network_text
from backfill.hashing.pseudonym import UNIQUE_LOCAL, Pseudonyms
from backfill.ledger.counts import Count
from backfill.plan import InPlaceJob
from backfill.verify.classification import canonical, spelled


def classify_value(job: InPlaceJob, text: str | None, ours: Pseudonyms | None) -> tuple[Count, Reason | None]:
    """Which of ``IN_PLACE_CLASSES`` a row with that *text* is in, and why the text is no address, where it is none.

    *text*: not NULL; None: it cannot be decoded. Of a hash, the server has told which are in the form. *ours*: None
    where no pseudonym was ever made.
    """
    if text is not None and _is_constant(job, text):
        return Count.IN_FORM, None
    if job.becomes == "pseudonym" and ours is not None and text is not None and ours.is_ours(text):
        return Count.IN_FORM, None
    address = spelled(text)
    if isinstance(address, Reason):
        return _unreadable(job), address
    if job.becomes == "network" and _is_network(job, address, text or ""):
        return Count.IN_FORM, None
    if job.becomes == "pseudonym" and ours is not None and _has_prefix(address, ours):
        return Count.FOREIGN_PREFIX, None
    return Count.STILL_RAW, None


def may_hold_address(text: str | None) -> bool:
    """Whether an address may stand somewhere in a text that is none: "1.2.3.4, 10.0.0.1", ``ip-10-0-0-1``, ``0x7f000001``.

    Only a text that was read whole, and that has neither a digit nor two colons, holds none for certain.
    """
    if text is None or len(text) > MAX_LENGTH:
        return True
    return text.count(":") > 1 or any(
        character.isnumeric() or not character.isprintable() for character in text
    )


def _is_network(job: InPlaceJob, address: Address, text: str) -> bool:
    """In any spelling of the network; a port, a zone or a mask beside it is of the host."""
    if network_text(address, job.widths.v4, job.widths.v6) != str(address):
        return False
    try:
        return "%" not in text and ip_address(text.strip()) is not None
    except ValueError:
        return False


def _is_constant(job: InPlaceJob, text: str) -> bool:
    """The value that stands for nothing; an address in any spelling, since ``inet`` has its own."""
    if job.constant is None:
        return False
    if text == job.constant:
        return True
    address = canonical(text)
    return not isinstance(address, Reason) and address == canonical(job.constant)


def _unreadable(job: InPlaceJob) -> Count:
    """What a text that is no address counts as, by what the plan wants of it."""
    match job.unreadable:
        case "keep":
            return Count.KEPT_UNREADABLE
        case "nothing":
            return Count.STILL_RAW
        case _:
            return Count.QUARANTINED


def _has_prefix(address: Address, ours: Pseudonyms) -> bool:
    return isinstance(address, IPv6Address) and address.packed[:2] == bytes((UNIQUE_LOCAL, ours.prefix))
