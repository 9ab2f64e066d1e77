"""Programs that tests start and pip does not install with the rest: which ones there are, and where they are found.

A test says what it needs by a marker: ``pytest.mark.needs("nginx")``. Where a program is missing its tests are left
out (``conftest.py``), and ``make test`` says so in one line (this file, run as a script; so it needs only Python).
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

WITHOUT = "COHABIT_TEST_WITHOUT"
"""An environment variable: names of programs, separated by spaces, that count as not installed."""

ALL = "COHABIT_TEST_ALL"
"""An environment variable: set to 1, a missing program is an error before any test runs."""

CLIENTS = Path(__file__).parent.parent / "build" / "clients"
"""Where ``make clients`` installs the clients that tests drive, each in an environment of its own."""


@dataclass(frozen=True, slots=True)
class Program:
    """Something that tests start."""

    commands: tuple[str, ...]
    """All of them have to be there."""
    install: str
    """What installs it, on Debian and Ubuntu."""
    places: tuple[str, ...] = ()
    """Folders (patterns of glob) that are looked through before those of PATH; of several the last is taken."""
    works: tuple[str, ...] = ()
    """A command that succeeds where the program can do what tests want of it. Empty: to be there is enough."""

    def find(self, command: str) -> str | None:
        """The path of one of its commands; None where there is none."""
        found = [
            str(path) for place in self.places for path in sorted(Path("/").glob(place.lstrip("/")), reverse=True)
        ]
        return shutil.which(command, path=os.pathsep.join([*found, os.environ.get("PATH", os.defpath)]))

    def is_there(self) -> bool:
        """All commands are found, and it works."""
        if any(self.find(command) is None for command in self.commands):
            return False
        return not self.works or subprocess.run(self.works, capture_output=True, check=False).returncode == 0


OWN_MOUNTS = ("unshare", "--mount", *(("--user", "--map-root-user") if os.geteuid() else ()))
"""Runs a command with mounts of its own, whoever starts it."""

PROGRAMS = {
    "curl": Program(("curl",), "apt-get install curl"),
    "nginx": Program(("nginx",), "apt-get install nginx", places=("/usr/sbin",)),
    "node": Program(("node", "npm"), "make clients", places=(f"{CLIENTS}/node/bin",)),
    "postgresql": Program(
        ("initdb", "postgres"), "apt-get install postgresql", places=("/usr/lib/postgresql/*/bin",)
    ),
    "unshare": Program(
        ("unshare", "mount"),
        "apt-get install util-linux, on a kernel that lets this user make mount namespaces",
        works=(*OWN_MOUNTS, "mount", "-t", "tmpfs", "tmpfs", "/tmp"),  # noqa: S108 - seen by that command alone
    ),
}
"""By the name that markers and the environment variables use."""


def hidden() -> set[str]:
    """Those that count as not installed. ValueError for a name that is not in PROGRAMS."""
    names = set(os.environ.get(WITHOUT, "").split())
    if unknown := names - PROGRAMS.keys():
        raise ValueError(f"{WITHOUT} names {', '.join(sorted(unknown))}; there are {', '.join(PROGRAMS)}")
    return names


def missing() -> list[str]:
    """The programs whose tests cannot run here. ValueError as in ``hidden``."""
    out = hidden()
    return [name for name, program in PROGRAMS.items() if name in out or not program.is_there()]


def described(names: list[str]) -> str:
    """Programs and what installs them, for people."""
    return ", ".join(f"{name} ({PROGRAMS[name].install})" for name in names)


def announcement(names: list[str]) -> str:
    """The line that says before a run what it leaves out."""
    return f"left out: the tests that need {described(names)}"


def refusal(names: list[str]) -> str | None:
    """Why nothing may run without these; None where they may be missing."""
    if not names or os.environ.get(ALL) != "1":
        return None
    return f"{ALL}=1 and programs are missing: {described(names)}"


def program(name: str, command: str) -> str:
    """The path of a command of a program, for a test that is marked as needing it."""
    found = None if name in hidden() else PROGRAMS[name].find(command)
    assert found is not None, f"{described([name])} is missing; mark the test with pytest.mark.needs({name!r})"
    return found


def main() -> int:
    """Print one line if programs are missing, for the Makefile; the exit code."""
    try:
        names = missing()
    except ValueError as error:
        sys.exit(str(error))
    if (why := refusal(names)) is not None:
        sys.exit(why)
    if names:
        print(announcement(names))  # noqa: T201 - for who runs make
    return 0


if __name__ == "__main__":
    sys.exit(main())
