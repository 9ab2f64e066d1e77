"""What holds on a real card: memory of models that are told how much to take, as NVML sees it from outside.

The engine ``fake`` takes its memory through the driver, so everything but the models is real: contexts, worker
processes, budgets, evictions, out of memory. The budget is far below what the card has, so that models compete.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pynvml

sys.path.append(str(Path(__file__).parents[1]))

from _card import card, chat, handle, learned, model, seconds_until, serving, status, used, watched
from _machine import keep

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
    models["liar"] = {"engine": "fake", "options": {"resident": 400 * GIB}, "footprint": {"resident": "1GiB"}}
    device = {"kind": "cuda:0", "budget": BUDGET, "keep_free": GIB}
    return {"device": device, "scheduling": {"max_wait": 5}, "models": models}


def loads(http: httpx2.Client) -> dict[str, Any]:
    """What a load takes by the driver, by our books; what a sleep leaves."""
    began = time.monotonic()
    assert chat(http, "one").status_code == 200
    first = round(time.monotonic() - began, 3)
    time.sleep(2.5)  # so that the device has been read while it is idle
    found = model(http, "one")
    truth = used()[found["pid"]]
    figures = {
        "first_answer_seconds": first,
        "told_to_take_mib": MODELS["one"]["resident"] // MIB,
        "driver_says_mib": truth // MIB,
        "context_mib": (truth - MODELS["one"]["resident"]) // MIB,
        "booked_resident_mib": found["resident"] // MIB,
        "needs": found["needs"],
        "load_seconds": round(found["load_seconds"], 3),
    }
    assert abs(found["resident"] - truth) <= 64 * MIB, figures
    slept = http.post("/admin/models/one/sleep")
    assert slept.status_code == 200, slept.text
    figures["asleep_mib"] = used()[found["pid"]] // MIB
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

    clients = [threading.Thread(target=client, args=(seed,)) for seed in range(8)]
    with watched(pid) as watch:
        for each in clients:
            each.start()
        for each in clients:
            each.join()
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
        "host_copies_mib": status(http)["device"]["host_copies"] // MIB,
        "host_cache_mib": status(http)["device"]["host_cache"] // MIB,
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
    seen = seconds_until(lambda: status(http)["device"]["foreign"] >= took)
    device = status(http)["device"]
    codes, waited = [], []
    for name in ("one", "two", "three", "small", "one"):
        began = time.monotonic()
        codes.append(chat(http, name).status_code)
        waited.append(round(time.monotonic() - began, 2))
        print("while others hold the card:", name, codes[-1], waited[-1], flush=True)
    other.kill()
    other.wait()
    back = seconds_until(lambda: status(http)["device"]["foreign"] < took // 2)
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
    books = seconds_until(lambda: model(http, "two")["held"] == 0)
    began = time.monotonic()
    assert chat(http, "two").status_code == 200
    return {
        "gone_by_the_driver_after_seconds": driver,
        "gone_in_the_books_after_seconds_more": books,
        "next_answer_seconds": round(time.monotonic() - began, 3),
    }


Step = Callable[[httpx2.Client, int], dict[str, Any]]


def main() -> None:
    """Everything, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=1, help="how often somebody else takes the card")
    parser.add_argument("--busy", type=float, default=40.0, help="seconds of many clients")
    parser.add_argument("--log", action="store_true", help="with the end of the server's log")
    asked = parser.parse_args()
    figures = card()
    steps: dict[str, Step] = {
        "load": lambda http, _: loads(http),
        "never_over_budget": lambda http, pid: never_over(http, pid, asked.busy),
        "out_of_memory": lambda http, _: out_of_memory(http),
        **{f"foreign {turn}".removesuffix(" 1"): lambda http, _: foreign(http) for turn in range(1, asked.turns + 1)},
        "killed": lambda http, _: killed(http),
        "measured": lambda http, _: learned(http),
    }
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COHABIT_HOME"] = folder
        with serving(config(), Path(folder)) as (http, pid):
            for step, do in steps.items():
                # One that fails does not hide the others: a card is lent for minutes.
                with contextlib.suppress(StopIteration):
                    try:
                        figures[step] = do(http, pid)
                    except (AssertionError, KeyError, httpx2.HTTPError) as error:
                        figures[step] = {"failed": f"{type(error).__name__}: {error}"[:2000]}
                        print(json.dumps(status(http))[:6000], flush=True)
                        print((Path(folder) / "log").read_text()[-3000:], flush=True)
                print(step, json.dumps(figures[step]), flush=True)
            figures["alerts"] = status(http)["alerts"]
            figures["log_tail"] = (Path(folder) / "log").read_text()[-4000:] if asked.log else ""
    if not figures["log_tail"]:
        del figures["log_tail"]
    keep("gpu", figures, Path(os.environ["OUT"]) / "gpu.json" if "OUT" in os.environ else None)
    if any("failed" in part for part in figures.values() if isinstance(part, dict)):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
