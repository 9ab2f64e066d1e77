"""What the commands that ask a running server have in common."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from cohabit.cli.output import Code, leave

VARIABLE = "COHABIT_API_KEY"
"""Of an admin key; never an option, which others could read in the list of processes."""

_SENDABLE = re.compile(r"[!-~]+")

HERE = "http://127.0.0.1:8000"
Url = Annotated[str, typer.Option(help=f"Where the server is. If it asks for keys, set {VARIABLE} to an admin key.")]


def ask(method: str, url: str, path: str, *, seconds: float, **params: Any) -> dict[str, Any]:
    """What the server says. Leaves with one line if it does not answer, or refuses."""
    import httpx2

    headers = _headers(url)
    try:
        answer = httpx2.request(method, f"{url.rstrip('/')}{path}", params=params, headers=headers, timeout=seconds)
        body: dict[str, Any] = dict(answer.json())
        if answer.is_error:
            message = body["error"]["message"]
            hint = f"; set {VARIABLE} to an admin key" if answer.status_code in {401, 403} else ""
            raise leave(Code.FAILED, f"{message}{hint}")
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError, TypeError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise leave(Code.FAILED, f"no answer from {url}: {why}; --url names another server") from None
    return body


@contextmanager
def understood(url: str) -> Iterator[None]:
    """Round the use of an answer. Leaves with one line if it is another server's."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError):
        raise leave(Code.FAILED, f"{url} does not answer like this version of cohabit") from None


def _headers(url: str) -> dict[str, str]:
    """With the key. Leaves with 2 where an error later on would print it."""
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise leave(Code.BAD_CONFIG, f"--url: others can see a key in an address; use {VARIABLE}")
    key = os.environ.get(VARIABLE, "").strip()  # of a file with Windows' line ends, say
    if not key:
        return {}
    if _SENDABLE.fullmatch(key) is None:  # what sends it would quote it
        raise leave(Code.BAD_CONFIG, f"{VARIABLE}: has characters that no key has")
    return {"authorization": f"Bearer {key}"}
