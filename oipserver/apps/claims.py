"""Which path and which gRPC package belongs to whom; found out before anything is bound."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import combinations

from oipserver.apps.loading import AppError, LoadedApp
from oipserver.apps.paths import Path

# gRPC packages of the protocol, and of health checking and reflection.
RESERVED_PACKAGES = ("inference", "grpc")


def check_paths(loaded: Sequence[LoadedApp], reserved: Collection[str]) -> None:
    """Refuse what would take a path of the server's, or of another app.

    Args:
        reserved: first segments of the server's own paths; "" is "/" itself.

    Raises:
        AppError: naming the file, the route and whose path it is.
    """
    claims = [claim for one in loaded for claim in _claims(one)]
    for claim in claims:
        segment = claim.path.text.split("/")[1]
        if segment in reserved and not claim.is_fallback:
            raise AppError(f"{claim}: /{segment} is reserved, it belongs to the server")
    for first, second in combinations(claims, 2):
        if first.collides(second):
            raise AppError(f"{second}: {first} has that path already")


def check_service(app: str, service: str, taken: Collection[str]) -> None:
    """Refuse a gRPC service of a reserved package, or one that is there already.

    Args:
        service: its full name, e.g. "toxicity.Toxicity".

    Raises:
        AppError: naming the file and the service.
    """
    package = service.partition(".")[0]
    if package in RESERVED_PACKAGES:
        raise AppError(
            f"app {app}: gRPC service '{service}': package '{package}' is reserved, it belongs to the server"
        )
    if service in taken:
        raise AppError(f"app {app}: gRPC service '{service}' is there already")


class _Claim:
    """A route (with methods) or a mount (without) of an app."""

    def __init__(self, app: LoadedApp, text: str, methods: Collection[str]) -> None:
        self.app = app
        try:
            self.path = Path(text or "/")
        except ValueError as error:
            raise AppError(f"app {app.name}: {error}") from None
        self.methods = frozenset(methods)
        self.is_fallback = not text

    def collides(self, other: _Claim) -> bool:
        """Whether there is a path that both would answer, and nothing that says who does.

        Inside one app the order of declaration says it, but for what is exactly the same.
        """
        if self.is_fallback or other.is_fallback:
            return self.is_fallback and other.is_fallback
        if self.app is other.app:
            same_kind = bool(self.methods & other.methods) or not (self.methods or other.methods)
            return same_kind and self.path.shape == other.path.shape
        if self.methods and other.methods:
            return bool(self.methods & other.methods) and self.path.overlaps(other.path)
        if self.methods:
            return self.path.is_below(other.path.text)
        return other.path.is_below(self.path.text) or self.path.is_below(other.path.text)

    def __str__(self) -> str:
        if not self.methods:
            return f"app {self.app.name}: mount {self.path.text}"
        return f"app {self.app.name}: route {'|'.join(sorted(self.methods))} {self.path.text}"


def _claims(one: LoadedApp) -> list[_Claim]:
    routes = [_Claim(one, route.path, route.methods) for route in one.app.routes]
    return routes + [_Claim(one, mount.path, ()) for mount in one.app.mounts]
