"""Pictures and sound that clients send: how an inspector opens them, and how a worker opens what that has made.

Pillow and PyAV are imported where they are needed, so that a server without such models never loads them.
"""

import binascii
from base64 import b64decode


class Unreadable(ValueError):
    """The input cannot be used. The text completes a sentence, says what to do, and never quotes the input."""


def decode_data_url(text: str) -> bytes:
    """The bytes of a ``data:...;base64,...`` URL or of bare base64. Raises Unreadable."""
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise Unreadable("must be a data URL with base64: data:image/png;base64,...")
    elif "://" in text[:16]:
        raise Unreadable("must hold the data itself, as a data URL: addresses elsewhere are not fetched")
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Unreadable("is not valid base64") from None
