"""The rule for files that run code when they are loaded: pickle, joblib, cloudpickle, Python itself.

What the user named on this machine is the user's own.  What was fetched is loaded when it has the digest
that it was pinned to, or when the configuration says `trust_pickle: true`.  Nothing else is: no scan
permits it.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from oipserver.core.digest import digest
from oipserver.core.model_config import ModelConfig
from oipserver.core.user_code import CodeUri


def require_trust(config: ModelConfig, file: Path) -> None:
    """Return when `file` may be loaded although loading it runs its code.

    To be called by a runtime before it unpickles, with the file, or the directory, that it is about to load.

    Raises:
        ValueError: it was fetched, and neither pinned nor trusted; the text says what to do.
    """
    if config.trust_pickle:
        return
    what, instead = _described(file)
    raise ValueError(
        f"'{file.name}' {what}; it was fetched, so {_how_to_pin(config, file)}, "
        f"or set trust_pickle: true if you trust its source{instead}"
    )


def _described(file: Path) -> tuple[str, str]:
    if file.suffix == ".py":
        return "is Python code, which runs when it is loaded", ""
    if file.is_dir():
        return "may hold pickles and Python code, which run when it is loaded", ""
    return "is a pickle, which runs code when it is loaded", ", or use .skops"


def _how_to_pin(config: ModelConfig, file: Path) -> str:
    """The digest is told only where the file is the very download, not one of those in it."""
    location = CodeUri.parse(config.model_uri).location
    if file.is_file() and PurePosixPath(location.partition("?")[0]).name == file.name:
        return f"pin it with sha256: {digest(file)}"
    return "pin the download with sha256: ('oipserver inspect' shows its digest)"
