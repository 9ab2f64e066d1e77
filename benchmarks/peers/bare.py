"""FastAPI on uvicorn and nothing else: ``python bare.py PORT ANSWER``."""

import json
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI

ANSWER: dict[str, Any] = json.loads(sys.argv[2])

app = FastAPI()


@app.post("/v1/embeddings")
async def embed(body: dict[str, Any]) -> dict[str, Any]:
    """The same answer to everything."""
    return ANSWER


uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
