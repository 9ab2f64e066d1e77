"""``cohabit serve``: the server."""

import gc
from typing import TYPE_CHECKING, Annotated

import typer

from cohabit.cli.output import Code, announce, one_line, warn
from cohabit.cli.plan import BudgetOption, ConfigArgument, as_table
from cohabit.cli.pull import fetch_missing
from cohabit.config.load import load_config, with_budget, with_journal

if TYPE_CHECKING:
    from cohabit.server import Prepared

JOURNAL_BYTES = 256 << 20  # unless the config says otherwise
ABORT_SECONDS = 1.0  # from a second Ctrl-C, or a failure, to the exit
EXIT_SECONDS = 10.0  # for what is left once all has ended


def serve(
    config: ConfigArgument = None,
    *,
    host: Annotated[str | None, typer.Option(help="Instead of the config's address.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Instead of the config's port.")] = None,
    budget: BudgetOption = None,
    journal: Annotated[
        bool, typer.Option("--journal", help="Record what is decided, for `cohabit replay`; no prompts, no answers.")
    ] = False,
) -> None:
    """Serve all models of a config. Listens at once; each model is loaded by its first request.

    Ctrl-C lets what was accepted finish, a second one ends it at once. Exits with 0 after that, with 1 if an engine
    is missing, the port is taken or the server failed, 2 if the config is wrong, 3 if a model can never fit, 130
    after a second Ctrl-C.
    """
    from cohabit.server.prepare import bound_to, prepare

    with one_line():
        loaded = bound_to(with_budget(load_config(config), budget), host, port)
        if journal and not loaded.server.journal:
            loaded = with_journal(loaded, JOURNAL_BYTES)
        prepared = prepare(loaded, fetch=fetch_missing, planned=lambda plan: announce(as_table(plan)), tell=warn)
        code = _run(prepared)
    raise typer.Exit(code)


def _run(prepared: "Prepared") -> Code:
    import uvloop

    from cohabit.observability.logs import configure
    from cohabit.protocol.memory import tune_allocator

    configure(prepared.config.server.log_level)
    tune_allocator()
    return uvloop.run(_serve(prepared))


async def _serve(prepared: "Prepared") -> Code:
    """Until a signal comes or the server fails; then what was accepted may finish. How the process is to exit."""
    from cohabit.cli.signals import Signals, exit_within
    from cohabit.runtime.supervision import awaited
    from cohabit.server.running import first_of, run

    signals = Signals(prepared.config.server.drain)
    signals.listen()
    async with run(prepared) as running:
        gc.collect()
        gc.freeze()  # what is here stays; looking through it again and again would only hold up requests
        _announce_address(prepared, running.url)
        await first_of(awaited(running.stopped()), signals.first)
        ending = running.end()
        await first_of(ending, signals.second, running.service.failure)
        code = Code.DONE if signals.first.is_set() else Code.FAILED
        if running.service.failure.is_set():
            code = Code.FAILED
        elif not ending.done():
            code = Code.INTERRUPTED
        if not ending.done():
            exit_within(ABORT_SECONDS, code)
            running.abort(ABORT_SECONDS / 3)
        await ending
    exit_within(EXIT_SECONDS, code)  # a thread may be stuck, in a driver or a network file system
    return code


def _announce_address(prepared: "Prepared", url: str) -> None:
    from cohabit.engines.registry import engine_class

    announce(f"listening on {url}")
    for name, model in prepared.config.models.items():
        if "chat" in engine_class(model.engine).tasks:
            messages = '[{"role": "user", "content": "What is the capital of France?"}]'
            key = "" if prepared.auth is None else " -H 'authorization: Bearer KEY'"
            body = f'{{"model": "{name}", "temperature": 0, "messages": {messages}}}'
            announce(f"try: curl {url}/v1/chat/completions -H 'content-type: application/json'{key} -d '{body}'")
            break
