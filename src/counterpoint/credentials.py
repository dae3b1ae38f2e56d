"""What must not stand in a file or on a terminal: passwords, tokens and keys."""

import re
from collections.abc import Mapping

_NAME = re.compile(r"(KEY|TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIALS?)$")
"""How environment variables are called that hold one."""

_SHORTEST = 8
"""Shorter values are words that may stand anywhere."""

_USER_INFO = re.compile(r"(?<=://)[^/\s@'\"]+@")
HIDDEN = "***"


def has_credentials(address: str) -> bool:
    """Whether an address names a user or a password: `https://user:password@host`."""
    return _USER_INFO.search(address) is not None


def without_credentials(text: str, environment: Mapping[str, str]) -> str:
    """Text in which `***` stands for users and passwords of addresses and for the environment's secrets."""
    text = _USER_INFO.sub(f"{HIDDEN}@", text)
    for name, value in environment.items():
        if len(value) >= _SHORTEST and _NAME.search(name):
            text = text.replace(value, HIDDEN)
    return text
