"""``/docs``: the API to be read and tried in a browser, without internet.

Swagger UI comes out of an installed package, and the page may reach nothing but this server.
"""

import base64
import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from types import MappingProxyType

import msgspec
from openapi_ui_bundles import swagger_ui
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from cohabit.api.openapi import document
from cohabit.api.routing import Router

router = Router("")

_VERSION = version("openapi-ui-bundles")
MEDIA_TYPES: Mapping[str, str] = MappingProxyType(
    {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
)

_START = """
SwaggerUIBundle({
  url: "openapi.json", dom_id: "#ui", deepLinking: true, displayRequestDuration: true,
  validatorUrl: null, // else documents on public hosts are sent to swagger.io
});
"""
# Relative addresses, so that it also works behind a proxy that puts a path before ours.
_PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>cohabit: API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css?v={_VERSION}">
</head>
<body>
<div id="ui"></div>
<script src="docs/swagger-ui-bundle.js?v={_VERSION}"></script>
<script>{_START}</script>
</body>
</html>
"""
_START_HASH = base64.b64encode(hashlib.sha256(_START.encode()).digest()).decode()
_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' 'sha256-{_START_HASH}'",
            "style-src 'self'",
            "img-src data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_ASSET_HEADERS = {
    "cache-control": "public, max-age=31536000, immutable",  # the page asks for them by version
    "x-content-type-options": "nosniff",
}


@router.get("/openapi.json")
async def openapi_json(request: Request) -> Response:
    """The OpenAPI document, made when it is first wanted."""
    state = request.app.state
    if state.document is None:
        state.document = msgspec.json.encode(document(request.app))
    return Response(state.document, media_type="application/json")


@router.get("/docs")
async def page(_request: Request) -> Response:
    """Swagger UI over ``/openapi.json``."""
    return HTMLResponse(_PAGE, headers=_HEADERS)


@router.get("/docs/{name}")
async def asset(request: Request) -> Response:
    """A file of Swagger UI."""
    name = request.path_params["name"]
    media_type = MEDIA_TYPES.get(name)
    if media_type is None:
        raise HTTPException(404)
    return FileResponse(swagger_ui.static_path / name, media_type=media_type, headers=_ASSET_HEADERS)
