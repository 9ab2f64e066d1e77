"""A server from its start to its end."""

import asyncio
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from cohabit.server.listener import http_server, listen, url_of
from cohabit.server.prepare import Prepared, Tell, bound_to, nothing_to_say, prepare

if TYPE_CHECKING:
    import uvicorn

    from cohabit.config.model import Config
    from cohabit.observability.feed import Feed
    from cohabit.runtime.server import Server
    from cohabit.server.batch_store import Opening

_servers = 0  # of this process: they share its pools of threads


class Running:
    """A server that listens. ``url`` is for clients on this machine, ``service`` is what the routes talk to."""

    def __init__(
        self,
        url: str,
        *,
        service: "Server",
        http: "uvicorn.Server",
        serving: Coroutine[Any, Any, None],
        store: "Opening",
        feed: "Feed",
        drain: float,
    ) -> None:
        from cohabit.runtime.supervision import awaited

        self.url = url
        self.service = service
        self._http = http
        self._store = store
        self._feed = feed
        self._drain = drain
        self._serving = awaited(serving)
        self._ending: asyncio.Task[None] | None = None
        self._asked = asyncio.Event()

    @property
    def failed(self) -> bool:
        """Whether the server found a bug of its own: everything that waited got a 503, and nothing goes on."""
        return self.service.failure.is_set() or self._serving.done()

    def stop(self) -> None:
        """Let ``stopped`` return. The server ends when its block is left."""
        self._asked.set()

    async def stopped(self) -> None:
        """Until ``stop`` is called or the server fails."""
        await first_of(self._serving, self._asked, self.service.failure)
        if self._serving.done() and self._ending is None:
            import structlog  # large, and the command line imports this module

            structlog.get_logger().error("the HTTP server ended by itself")

    def end(self, drain: float | None = None) -> "asyncio.Task[None]":
        """Take nothing new, and give what was accepted so many seconds; None: as the config says. Only the first call
        counts."""
        from cohabit.runtime.supervision import awaited

        if self._ending is None:
            seconds = self._drain if drain is None else drain
            self._ending = awaited(self._end(0.0 if self.failed else seconds))
        return self._ending

    def abort(self, within: float) -> None:
        """Answer everything that waits or runs with a 503 now, kill the workers, close connections within so many
        seconds. ``end`` must have been called."""
        from cohabit.core.admission import SHUTTING_DOWN

        self.service.abort(SHUTTING_DOWN)  # nothing if it has failed, and is aborted already
        brief: Any = within  # said to be an int, and passed on to ``asyncio.wait_for``
        self._http.config.timeout_graceful_shutdown = brief

    async def _end(self, drain: float) -> None:
        self._asked.set()
        store = await self._store.opened()
        if store is not None:
            store.halt()
        try:
            await self.service.stop(drain)
            self._feed.close()
            self._http.should_exit = True
            await self._serving
        finally:
            if store is not None:
                await store.close()


@asynccontextmanager
async def serve(
    config: "Config", *, host: str | None = None, port: int | None = None, tell: Tell = nothing_to_say
) -> AsyncIterator[Running]:
    """Serve all models of a config while the block lasts. Port 0 takes one that is free; ``Running.url`` has it.

    Signals, logging and the process's settings stay as they are. Leaving the block lets what was accepted finish,
    within ``server.drain``. Raises what ``prepare`` raises, before anything is listened to.
    """
    from cohabit.runtime.executors import FETCHING

    with _pools():
        prepared = await FETCHING.run(prepare, bound_to(config, host, port), tell=tell)
        async with run(prepared) as running:
            yield running


@asynccontextmanager
async def run(prepared: Prepared) -> AsyncIterator[Running]:
    """Serve what was prepared while the block lasts. Raises StartError if its address is taken."""
    with listen(prepared.address) as listening, _pools():
        service = _service(prepared)
        with _recorded(prepared.config, service):
            running = _started(prepared, service, listening)
            try:
                yield running
            finally:
                await _finished(running.end())


def _service(prepared: Prepared) -> "Server":
    from cohabit.config.paths import derived_dir, weights_dir
    from cohabit.observability.metrics import Metrics
    from cohabit.server.assemble import assemble

    metrics = Metrics()
    service = assemble(
        prepared.config,
        prepared.plan,
        prepared.device,
        footprints=prepared.footprints,
        weights=weights_dir(),
        derived=derived_dir(),
        watcher=metrics,
        observers=[metrics.handled],
        exposition=metrics.render,
    )
    metrics.watch(lambda: service.status(listed=0), service.tasks.restarts)
    return service


def _started(prepared: Prepared, service: "Server", listening: socket.socket) -> Running:
    from importlib.metadata import version

    from cohabit.api.app import create_app, keeps
    from cohabit.api.middleware.allowed_hosts import AllowedHosts
    from cohabit.observability.feed import Feed
    from cohabit.server.batch_store import opening

    config = prepared.config
    feed = Feed(service.loop.controller.state, service.alerts)
    remote = None
    if config.server.remote_media.enabled:
        from cohabit.api.media.media_fetch import RemoteMedia

        remote = RemoteMedia(config.server.remote_media)
    hosts = AllowedHosts.of(listening.getsockname()[0], config.server.hosts, config.server.cors)
    app = create_app(service, version("cohabit"), feed=feed, remote=remote, auth=prepared.auth, allowed_hosts=hosts)
    http = http_server(app, config.server, prepared.certificate)
    service.loop.subscribe(feed.handled)
    service.start()
    store = opening(config.batches, app, service, prepared.auth, service.tasks)
    keeps(app, store)
    url = url_of(listening, tls=prepared.certificate is not None)
    return Running(
        url,
        service=service,
        http=http,
        serving=http.serve([listening]),
        store=store,
        feed=feed,
        drain=config.server.drain,
    )


@contextmanager
def _pools() -> Iterator[None]:
    """The last server of the process to end closes the pools of threads."""
    global _servers  # noqa: PLW0603 - the pools are the process's, too
    from cohabit.runtime import executors

    _servers += 1
    try:
        yield
    finally:
        _servers -= 1
        if not _servers:
            executors.close_all()


@contextmanager
def _recorded(config: "Config", service: "Server") -> Iterator[None]:
    """Keep a journal, if it may have any bytes."""
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
        service.loop.controller.state,
        Policy(config.scheduling.policy),
        cohabit=version("cohabit"),
        began=began.isoformat(timespec="milliseconds"),
        clock=time.monotonic(),
        device=config.device.kind,
    )
    with Journal(journal_dir() / f"{began:%Y%m%dT%H%M%S.%fZ}.jsonl", head, limit=config.server.journal) as journal:
        service.loop.subscribe(journal.handled)
        yield


async def first_of(task: "asyncio.Task[None]", *events: asyncio.Event) -> None:
    """Until the task is done, or one of the events is set."""
    from cohabit.runtime.supervision import awaited

    waits = [awaited(event.wait()) for event in events]
    try:
        await asyncio.wait([task, *waits], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def _finished(task: "asyncio.Task[None]") -> None:
    """Until the task is done, also if its waiter is cancelled meanwhile: that is raised afterwards. Else a timeout
    around the block would leave workers behind."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    task.result()
