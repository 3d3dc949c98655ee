"""The composition root and the life of the process: build, start, serve, drain, stop.

Ports open at once and the server is live at once; it is ready when every model is loaded and warm.  SIGTERM:
not ready at once, requests are taken for a lame-duck period (load balancers need it to look away), then
new ones are refused, accepted ones finish, exit 0.  Ctrl-C skips the lame duck, a second signal everything.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import uvloop

from oipserver import __version__, descriptors, log
from oipserver.access import AccessError
from oipserver.allocator import for_a_model, keep_large_blocks
from oipserver.apps.life import Apps
from oipserver.apps.loading import AppError, load_apps
from oipserver.apps.models import Models
from oipserver.apps.services import services_of
from oipserver.artifacts.golden_file import read_golden
from oipserver.config import AccessConfig, HttpConfig, ServerConfig, SourcesConfig
from oipserver.core import runtimes
from oipserver.core.admission import OPEN, Gate
from oipserver.core.controlplane import ControlPlane
from oipserver.core.cpus import find_cpus
from oipserver.core.dataplane import DataPlane, ServerMetadata
from oipserver.core.errors import NotReady
from oipserver.core.idempotency import Replays
from oipserver.core.model import Model, Runtime
from oipserver.core.model_config import ModelConfig
from oipserver.core.registry import Load, Registry, Version
from oipserver.core.scheduler import Budget
from oipserver.core.shared_memory import Regions
from oipserver.core.statistics import Statistics
from oipserver.core.user_code import CodeUri
from oipserver.grpc.server import GrpcServer
from oipserver.hooks import with_hooks
from oipserver.http.app import create_app
from oipserver.http.door import Exchange, InferSettings
from oipserver.http.express import Express
from oipserver.http.limits import HttpLimits
from oipserver.http.server import BACKLOG, HttpServer
from oipserver.listeners import Listeners, TracingError
from oipserver.metrics import Metrics
from oipserver.native_threads import held_to
from oipserver.remains import Remains
from oipserver.sources import fetch
from oipserver.tls import TlsError, certificates_of
from oipserver.watch import Watch

if TYPE_CHECKING:
    from oipserver.access.reload import Keys

logger = logging.getLogger("oipserver.server")

EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics")
# A thread that computes in pure Python gives the loop its turn after this time (default 5 ms).
SWITCH_INTERVAL = 0.0005
# Requests leave no cycles behind, only connections do: the collector looks less often than it would.
COLLECTOR_THRESHOLDS = (10_000, 10, 3)
# What is left after the drain for sockets to close and models to let go.
_LAST_SECONDS = 4.0
# Runtimes whose models have scoring paths (/invocations, ...), which no app may take then.
_SCORED = ("mlflow",)

# Runtimes whose libraries are in memory.
_imported: set[str] = set()

OnReady: TypeAlias = Callable[[int | None, int | None], None]


def run(config: ServerConfig, on_ready: OnReady | None = None) -> int:
    """Serve the configured models until a signal; the exit code of the process.

    Args:
        on_ready: called once with the HTTP and the gRPC port when every model serves.
    """
    code = _run(config, partial(_load_stored, config.sources), on_ready)
    _leave_stuck_threads(code)
    return code


def run_model(model: object, config: ServerConfig, on_ready: OnReady | None = None) -> int:
    """Serve one object that is in memory; `config` has one model, which says how.

    Raises:
        TypeError: when no installed runtime recognises the object.
    """
    wrapped = runtimes.wrap(model, config.models[0])
    # It is nowhere to be loaded from a second time.
    return _run(replace(config, model_control="none"), lambda _: wrapped, on_ready, stored=False)


def _load_stored(sources: SourcesConfig, config: ModelConfig) -> Model:
    with for_a_model():
        return _load_from(sources, config)


def _load_from(sources: SourcesConfig, config: ModelConfig) -> Model:
    # What the runtime lacks is told before anything is fetched for it.
    load = _import_runtime(config.runtime).load
    fetched = fetch(replace(config, model_uri=CodeUri.parse(config.model_uri).location), sources)
    config = replace(config, trust_pickle=config.trust_pickle or fetched.trusted)
    golden = read_golden(fetched.path, config)
    model = with_hooks(partial(load, fetched.path), fetched.path, config)
    model.golden = (*model.golden, *golden)
    return model


def _import_runtime(name: str) -> Runtime:
    """`runtimes.get_runtime` without the collector, which would walk through each library several times.

    What is imported stays: freezing it spares the collections to come.  Once: what is new at a later load is
    mostly requests, and a model that may go.
    """
    if name in _imported:
        return runtimes.get_runtime(name)
    gc.disable()
    try:
        runtime = runtimes.get_runtime(name)
        _imported.add(name)
        return runtime
    finally:
        gc.freeze()
        gc.enable()


def _run(config: ServerConfig, load: Load, on_ready: OnReady | None, stored: bool = True) -> int:
    opened = log.configure(config.log.level, config.log.format, libraries=not _in_event_loop())
    with _interpreter_for_serving(), held_to(find_cpus()):
        try:
            server = Server(config, load, stored, opened)
        except (AppError, TlsError, AccessError, TracingError) as error:
            sys.stderr.write(f"oipserver: {' '.join(str(error).split())}\n")
            return 2
        return _run_beside(server, on_ready) if _in_event_loop() else _run_here(server, on_ready)


@contextmanager
def _interpreter_for_serving() -> Iterator[None]:
    """The interpreter's settings, put back at the end: the process may be a notebook that goes on."""
    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.set_threshold(*COLLECTOR_THRESHOLDS)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def _leave_stuck_threads(code: int) -> None:
    """Python waits for threads when it ends; one that never returns must not keep the process from it."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join(_LAST_SECONDS / 8)
            if thread.is_alive():
                logger.warning("thread %s does not end; leaving it behind", thread.name)
                logging.shutdown()
                os._exit(code)


def _keys(config: AccessConfig) -> Keys:
    """Most servers have none, and spare themselves the import."""
    from oipserver.access.reload import Keys

    return Keys(config)


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run_here(server: Server, on_ready: OnReady | None) -> int:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(server.serve(on_ready))


def _run_beside(server: Server, on_ready: OnReady | None) -> int:
    """In a notebook, whose own event loop has this thread; interrupting the cell ends the server."""
    # A future, for a Thread.join that was interrupted once does not wait any more.
    with ThreadPoolExecutor(1, "oipserver") as pool:
        running = pool.submit(_run_here, server, on_ready)
        try:
            return running.result()
        except KeyboardInterrupt:
            server.interrupt()
            return running.result()


class Server:
    """One process: a registry of models behind an HTTP and a gRPC front.

    Args:
        stored: models can be loaded again, and SIGHUP does it.
        opened: where requests are logged; None logs none.
    """

    def __init__(
        self, config: ServerConfig, load: Load, stored: bool = True, opened: log.Log | None = None
    ) -> None:
        self._config = config
        self._stored = stored
        self._metrics = Metrics(config.models, config.metrics.triton_names)
        access = config.access
        self._keys = _keys(access) if access.keys != "" or access.keys_file else None
        statistics = Statistics()
        self._listeners = Listeners(config, (self._metrics, statistics), opened)
        observer = self._listeners.observer
        self._gate = Gate(observer, OPEN if self._keys is None else self._keys.guard)
        limits = config.limits
        self._watch = Watch(load) if config.model_control == "poll" else None
        self._registry = Registry(
            load if self._watch is None else self._watch.load,
            Budget(limits.max_queue_size, limits.max_queue_bytes),
            observer,
            Remains().left,
            limits.hang_timeout,
            self._leave if limits.exit_on_hang else lambda: None,
        )
        explicit = config.model_control == "explicit"
        self._control = ControlPlane(self._registry, config.models, explicit, self._tell)
        lost = (lambda: opened.sink.dropped) if opened is not None else int
        self._metrics.watch(self._gate, self._registry, __version__, lost)
        self._plane = DataPlane(
            self._registry,
            self._gate,
            ServerMetadata("oipserver", __version__, _extensions(config)),
            expected=len(config.models),
            beside=(lambda: self._apps.reason) if config.apps else None,
            regions=Regions(config.shared_memory, config.http.max_body_bytes),
            statistics=statistics,
            replays=Replays(**asdict(config.idempotency)),
        )
        self._apps = Apps(load_apps(config.apps), Models(self._plane, limits.default_timeout))
        http = config.http
        self._settings = InferSettings(
            http.max_json_bytes,
            http.max_body_bytes,
            limits.default_timeout,
            http.server_timing,
            http.busy_poll,
        )
        self._certificates = certificates_of(config.tls)
        # Made before anything is bound: they refuse apps that claim what is not theirs.
        scored = any(model.runtime in _SCORED for model in config.models)
        self._app = create_app(
            self._plane,
            self._settings,
            self._metrics.exposition,
            self._apps,
            scored,
            self._control,
            config.console,
        )
        self._services = services_of(self._apps)
        self._signals: Signals | None = None
        self._code = 0
        self._http: HttpServer | None = None
        self._grpc: GrpcServer | None = None
        self._started = False
        self._first_ready: Callable[[], None] | None = None

    async def serve(self, on_ready: OnReady | None = None) -> int:
        """From open ports to the end; the exit code of the process, 2 when a port cannot be had."""
        self._signals = signals = Signals(asyncio.get_running_loop(), self._reload if self._stored else None)
        try:
            try:
                ports = await self._open()
            except OSError as error:
                sys.stderr.write(f"oipserver: {error}\n")
                return 2
            logger.info("CPUs: %s", find_cpus())
            beside = [asyncio.ensure_future(work) for work in self._beside(ports, on_ready)]
            await signals.first()
            for task in beside:
                task.cancel()
            self._control.close()
            await self._end(signals.patient)
        finally:
            signals.give_back()
        return self._code

    def _beside(
        self, ports: tuple[int | None, int | None], on_ready: OnReady | None
    ) -> Iterator[Coroutine[Any, Any, None]]:
        """What goes on until the server ends."""
        yield self._load(ports, on_ready)
        if self._certificates is not None:
            yield self._certificates.watch()
        if self._keys is not None:
            yield self._keys.watch()
        if self._watch is not None:
            yield self._watch.run(self._control, self._config.poll_interval)

    def interrupt(self) -> None:
        """As Ctrl-C, from another thread."""
        if self._signals is not None:
            self._signals.interrupt()

    def _leave(self) -> None:
        """End as if told so, but for the exit code."""
        logger.error("limits.exit_on_hang: leaving")
        self._code = 1
        if self._signals is not None:
            self._signals.end()

    async def _open(self) -> tuple[int | None, int | None]:
        config, loop = self._config, asyncio.get_running_loop()
        if self._keys is not None and (warning := self._keys.warning(config)):
            logger.warning("%s", warning)
        if self._keys is None and config.model_control == "explicit":
            logger.warning(
                "model control is explicit, and no keys are configured: "
                "whoever reaches a port may load and unload models"
            )
        self._apps.models.bind(loop)
        fronts = (config.http, config.grpc)
        descriptors.allow(sum(front.max_connections for front in fronts if front.port is not None))
        http_port = grpc_port = None
        listener = None if config.http.port is None else _listen("http.port", config.host, config.http.port)
        if config.grpc.port is not None:
            # Tried first, for grpc-core would complain of a taken port in lines of its own.
            _listen("grpc.port", config.host, config.grpc.port).close()
            self._grpc = GrpcServer(
                self._plane,
                loop,
                address=_join(config.host, config.grpc.port),
                limits=config.grpc,
                default_timeout_seconds=config.limits.default_timeout,
                services=self._services,
                certificates=self._certificates,
                control=self._control,
            )
            grpc_port = self._grpc.start()
            tls = "" if self._certificates is None else " (TLS)"
            logger.info("gRPC on %s%s", _join(config.host, grpc_port), tls)
        if listener is not None:
            self._http = HttpServer(
                self._app,
                _limits(config.http),
                partial(Exchange, self._plane, self._settings),
                Express(self._plane, self._settings),
                self._certificates,
                report=self._gate.control,
            )
            await self._http.start(listener)
            http_port = listener.getsockname()[1]
            scheme = "http" if self._certificates is None else "https"
            logger.info("HTTP on %s://%s (uvloop, httptools)", scheme, _join(config.host, http_port))
        return http_port, grpc_port

    async def _load(self, ports: tuple[int | None, int | None], on_ready: OnReady | None) -> None:
        loads = (self._registry.load(model) for model in self._config.models)
        versions = await asyncio.gather(*loads)
        # What was loaded stays: the collector need not walk through scikit-learn again and again.
        if len(versions) > 1:
            gc.unfreeze()  # one model may have left garbage behind while another one's library was frozen
        gc.collect()
        gc.freeze()
        keep_large_blocks()
        await self._apps.start()
        self._started = True
        self._first_ready = partial(on_ready, *ports) if on_ready is not None else lambda: None
        if not self._plane.ready():
            reason = self._plane.ready_reason()
            logger.error("running, but not ready: %s; Ctrl-C or SIGTERM ends the server", reason)
        self._tell()

    def _tell(self) -> None:
        """Whoever is told whether the server is ready, may have to be told something new."""
        ready = self._started and self._plane.ready()
        if self._grpc is not None:
            self._grpc.set_serving(ready)
        if ready and self._first_ready is not None:
            versions = map(_describe, self._registry.versions())
            logger.info("ready: %s", ", ".join([*versions, *self._apps.names]))
            told, self._first_ready = self._first_ready, None
            told()

    def _reload(self) -> None:
        """SIGHUP: load again what is not unloaded."""
        if self._gate.stopping:
            return
        wanted = self._control.wanted()
        logger.info("loading again: %s", ", ".join(f"model '{one.name}'" for one in wanted))
        self._control.start_reload(wanted)

    async def _end(self, patient: bool) -> None:
        config = self._config.shutdown
        self._gate.stopping = True
        if self._grpc is not None:
            self._grpc.set_serving(False)
        if self._http is not None:
            self._http.close_after_answers()
        if patient and config.lame_duck:
            logger.info("not ready; taking requests for %g s more", config.lame_duck)
            await asyncio.sleep(config.lame_duck)
        end = asyncio.get_running_loop().time() + config.drain
        await self._drain(config.drain)
        await self._apps.stop(max(_LAST_SECONDS / 4, end - asyncio.get_running_loop().time()))
        try:
            async with asyncio.timeout(_LAST_SECONDS):
                await self._close()
        except TimeoutError:
            logger.warning("not everything was closed in %g s", _LAST_SECONDS)
        await self._listeners.close()
        logger.info("stopped")

    async def _drain(self, seconds: float) -> None:
        logger.info("draining: %d requests inside", self._gate.in_flight)
        try:
            async with asyncio.timeout(seconds):
                await self._gate.drain()
        except TimeoutError:
            logger.warning("%d requests were not done after %g s", self._gate.in_flight, seconds)
            self._registry.abandon(NotReady("the server is shutting down"))

    async def _close(self) -> None:
        """Last answers go out, then models let go."""
        fronts = [front.stop(_LAST_SECONDS / 2) for front in (self._http, self._grpc) if front is not None]
        await asyncio.gather(*fronts)
        try:
            async with asyncio.timeout(_LAST_SECONDS / 4):
                await self._registry.close()
        except TimeoutError:
            logger.warning("a model did not let go in time")


class Signals:
    """SIGTERM and Ctrl-C, while the server runs, and SIGHUP.

    Args:
        hangup: called for SIGHUP, which ends the process without it.

    Attributes:
        patient: the signal was SIGTERM, so that a load balancer may need time to look away.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, hangup: Callable[[], None] | None = None) -> None:
        self.patient = True
        self._loop = loop
        self._came = asyncio.Event()
        # Signals reach the main thread only; a server in another thread lives as long as its process.
        main = threading.current_thread() is threading.main_thread()
        self._numbers = [signal.SIGTERM, signal.SIGINT] if main else []
        for number in self._numbers:
            loop.add_signal_handler(number, self._on_signal, number)
        if main and hangup is not None:
            self._numbers.append(signal.SIGHUP)
            loop.add_signal_handler(signal.SIGHUP, hangup)

    async def first(self) -> None:
        """Return when the first signal has come."""
        await self._came.wait()

    def give_back(self) -> None:
        """Leave the signals to whoever had them before; but a SIGHUP that comes too late is nothing."""
        for number in self._numbers:
            if number == signal.SIGHUP:  # its default would change how the process ends
                signal.signal(number, signal.SIG_IGN)
            else:
                self._loop.remove_signal_handler(number)

    def end(self) -> None:
        """As SIGTERM, unless a signal has come."""
        self._came.set()

    def interrupt(self) -> None:
        """Ctrl-C, from another thread."""
        self._loop.call_soon_threadsafe(self._on_signal, signal.SIGINT)

    def _on_signal(self, number: signal.Signals) -> None:
        if self._came.is_set():
            logger.warning("second signal: ending at once")
            logging.shutdown()
            os._exit(128 + number)
        self.patient = number == signal.SIGTERM
        self._came.set()


def _listen(key: str, host: str, port: int) -> socket.socket:
    """A bound and listening socket.

    Args:
        key: the setting to blame.

    Raises:
        OSError: naming the setting and the address.
    """
    name = host.encode() if host.isascii() else host  # a str would load the tables of international names
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise OSError(f"host: cannot find '{host}': {error.strerror}") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise OSError(
            f"{key}: cannot listen on {_join(host, port)}: {error.strerror}; "
            f"--{key.replace('.', '-')} chooses another, 0 any free one"
        ) from error
    return listener


def _limits(config: HttpConfig) -> HttpLimits:
    given = asdict(config)
    return HttpLimits(**{each.name: given[each.name] for each in fields(HttpLimits) if each.name in given})


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _extensions(config: ServerConfig) -> tuple[str, ...]:
    """By the names that Triton gives them; of the repository's, the index at least is always there."""
    return (*EXTENSIONS, "system_shared_memory") if config.shared_memory else EXTENSIONS


def _describe(version: Version) -> str:
    return f"model '{version.config.name}' version '{version.config.version}'"
