"""The keys of a configuration, and again when their file changes."""

from __future__ import annotations

import asyncio
import logging
import os

from oipserver.access import AccessError
from oipserver.access.entry import Entry, check_names, read_file, read_list, read_text
from oipserver.access.guard import KeyGuard
from oipserver.access.plain import plain_warning
from oipserver.config import AccessConfig, ServerConfig
from oipserver.core.threads import in_daemon_thread

logger = logging.getLogger("oipserver.access")


class Keys:
    """The keys that a configuration names, in a guard.

    Raises:
        AccessError: they cannot be used.
    """

    def __init__(self, config: AccessConfig) -> None:
        self._config = config
        self._stamp = _stamp(config.keys_file)
        self.guard = KeyGuard(_entries(config), config.header.lower(), config.open)

    def warning(self, config: ServerConfig) -> str:
        """What is to be said of how they travel; "" when there is nothing."""
        return plain_warning(config)

    async def watch(self) -> None:
        """Look from time to time until cancelled; files are read off the event loop."""
        while True:
            await asyncio.sleep(self._config.check_interval)
            await self.look()

    async def look(self) -> None:
        """Take the keys when the file is another one; a bad file is told once and changes nothing."""
        try:
            entries = await in_daemon_thread(self._changed, "keys-look")
        except AccessError as error:
            logger.error("%s; the keys from before stay in use", error)
            return
        if entries is not None:
            self.guard.take_entries(entries)
            logger.info("%s: %d keys are in use now", self._config.keys_file, len(entries))

    def _changed(self) -> list[Entry] | None:
        stamp = _stamp(self._config.keys_file)
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        return _entries(self._config)


def _entries(config: AccessConfig) -> list[Entry]:
    given = config.keys
    entries = read_text(given) if isinstance(given, str) else read_list(given, "access.keys")
    if config.keys_file:
        entries += read_file(config.keys_file)
    check_names(entries)
    return entries


def _stamp(path: str) -> object:
    """What changes with the file, through links as well (Kubernetes exchanges a directory)."""
    try:
        found = os.stat(path)
    except OSError as error:
        return error.errno
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
