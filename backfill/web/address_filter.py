"""A filter for ``logging``: hashes in the place of addresses."""

import logging
from typing import Any

from backfill.web.address_hashes import AddressHashes
from backfill.web.address_texts import AddressTexts
from backfill.web.pseudonymizer import Pseudonymizer


class AddressFilter(logging.Filter):
    """Replaces every address in a record (message, arguments, traceback, further fields of text) by its hash.

    Give it to the handlers, not to a logger, since a logger's filters do not see what its children log. Which texts
    are taken for an address: docs/logs.md. A record that cannot be formatted is left to its handler.
    """

    def __init__(self, pseudonymizer: Pseudonymizer) -> None:
        super().__init__()
        self._texts = AddressTexts(AddressHashes(pseudonymizer.hash))
        self._formatter = logging.Formatter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true."""
        if record.exc_info and not record.exc_text:
            record.exc_text = self._formatter.formatException(record.exc_info)  # what formatters then use
        for name, value in vars(record).items():
            if isinstance(value, str):
                setattr(record, name, self._replaced(value))
        if isinstance(record.args, tuple):  # one by one: some formatters take them apart
            record.args = tuple(map(self._plain, record.args))
        elif not record.args and not isinstance(record.msg, str):
            record.msg = self._plain(record.msg)
        self._check(record)
        return True

    def _check(self, record: logging.LogRecord) -> None:
        """An address that formatting brings in, as from a dictionary: the message loses its arguments."""
        try:
            message = record.getMessage()
        except Exception:  # the handler will say what is wrong with the arguments
            return
        clean = self._replaced(message)
        if clean != message:
            record.msg, record.args = clean, ()

    def _plain(self, arg: Any) -> Any:
        """*arg*, or its text where an address stands in that."""
        if isinstance(arg, int | float):
            return arg
        text = str(arg)
        clean = self._replaced(text)
        return arg if clean == text else clean

    def _replaced(self, text: str) -> str:
        if text.count(".") < 3 and text.count(":") < 2 and "%3" not in text:
            return text
        return self._texts.replaced(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")
