"""The server that teams write today, to measure against: one process, models in a dict, one lock. Not a benchmark.

It loads the models of a preset with cohabit's own engines, so that only the serving differs. The least recently used
leave when declared bytes are over the budget; a semaphore admits one inference at a time, which runs in a thread; a
batch is sorted by type and run one by one.
"""

import argparse
import asyncio
import base64
import os
import socket
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from fastapi import FastAPI, HTTPException, Response, UploadFile
from fastapi.responses import StreamingResponse

from cohabit.config import defaults
from cohabit.config.load import load_config
from cohabit.config.model import Config
from cohabit.config.paths import derived_dir, weights_dir
from cohabit.config.units import parse_size
from cohabit.engines.registry import engine_class
from cohabit.media import images
from cohabit.protocol.engine import Engine, EngineRequest, ItemError, Output
from cohabit.protocol.spec import Device, ModelSpec
from cohabit.protocol.tasks import Task
from cohabit.sources import derive, resolve

_TASKS = {
    "chat": Task.CHAT,
    "describe_image": Task.DESCRIBE,
    "embed": Task.EMBED,
    "speak": Task.SPEAK,
    "transcribe": Task.TRANSCRIBE,
}


def thread_counts(config: Config, threads: int | None) -> dict[str, int]:
    """Of each model's library. Left alone, all but hibari (one) take every core there is."""
    cores = len(os.sched_getaffinity(0))
    return {
        name: (threads or cores) if "threads" in model.options else 1  # an engine without the option has one
        for name, model in config.models.items()
    }


def specs(config: Config, threads: int | None) -> dict[str, ModelSpec]:
    """What engines load, fetched if need be. One request at a time needs one slot."""

    def fetched(source: str) -> Path:
        path = resolve(source, weights_dir=weights_dir(), base_dir=config.base_dir)
        assert path is not None, "only what comes inside a library has no path"
        return path

    counts = thread_counts(config, threads)
    made = {}
    for name, model in config.models.items():
        derivations = defaults.derivations(model)
        files = {
            role: derive(fetched(text), derivations.get(role), derived_dir()) for role, text in model.files.items()
        }
        source = None if model.source in {None, "bundled"} else fetched(model.source)
        spec = defaults.model_spec(config, name, source, files)
        options = {**spec.options, "threads": counts[name]} if "threads" in spec.options else spec.options
        made[name] = msgspec.structs.replace(spec, options=options, concurrency=1)
    return made


class Models:
    """Loaded models by name, the least recently used first."""

    def __init__(self, config: Config, threads: int | None, budget: int) -> None:
        """Each is loaded when it is first asked for."""
        self._specs = specs(config, threads)
        self._bytes = {name: model.footprint.inference or 0 for name, model in config.models.items()}
        self._budget = budget
        self._loaded: OrderedDict[str, Engine] = OrderedDict()

    def able(self, task: Task) -> str:
        """The first model with a task."""
        return next(name for name, spec in self._specs.items() if task in engine_class(spec.engine).tasks)

    def get(self, name: str) -> Engine:
        """Loaded, whoever must leave for it."""
        if name not in self._loaded:
            while self._loaded and self._held() + self._bytes[name] > self._budget:
                _, engine = self._loaded.popitem(last=False)
                engine.close()
            spec = self._specs[name]
            engine = engine_class(spec.engine)()
            engine.load(spec, Device("cpu"))
            engine.warmup()
            self._loaded[name] = engine
        self._loaded.move_to_end(name)
        return self._loaded[name]

    def _held(self) -> int:
        return sum(self._bytes[name] for name in self._loaded)


class Lane:
    """One inference at a time, whatever its kind."""

    def __init__(self, models: Models) -> None:
        """Who comes first is served first."""
        self._models = models
        self._semaphore = asyncio.Semaphore(1)

    async def stream(self, task: Task, body: Mapping[str, Any], **blobs: bytes) -> AsyncIterator[bytes]:
        """Chunks as the engine makes them. Raises HTTPException."""
        loop = asyncio.get_running_loop()
        outputs: asyncio.Queue[Output | Exception | None] = asyncio.Queue()
        left = threading.Event()
        request = EngineRequest(1, task, msgspec.json.encode(body), blobs)

        def say(output: Output | Exception | None) -> None:
            loop.call_soon_threadsafe(outputs.put_nowait, output)

        def infer() -> None:
            try:
                engine = self._models.get(self._models.able(task))
                for output in engine.run([request], lambda _: left.is_set()):
                    say(output)
            except Exception as error:
                say(error)
            say(None)

        async def in_turn() -> None:  # a task of its own: who leaves must not let the next one in too early
            async with self._semaphore:
                if not left.is_set():
                    await asyncio.to_thread(infer)

        running = asyncio.create_task(in_turn())
        try:
            while (output := await outputs.get()) is not None:
                if isinstance(output, Exception):
                    raise output
                if isinstance(output, ItemError):
                    raise HTTPException(output.status, output.message)
                yield output.data
            await running
        finally:
            left.set()

    async def whole(self, task: Task, body: Mapping[str, Any], **blobs: bytes) -> bytes:
        """The answer in one piece. Raises HTTPException."""
        return b"".join([chunk async for chunk in self.stream(task, body, **blobs)])


