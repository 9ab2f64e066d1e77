"""Four kinds of work at once: cohabit against the server that teams write today (``naive_server.py``).

Eight clients in a closed loop on the embedded models: 3 chat (48 tokens, streamed), 3 embed (8 sentences), 1 speaks,
1 has pictures described. Pairs of runs, one server after the other, in turns; medians of the ratios. Then the chat
clients alone on the same cohabit: what the others cost them. ``--against COMMIT`` compares with an older commit
instead.
"""

import argparse
import base64
import io
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop
from PIL import Image, ImageDraw
from platformdirs import user_cache_path

from _load import Failed, Kind, measure, warm
from _machine import RESULTS, Cores, keep
from cohabit.config import defaults
from cohabit.config.load import load_config
from naive_server import thread_counts
from start import listening

TOKENS = 48
QUIET = 5.0  # per cent of the machine that others may take
SUBJECTS = [
    "the sea",
    "old maps",
    "a lighthouse",
    "winter",
    "honey bees",
    "trains",
    "the moon",
    "bread",
    "glass",
    "chess",
]
MANNERS = ["for a child", "in plain words", "as a letter", "with an example", "for a newspaper", "like a teacher"]
VERBS = ["carries", "finds", "repairs", "forgets", "describes", "sells", "paints", "follows"]


def sentence(words: random.Random) -> str:
    """One of some fifteen words."""
    year, (one, other, third) = words.randint(1700, 2020), words.sample(SUBJECTS, 3)
    return f"In the year {year} somebody {words.choice(VERBS)} {one} and {other}, and later {third}."


