"""The base of all errors."""

import inspect
import string
from typing import Any

from backfill import escaping

__all__ = ["BackfillError"]


class _Formatter(string.Formatter):
    """``{name!q}`` is a word of a command that can be pasted into a shell."""

    def convert_field(self, value: Any, conversion: Any) -> Any:
        """As the standard one, and ``q``."""
        return escaping.word(value) if conversion == "q" else super().convert_field(value, conversion)


class BackfillError(Exception):
    """Backfill cannot continue."""

    exit_code = 2  # 2: the operator has to change something; 1: the answer is "no"

    def __init__(self, **detail: Any) -> None:
        self.detail = detail
        for name, value in detail.items():
            setattr(self, name, value)
        text = _Formatter().vformat(inspect.cleandoc(type(self).__doc__ or ""), (), detail)
        super().__init__(" ".join(text.split()))  # one line, whatever a driver had to say

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by fields: an error raised in a worker process has to arrive in this one."""
        return _again, (type(self), self.detail)


def _again(kind: type[BackfillError], detail: dict[str, Any]) -> BackfillError:
    return kind(**detail)
