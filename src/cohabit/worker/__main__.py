"""Entry point: ``python -m cohabit.worker --fd N --parent PID``. Standard output and error are logs."""

from cohabit.worker.child_process import link_of_parent


def main() -> int:
    """Tie this process to its parent first, then import what takes longer."""
    fd = link_of_parent("cohabit.worker", "Runs one model.")

    from cohabit.worker.loop import WorkerLoop

    return WorkerLoop(fd).serve()


if __name__ == "__main__":
    raise SystemExit(main())
