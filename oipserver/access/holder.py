"""A caller with a key: what it may do, and what is left of its rates."""

from __future__ import annotations

import fnmatch
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from oipserver.access.bucket import Bucket
from oipserver.access.entry import Entry, Role
from oipserver.core.admission import Caller, Right
from oipserver.core.errors import Forbidden, RateLimited, printable

RIGHTS: Mapping[Role, frozenset[Right]] = {
    # Who may ask a model may see what it takes; of the other models, and of the server, it learns nothing.
    "infer": frozenset((Right.INFER, Right.DESCRIBE)),
    "read": frozenset((Right.READ, Right.DESCRIBE)),
    "admin": frozenset(Right),
}
_VERBS = {
    Right.INFER: "ask",
    Right.DESCRIBE: "look at",
    Right.READ: "look into",
    Right.ADMIN: "change",
}


@dataclass(frozen=True, slots=True, eq=False)
class Holder(Caller):
    """The owner of a key or of a certificate.

    Attributes:
        requests, rows: None where there is no limit.
    """

    rights: frozenset[Right] = frozenset()
    targets: re.Pattern[str] = re.compile("")
    requests: Bucket | None = None
    rows: Bucket | None = None

    def may(self, right: Right, target: str = "") -> bool:
        """Whether its roles have the right, and its patterns the target, where there is one."""
        return right in self.rights and (not target or self.targets.fullmatch(target) is not None)

    def permit(self, right: Right, target: str = "") -> None:
        """As `may`; the answer is the same whether there is such a model or not.

        Raises:
            Forbidden: it may not.
        """
        if not self.may(right, target):
            what = f"'{printable(target)}'" if target else "the server"
            raise Forbidden(f"key '{self.name}' may not {_VERBS[right]} {what}")

    def take(self) -> None:
        """Count one request; on the loop.

        Raises:
            RateLimited: a bucket is empty.
        """
        now = time.monotonic()
        for bucket, what in ((self.requests, "requests"), (self.rows, "rows")):
            if bucket is not None and (wait := bucket.wait(now)):
                raise RateLimited(
                    f"key '{self.name}' has used up its {what}: the next in {wait:.3g} s", math.ceil(wait)
                )
        if self.requests is not None:
            self.requests.spend(1, now)

    def try_take(self, requests: int, rows: int) -> int:
        """Count so many requests with so many rows each, up to the one where `take` would raise.

        Returns:
            How many were counted.
        """
        now, taken = time.monotonic(), requests
        if self.requests is not None:
            taken = min(taken, self.requests.affords(1, now))
        if self.rows is not None:
            taken = min(taken, self.rows.affords(rows, now))
            self.rows.spend(taken * rows, now)
        if self.requests is not None:
            self.requests.spend(taken, now)
        return taken

    def spend(self, rows: int) -> None:
        """Count the rows of a request that was taken."""
        if self.rows is not None:
            self.rows.spend(rows, time.monotonic())


def holder(entry: Entry) -> Holder:
    """The caller of an entry, with full buckets."""
    return Holder(
        entry.name,
        frozenset().union(*(RIGHTS[role] for role in entry.roles)),
        re.compile("|".join(map(fnmatch.translate, entry.models))),
        _bucket(entry.rate, entry.burst),
        _bucket(entry.rows_rate, entry.rows_burst),
    )


def _bucket(rate: float | None, burst: int | None) -> Bucket | None:
    return None if rate is None else Bucket(rate, burst or max(1, math.ceil(rate)))
