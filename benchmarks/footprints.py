"""What the embedded models take: as the server measures it, after the largest requests that their engines take."""

import base64
import io
import json
import signal
import subprocess
import sys
import tempfile
import threading
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx2
from PIL import Image, ImageDraw
from platformdirs import user_cache_path
from ruamel.yaml import YAML

from _machine import keep
from start import listening

LINE = "Of all the ships that left the harbour at dawn, only one came back before the storm had reached the coast. "


def chat(http: httpx2.Client) -> None:
    """Four prompts at once, each near the whole context."""
    body = {"model": "llm", "max_tokens": 1, "messages": [{"role": "user", "content": "w " * 1900}]}
    clients = [
        threading.Thread(target=http.post, args=("/v1/chat/completions",), kwargs={"json": body}) for _ in range(4)
    ]
    for one in clients:
        one.start()
    for one in clients:
        one.join()


def embed(http: httpx2.Client) -> None:
    """Texts as long as they may be."""
    http.post("/v1/embeddings", json={"model": "embeddings", "input": ["word " * 254] * 64}).raise_for_status()


def describe(http: httpx2.Client) -> None:
    """25 megapixels, then a page full of text."""
    page = Image.new("RGB", (1240, 1240), "white")
    for row in range(40):
        ImageDraw.Draw(page).text((20, 20 + row * 30), LINE, fill="black", font_size=22)
    for picture in (page.resize((5000, 5000)), page):
        file = io.BytesIO()
        picture.save(file, "PNG")
        data = {"image": base64.b64encode(file.getvalue()).decode()}
        http.post("/inference", json={"type": "describe_image", "data": data}).raise_for_status()


def speak(http: httpx2.Client) -> bytes:
    """Sentences of all lengths; two minutes of sound."""
    http.post("/v1/audio/speech", json={"model": "tts", "input": "word, word, " * 300}).raise_for_status()
    body = {"model": "tts", "input": LINE * 20, "response_format": "wav"}
    return http.post("/v1/audio/speech", json=body).raise_for_status().content


def transcribe(http: httpx2.Client) -> None:
    """Those two minutes, heard."""
    upload = {"file": ("speech.wav", speak(http))}
    http.post("/v1/audio/transcriptions", data={"model": "stt"}, files=upload).raise_for_status()


def preset(folder: Path) -> Path:
    """The preset with working memory that any run exceeds, so that what is kept is what was seen."""
    yaml = YAML(typ="safe")
    config: dict[str, Any] = yaml.load((files("cohabit.config") / "presets" / "embedded.yaml").read_text())
    config["device"]["budget"] = "4GiB"
    for model in config["models"].values():
        model["footprint"]["working"] = "1MiB"
    path = folder / "measured.yaml"
    with path.open("w") as file:
        yaml.dump(config, file)
    return path


def main() -> None:
    """Measure and keep."""
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "cache").symlink_to(user_cache_path("cohabit"), target_is_directory=True)
        command = [str(Path(sys.executable).parent / "cohabit"), "serve", str(preset(Path(home))), "--port", "0"]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={"COHABIT_HOME": home, "PATH": "/usr/bin:/bin"},
        )
        try:
            with httpx2.Client(base_url=listening(process), timeout=600) as http:
                for ask in (chat, embed, describe, transcribe):
                    ask(http)
                http.get("/health/ready")  # by then the last run is in the books
            measured = json.loads((Path(home) / "state" / "footprints.json").read_text())["profiles"]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)
    figures = {
        profile["model"]: {
            "resident_mib": round(profile["resident"] / 2**20),
            "load_mib": round(profile["load"] / 2**20),
            "working_mib": round(profile["working"] / 2**20),
            "load_seconds": profile["load_seconds"],
        }
        for profile in measured.values()
    }
    keep("footprints", figures)


if __name__ == "__main__":
    main()
