"""``cohabit schema``: the config's JSON schema, for editors."""

import json
from typing import Any

import typer


def schema() -> None:
    """Print the JSON schema of the config, for an editor's completion and checks."""
    typer.echo(json.dumps(config_schema(), indent=2))


def config_schema() -> dict[str, Any]:
    """JSON schema, 2020-12."""
    from cohabit.config.model import Config

    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
