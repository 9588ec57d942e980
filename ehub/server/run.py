"""A server as a process: open the hub, serve until a signal, checkpoint, close."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ehub.hub import open as open_hub
from ehub.server.config import ServerConfig
from ehub.server.granting import access_service
from ehub.server.interceptor import guard_of
from ehub.server.logs import log_to_stderr
from ehub.server.metrics.metrics import Metrics
from ehub.server.metrics.port import MetricsPort
from ehub.server.old_clients import old_service
from ehub.server.page.page import Page
from ehub.server.ready import require_ready
from ehub.server.serve import Server, Service, authenticates
from ehub.server.service import service
from ehub.server.tracing import tracing
from ehub.server.watching import WatchInterceptor

__all__ = ["run"]

log = logging.getLogger("ehub.server")


def run(
    directory: Path,
    config: ServerConfig,
    services: Sequence[Service] = (),
    interceptors: Sequence[Any] = (),
) -> None:
    """Serve the hub in `directory` until SIGTERM or SIGINT: let calls end, checkpoint, close.

    Args:
        directory: Of the hub, made if it is missing.
        config: Where to listen, and the limits.
        services: Beside the hub's own, that of its access, and that of old clients.
        interceptors: What every call goes through, behind the guard.

    Raises:
        InvalidArgumentError: The config has what cannot be.
        UnavailableError: It cannot listen. In both cases no hub was made.
    """
    log_to_stderr(config.log_level)
    require_ready(directory, config, authenticated=authenticates(interceptors))
    with (
        stop_signals() as stop_signal,  # until all is closed
        open_hub(directory, durability=config.durability) as hub,
        ExitStack() as ending,
    ):
        guard = guard_of(hub, config)
        ending.callback(guard.close)
        limits = config.limits
        metrics = Metrics(hub, config.metrics)
        ending.callback(metrics.close)
        traces, end_traces = tracing()
        ending.callback(end_traces)
        watching = WatchInterceptor([*metrics.watchers, *traces])
        own = service(hub, limits, metrics, config.backup_to)
        offered = (
            own,
            access_service(guard),
            old_service(hub, limits),
            *services,
        )
        server = Server(hub, config, offered, (guard, *interceptors), watching)
        if config.metrics.port is not None:
            ending.callback(MetricsPort(metrics, guard, config).close)
        page = None if config.ui_port is None else Page(guard, own, config)
        server.start()
        if page is not None:
            page.start()
            ending.callback(page.stop)
        log.info("told to stop", extra={"signal": stop_signal().name})
        if page is not None:
            page.stop()
        server.stop()
        hub.checkpoint()
    log.info("closed", extra={"hub": str(directory)})


@contextmanager
def stop_signals() -> Iterator[Callable[[], signal.Signals]]:
    """Within it, SIGTERM and SIGINT end nothing; the function given waits for one of them.

    The interpreter's own handler writes them down: a function in Python would not be called for a
    signal that comes just before the wait, and the wait would have no end.
    """
    stopping = (signal.SIGTERM, signal.SIGINT)
    read, write = os.pipe()
    os.set_blocking(write, False)
    wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    previous = {one: signal.signal(one, lambda number, frame: None) for one in stopping}

    def wait() -> signal.Signals:
        while (number := os.read(read, 1)[0]) not in stopping:
            pass
        return signal.Signals(number)

    try:
        yield wait
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(read)
        os.close(write)
