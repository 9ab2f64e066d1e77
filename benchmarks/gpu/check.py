"""What holds on a real card: memory of models that are told how much to take, as NVML sees it from outside.

The engine ``fake`` takes its memory through the driver, so everything but the models is real: contexts, worker
processes, budgets, evictions, out of memory. The budget is far below what the card has, so that models compete.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pynvml

sys.path.append(str(Path(__file__).parents[1]))

from _card import Steps, card, chat, handle, learned, model, seconds_until, serving, status, together, used, watched

GIB = 1 << 30
MIB = 1 << 20
BUDGET = 12 * GIB
MODELS: dict[str, dict[str, Any]] = {
    "one": {"resident": 4 * GIB, "working": 512 * MIB},
    "two": {"resident": 4 * GIB, "working": 512 * MIB},
    "three": {"resident": 4 * GIB, "working": 512 * MIB},
    "small": {"resident": 1 * GIB, "working": 64 * MIB},
}
FOREIGN = """
import sys, time
from cohabit.engines.card_memory import Card
held = Card(0).touched(int(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def config() -> dict[str, Any]:
    """Of the server."""
    models = {
        name: {"engine": "fake", "options": {**options, "load_seconds": 0.2, "run_seconds": 0.05}}
        for name, options in MODELS.items()
    }
    # It says that it needs little, and takes more than there is.
    models["liar"] = {"engine": "fake", "options": {"idle": 400 * GIB}, "footprint": {"idle": "1GiB"}}
    device = {"kind": "cuda:0", "budget": BUDGET, "keep_free": GIB}
    return {"device": device, "scheduling": {"max_wait": 5}, "models": models}


def loads(http: httpx2.Client) -> dict[str, Any]:
    """What a load takes by the driver, by our books; what a sleep leaves."""
    began = time.monotonic()
    assert chat(http, "one").status_code == 200
    first = round(time.monotonic() - began, 3)
    pid = model(http, "one")["pid"]
    seconds_until(
        lambda: abs(model(http, "one")["reserved"] - used()[pid]) <= 64 * MIB
    )  # once the device was read again
    found = model(http, "one")
    truth = used()[pid]
    figures = {
        "first_answer_seconds": first,
        "told_to_take_mib": MODELS["one"]["resident"] // MIB,
        "driver_says_mib": truth // MIB,
        "context_mib": (truth - MODELS["one"]["resident"]) // MIB,
        "booked_resident_mib": found["resident"] // MIB,
        "footprint": found["footprint"],
        "load_seconds": round(found["load_seconds"], 3),
    }
    assert abs(found["resident"] - truth) <= 64 * MIB, figures
    slept = http.post("/admin/models/one/sleep")
    assert slept.status_code == 200, slept.text
    figures["asleep_mib"] = used()[pid] // MIB
    figures["host_copy_mib"] = model(http, "one")["host_copy"] // MIB
    assert figures["host_copy_mib"] == MODELS["one"]["resident"] // MIB, figures
    began = time.monotonic()
    assert chat(http, "one").status_code == 200
    figures["wake_and_answer_seconds"] = round(time.monotonic() - began, 3)
    return figures


def never_over(http: httpx2.Client, pid: int, seconds: float) -> dict[str, Any]:
    """Random requests from eight clients for models that do not fit together, watched from outside."""
    ends = time.monotonic() + seconds
    codes: list[int] = []

    def client(seed: int) -> None:
        words = random.Random(seed)
        while time.monotonic() < ends:
            codes.append(chat(http, words.choice(list(MODELS))).status_code)

    with watched(pid) as watch:
        together(*[partial(client, seed) for seed in range(8)])
    found = status(http)["models"]
    figures = {
        "seconds": seconds,
        "requests": len(codes),
        "refused": sum(code != 200 for code in codes),
        "loads": sum(each["loads"] for each in found),
        "wakes": sum(each["wakes"] for each in found),
        "budget_mib": BUDGET // MIB,
        "most_held_mib": watch.most // MIB,
        "samples": len(watch.samples),
        "host_copies_mib": status(http)["devices"][0]["host_copies"] // MIB,
        "host_cache_mib": status(http)["devices"][0]["host_cache"] // MIB,
    }
    print(json.dumps(figures), flush=True)
    assert figures["host_copies_mib"] <= figures["host_cache_mib"], figures
    assert figures["refused"] == 0, figures
    assert watch.most <= BUDGET, figures
    return figures


def out_of_memory(http: httpx2.Client) -> dict[str, Any]:
    """More than the card has: in a run, and in a load of a model that has lied about what it needs."""
    run = chat(http, "small", fake={"working": 400 * GIB})
    load = chat(http, "liar")
    after = chat(http, "small")
    figures = {
        "run": [run.status_code, run.json()["error"]["code"]],
        "load": [load.status_code, load.json()["error"]["code"]],
        "afterwards": after.status_code,
        "liar": {key: model(http, "liar")[key] for key in ("state", "failure", "margin")},
    }
    print(json.dumps(figures), flush=True)
    assert figures["run"] == [503, "out_of_memory"], figures
    assert after.status_code == 200, figures
    return figures


def foreign(http: httpx2.Client) -> dict[str, Any]:
    """Somebody else takes nearly all that we have left of the card, and gives it back."""
    for name in ("one", "two"):
        assert chat(http, name).status_code == 200
    free = pynvml.nvmlDeviceGetMemoryInfo(handle()).free
    took = (
        free - 1700 * MIB
    )  # its context and 1 GiB of what is kept free stay: there is room for no more than we hold
    other = subprocess.Popen([sys.executable, "-c", FOREIGN, str(took)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    seen = seconds_until(lambda: status(http)["devices"][0]["foreign"] >= took)
    device = status(http)["devices"][0]
    codes, waited = [], []
    for name in ("one", "two", "three", "small", "one"):
        began = time.monotonic()
        codes.append(chat(http, name).status_code)
        waited.append(round(time.monotonic() - began, 2))
        print("while others hold the card:", name, codes[-1], waited[-1], flush=True)
    other.kill()
    other.wait()
    back = seconds_until(lambda: status(http)["devices"][0]["foreign"] < took // 2)
    figures = {
        "took_mib": took // MIB,
        "seen_after_seconds": seen,
        "budget_meanwhile_mib": device["effective_budget"] // MIB,
        "answers_meanwhile": codes,
        "seconds_of_each": waited,
        "back_after_seconds": back,
    }
    print(json.dumps(figures), flush=True)
    assert codes == [200] * 5, figures
    return figures


def killed(http: httpx2.Client) -> dict[str, Any]:
    """A worker dies: its memory is back in the books once the driver shows it free."""
    assert chat(http, "two").status_code == 200
    pid = model(http, "two")["pid"]
    os.kill(pid, signal.SIGKILL)
    driver = seconds_until(lambda: pid not in used())
    books = seconds_until(lambda: model(http, "two")["reserved"] == 0)
    began = time.monotonic()
    assert chat(http, "two").status_code == 200
    return {
        "gone_by_the_driver_after_seconds": driver,
        "gone_in_the_books_after_seconds_more": books,
        "next_answer_seconds": round(time.monotonic() - began, 3),
    }


def main() -> None:
    """Everything, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=1, help="how often somebody else takes the card")
    parser.add_argument("--busy", type=float, default=40.0, help="seconds of many clients")
    parser.add_argument("--log", action="store_true", help="with the end of the server's log")
    asked = parser.parse_args()
    steps = Steps(card())
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COHABIT_HOME"] = folder
        with serving(config(), Path(folder)) as (http, pid):
            steps.do("load", lambda: loads(http))
            steps.do("never_over_budget", lambda: never_over(http, pid, asked.busy))
            steps.do("out_of_memory", lambda: out_of_memory(http))
            for turn in range(1, asked.turns + 1):
                steps.do(f"foreign {turn}".removesuffix(" 1"), lambda: foreign(http))
            steps.do("killed", lambda: killed(http))
            steps.do("measured", lambda: learned(http))
            steps.figures["alerts"] = status(http)["alerts"]
            if steps.failed:
                print(json.dumps(status(http))[:6000], flush=True)
        steps.end("gpu", Path(folder), log=asked.log)


if __name__ == "__main__":
    main()
