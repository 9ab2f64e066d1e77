"""The interactive docs work without internet: all that the page refers to is here, and the browser is told so."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Self
from urllib.parse import urljoin, urlsplit

import httpx2
import pytest

from cohabit.api.routes.swagger import MEDIA_TYPES

HERE = "http://test/docs"


class Page(HTMLParser):
    """What a page refers to, and its inline scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.scripts: list[str] = []
        self.inside = False

    @classmethod
    def of(cls, text: str) -> Self:
        page = cls()
        page.feed(text)
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = [value for name, value in attrs if name in {"src", "href"} and value]
        self.addresses += found
        self.inside = tag == "script" and not found

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.scripts.append(data)

    def handle_endtag(self, tag: str) -> None:
        self.inside = False


async def test_all_that_the_page_refers_to_is_here(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/docs")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    page = Page.of(answer.text)
    addresses = page.addresses + re.findall(r'url: "([^"]+)"', "".join(page.scripts))
    wanted = [urljoin(HERE, address) for address in addresses if not address.startswith("data:")]
    assert len(wanted) == 3  # the script, the style, the document
    for address in wanted:
        assert urlsplit(address)[:2] == urlsplit(HERE)[:2]
        assert (await http.get(address)).status_code == 200
    assert "http" not in answer.text.replace(HERE, "")


async def test_the_browser_may_reach_nothing_else(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/docs")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    (script,) = Page.of(answer.text).scripts
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy["script-src"] == f"'self' 'sha256-{allowed}'"
    sources = {source for value in policy.values() for source in value.split()}
    assert sources == {"'none'", "'self'", "data:", f"'sha256-{allowed}'"}


@pytest.mark.parametrize("name", MEDIA_TYPES)
async def test_files_are_kept_until_their_version_changes(http: httpx2.AsyncClient, name: str) -> None:
    page = await http.get("/docs")
    assert re.search(rf'"docs/{name}\?v=[0-9.]+"', page.text)
    assert page.headers["cache-control"] == "no-cache"
    answer = await http.get(f"/docs/{name}")
    assert answer.headers["content-type"] == f"{MEDIA_TYPES[name]}; charset=utf-8"
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert len(answer.content) > 100_000


async def test_styles_load_nothing(http: httpx2.AsyncClient) -> None:
    style = (await http.get("/docs/swagger-ui.css")).text
    assert {address[:5] for address in re.findall(r"url\(['\"]?([^)]{5})", style)} == {"data:"}
    assert "@import" not in style


@pytest.mark.parametrize("path", ["/docs/redoc.standalone.js", "/docs/favicon.png", "/docs/..%2Fcore.py", "/redoc"])
async def test_nothing_else_of_the_package_is_served(http: httpx2.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")
