"""What a figure was measured on, and where results are kept. Not a benchmark itself."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Cores, memory, system; no name."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
    }


class Cores:
    """Whose the machine's time was: the server's, this process's, anybody else's. Per cent of all cores."""

    def __init__(self, server: int) -> None:
        """From now on; ``server`` is a pid, whose children are there already."""
        process = psutil.Process(server)
        self._server = [process, *process.children(recursive=True)]
        self._began = self._seconds()

    def shares(self) -> dict[str, float]:
        """Since then. What others took makes a figure wrong."""
        spent = {
            who: now - before
            for (who, now), before in zip(self._seconds().items(), self._began.values(), strict=True)
        }
        others = spent["busy"] - spent["server"] - spent["load"]
        return {
            who: round(100 * seconds / spent["all"], 1)
            for who, seconds in (("server", spent["server"]), ("load", spent["load"]), ("others", max(0.0, others)))
        }

    def _seconds(self) -> dict[str, float]:
        times = psutil.cpu_times()
        everything = sum(times) - times.guest - times.guest_nice  # those are in user and nice already
        return {
            "all": everything,
            "busy": everything - times.idle - times.iowait - times.steal,
            "server": sum(sum(process.cpu_times()[:2]) for process in self._server),
            "load": sum(psutil.Process().cpu_times()[:2]),
        }


def keep(name: str, figures: dict[str, Any], path: Path | None = None) -> None:
    """Write the result beside the machine, the command and the commit, and print it.

    Into RESULTS unless a ``path`` is given, as for a trial that is not to be kept.
    """
    commit = (
        os.environ.get("COMMIT")
        or subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=RESULTS.parent,
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
    )
    script = Path(sys.argv[0]).resolve().relative_to(RESULTS.parents[1])
    command = " ".join(["python", str(script), *sys.argv[1:]])
    result = {"command": command, "commit": commit, "machine": machine(), "figures": figures}
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(result, indent=2)
    (path or RESULTS / f"{name}.json").write_text(text + "\n")
    print(text)
