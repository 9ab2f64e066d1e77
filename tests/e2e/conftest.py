"""The preset as it comes, served for the tests of one module, and the official client of it."""

from collections.abc import Iterator

import openai
import pytest

from harness import Running, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The preset."""
    with serving(tmp_path_factory.mktemp("preset")) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    """The official client."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made
