"""``cohabit serve``: the server."""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cohabit.cli.auth import lock_for
from cohabit.cli.descriptors import with_descriptors
from cohabit.cli.exits import Code, announce, leave, one_line
from cohabit.cli.listener import Entrance, certificate_of, listen, resolved
from cohabit.cli.plan import BudgetOption, ConfigArgument, as_table
from cohabit.cli.pull import fetch_missing
from cohabit.config.load import load_config, with_budget, with_journal

if TYPE_CHECKING:
    import uvicorn

    from cohabit.api.app import App
    from cohabit.cli.storage import Opening
    from cohabit.config.model import Config
    from cohabit.devices import Device
    from cohabit.observability.feed import Feed
    from cohabit.runtime.plan import Plan
    from cohabit.runtime.profile_store import Footprints
    from cohabit.runtime.server import Server

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
    """Serve all models of a config. Listens at once; each model is brought in by its first request.

    Ctrl-C lets what was accepted finish, a second one ends it at once. Exits with 0 after that, with 1 if an engine
    is missing, the port is taken or the server failed, 2 if the config is wrong, 3 if a model can never fit, 130
    after a second Ctrl-C.
    """
    from cohabit.cli.storage import database_url
    from cohabit.config.paths import footprints_file, weights_dir
    from cohabit.devices import device_for, host_available
    from cohabit.runtime.assemble import missing_engines
    from cohabit.runtime.plan import make_plan
    from cohabit.runtime.profile_store import Footprints

    with one_line():
        loaded = with_budget(load_config(config), budget)
        if journal and not loaded.server.journal:
            loaded = with_journal(loaded, JOURNAL_BYTES)
        database_url(loaded.batches)  # said now if it cannot be, before anything is fetched; so the next three
        address = resolved(host or loaded.server.host, loaded.server.port if port is None else port)
        lock = lock_for(loaded.server, address[1][0])
        certificate = certificate_of(loaded)
        missing = missing_engines(loaded)
        if not missing:
            # Before the plan, since what is not here cannot be estimated. A model whose weights cannot be had
            # now is tried again by its first request; the others are served.
            for user, why in fetch_missing(loaded).items():
                typer.echo(f"{user}: {why}", err=True)
        device = device_for(loaded.device.kind)
        footprints = Footprints(footprints_file())
        plan = make_plan(
            loaded,
            total=device.total_bytes(),
            host=host_available(),
            footprints=footprints,
            weights=weights_dir(),
        )
    announce(as_table(plan))
    if missing:
        raise leave(Code.FAILED, "; ".join(missing))
    if plan.never:
        raise leave(Code.NEVER_FITS, plan.verdict)
    with listen(address) as listening:
        code = _run(loaded, plan, device, footprints, Entrance(listening, certificate, lock))
    raise typer.Exit(code)


def _run(config: "Config", plan: "Plan", device: "Device", footprints: "Footprints", entrance: Entrance) -> Code:
    import uvloop

    from cohabit.observability.logs import configure
    from cohabit.protocol.memory import tune_allocator

    configure(config.server.log_level)
    tune_allocator()
    config = with_descriptors(config, tls=entrance.certificate is not None)
    return uvloop.run(_serve(config, plan, device, footprints, entrance))


async def _serve(
    config: "Config", plan: "Plan", device: "Device", footprints: "Footprints", entrance: Entrance
) -> Code:
    from cohabit.config.paths import derived_dir, weights_dir
    from cohabit.observability.metrics import Metrics
    from cohabit.runtime import executors
    from cohabit.runtime.assemble import assemble

    metrics = Metrics()
    server = assemble(
        config,
        plan,
        device,
        footprints=footprints,
        weights=weights_dir(),
        derived=derived_dir(),
        watcher=metrics,
        observers=[metrics.handled],
        exposition=metrics.render,
    )
    metrics.watch(lambda: server.status(listed=0), server.tasks.restarts)
    try:
        with _recorded(config, server):
            return await _until_told(config, server, entrance)
    finally:
        executors.close_all()


@contextmanager
def _recorded(config: "Config", server: "Server") -> Iterator[None]:
    """Keep a journal, if it is to have any bytes."""
    if not config.server.journal:
        yield
        return
    import time
    from datetime import UTC, datetime
    from importlib.metadata import version

    from cohabit.config.paths import journal_dir
    from cohabit.core.eviction import Policy
    from cohabit.observability.journal import Journal
    from cohabit.observability.journal_format import Head

    began = datetime.now(UTC)
    head = Head.of(
        server.loop.controller.state,
        Policy(config.scheduling.policy),
        cohabit=version("cohabit"),
        began=began.isoformat(timespec="milliseconds"),
        clock=time.monotonic(),
        device=config.device.kind,
    )
    with Journal(journal_dir() / f"{began:%Y%m%dT%H%M%S.%fZ}.jsonl", head, limit=config.server.journal) as journal:
        server.loop.subscribe(journal.handled)
        yield


