"""Files that stand in a record itself, in base64."""

import base64
import binascii

from counterpoint.errors import DataError


def decode_base64(text: str, what: str) -> bytes:
    """The bytes of base64; raises DataError."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(f"{what} is no base64 ({error}); encode it again.") from None