def _json(found: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(found), media_type="application/json")


async def _events(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield b"data: %b\n\n" % chunk
    yield b"data: [DONE]\n\n"


async def _infer(lane: Lane, kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """``/inference``'s short words into OpenAI's and back."""
    task = _TASKS[kind]
    match task:
        case Task.CHAT:
            messages = data.get("messages") or [{"role": "user", "content": data["prompt"]}]
            more = {key: value for key, value in data.items() if key not in {"prompt", "messages"}}
            answer = msgspec.json.decode(await lane.whole(task, {**more, "messages": messages}))
            choice = answer["choices"][0]
            return {
                "text": choice["message"]["content"],
                "finish_reason": choice["finish_reason"],
                "usage": answer["usage"],
            }
        case Task.DESCRIBE:
            # The engine opens only images that an inspector has made; here that happens in the server's own process.
            image = images.shrunk(
                base64.b64decode(data["image"].rpartition(",")[2]), engine_class("scene").longest_picture
            )
            url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
            part = {"type": "image_url", "image_url": {"url": url}}
            answer = msgspec.json.decode(await lane.whole(task, {"messages": [{"role": "user", "content": [part]}]}))
            return {"text": answer["choices"][0]["message"]["content"], "findings": answer["findings"][0]}
        case Task.EMBED:
            answer = msgspec.json.decode(await lane.whole(task, {"input": data.get("texts") or data["text"]}))
            return {"embeddings": [entry["embedding"] for entry in answer["data"]]}
        case Task.SPEAK:
            sound = await lane.whole(task, {"response_format": "wav", "input": data["text"]})
            return {"audio": base64.b64encode(sound).decode(), "sample_rate": 24_000}
        case _:
            sound = base64.b64decode(data["audio"].rpartition(",")[2])
            return {"text": msgspec.json.decode(await lane.whole(task, {}, file=sound))["text"]}


def create_app(models: Models) -> FastAPI:
    """The routes."""
    app = FastAPI(docs_url=None, redoc_url=None)
    lane = Lane(models)

    @app.post("/v1/chat/completions")
    async def chat(body: dict[str, Any]) -> Response:
        if body.get("stream"):
            return StreamingResponse(_events(lane.stream(Task.CHAT, body)), media_type="text/event-stream")
        return Response(await lane.whole(Task.CHAT, body), media_type="application/json")

    @app.post("/v1/embeddings")
    async def embed(body: dict[str, Any]) -> Response:
        return Response(await lane.whole(Task.EMBED, body), media_type="application/json")

    @app.post("/v1/audio/speech")
    async def speak(body: dict[str, Any]) -> Response:
        sound = await lane.whole(Task.SPEAK, {"response_format": "mp3", **body})
        return Response(sound, media_type="audio/wav" if body.get("response_format") == "wav" else "audio/mpeg")

    @app.post("/v1/audio/transcriptions")
    async def transcribe(file: UploadFile) -> dict[str, str]:
        found = await lane.whole(Task.TRANSCRIBE, {}, file=await file.read())
        return {"text": msgspec.json.decode(found)["text"]}

    @app.post("/inference")
    async def inference(body: dict[str, Any]) -> Response:
        return _json(await _infer(lane, body["type"], body["data"]))

    @app.post("/batch")
    async def batch(items: list[dict[str, Any]]) -> Response:
        results: list[dict[str, Any]] = [{}] * len(items)
        for index in sorted(range(len(items)), key=lambda index: items[index]["type"]):
            try:
                results[index] = {"result": await _infer(lane, items[index]["type"], items[index]["data"])}
            except HTTPException as error:
                results[index] = {"error": {"message": error.detail}}
        return _json({"results": results})

    return app


def main() -> None:
    """Serve until interrupted; says where, like cohabit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", help="a file or a preset; only its models are used")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--budget", type=parse_size, default="2GiB", help="of declared bytes, such as 2GiB")
    parser.add_argument("--threads", type=int, help="of each library; default: every core, as the libraries take")
    arguments = parser.parse_args()
    models = Models(load_config(arguments.config), arguments.threads, arguments.budget)
    with socket.create_server(("127.0.0.1", arguments.port), backlog=2048) as listening:
        print(f"listening on http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
        uvicorn.Server(uvicorn.Config(create_app(models), log_level="warning")).run([listening])


if __name__ == "__main__":
    main()
