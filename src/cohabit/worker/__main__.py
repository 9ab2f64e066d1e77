"""Entry point: ``python -m cohabit.worker --fd N --parent PID``. Standard output and error are logs."""

import argparse

from cohabit.worker.parent_death import die_with_parent


def main() -> int:
    """Tie this process to its parent first, then import what takes longer."""
    parser = argparse.ArgumentParser(prog="cohabit.worker", description="Runs one model. Started by cohabit serve.")
    parser.add_argument("--fd", type=int, required=True, help="the socket to the control plane")
    parser.add_argument("--parent", type=int, required=True, help="process id of the control plane")
    arguments = parser.parse_args()
    die_with_parent(arguments.parent)

    from cohabit.worker.loop import WorkerLoop

    return WorkerLoop(arguments.fd).serve()


if __name__ == "__main__":
    raise SystemExit(main())
