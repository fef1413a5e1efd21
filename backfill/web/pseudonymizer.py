"""From the text of an address to its hash, pseudonym or network, by the same code as the backfill."""

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Self

from backfill import escaping
from backfill.addresses import Address, Reason, canonical_text, canonicalise, network_text
from backfill.errors import NoAddress, SaltMissing, SettingInvalid, UnknownKeyId
from backfill.hashing.pseudonym import Pseudonyms
from backfill.hashing.salt import DEFAULT_KEY_ID, KEY_ID, Salt, chosen_salt, read_salt_file
from backfill.hashing.schemes import scheme_names
from backfill.hashing.sha256 import SHA256_SUFFIX, SHA256_UNSALTED

VARIABLES = (
    "BACKFILL_IP_SALT",
    "BACKFILL_IP_SALT_FILE",
    "BACKFILL_ACCEPT_OPEN_SALT_FILE",
    "BACKFILL_SALT_EXACT",
    "BACKFILL_KEY_ID",
)
FALSE, TRUE = ("0", "off", "f", "false", "n", "no"), ("1", "on", "t", "true", "y", "yes")


@dataclass(frozen=True)
class Key:
    """A salt under the operator's name for it, the hash scheme that it is used with, and the prefix of its pseudonyms."""

    key_id: str
    salt: Salt
    scheme: str = SHA256_SUFFIX.name
    prefix: int | None = None  # of pseudonyms, as the ledger has it: 0x4a for fd4a::/16; None: it makes none

    def __post_init__(self) -> None:
        """Raises ``SettingInvalid``."""
        if not re.fullmatch(KEY_ID, self.key_id) or self.key_id.endswith("\n"):
            raise SettingInvalid(
                setting="a key id", problem="it is 1 to 64 letters, digits, dots, underscores and hyphens"
            )
        if self.scheme not in scheme_names():
            raise SettingInvalid(
                setting=f"the hash scheme of key id {self.key_id}",
                problem=f"it must be one of {', '.join(scheme_names())}",
            )

    @classmethod
    def from_file(
        cls,
        key_id: str,
        path: str | Path,
        *,
        scheme: str = SHA256_SUFFIX.name,
        prefix: int | None = None,
        allow_weak: bool = False,
        accept_open: bool = False,
        exact: bool = False,
    ) -> Self:
        """The salt in a file, which other users may neither write nor, unless *accept_open*, read.

        Raises ``SaltUnusable``, ``SettingInvalid``.
        """
        salt = read_salt_file(Path(path), allow_weak=allow_weak, accept_open=accept_open, exact=exact)
        return cls(key_id, salt, scheme, prefix)