async def _until_told(config: "Config", server: "Server", entrance: Entrance) -> Code:
    """Serve until a signal comes or the server fails, then let what was accepted finish. How it is to exit."""
    from importlib.metadata import version

    import structlog

    from cohabit.api.app import create_app, keeps
    from cohabit.api.middleware.allowed_hosts import AllowedHosts
    from cohabit.cli.signals import Signals, exit_within
    from cohabit.cli.storage import opening
    from cohabit.core.admission import SHUTTING_DOWN
    from cohabit.observability.feed import Feed
    from cohabit.runtime.supervision import awaited

    feed = Feed(server.loop.controller.state, server.alerts)
    remote = None
    if config.server.remote_media.enabled:
        from cohabit.api.media.media_fetch import RemoteMedia

        remote = RemoteMedia(config.server.remote_media)

    allowed_hosts = AllowedHosts.of(entrance.socket.getsockname()[0], config.server.hosts, config.server.cors)
    app = create_app(
        server, version("cohabit"), feed=feed, remote=remote, auth=entrance.lock, allowed_hosts=allowed_hosts
    )
    http = _http_server(app, config, entrance)
    server.loop.subscribe(feed.handled)
    signals = Signals(config.server.drain)
    signals.listen()
    gc.collect()
    gc.freeze()  # what is here stays; looking through it again and again would only hold up requests
    server.start()
    storage = opening(config.batches, app, server, entrance.lock, server.tasks)
    keeps(app, storage)
    serving = awaited(http.serve([entrance.socket]))
    _say_where(config, entrance)
    await _first_of(serving, signals.first, server.failure)
    if serving.done():
        structlog.get_logger().error("the HTTP server ended by itself")
    drain = config.server.drain if signals.first.is_set() else 0.0
    ending = awaited(_end(server, http, serving, storage, feed=feed, drain=drain))
    await _first_of(ending, signals.second, server.failure)
    code = Code.DONE if signals.first.is_set() else Code.FAILED
    if server.failure.is_set():
        code = Code.FAILED
    elif not ending.done():
        code = Code.INTERRUPTED
    if not ending.done():
        exit_within(ABORT_SECONDS, code)
        server.abort(SHUTTING_DOWN)  # nothing if it has failed, and is aborted already
        brief: Any = ABORT_SECONDS / 3  # said to be an int, and passed on to ``asyncio.wait_for``
        http.config.timeout_graceful_shutdown = brief
    await ending
    exit_within(EXIT_SECONDS, code)  # a thread may be stuck, in a driver or a network file system
    return code


def _http_server(app: "App", config: "Config", entrance: Entrance) -> "uvicorn.Server":
    import uvicorn

    from cohabit.api.http.connections import LIMITS, Connection
    from cohabit.api.http.handshakes import Handshakes

    class Limited(Connection):
        """With the owner's limits."""

        limits = replace(LIMITS, connections=config.server.max_connections, held=config.server.max_bodies)

    protocol: Any = Limited
    if entrance.certificate is not None:
        protocol = Handshakes(Limited, entrance.certificate, most=config.server.max_connections)

    class Http(uvicorn.Server):
        """Leaves the signals to us: models must drain while its connections are still open."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Capture none."""
            yield

    return Http(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            http=protocol,
            ws="none",
            server_header=False,
            proxy_headers=bool(config.server.trusted_proxies),
            forwarded_allow_ips=config.server.trusted_proxies,
            timeout_graceful_shutdown=5,
        )
    )


async def _first_of(task: "asyncio.Task[None]", *events: asyncio.Event) -> None:
    """Until the task is done, or one of the events is set."""
    from cohabit.runtime.supervision import awaited

    waits = [awaited(event.wait()) for event in events]
    await asyncio.wait([task, *waits], return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


async def _end(
    server: "Server",
    http: "uvicorn.Server",
    serving: "asyncio.Task[None]",
    storage: "Opening",
    *,
    feed: "Feed",
    drain: float,
) -> None:
    """Let what was accepted finish, then leave."""
    store = await storage.opened()
    if store is not None:
        store.halt()
    await server.stop(drain)
    feed.close()
    http.should_exit = True
    await serving
    if store is not None:
        await store.close()


def _say_where(config: "Config", entrance: Entrance) -> None:
    from cohabit.engines.registry import engine_class

    url = entrance.url
    announce(f"listening on {url}")
    for name, model in config.models.items():
        tasks = engine_class(model.engine).tasks
        if "chat" in tasks:
            messages = '[{"role": "user", "content": "What is the capital of France?"}]'
            key = "" if entrance.lock is None else " -H 'authorization: Bearer KEY'"
            body = f'{{"model": "{name}", "temperature": 0, "messages": {messages}}}'
            announce(f"try: curl {url}/v1/chat/completions -H 'content-type: application/json'{key} -d '{body}'")
            break
