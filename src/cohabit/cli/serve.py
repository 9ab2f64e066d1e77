"""``cohabit serve``: the server."""

import asyncio
import gc
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cohabit.cli.entrance import Entrance, certificate_of, listen, resolved
from cohabit.cli.exits import Code, leave, one_line
from cohabit.cli.locking import lock_for
from cohabit.cli.plan import BudgetOption, ConfigArgument, as_table
from cohabit.cli.pull import fetch_missing
from cohabit.config.load import load_config, with_budget, with_journal

if TYPE_CHECKING:
    from cohabit.config.model import Config
    from cohabit.devices import Device
    from cohabit.runtime.footprints import Footprints
    from cohabit.runtime.plan import Plan
    from cohabit.runtime.server import Server

JOURNAL_BYTES = 256 << 20  # unless the config says otherwise
_OTHER_FILES = 256  # open beside connections: workers, weights that are fetched, the journal


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

    Ctrl-C lets what was accepted finish. Exits with 1 if an engine is missing or the port is taken, 2 if the
    config is wrong, 3 if a model can never fit.
    """
    from cohabit.cli.storage import database_url
    from cohabit.config.paths import footprints_file, weights_dir
    from cohabit.devices import device_for, host_available
    from cohabit.runtime.assemble import missing_engines
    from cohabit.runtime.footprints import Footprints
    from cohabit.runtime.plan import make_plan

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
    typer.echo(as_table(plan))
    if missing:
        raise leave(Code.FAILED, "; ".join(missing))
    if plan.never:
        raise leave(Code.NEVER_FITS, plan.verdict)
    with listen(address) as listening:
        _run(loaded, plan, device, footprints, Entrance(listening, certificate, lock))


def _run(config: "Config", plan: "Plan", device: "Device", footprints: "Footprints", entrance: Entrance) -> None:
    import uvloop

    from cohabit.observability.logs import configure

    configure(config.server.log_level)
    # Those beyond the limit are refused, so taken too; as many again may be at their handshake.
    _allow_files((2 if entrance.certificate is None else 3) * config.server.max_connections + _OTHER_FILES)
    uvloop.run(_serve(config, plan, device, footprints, entrance))


def _allow_files(wanted: int) -> None:
    """Raise this process's own limit of open files, often 1024, as far as it may."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


async def _serve(
    config: "Config", plan: "Plan", device: "Device", footprints: "Footprints", entrance: Entrance
) -> None:
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
    metrics.watch(server.status)
    try:
        with _recorded(config, server):
            await _until_told(config, server, entrance)
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
        server.loop.controller.books,
        Policy(config.scheduling.policy),
        cohabit=version("cohabit"),
        began=began.isoformat(timespec="milliseconds"),
        clock=time.monotonic(),
        device=config.device.kind,
    )
    with Journal(journal_dir() / f"{began:%Y%m%dT%H%M%S.%fZ}.jsonl", head, limit=config.server.journal) as journal:
        server.loop.subscribe(journal.handled)
        yield


async def _until_told(config: "Config", server: "Server", entrance: Entrance) -> None:
    """Serve until a signal comes, then let what was accepted finish."""
    from importlib.metadata import version

    import uvicorn

    from cohabit.api.app import create_app, keeps
    from cohabit.api.connections import LIMITS, Connection
    from cohabit.api.handshakes import Handshakes
    from cohabit.api.origins import Known
    from cohabit.cli.storage import opening
    from cohabit.observability.feed import Feed

    feed = Feed(server.loop.controller.books)
    remote = None
    if config.server.remote_media.enabled:
        from cohabit.api.remote import RemoteMedia

        remote = RemoteMedia(config.server.remote_media)

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

    known = Known.of(entrance.socket.getsockname()[0], config.server.hosts, config.server.cors)
    app = create_app(server, version("cohabit"), feed=feed, remote=remote, lock=entrance.lock, known=known)
    http = Http(
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
    server.loop.subscribe(feed.handled)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    gc.collect()
    gc.freeze()  # what is here stays; looking through it again and again would only hold up requests
    server.start()
    storage = opening(config.batches, app, server, entrance.lock)
    keeps(app, storage)
    serving = asyncio.create_task(http.serve([entrance.socket]))
    _say_where(config, entrance)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(number)  # a second Ctrl-C ends it at once; workers die with it
    store = await storage.opened()
    if store is not None:
        store.halt()
    await server.stop(config.server.drain if stop.is_set() else 0.0)
    feed.close()
    http.should_exit = True
    await serving
    if store is not None:
        await store.close()


def _say_where(config: "Config", entrance: Entrance) -> None:
    from cohabit.engines.registry import engine_class

    url = entrance.url
    typer.echo(f"listening on {url}")
    for name, model in config.models.items():
        tasks = engine_class(model.engine).tasks
        if "chat" in tasks:
            messages = '[{"role": "user", "content": "What is the capital of France?"}]'
            key = "" if entrance.lock is None else " -H 'authorization: Bearer KEY'"
            body = f'{{"model": "{name}", "temperature": 0, "messages": {messages}}}'
            typer.echo(f"try: curl {url}/v1/chat/completions -H 'content-type: application/json'{key} -d '{body}'")
            break
    sys.stdout.flush()
