"""Pure: what about a salt's text looks like an accident of how it was written down.

A salt that differs by one invisible character from the live application's makes other hashes, all of
them well-formed: no ban and no correlation works, and nothing else says so. So such a text is refused by
name, and the operator says when it is what it looks like.
"""

import re
import unicodedata

QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "„": "“", "«": "»"}
ASSIGNMENT = re.compile(r"\s*(export\s+)?[A-Z][A-Z0-9_]*(SALT|SECRET|KEY|PEPPER)[A-Z0-9_]*\s*[=:]")
TEMPLATE = re.compile(r"\$\{\w+\}|\$\(\w+\)|\{\{.*\}\}|<[A-Za-z _-]+>|%\(\w+\)s")


def oddity(value: str) -> str | None:
    """What looks like an accident, in words that hold nothing of *value*; None for a plain text.

    Never raises, so that no traceback can hold its argument.
    """
    if value.startswith("\ufeff"):
        return "it begins with a byte order mark; write the file as UTF-8 without one"
    if "\0" in value:
        return "it holds a NUL; a file in UTF-16 looks like that"
    if "\n" in value or "\r" in value:
        return "it has more than one line"
    if any(unicodedata.category(character) == "Cc" for character in value):
        return "it holds a control character, such as a tab"
    if any(unicodedata.category(character) in ("Cf", "Zl", "Zp", "Co") for character in value):
        return "it holds an invisible character"
    if value != value.strip():
        return "it begins or ends with a space"
    if len(value) > 1 and QUOTES.get(value[0]) == value[-1]:
        return "it stands in quotation marks, which would be part of it"
    if ASSIGNMENT.match(value):
        return "it is an assignment (NAME=…); only the value is wanted"
    if TEMPLATE.fullmatch(value):
        return "it is a place for a value that nobody filled in"
    return None
