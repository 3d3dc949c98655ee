"""Objects in a store: s3, gs, az, abfs, hf, through fsspec.

Credentials and endpoints are those of each store's own library, from the environment.  A URI that ends in "/"
or names no object is a prefix: all objects below it, by their relative names.  Objects come in ranges; what
came once is not fetched again.  The listing, with each object's tag, says of which version it is.
"""

from __future__ import annotations

import hashlib
import importlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from oipserver.config.uris import last_part, scheme_of
from oipserver.sources.cache import Shelf
from oipserver.sources.errors import SourceError, TryAgain
from oipserver.sources.meter import Meter
from oipserver.sources.names import plain, relative
from oipserver.sources.retry import within

RANGE = 8 * 2**20

# Scheme → the module that fsspec needs for it, and our extra that brings it.
_LIBRARIES = {
    "s3": ("s3fs", "s3"),
    "gs": ("gcsfs", "gs"),
    "az": ("adlfs", "az"),
    "abfs": ("adlfs", "az"),
    "abfss": ("adlfs", "az"),
    "hf": ("huggingface_hub", "hf"),
}
# What the stores call that which changes with an object's bytes.
_TAGS = (
    "ETag",
    "etag",
    "generation",
    "md5Hash",
    "blob_id",
    "lfs",
    "VersionId",
    "LastModified",
    "last_modified",
)


class _Object(NamedTuple):
    key: str
    size: int
    tag: str


# By relative path; the single object of a URI that names one has the path "".
_Listing = Mapping[str, _Object]


def bring(uri: str, shelf: Shelf, meter: Meter, deadline: float) -> tuple[Path, str] | None:
    """Fetch an object, or all below a prefix, into `shelf.partial`.

    Returns:
        The complete file or directory and its version, or None when the latest model on the shelf is it.

    Raises:
        TryAgain: the store failed; what has come is kept.
        SourceError: it cannot be had.
    """
    store, path = _store(uri)
    listing = _list(store, path, uri.endswith("/"), meter, deadline)
    version = _version(listing)
    if version == shelf.version:
        return None
    shelf.begin(version)
    model = shelf.partial / plain(last_part(uri), "model")
    places = {model / name: one for name, one in listing.items()}
    meter.start(sum(map(_size, places)), sum(one.size for one in listing.values()))
    for place, one in places.items():
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _copy(store, one, place, meter, deadline)
    if _list(store, path, uri.endswith("/"), meter, deadline) != listing:
        shelf.drop()
        raise TryAgain("it changed while it was fetched")
    return model, version


def _store(uri: str) -> tuple[Any, str]:
    scheme = scheme_of(uri)
    module, extra = _LIBRARIES[scheme]
    try:
        importlib.import_module(module)
        core = importlib.import_module("fsspec.core")
    except ImportError as error:
        raise SourceError(f'{scheme}:// needs {module}: pip install "oipserver[{extra}]"') from error
    if "::" in uri:  # fsspec would open one URI inside another
        raise SourceError("'::' is not allowed in a URI")
    store, path = core.url_to_fs(
        scheme + uri[len(scheme) :], use_listings_cache=False, skip_instance_cache=True
    )
    return store, path


def _list(store: Any, path: str, is_prefix: bool, meter: Meter, deadline: float) -> _Listing:
    store.invalidate_cache()  # not every store heeds `use_listings_cache`
    if not is_prefix:
        info = _ask(deadline, lambda: _info(store, path))
        if info is not None and info["type"] == "file":
            return {"": _object(path, info)}
    prefix = path.rstrip("/") + "/"
    found = _ask(deadline, lambda: store.find(prefix, detail=True))
    # Stores keep empty objects that stand for folders.
    listing = {key: info for key, info in found.items() if not key.endswith("/")}
    meter.files(len(listing))
    if not listing:
        raise SourceError("there is no such object, and none below it")
    return {_below(prefix, key): _object(key, info) for key, info in sorted(listing.items())}


def _info(store: Any, path: str) -> Mapping[str, Any] | None:
    try:
        found: Mapping[str, Any] = store.info(path)
    except FileNotFoundError:
        return None
    return found


def _below(prefix: str, key: str) -> str:
    if not key.startswith(prefix):
        raise SourceError(f"the store lists '{key}' below '{prefix}'")
    relative(key.removeprefix(prefix), "an object")
    return key.removeprefix(prefix)


def _object(key: str, info: Mapping[str, Any]) -> _Object:
    tags = [str(info[tag]) for tag in _TAGS if info.get(tag)]
    if info.get("size") is None or not tags:
        raise SourceError("the store tells neither size nor version of an object")
    return _Object(key, int(info["size"]), "|".join(tags))


def _version(listing: _Listing) -> str:
    return hashlib.sha256(repr(sorted(listing.items())).encode("utf-8", "surrogateescape")).hexdigest()


def _size(place: Path) -> int:
    return place.stat().st_size if place.is_file() else 0


def _copy(store: Any, one: _Object, place: Path, meter: Meter, deadline: float) -> None:
    here = _size(place)
    with place.open("ab") as file:
        while here < one.size:
            piece = _range(store, one, here, deadline)
            meter.add(len(piece))
            file.write(piece)
            here += len(piece)


def _range(store: Any, one: _Object, start: int, deadline: float) -> bytes:
    end = min(start + RANGE, one.size)
    piece: bytes = _ask(deadline, lambda: store.cat_file(one.key, start=start, end=end))
    if len(piece) != end - start:
        raise TryAgain(f"the store sent {len(piece)} bytes for {end - start}")
    return piece


def _ask(deadline: float, work: Any) -> Any:
    """A call of the store's library, in its own words when it fails."""
    if time.monotonic() >= deadline:
        raise TryAgain("the time for one try was over")
    try:
        return within(deadline, work)
    except SourceError:
        raise
    except (FileNotFoundError, PermissionError, ValueError) as error:
        raise SourceError(_said(error)) from error
    except Exception as error:  # of botocore, aiohttp, azure ...: none of them is known here
        raise TryAgain(_said(error)) from error


def _said(error: Exception) -> str:
    return f"the store says: {type(error).__name__}: {error}"
