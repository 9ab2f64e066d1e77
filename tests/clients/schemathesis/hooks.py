"""What Schemathesis is told beside the OpenAPI document: good work to send, and what a 429 or 503 must say.

Left alone it makes up names of models, and what is queued is never tried. ``TALLY`` in the environment is the file
that gets the number of answers by operation and status at the end.
"""

import atexit
import json
import os
from collections import Counter
from pathlib import Path
from threading import Lock
from typing import Any

import schemathesis
from hypothesis import strategies as st

MODELS = ("fake", "alias") * 6 + ("failing",) * 3 + ("refusing", "crashing", "full", "none")
WORK: list[dict[str, Any]] = [
    {"type": "chat", "data": {"prompt": "Say hello."}},
    {"type": "chat", "data": {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 2}},
    {"type": "chat", "data": {"prompt": "Say hello."}, "model": "failing"},
    {"type": "embed", "data": {"texts": ["one", "two"]}},
    {"type": "embed", "data": {"text": "one"}},
]
LONGEST = 256  # of a name; what is wrong on purpose is left as it is

tally: Counter[str] = Counter()
counting = Lock()


def flatmap_body(context: Any, body: Any) -> st.SearchStrategy[Any]:
    """Models there are, and in our own words work that can be done."""
    match context.operation.path:
        case "/inference":
            return st.sampled_from([body, *WORK])
        case "/batch":
            return st.just(body) | st.lists(st.sampled_from(WORK), min_size=1, max_size=4)
    if isinstance(body, dict) and isinstance(body.get("model"), str) and 0 < len(body["model"]) <= LONGEST:
        return st.sampled_from(MODELS).map(lambda name: {**body, "model": name})
    return st.just(body)


def after_call(context: Any, case: Any, response: Any) -> None:
    """Count it."""
    with counting:
        tally[f"{case.operation.label} {response.status_code}"] += 1


def refusals_say_why_and_when(ctx: Any, response: Any, case: Any) -> None:
    """For those who come back."""
    if response.status_code in {429, 503}:
        assert response.json()["error"]["code"], "it has no code"
        assert int(response.headers["retry-after"][0]) >= 1, "it does not say when"


def keep() -> None:
    """For the test to look at."""
    Path(os.environ["TALLY"]).write_text(json.dumps(tally))


# Called and not put on top, since here they have no types.
schemathesis.hook(flatmap_body)
schemathesis.hook(after_call)
schemathesis.check(refusals_say_why_and_when)
atexit.register(keep)
