"""Who a key belongs to.

Keys are looked up by a digest of their digest under a secret of this process.  So the time that it takes
tells nothing of any key: no guess is nearer than another, and one key costs as much as a thousand.  A key has
256 random bits, which nobody finds by trying, so one quick SHA-256 is enough; slow hashes are for passwords.
"""

from __future__ import annotations

import fnmatch
import hashlib
import hmac
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from oipserver.access.entry import Entry
from oipserver.access.holder import Holder, holder
from oipserver.core.admission import Caller, Guard
from oipserver.core.errors import Unauthorized

# A caller may bring a key that is wrong, but not one that takes long to hash.
MAX_KEY = 1024


@dataclass(frozen=True, slots=True)
class _Table:
    """All that is known at one time; never changed, so that any thread may read it."""

    keys: Mapping[bytes, tuple[bytes, Holder]]
    subjects: Sequence[tuple[re.Pattern[str], Holder]]


class KeyGuard(Guard):
    """Knows the callers of a list of keys.

    Args:
        entries: with different names.
        header: lower case; where a key may stand besides `authorization`.
        open_parts: what needs no key: "health", "metrics", "docs".
    """

    enabled = True

    def __init__(self, entries: Iterable[Entry], header: str, open_parts: Iterable[str] = ()) -> None:
        self.header = header
        self.open = frozenset(open_parts)
        self._secret = os.urandom(32)
        self._holders: dict[Entry, Holder] = {}
        self._table = _Table({}, ())
        self.take_entries(entries)

    def take_entries(self, entries: Iterable[Entry]) -> None:
        """Exchange the keys; on the loop.  One that has not changed keeps what it has used up."""
        self._holders = {entry: self._holders.get(entry) or holder(entry) for entry in entries}
        keys, subjects = {}, []
        for entry, owner in self._holders.items():
            if entry.sha256:
                digest = bytes.fromhex(entry.sha256)
                keys[self._blind(digest)] = (digest, owner)
            if entry.subject:
                subjects.append((re.compile(fnmatch.translate(entry.subject)), owner))
        self._table = _Table(keys, subjects)
        self.generation += 1

    def identify(
        self, authorization: Sequence[str], keys: Sequence[str], subject: Callable[[], str]
    ) -> Caller:
        """Who asks: the owner of the key, or without a key that of the certificate.

        Raises:
            Unauthorized: no key, one that is not known, or several.
        """
        given = {key for text in authorization if (key := _bearer(text))}
        given.update(key for text in keys if (key := text.strip()))
        if len(given) > 1:
            raise Unauthorized("several API keys were given, expected one")
        if given:
            return self._owner(given.pop())
        return self._owner_of_certificate(subject)

    def _owner(self, key: str) -> Caller:
        digest = hashlib.sha256(key[:MAX_KEY].encode("utf-8", "surrogatepass")).digest()
        known, owner = self._table.keys.get(self._blind(digest), (b"", None))
        if owner is None or not hmac.compare_digest(known, digest):
            raise Unauthorized("the API key is not known")
        return owner

    def _owner_of_certificate(self, subject: Callable[[], str]) -> Caller:
        subjects = self._table.subjects
        name = subject() if subjects else ""
        if not name:
            raise Unauthorized(
                f"expected an API key, as 'Authorization: Bearer KEY' or '{self.header}: KEY', got none"
            )
        for pattern, owner in subjects:
            if pattern.fullmatch(name):
                return owner
        raise Unauthorized("the subject of the certificate is not known")

    def _blind(self, digest: bytes) -> bytes:
        return hashlib.blake2b(digest, key=self._secret, digest_size=32).digest()


def _bearer(authorization: str) -> str:
    """The token of a Bearer credential (RFC 6750, 2.1); "" for another scheme, which is somebody else's."""
    scheme, _, token = authorization.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
