"""The salt, a type of its own that cannot be printed, and the files in which it is kept."""

import hashlib
import os
import re
import secrets
import shlex
import stat
import tempfile
import unicodedata
from collections.abc import Callable
from pathlib import Path

from backfill.errors import SaltUnusable, SettingInvalid
from backfill.files import NotPlain, make_home, read_plain
from backfill.hashing.pseudonym import Pseudonyms
from backfill.hashing.schemes import scheme_named

MAX_SALT_BYTES = 4_096  # of a file; a larger one is another file
MIN_SALT_BYTES = 16  # below 128 bits a salt can be found by trying
KEY_ID = r"^[\w.-]{1,64}$"  # what a key id may be
DEFAULT_KEY_ID = "default"

# Interactive-login cost: a verifier is computed once a command, a guess costs the attacker the same.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**14, 8, 1


# A salt that differs by one invisible character from the live application's makes other hashes, all of them
# well-formed: no ban and no correlation works, and nothing else says so. So such a text is refused by name.
QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "„": "“", "«": "»"}
ASSIGNMENT = re.compile(r"\s*(export\s+)?[A-Z][A-Z0-9_]*(SALT|SECRET|KEY|PEPPER)[A-Z0-9_]*\s*[=:]")
TEMPLATE = re.compile(r"\$\{\w+\}|\$\(\w+\)|\{\{.*\}\}|<[A-Za-z _-]+>|%\(\w+\)s")


class Salt:
    """The live application's salt. ``repr``, ``str``, pickling and the locals of a traceback give nothing
    away: no frame that can raise holds the bare value."""

    __slots__ = ("_value",)

    def __init__(self, value: str, *, source: str, allow_weak: bool = False, exact: bool = False) -> None:
        """Raises ``SaltUnusable`` for an empty one, unless *allow_weak* for a short one, and unless *exact*
        for one that looks like an accident of how it was written down (``oddity``)."""
        # A lone surrogate is how Python passes on bytes of the environment that are not UTF-8.
        self._value = value.encode("utf-8", "surrogatepass")
        genuine = value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
        odd = None if exact else oddity(value)
        del value
        if not self._value:
            raise SaltUnusable(source=source, problem="it is empty")
        if not genuine:
            raise SaltUnusable(source=source, problem="it is not UTF-8 text")
        if odd is not None:
            raise SaltUnusable(
                source=source, problem=f"{odd}. If the live salt is just so, set BACKFILL_SALT_EXACT=1"
            )
        if len(self._value) < MIN_SALT_BYTES and not allow_weak:
            raise SaltUnusable(
                source=source,
                problem=f"it is shorter than {MIN_SALT_BYTES} bytes; if the live salt is what it is, "
                "give --allow-weak-salt",
            )

    def __repr__(self) -> str:
        return "Salt(…)"

    def __reduce__(self) -> str:
        raise TypeError("a salt does not travel between processes")

    def verifier(self, nonce: bytes) -> bytes:
        """32 bytes of scrypt over the salt: what the ledger keeps to tell one salt from another."""
        return hashlib.scrypt(self._value, salt=nonce, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, dklen=32)

    def hasher(self, scheme: str) -> Callable[[str], str]:
        """The function address text → 64 lower-case hex digits, by the *scheme* of that name."""
        digest = scheme_named(scheme).digest
        return lambda text: digest(text.encode(), self._value)

    def pseudonyms(self, prefix: int) -> Pseudonyms:
        """What makes and recognises pseudonyms with that *prefix*, the byte after ``fd``. Raises ``SettingInvalid``."""
        if not isinstance(prefix, int) or not 0 < prefix < 256:  # fd00::/16 is what people choose by hand
            raise SettingInvalid(setting="the prefix of pseudonyms", problem="it is a number from 1 to 255")
        return Pseudonyms(self._value, prefix)


def read_salt_file(
    path: Path, *, allow_weak: bool = False, accept_open: bool = False, exact: bool = False
) -> Salt:
    """The salt in *path*, one trailing line end removed. Raises ``SaltUnusable``.

    Other users may neither read the file, unless *accept_open* says that its mode is not ours to choose,
    nor write it in any case: they would choose the salt.
    """
    return Salt(_content(path, accept_open), source=str(path), allow_weak=allow_weak, exact=exact)


def chosen_salt(
    value: Callable[[], str] | None,
    file: Path | None,
    *,
    allow_weak: bool = False,
    accept_open: bool = False,
    exact: bool = False,
) -> Salt | None:
    """The salt of BACKFILL_IP_SALT or BACKFILL_IP_SALT_FILE (*file*); None where neither is set.

    *value* returns the former: a frame that can raise must not hold the bare text. Raises ``SettingInvalid``
    where both are set, and ``SaltUnusable``.
    """
    if value is not None and file is not None:
        raise SettingInvalid(
            setting="BACKFILL_IP_SALT and BACKFILL_IP_SALT_FILE", problem="both are set; unset one"
        )
    if value is not None:
        return Salt(value(), source="BACKFILL_IP_SALT", allow_weak=allow_weak, exact=exact)
    if file is not None:
        return read_salt_file(file, allow_weak=allow_weak, accept_open=accept_open, exact=exact)
    return None


def make_salt_file(path: Path) -> Salt:
    """The salt in *path*; a new random one, mode 0600, where there is none. For the demo.

    The file appears with its content in one step: two commands at once get the same salt, and a
    killed one leaves no empty file behind. Raises ``SaltUnusable``.
    """
    try:
        make_home(path.parent)
        if not path.exists():
            descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")  # mode 0600
            try:
                with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 (a descriptor)
                    file.write(secrets.token_hex(32) + "\n")
                os.link(draft, path)  # fails where another command was faster
            finally:
                Path(draft).unlink()
    except FileExistsError:
        pass
    except OSError as error:
        raise SaltUnusable(source=path, problem=error.strerror or "it cannot be made") from error
    return read_salt_file(path)


def _content(path: Path, accept_open: bool) -> str:
    """The text of *path* as it is, without its last line end. Raises ``SaltUnusable``."""
    try:
        content, found = read_plain(path, MAX_SALT_BYTES)
    except NotPlain as error:
        raise SaltUnusable(source=path, problem=str(error)) from None
    except OSError as error:
        raise SaltUnusable(source=path, problem=error.strerror or "it cannot be read") from None
    fix = f"`chmod 600 {shlex.quote(str(path))}`"
    problem = None
    if found.st_uid not in (os.geteuid(), 0) and not accept_open:
        problem = (
            f"it belongs to user id {found.st_uid}, who may read and change it. Type `chown {os.geteuid()} "
            f"{shlex.quote(str(path))}`, or accept that with BACKFILL_ACCEPT_OPEN_SALT_FILE=1"
        )
    elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        problem = f"other users may write it. Type {fix}"
    elif found.st_mode & (stat.S_IRGRP | stat.S_IROTH) and not accept_open:
        problem = (
            f"other users may read it. Type {fix}; where a container platform sets the mode of its secrets, set "
            "BACKFILL_ACCEPT_OPEN_SALT_FILE=1"
        )
    if problem is None:
        try:
            return content.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            problem = "it is not UTF-8 text"  # its error object holds the content, so nothing may refer to it
    del content
    raise SaltUnusable(source=path, problem=problem)


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
