"""Entry point: ``python -m cohabit.inspector --fd N --parent PID``. Standard output and error are logs."""

from cohabit.worker.child_process import link_of_parent


def main() -> None:
    """Tie this process to its parent first, then import what takes longer."""
    fd = link_of_parent("cohabit.inspector", "Opens pictures and sound of clients.")

    from cohabit.inspector.pieces import serve

    serve(fd)


if __name__ == "__main__":
    main()
