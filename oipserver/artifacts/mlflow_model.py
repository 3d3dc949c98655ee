"""What stands in an MLflow model's own files: MLmodel and requirements.txt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from oipserver.artifacts.documents import parse_json, read_text

# What each flavor calls the version of its library, and the library's name.
_VERSIONS = {
    ("catboost", "catboost_version"): "catboost",
    ("keras", "keras_version"): "keras",
    ("lightgbm", "lgb_version"): "lightgbm",
    ("onnx", "onnx_version"): "onnx",
    ("python_function", "python_version"): "python",
    ("pytorch", "pytorch_version"): "torch",
    ("sklearn", "sklearn_version"): "scikit-learn",
    ("tensorflow", "tensorflow_version"): "tensorflow",
    ("transformers", "transformers_version"): "transformers",
    ("xgboost", "xgb_version"): "xgboost",
}
_PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*==\s*([^\s;#]+)")


def root_of(path: Path) -> Path | None:
    """The directory with the MLmodel: this one, or the only one with one level down; else None."""
    if (path / "MLmodel").is_file():
        return path
    found = [file.parent for file in path.glob("*/MLmodel") if file.is_file()]
    return found[0] if len(found) == 1 else None


def describe(path: Path, metadata: dict[str, object], recorded: dict[str, str], notes: list[str]) -> None:
    """Add what is known of an MLflow model to `metadata`, versions to `recorded`, troubles to `notes`."""
    root = root_of(path)
    if root is None:
        return
    try:
        document = yaml.safe_load(read_text(root / "MLmodel"))
    # PyYAML's constructors raise what they stumble upon: KeyError for `!!bool x`, IndexError for `!!int ''`.
    except Exception as error:
        notes.append(f"MLmodel cannot be read: {' '.join(str(error).split())}")
        return
    if not isinstance(document, dict):
        notes.append("MLmodel holds no mapping")
        return
    for name, known in _requirements(root):
        recorded.setdefault(name, known)
    _versions(document, recorded)
    flavors = document.get("flavors")
    if isinstance(flavors, dict):
        metadata["flavors"] = sorted(name for name in flavors if isinstance(name, str))
    signature = document.get("signature")
    if isinstance(signature, dict):
        metadata["signature"] = {
            part: _columns(columns) for part, columns in signature.items() if isinstance(columns, str)
        }


def _versions(document: Mapping[str, Any], recorded: dict[str, str]) -> None:
    flavors = document.get("flavors")
    for (flavor, key), library in _VERSIONS.items():
        entries = flavors.get(flavor) if isinstance(flavors, dict) else None
        known = entries.get(key) if isinstance(entries, dict) else None
        _record(library, known, recorded)
    _record("mlflow", document.get("mlflow_version"), recorded)


def _record(library: str, known: object, recorded: dict[str, str]) -> None:
    # Nothing else is written out: aliases make a short YAML text endless, and so does a hexadecimal number.
    if isinstance(known, str | float):
        recorded[library] = str(known)


def _requirements(root: Path) -> list[tuple[str, str]]:
    try:
        lines = read_text(root / "requirements.txt").splitlines()
    except (OSError, ValueError):
        return []
    pins = (_PINNED.match(line.strip()) for line in lines)
    return [(pin[1].lower(), pin[2]) for pin in pins if pin]


def _columns(text: str) -> object:
    """A part of the signature, which MLflow writes as JSON within the YAML."""
    try:
        return parse_json(text)
    except ValueError:
        return text
