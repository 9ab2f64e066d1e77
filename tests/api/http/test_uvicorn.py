"""What ``api.http.connections`` builds on is there in uvicorn, which promises none of it. For whoever updates it."""

import inspect
from importlib.metadata import version

import pytest
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

PROTOCOL = {  # what is overridden or called, and its parameters
    "connection_made": ["self", "transport"],
    "connection_lost": ["self", "exc"],
    "eof_received": ["self"],
    "data_received": ["self", "data"],
    "shutdown": ["self"],
    "on_message_begin": ["self"],
    "on_headers_complete": ["self"],
    "on_body": ["self", "body"],
    "on_message_complete": ["self"],
    "on_response_complete": ["self"],
    "_unset_keepalive_if_required": ["self"],
}
STATE = [
    *("app", "connections", "cycle", "flow", "headers", "loop"),
    *("parser", "pipeline", "scope", "timeout_keep_alive", "transport", "url"),
]
CYCLE = ["disconnected", "message_event", "response_complete", "response_started"]


def test_version_is_the_one_this_was_read_from() -> None:
    assert version("uvicorn").startswith("0.54.")


@pytest.mark.parametrize("name", PROTOCOL)
def test_protocol_has_the_method(name: str) -> None:
    assert list(inspect.signature(getattr(HttpToolsProtocol, name)).parameters) == PROTOCOL[name]


@pytest.mark.parametrize(
    ("kind", "names"), [(HttpToolsProtocol, STATE), (RequestResponseCycle, CYCLE)], ids=["protocol", "cycle"]
)
def test_state_is_kept_under_these_names(kind: type, names: list[str]) -> None:
    source = inspect.getsource(kind)
    assert [name for name in names if f"self.{name} = " not in source and f"self.{name}: " not in source] == []


def test_status_lines_are_there() -> None:
    assert STATUS_LINE[408].startswith(b"HTTP/1.1 408 ")
