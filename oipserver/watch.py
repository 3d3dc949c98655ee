"""Models on this machine whose files have changed since they were loaded.

A change is believed when two looks in a row see the same: a file that is being written is left alone.  What
was tried is not tried again before the files change once more.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from oipserver.config.uris import is_local, local_path
from oipserver.core.controlplane import ControlPlane
from oipserver.core.model import Model
from oipserver.core.model_config import ModelConfig
from oipserver.core.registry import Load
from oipserver.core.threads import in_daemon_thread
from oipserver.core.user_code import CodeUri

logger = logging.getLogger("oipserver.watch")

# Python writes there when it imports a model's code.
_BYTECODE = "__pycache__"

_Key: TypeAlias = tuple[str, str]


class Watch:
    """Remembers what the files were like when a load began.

    Args:
        load: what really loads.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._loaded: dict[_Key, str] = {}
        self._seen: dict[_Key, str] = {}

    def load(self, config: ModelConfig) -> Model:
        """As the `load` that it was given; on that thread."""
        place = place_of(config)
        if place is not None:
            self._loaded[_key(config)] = look(place)
        return self._load(config)

    def changed(self, configs: Sequence[ModelConfig]) -> list[ModelConfig]:
        """Those whose files are others than when they were loaded, and the same as at the last call; once.

        It reads directories: not for the event loop.
        """
        return [config for config in configs if self._has_changed(config)]

    def _has_changed(self, config: ModelConfig) -> bool:
        place, key = place_of(config), _key(config)
        if place is None or key not in self._loaded:
            return False
        before, now = self._seen.get(key), look(place)
        self._seen[key] = now
        if self._loaded[key] != now == before:
            self._loaded[key] = now  # it is tried, whenever its turn comes
            return True
        return False

    async def run(self, control: ControlPlane, interval: float) -> None:
        """Look every `interval` seconds, and have what has changed loaded again, until cancelled."""
        while True:
            await asyncio.sleep(interval)
            try:
                await self._reload_changed(control)
            except Exception:
                logger.exception("the files of models could not be looked at")

    async def _reload_changed(self, control: ControlPlane) -> None:
        wanted = control.wanted()
        changed = await in_daemon_thread(lambda: self.changed(wanted), "watch")
        if changed:
            logger.info(
                "files changed: loading %s again", ", ".join(f"model '{one.name}'" for one in changed)
            )
            control.start_reload(changed)  # one that takes its time holds up no other


def place_of(config: ModelConfig) -> Path | None:
    """Where the model's files are; None where they are not on this machine, or nobody says where."""
    location = CodeUri.parse(config.model_uri).location
    if not location or not is_local(location):
        return None
    return local_path(location) if location.startswith("file:") else Path(location)


def look(place: Path) -> str:
    """What a file or a directory is like: changes with the names, sizes, times and places of the files."""
    found = hashlib.sha256()
    for file in _files(place):
        try:
            status = file.stat()
        except OSError:
            found.update(f"{file} is not there\n".encode("utf-8", "surrogateescape"))
        else:
            facts = f"{file} {status.st_size} {status.st_mtime_ns} {status.st_ino} {status.st_dev}\n"
            found.update(facts.encode("utf-8", "surrogateescape"))
    return found.hexdigest()


def _files(place: Path) -> Iterator[Path]:
    if not place.is_dir():
        yield place
        return
    for folder, folders, names in os.walk(place):
        folders[:] = sorted(name for name in folders if name != _BYTECODE)
        yield from (Path(folder, name) for name in sorted(names))


def _key(config: ModelConfig) -> _Key:
    return config.name, config.version