class Pseudonymizer:
    """Hashes addresses under one key id or several: the first is the current one, the others are earlier ones,
    under which bans may still be stored. Shows and pickles no salt."""

    __slots__ = ("_hashers", "_pseudonyms", "_shown")

    def __init__(self, *keys: Key) -> None:
        """Raises ``SaltMissing`` without a key, and ``SettingInvalid`` where two have one key id."""
        if not keys:
            raise SaltMissing
        self._hashers: dict[str, Callable[[str], str]] = {
            key.key_id: key.salt.hasher(key.scheme) for key in keys
        }
        if len(self._hashers) < len(keys):
            raise SettingInvalid(setting="the key ids", problem="two keys have the same key id")
        self._pseudonyms: dict[str, Pseudonyms] = {
            key.key_id: key.salt.pseudonyms(key.prefix) for key in keys if key.prefix is not None
        }
        self._shown = ", ".join(f"{key.key_id} ({key.scheme})" for key in keys)

    @classmethod
    def from_environment(
        cls,
        *,
        scheme: str = SHA256_SUFFIX.name,
        prefix: int | None = None,
        older: Iterable[Key] = (),
        allow_weak: bool = False,
    ) -> Self:
        """The current key from BACKFILL_IP_SALT or BACKFILL_IP_SALT_FILE and BACKFILL_KEY_ID, by the rules of the
        command line; *older* ones are given. Raises ``SaltMissing``, ``SaltUnusable``, ``SettingInvalid``."""
        # Nothing here holds the environment or the bare salt: a traceback with local variables would show them.
        _require_known()
        file = _variable("BACKFILL_IP_SALT_FILE")
        salt = chosen_salt(
            (lambda: _variable("BACKFILL_IP_SALT") or "") if _is_set("BACKFILL_IP_SALT") else None,
            None if file is None else Path(file),
            allow_weak=allow_weak,
            accept_open=_flag("BACKFILL_ACCEPT_OPEN_SALT_FILE"),
            exact=_flag("BACKFILL_SALT_EXACT"),
        )
        if salt is None:
            raise SaltMissing
        return cls(Key(_variable("BACKFILL_KEY_ID") or DEFAULT_KEY_ID, salt, scheme, prefix), *older)

    def __repr__(self) -> str:
        return f"Pseudonymizer({self._shown})"

    def __reduce__(self) -> str:
        raise TypeError("a pseudonymizer does not travel between processes: it holds a salt")

    @property
    def key_ids(self) -> tuple[str, ...]:
        """All key ids, the current one first."""
        return tuple(self._hashers)

    def hash(self, text: str, key_id: str | None = None) -> str:
        """The hash of the address that *text* spells, under the current key id or *key_id*.

        Raises ``NoAddress`` for a text that spells none, ``UnknownKeyId``.
        """
        chosen = self._chosen(key_id)
        return self.hashes(text)[chosen]

    def hashes(self, text: str) -> dict[str, str]:
        """Key id → hash of the address that *text* spells, the current key id first. Raises ``NoAddress``."""
        return self.hashes_of(_address(text))

    def hashes_of(self, address: Address) -> dict[str, str]:
        """The same of an address that ``canonicalise`` returned."""
        canonical = canonical_text(address)
        return {key_id: hasher(canonical) for key_id, hasher in self._hashers.items()}

    def pseudonym(self, text: str, key_id: str | None = None) -> str:
        """The address that stands for the one that *text* spells, under the current key id or *key_id*.

        Raises ``NoAddress``, ``UnknownKeyId``, and ``SettingInvalid`` where that key has no prefix.
        """
        chosen = self._chosen(key_id)
        if chosen not in self._pseudonyms:
            raise SettingInvalid(
                setting=f"the key {chosen}", problem="it has no prefix, which pseudonyms begin with"
            )
        return self.pseudonyms(text)[chosen]

    def pseudonyms(self, text: str) -> dict[str, str]:
        """Key id → pseudonym of the address that *text* spells, for the keys that have a prefix. Raises ``NoAddress``."""
        canonical = canonical_text(_address(text))
        return {key_id: made.pseudonym(canonical) for key_id, made in self._pseudonyms.items()}

    @staticmethod
    def network(text: str, v4_bits: int = 24, v6_bits: int = 48) -> str:
        """The address that *text* spells, with all but its leading bits zeroed. It needs no salt.

        Raises ``NoAddress``, and ``SettingInvalid`` for bits that no address has.
        """
        if not (0 <= v4_bits <= 32 and 0 <= v6_bits <= 128):
            raise SettingInvalid(setting="the bits of a network", problem="IPv4 has 0 to 32, IPv6 0 to 128")
        return network_text(_address(text), v4_bits, v6_bits)

    def _chosen(self, key_id: str | None) -> str:
        """*key_id*, or the current one. Raises ``UnknownKeyId``."""
        if key_id is not None and key_id not in self._hashers:
            raise UnknownKeyId(key_id=key_id, known=", ".join(self._hashers))
        return self.key_ids[0] if key_id is None else key_id


def _address(text: str) -> Address:
    """Raises ``NoAddress``, which does not repeat the text."""
    address = canonicalise(text)
    if isinstance(address, Reason):
        raise NoAddress(reason=address)
    return address


def unsalted(address: Address) -> str:
    """What an edge sends that forgot the salt."""
    return SHA256_UNSALTED.digest(canonical_text(address).encode(), b"")


def _name(variable: str) -> str:
    """*variable* as it is spelled in the environment: settings are read in whatever case."""
    if variable in os.environ:
        return variable
    return next((name for name in os.environ if name.upper() == variable), variable)


def _is_set(variable: str) -> bool:
    return bool(os.environ.get(_name(variable)))


def _variable(variable: str) -> str | None:
    """Its value; an empty one counts as unset."""
    return os.environ.get(_name(variable)) or None


def _flag(variable: str) -> bool:
    truth = _truth(variable)
    if truth is None:
        raise SettingInvalid(setting=variable, problem="it is neither true nor false; use 1 or 0")
    return truth


def _truth(variable: str) -> bool | None:
    """None for a value that is neither: it may be a salt in the wrong place, so no frame that raises has it."""
    value = (_variable(variable) or FALSE[0]).lower()
    return value in TRUE if value in FALSE + TRUE else None


def _require_known() -> None:
    """A misspelt setting is none: the salt would be another, or its file refused. Raises ``SettingInvalid``."""
    for name in os.environ:
        upper = name.upper()
        near = get_close_matches(upper, VARIABLES, n=1, cutoff=0.9)
        if near and upper not in VARIABLES and os.environ[name]:
            raise SettingInvalid(
                setting=escaping.name(upper), problem=f"there is no such setting. Did you mean {near[0]}?"
            )
