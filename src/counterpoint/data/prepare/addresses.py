"""How files are called that were fetched from addresses."""

import hashlib
from collections.abc import Callable, Mapping
from urllib.parse import unquote, urlsplit

from counterpoint.errors import DataError

_SUFFIXES = ("", ".jpg", ".jpeg", ".png", ".webp", ".gif")


def _hashed(algorithm: str) -> Callable[[str], tuple[str, ...]]:
    def names(address: str) -> tuple[str, ...]:
        digest = hashlib.new(algorithm, address.encode(), usedforsecurity=False).hexdigest()
        return tuple(digest + suffix for suffix in _SUFFIXES)

    return names


def _last(address: str) -> tuple[str, ...]:
    return (unquote(urlsplit(address).path).rpartition("/")[2],)


def _path(address: str) -> tuple[str, ...]:
    parts = urlsplit(address)
    return (f"{parts.netloc}{unquote(parts.path)}",)


RULES: Mapping[str, Callable[[str], tuple[str, ...]]] = {
    "name": _last,
    "path": _path,
    "md5": _hashed("md5"),
    "sha1": _hashed("sha1"),
    "sha256": _hashed("sha256"),
}
"""Names that the file of an address may have: the end of its path, host and path, or a hash with or without suffix."""


def names_of(address: str, rule: str, what: str) -> tuple[str, ...]:
    """The names to look for; raises DataError for what is no address."""
    try:
        return RULES[rule](address)
    except ValueError as error:
        raise DataError(f"{what} {address[:100]} is no address ({error}); correct it.") from None


def check_rule(rule: str | None) -> None:
    """Raise DataError for a rule that is not known."""
    if rule is not None and rule not in RULES:
        raise DataError(f"--addresses: got '{rule}', expected one of {', '.join(RULES)}.")