def invoice(words: random.Random) -> str:
    """A picture with three lines of text, in base64."""
    page = Image.new("RGB", (800, 600), "white")
    total = f"{words.randint(1, 9)},{words.randint(100, 999)}.{words.randint(10, 99)}"
    lines = [f"INVOICE 2026-{words.randint(10000, 99999)}", f"Total due: {total} EUR", "Payable within 30 days"]
    for row, line in enumerate(lines):
        ImageDraw.Draw(page).text((50, 60 + row * 110), line, fill="black", font_size=50)
    file = io.BytesIO()
    page.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def chat(words: random.Random) -> dict[str, Any]:
    """A question; its answer has 48 tokens, whatever the model would rather say."""
    one, other = words.sample(SUBJECTS, 2)
    question = f"Question {words.randint(1, 9999)}: write about {one} and {other}, {words.choice(MANNERS)}."
    return {
        "model": "llm",
        "messages": [{"role": "user", "content": question}],
        "max_tokens": TOKENS,
        "logit_bias": {"0": -100, "2": -100},  # not its end; every version takes this, not every one `ignore_eos`
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def workload() -> list[Kind]:
    """The same for both servers, run after run."""
    words = random.Random(1)

    def bodies(make: Any, count: int) -> list[bytes]:
        return [json.dumps(make()).encode() for _ in range(count)]

    return [
        Kind("chat", 3, "/v1/chat/completions", bodies(lambda: chat(words), 600), tokens=TOKENS),
        Kind(
            "embed",
            3,
            "/v1/embeddings",
            bodies(lambda: {"model": "embeddings", "input": [sentence(words) for _ in range(8)]}, 600),
        ),
        Kind(
            "speak",
            1,
            "/v1/audio/speech",
            bodies(lambda: {"model": "tts", "input": sentence(words), "response_format": "wav"}, 200),
        ),
        Kind(
            "describe",
            1,
            "/inference",
            bodies(lambda: {"type": "describe_image", "data": {"image": invoice(words)}}, 50),
        ),
    ]


@contextmanager
def serving(name: str, *arguments: str, source: Path | None = None) -> Iterator[tuple[str, int]]:
    """A server with a state of its own and the user's fetched weights, until the block ends; its address and pid.

    ``source``: the folder that another version of cohabit is imported from.
    """
    commands = {
        "cohabit": [str(Path(sys.executable).parent / "cohabit"), "serve", "embedded", "--port", "0"],
        "naive": [sys.executable, str(Path(__file__).parent / "naive_server.py"), "embedded"],
    }
    with tempfile.TemporaryDirectory() as home, (Path(home) / "log").open("w+") as log:
        (Path(home) / "cache").symlink_to(user_cache_path("cohabit"), target_is_directory=True)
        process = subprocess.Popen(
            [*commands[name], *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "COHABIT_HOME": home} | ({"PYTHONPATH": str(source)} if source else {}),
            start_new_session=True,
        )
        try:
            yield listening(process), process.pid
        except BaseException:
            log.seek(0)
            print(f"{name} said last:\n{log.read()[-2000:]}", file=sys.stderr)
            raise
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def run(name: str, kinds: list[Kind], seconds: float, *arguments: str, source: Path | None = None) -> dict[str, Any]:
    """One server under load; of cohabit, unless it is another version, also what chat is without the others."""
    with serving(name, *arguments, source=source) as (url, pid):
        uvloop.run(warm(url, kinds))
        cores = Cores(pid)
        try:
            figures = uvloop.run(measure(url, kinds, seconds))
        except Failed as failure:
            raise SystemExit(f"{name}: {failure}; whose the cores were, in per cent: {cores.shares()}") from failure
        figures["cores_percent"] = shares = cores.shares()
        if name == "cohabit" and source is None:
            alone = [kind for kind in kinds if kind.tokens is not None]
            figures["chat_alone"] = uvloop.run(measure(url, alone, min(seconds, 30.0)))["chat"]
    print(name, json.dumps(figures), flush=True)
    if shares["others"] > QUIET:
        print(f"others took {shares['others']} % of the machine: these figures are worth little", file=sys.stderr)
    return figures


def compared(naive: Mapping[str, Any], cohabit: Mapping[str, Any], kinds: list[Kind]) -> dict[str, float]:
    """Ratios of one pair."""
    rates = {kind.name: round(cohabit[kind.name]["per_second"] / naive[kind.name]["per_second"], 3) for kind in kinds}
    return {**rates, "embed_p95": round(cohabit["embed"]["p95_seconds"] / naive["embed"]["p95_seconds"], 3)}


def judged(medians: Mapping[str, float], kinds: list[Kind]) -> dict[str, dict[str, Any]]:
    """What was promised, what came of it."""
    rates = {kind.name: medians[kind.name] for kind in kinds}
    mean = round(statistics.geometric_mean(rates.values()), 3)
    lowest = min(rates, key=lambda name: rates[name])
    p95 = medians["embed_p95"]
    return {
        "geometric mean of the rates": {"is": mean, "at least": 2.2, "aim": 2.5, "met": mean >= 2.2},
        f"lowest rate, {lowest}": {"is": rates[lowest], "at least": 0.9, "aim": 0.95, "met": rates[lowest] >= 0.9},
        "embed's p95": {"is": p95, "at most": 0.25, "met": p95 <= 0.25},
    }


def against(commit: str, pairs: int, seconds: float) -> dict[str, Any]:
    """This checkout and an older commit, by turns; medians of the ratios of the rates within each pair."""
    root = Path(__file__).resolve().parents[1]
    kinds = workload()
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        packed = subprocess.run(["git", "archive", commit, "src"], cwd=root, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=packed, check=True)
        sources = {"before": Path(folder) / "src", "now": root / "src"}
        for number in range(pairs):
            order = ("before", "now") if number % 2 == 0 else ("now", "before")
            runs.append({which: run("cohabit", kinds, seconds, source=sources[which]) for which in order})
    ratios = {
        kind.name: round(
            statistics.median(
                pair["now"][kind.name]["per_second"] / pair["before"][kind.name]["per_second"] for pair in runs
            ),
            3,
        )
        for kind in kinds
    }
    mean = round(statistics.geometric_mean(ratios.values()), 3)
    return {"against": commit, "seconds": seconds, "ratios": ratios, "geometric_mean": mean, "pairs": runs}


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each run")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "mixed.json", help="where the result goes")
    parser.add_argument("--threads", type=int, help="of the naive server's libraries; default: what they take alone")
    parser.add_argument("--against", metavar="COMMIT", help="compare with this commit, by turns")
    arguments = parser.parse_args()
    if arguments.against:
        keep("mixed_against", against(arguments.against, arguments.pairs, arguments.seconds))
        return
    options = {"cohabit": [], "naive": [] if arguments.threads is None else ["--threads", str(arguments.threads)]}
    config = load_config("embedded")
    kinds = workload()
    pairs: list[dict[str, Any]] = []
    for number in range(arguments.pairs):
        order = ("naive", "cohabit") if number % 2 == 0 else ("cohabit", "naive")
        found = {name: run(name, kinds, arguments.seconds, *options[name]) for name in order}
        pairs.append({**found, "ratios": compared(found["naive"], found["cohabit"], kinds)})
    medians = {
        name: round(statistics.median(pair["ratios"][name] for pair in pairs), 3) for name in pairs[0]["ratios"]
    }
    verdict = judged(medians, kinds)
    between = {
        who: {
            key: statistics.median(pair["cohabit"][part][key] for pair in pairs)
            for key in ("between_tokens_p50_ms", "between_tokens_p99_ms")
        }
        for who, part in (("beside the others", "chat"), ("alone", "chat_alone"))
    }
    figures = {
        "seconds": arguments.seconds,
        "clients": {kind.name: kind.clients for kind in kinds},
        "threads": {
            "naive": thread_counts(config, arguments.threads),
            "cohabit": {name: defaults.slots(config, model) for name, model in config.models.items()},
        },
        "compute_slots": defaults.compute_slots(config),
        "priorities": {name: model.priority for name, model in config.models.items()},
        "median_ratios": medians,
        "chat_between_tokens": between,
        "verdict": verdict,
        "pairs": pairs,
    }
    keep("mixed", figures, arguments.out)
    for what, each in verdict.items():
        print(f"{'met' if each['met'] else 'MISSED'}: {what} {each['is']}, {json.dumps(each)}")


if __name__ == "__main__":
    main()
