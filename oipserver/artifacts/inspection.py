"""What a stored model says of itself: runtime, metadata, versions, digest, and what loading it would run."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from oipserver.artifacts import mlflow_model
from oipserver.artifacts.documents import parse_json, read_text
from oipserver.artifacts.pickles import PickleReport, scan_file
from oipserver.artifacts.skops_file import SkopsReport, scan_skops
from oipserver.artifacts.verdicts import verdict
from oipserver.core.digest import digest, files_in

MAX_FILES = 10_000
_BY_SUFFIX = {
    ".skops": "sklearn",
    ".joblib": "sklearn",
    ".pkl": "sklearn",
    ".pickle": "sklearn",
    ".py": "python",
    ".onnx": "onnx",
}
_MLSERVER = {"mlserver_sklearn.SKLearnModel": "sklearn", "mlserver_mlflow.MLflowRuntime": "mlflow"}


@dataclass(frozen=True, slots=True)
class Library:
    """A library that the model was saved with.

    Attributes:
        installed: its version here; "" when it is not installed.
    """

    name: str
    recorded: str
    installed: str


@dataclass(slots=True)
class Report:
    """What was found out.

    Attributes:
        path: of what was inspected, as the user named it.
        runtime: that would load it, as far as can be told; "" when it cannot.
        size: in bytes, of all files.
        sha256: of a file, or of a directory's tree.
        pin: what `sha256:` in the configuration must say; "" for a directory on this machine.
        metadata: what stands in files beside the model, by topic.
        code: Python files, which run when the model is loaded or asked.
        pickles, skops: the files that hold objects.
        notes: what the reader should know of the report.
    """

    path: str
    runtime: str
    size: int
    files: int
    sha256: str
    pin: str
    metadata: dict[str, object] = field(default_factory=dict)
    libraries: list[Library] = field(default_factory=list)
    pickles: list[PickleReport] = field(default_factory=list)
    skops: list[SkopsReport] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def alarming(self) -> bool:
        """Whether a pickle imports what no model needs, or not everything could be read to its end."""
        pickles = any(one.dangerous or one.problem for one in self.pickles)
        return pickles or any(one.problem for one in self.skops) or self.files > MAX_FILES

    def as_dict(self) -> dict[str, object]:
        """The report for machines: JSON values only."""
        document = asdict(self)
        document["alarming"] = self.alarming
        document["pickles"] = [
            {
                "file": one.file,
                "problem": one.problem,
                "nested": one.nested,
                "sklearn_versions": one.sklearn_versions,
                "names": [
                    {"module": name.module, "name": name.name, "verdict": verdict(name.module, name.name)}
                    for name in one.names
                ],
            }
            for one in self.pickles
        ]
        return document


def inspect(path: Path, shown: str = "", pin: str = "", runtime: str = "") -> Report:
    """The report on a model file or a directory.  Nothing of it is loaded, imported or executed.

    Args:
        shown: how the user called it; its path when not given.
        pin: the digest of what was downloaded, where that is not the file itself.
        runtime: what the user says that loads it.

    Raises:
        OSError: it cannot be read.
    """
    if path.exists() and not (path.is_dir() or path.is_file()):  # a pipe or a device may have no end
        raise OSError(f"'{path}' is neither a file nor a directory")
    files = files_in(path) if path.is_dir() else [path]
    sha256 = digest(path)
    report = Report(
        path=shown or str(path),
        runtime=runtime,
        size=sum(file.stat().st_size for file in files),
        files=len(files),
        sha256=sha256,
        pin=pin or ("" if path.is_dir() else sha256),
    )
    if len(files) > MAX_FILES:
        report.notes.append(f"only the first {MAX_FILES} of {len(files)} files were looked at")
    for file in files[:MAX_FILES]:
        _look_into(file, file.relative_to(path).as_posix() if path.is_dir() else path.name, report)
    recorded = dict(_recorded(report))
    if path.is_dir():
        mlflow_model.describe(path, report.metadata, recorded, report.notes)
        _describe_settings(path, report)
    report.libraries = [Library(name, recorded[name], _installed(name)) for name in sorted(recorded)]
    report.runtime = report.runtime or _guess(path, report)
    return report


def _look_into(file: Path, name: str, report: Report) -> None:
    if file.suffix == ".skops":
        report.skops.append(scan_skops(file, name))
        return
    if file.suffix == ".py":
        report.code.append(name)
        return
    report.pickles.extend(scan_file(file, name))


def _recorded(report: Report) -> Iterator[tuple[str, str]]:
    """The versions that stand in the objects themselves."""
    saved: set[str] = set()
    for one in report.pickles:
        saved.update(one.sklearn_versions)
    for other in report.skops:
        saved.update(other.sklearn_versions)
    if saved:
        yield "scikit-learn", ", ".join(sorted(saved))


def _describe_settings(path: Path, report: Report) -> None:
    """MLServer's file of a model, where there is one."""
    file = path / "model-settings.json"
    if not file.is_file():
        return
    try:
        settings = parse_json(read_text(file))
    except (OSError, ValueError) as error:
        report.notes.append(f"model-settings.json cannot be read: {error}")
        return
    if isinstance(settings, Mapping):
        report.metadata["model-settings.json"] = settings


def _guess(path: Path, report: Report) -> str:
    if not path.is_dir():
        return _BY_SUFFIX.get(path.suffix.lower(), "")
    settings = report.metadata.get("model-settings.json")
    implementation = settings.get("implementation") if isinstance(settings, Mapping) else None
    if isinstance(implementation, str) and implementation in _MLSERVER:
        return _MLSERVER[implementation]
    if mlflow_model.root_of(path):
        return "mlflow"
    if (path / "model.py").is_file():
        return "python"
    return _only({_BY_SUFFIX[file.suffix] for file in path.iterdir() if file.suffix in _BY_SUFFIX})


def _only(candidates: set[str]) -> str:
    return candidates.pop() if len(candidates) == 1 else ""


def _installed(name: str) -> str:
    """The version of an installed distribution; it is not imported."""
    if name == "python":
        return platform.python_version()
    with suppress(PackageNotFoundError, ValueError):
        return version(name)
    return ""
