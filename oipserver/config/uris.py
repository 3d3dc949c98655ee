"""What a model URI says before anything is fetched: its scheme, a local path, a name, a form for logs.

A URI with a scheme of SCHEMES is fetched, one with `file:` or without any is a path on this machine.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

SCHEMES = ("http", "https", "s3", "gs", "az", "abfs", "abfss", "hf", "runs", "models")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.zst")

# Two letters at least, and a slash: neither `C:/` nor `module:function` has a scheme.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
# Their last part is a directory or a model, and a dot in it begins no suffix.
_WITHOUT_SUFFIX = ("hf", "runs", "models")
_USER = re.compile(r"(?<=://)[^\s/]*@")
# The signature of a presigned address; a sentence may go on after the address.
_QUERY = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+:/[^\s?#'\"]*)[?#][^\s'\",;]*")


def scheme_of(uri: str) -> str:
    """The scheme in small letters; "" for a path."""
    found = _SCHEME.match(uri)
    return found[1].lower() if found else ""


def is_local(uri: str) -> bool:
    """Whether the URI is a path on this machine."""
    return scheme_of(uri) in ("", "file")


def is_well_formed(uri: str) -> bool:
    """Whether a remote URI has the parts that its scheme needs."""
    try:
        parts = urlsplit(uri)
        return parts.port != 0 and bool(parts.hostname or parts.scheme in ("runs", "models"))
    except ValueError:
        return False


def local_path(uri: str, base: Path = Path()) -> Path:
    """The absolute path that a local URI means; relative ones start at `base`.

    Raises:
        ValueError: a `file:` URI that names no absolute path on this machine.
    """
    if not scheme_of(uri):
        return Path(os.path.abspath(base / uri))
    path = urlsplit(uri)
    if path.netloc not in ("", "localhost") or not path.path.startswith("/"):
        raise ValueError("expected an absolute path in the URI, as in file:///models/iris")
    return Path(os.path.abspath(unquote(uri.partition(":")[2].removeprefix("//" + path.netloc))))


def last_part(uri: str) -> str:
    """The last part of a remote URI's path, which names the model: "iris.joblib"; it may be "".

    A version or an alias is no name: `models:/iris/3` and `models:/iris@champion` are "iris".
    """
    parts = urlsplit(uri)
    path = [part for part in unquote(parts.path).split("/") if part]
    if parts.scheme in ("models", "hf"):
        path = [part.partition("@")[0] for part in path]
    if parts.scheme == "models":
        return path[0] if path else ""
    if not path and parts.scheme not in ("http", "https"):
        return parts.netloc.rpartition("@")[2]
    return path[-1] if path else ""


def stem_of(uri: str) -> str:
    """A remote URI's last part without what says its format: "iris" of "iris.joblib" and "iris.tar.gz"."""
    name = last_part(uri)
    if scheme_of(uri) in _WITHOUT_SUFFIX or uri.endswith("/"):
        return name
    return archive_stem(name) or PurePosixPath(name).stem


def archive_stem(name: str) -> str:
    """An archive's name without its suffix; "" for a file that is no archive."""
    suffix = next((suffix for suffix in ARCHIVES if name.lower().endswith(suffix)), "")
    return name[: -len(suffix)] if suffix else ""


def without_secrets(text: str) -> str:
    """A text whose URIs have lost users, passwords, and queries, which are how presigned addresses sign."""
    return _QUERY.sub(r"\1", _USER.sub("", text))
