"""The edge (CDN) in front of the application: how it proves itself, and the headers by which it passes on what it knows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hmac import compare_digest

from backfill.errors import SettingInvalid

MIN_TOKEN = 16  # characters; a shorter one can be found by trying

# Key of a place → header. The keys are those that readers of PyPI's geoip_info know.
PLACE_HEADERS = {
    "city": "Warehouse-City",
    "continent_code": "Warehouse-Continent",
    "country_code": "Warehouse-Country-Code",
    "country_code3": "Warehouse-Country-Code3",
    "country_name": "Warehouse-Country-Name",
    "region": "Warehouse-Region",
}


@dataclass(frozen=True)
class Edge:
    """The edge's secret, and its headers; the names are PyPI's unless told otherwise.

    *hash_header* and *address_header* may be None: an edge that sends only one of the two.
    """

    token: str = field(repr=False)
    token_header: str = "Warehouse-Token"  # noqa: S105
    address_header: str | None = "Warehouse-IP"
    hash_header: str | None = "Warehouse-Hashed-IP"
    place_headers: Mapping[str, str] = field(default_factory=lambda: dict(PLACE_HEADERS))

    def __post_init__(self) -> None:
        """Raises ``SettingInvalid``; never repeats the token."""
        if len(self.token) < MIN_TOKEN or not all("!" <= character <= "~" for character in self.token):
            raise SettingInvalid(
                setting="The edge's token",
                problem=f"it must be {MIN_TOKEN} or more printable ASCII characters without spaces",
            )
        for header in self.headers:
            if not header.replace("-", "").isalnum() or not header.isascii():
                raise SettingInvalid(
                    setting="A header of the edge", problem="a name is made of letters, digits and hyphens"
                )
        if len(set(map(str.lower, self.headers))) < len(self.headers):
            raise SettingInvalid(setting="The headers of the edge", problem="two have the same name")
        if self.address_header is None and self.hash_header is None:
            raise SettingInvalid(
                setting="The headers of the edge",
                problem="neither address nor hash has one; name at least one",
            )

    def __reduce__(self) -> str:
        raise TypeError("an edge's token does not travel between processes")

    @cached_property
    def headers(self) -> tuple[str, ...]:
        """All of them: what is removed from every request, whoever sent it."""
        named = (self.token_header, self.address_header, self.hash_header, *self.place_headers.values())
        return tuple(name for name in named if name is not None)

    def proves(self, given: str) -> bool:
        """Whether *given*, what was sent under the token's header, holds the token.

        Compared in time that depends on lengths alone. Of a list each part is compared: a WSGI server may join
        the edge's header with one that a client wrote with underscores, and only the edge knows the token.
        """
        token = self.token.encode()
        proved = False
        for part in (given, *given.split(",")):
            stripped = part.strip().encode("utf-8", "surrogatepass")
            if len(stripped) == len(token):  # the length is no secret
                proved |= compare_digest(stripped, token)
        return proved
