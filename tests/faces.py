"""What each face of a report says to its reader, without its markup."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser


class Words(HTMLParser):
    """What a reader sees of a page, pictures apart."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.inside, self.said = 0, ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside += tag in ("style", "svg")
        if tag not in ("code", "strong", "span", "i"):
            self.said += "\n"

    def handle_endtag(self, tag: str) -> None:
        self.inside -= tag in ("style", "svg")

    def handle_data(self, data: str) -> None:
        if not self.inside:
            self.said += data


def strings(found: object) -> Iterator[str]:
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, list):
        for one in found:
            yield from strings(one)
    elif isinstance(found, int) and not isinstance(found, bool):
        yield f"{found:,}"
    elif isinstance(found, str):
        yield found


def read(face: str, rendered: str) -> str:
    """What *face* says to its reader, without its markup."""
    if face == "html":
        return Words(rendered).said.replace("\n", " ")
    if face == "json":
        return "\n".join(strings(json.loads(rendered)["sections"])) + json.loads(rendered)["title"]
    return re.sub(r"\\([\\`*\[\]<>|~&#])", r"\1", rendered) if face == "markdown" else rendered


def plain(face: str, fact: str) -> str:
    """*fact* as that face shows it: commands between backticks are a font of their own in HTML."""
    return fact.replace("`", "") if face == "html" else fact
