"""A PostgreSQL of the test's own: a cluster in a folder, reached on loopback.

Tests that use it are marked ``needs("postgresql")``.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import wait_until
from programs import program


def _user() -> pwd.struct_passwd | None:
    """Whom to run it as: it refuses root. Debian's package has a user for it, others may not."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


class Cluster:
    """One that can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        """Made in ``folder``, and running."""
        self._user = _user()
        self._data = folder / "data"
        self._folder = folder
        if self._user is not None:
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._run(
            program("postgresql", "initdb"), "--auth=trust", "--username=cohabit", "--no-sync", "-D", str(self._data)
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """For ``batches.database``."""
        return f"postgresql://cohabit@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Until it takes connections."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    program("postgresql", "postgres"),
                    "-D",
                    self._data,
                    "-p",
                    str(self.port),
                    "-h",
                    "127.0.0.1",
                    "-k",
                    "",
                ],
                user=self._user and self._user.pw_uid,
                group=self._user and self._user.pw_gid,
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )
        wait_until(self._answers)

    def stop(self) -> None:
        """At once, as it ends in an emergency: connections are cut."""
        assert self._process is not None
        self._process.send_signal(3)  # SIGQUIT: its "immediate shutdown"
        self._process.wait(timeout=30)

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            command,
            user=self._user and self._user.pw_uid,
            group=self._user and self._user.pw_gid,
            capture_output=True,
            text=True,
            check=False,
            cwd=self._folder,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr


@contextmanager
def postgres() -> Iterator[Cluster]:
    """Until the block ends."""
    # Not pytest's folder: its parents are closed to the user that PostgreSQL runs as.
    folder = Path(tempfile.mkdtemp(prefix="cohabit-postgres-"))
    try:
        cluster = Cluster(folder)
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder)
