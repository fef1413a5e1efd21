"""Allow-list: a committed TOML file of places where addresses may stand, each with its reason."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backfill.errors import AllowListInvalid, InputUnreadable
from backfill.files import read_toml
from backfill.scan.place import Found


class Entry(BaseModel):
    """One place, or a pattern of places: ``*`` and ``?`` as in a shell."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    where: str = Field(min_length=1)
    reason: str = Field(min_length=1)

    def matches(self, where: str) -> bool:
        """Whether *where* is meant. Brackets are part of JSON paths, not of the pattern."""
        return fnmatchcase(where, self.where.replace("[", "[[]"))


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    allow: tuple[Entry, ...] = ()


@dataclass
class AllowList:
    """The entries, and which of them were needed."""

    entries: Sequence[Entry] = ()
    used: set[Entry] = field(default_factory=set)

    @classmethod
    def load(cls, path: Path | None) -> "AllowList":
        """The file at *path*; an empty list for ``None``. Raises ``AllowListInvalid``."""
        if path is None:
            return cls()
        try:
            return cls(_File.model_validate(read_toml(path)).allow)
        except InputUnreadable as error:
            raise AllowListInvalid(path=path, problem=error.detail["problem"]) from error
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise AllowListInvalid(path=path, problem=f"{where}: {first['msg']}") from error

    def apply(self, found: Found) -> None:
        """Note the reason where the place is allowed."""
        for entry in self.entries:
            if entry.matches(found.where):
                self.used.add(entry)
                found.allowed = found.allowed or entry.reason

    @property
    def unmatched(self) -> list[Entry]:
        """Entries that met nothing: what they allowed is gone, or they are misspelt."""
        return [entry for entry in self.entries if entry not in self.used]
