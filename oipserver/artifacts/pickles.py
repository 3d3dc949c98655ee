"""The pickle report: which names a file would import and call when it is loaded.

The file is read, never loaded: no module of it is imported and nothing of it runs.  The report is no
permission either, for a hostile file may deceive any reader but the one that runs it.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import numpy as np

from oipserver.artifacts.machine import UNRESOLVED, Findings, Global, Machine
from oipserver.artifacts.operations import MAX_BYTES, Budget, Reader, Unreadable
from oipserver.artifacts.verdicts import DANGEROUS, verdict
from oipserver.core.errors import printable

SUFFIXES = frozenset(
    {".pkl", ".pickle", ".pck", ".p", ".sav", ".joblib", ".dill", ".cloudpickle"}
    | {".pt", ".pth", ".ckpt", ".npy", ".npz"}
)
MAX_MEMBERS = 10_000
MAX_DEPTH = 3
_ZIP = b"PK\x03\x04"
_NPY = b"\x93NUMPY"
_LZ4 = b'\x04"M\x18'


@dataclass(slots=True)
class PickleReport:
    """One pickle.

    Attributes:
        file: where it is, relative to what was inspected; members of a zip archive behind "!".
        names: all that it imports, in order.
        sklearn_versions: of the scikit-learn that saved it; several where parts were saved apart.
        nested: pickles were found within its texts; their names are among `names`.
        problem: why it cannot be read to its end, or "".
    """

    file: str
    names: list[Global] = field(default_factory=list)
    sklearn_versions: list[str] = field(default_factory=list)
    nested: int = 0
    problem: str = ""

    @property
    def dangerous(self) -> list[Global]:
        """The names that no model needs to be loaded."""
        return [name for name in self.names if verdict(name.module, name.name) == DANGEROUS]


def scan_file(path: Path, name: str) -> list[PickleReport]:
    """The pickles in a file: none for a file that is something else, several for an archive.

    Args:
        name: what to call the file in the report.
    """
    try:
        with path.open("rb") as file:
            head = file.read(8)
            file.seek(0)
            if head.startswith(_ZIP):
                return _scan_zip(file, name)
            report = scan_stream(file, name)
    except OSError as error:
        return [PickleReport(name, problem=error.strerror or type(error).__name__)]
    certain = path.suffix.lower() in SUFFIXES or _looks_pickled(head)
    return [report] if _worth_telling(report, certain) else []


def scan_stream(stream: BinaryIO, name: str, budget: Budget | None = None) -> PickleReport:
    """The report of one pickle, joblib file or `.npy` file, compressed or not; `stream` can seek."""
    budget = budget or Budget()
    findings, problem = Findings(), ""
    try:
        _scan(stream, findings, budget, joblib=True)
    except Exception as error:  # whatever decompressors, numpy and Python's readers raise for hostile bytes
        problem = _unreadable(error)
    if findings.joblib_arrays:
        findings.globals |= _read_otherwise(stream, budget)
    nested = _scan_nested(findings, budget, MAX_DEPTH)
    if budget.operations < 0:
        problem = problem or "cannot be read: it takes too many operations"
    return PickleReport(name, sorted(findings.globals), sorted(findings.sklearn_versions), nested, problem)


def _unreadable(error: Exception) -> str:
    return f"cannot be read: {printable(str(error)) or type(error).__name__}"


def _read_otherwise(stream: BinaryIO, budget: Budget) -> set[Global]:
    """What another unpickler would execute in a joblib file: it does not pass over the arrays.

    Of honest files it makes nonsense, so only plain names of a dangerous kind count.
    """
    findings = Findings()
    stream.seek(0)
    with suppress(Exception):
        _scan(stream, findings, budget, joblib=False)
    return {
        one
        for one in findings.globals
        if one.module != UNRESOLVED and verdict(one.module, one.name) == DANGEROUS
    }


def _scan(stream: BinaryIO, findings: Findings, budget: Budget, joblib: bool) -> None:
    reader = io.BufferedReader(cast(io.RawIOBase, _opened(stream)))
    try:
        if reader.peek(8).startswith(_NPY) and not _skip_npy_header(cast(BinaryIO, reader)):
            return
        source = Reader(reader, budget)
        Machine(source, findings, joblib).run()
        while reader.peek(1)[:1] == b"\x80":  # several in a row, as torch once wrote them
            Machine(source, findings, joblib).run()
    finally:
        reader.detach()  # else it would close the stream with itself


def _opened(stream: BinaryIO) -> BinaryIO:
    """The bytes behind joblib's compressors, which are told by the first bytes."""
    head = stream.read(6)
    stream.seek(0)
    if head.startswith(b"\x78"):
        return cast(BinaryIO, _Inflated(stream))
    if head.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=stream))
    if head.startswith(b"BZ"):
        return cast(BinaryIO, bz2.BZ2File(stream))
    if head.startswith((b"\x5d\x00", b"\xfd7zXZ")):
        return cast(BinaryIO, lzma.LZMAFile(stream))
    if head.startswith(_LZ4):
        raise Unreadable("it is compressed with lz4, which is not looked into")
    if head.startswith(b"ZF"):
        raise Unreadable("it is a compressed file of joblib before 0.10, which is not looked into")
    return stream


class _Inflated(io.RawIOBase):
    """A zlib stream as a file."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._inflater = zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # of BufferedReader
        data = b""
        while not data and not self._inflater.eof:
            packed = self._inflater.unconsumed_tail or self._stream.read(2**16)
            if not packed:
                break
            data = self._inflater.decompress(packed, len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _skip_npy_header(reader: BinaryIO) -> bool:
    """Go behind the header of a `.npy` file; whether a pickle follows."""
    version = np.lib.format.read_magic(reader)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return bool(read(reader)[2].hasobject)


def _scan_zip(file: BinaryIO, name: str) -> list[PickleReport]:
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS:
                return [PickleReport(name, problem=f"cannot be read: it has {len(members)} members")]
            if sum(member.file_size for member in members) > MAX_BYTES:
                return [PickleReport(name, problem=f"cannot be read: it unpacks to over {MAX_BYTES} bytes")]
            budget = Budget()
            return [report for member in members for report in _scan_member(archive, member, name, budget)]
    except Exception as error:  # as above
        return [PickleReport(name, problem=_unreadable(error))]


def _scan_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, budget: Budget
) -> Iterator[PickleReport]:
    label = f"{name}!{printable(member.filename, 256)}"
    suffix = PurePosixPath(member.filename).suffix.lower()
    certain = suffix in SUFFIXES
    try:
        with archive.open(member) as stream:
            report = scan_stream(cast(BinaryIO, stream), label, budget)
    except Exception as error:  # as above
        report = PickleReport(label, problem=_unreadable(error))
        certain = True
    if _worth_telling(report, certain):
        yield report


def _worth_telling(report: PickleReport, certain: bool) -> bool:
    """Whether it is a pickle: known by its name or first bytes, or one from beginning to end with names."""
    return certain or (bool(report.names) and not report.problem)


def _looks_pickled(head: bytes) -> bool:
    return len(head) > 1 and head[0] == 0x80 and head[1] <= 5


def _scan_nested(findings: Findings, budget: Budget, depth: int) -> int:
    """Add what stands in texts that are pickles themselves; how many are."""
    count = 0
    for text in findings.texts if depth else ():
        inner, complete = Findings(), True
        try:
            Machine(Reader(io.BytesIO(text), budget), inner, joblib=False).run()
        except Exception:
            complete = False
        if inner.globals and (complete or _looks_pickled(text)):
            count += 1 + _scan_nested(inner, budget, depth - 1)
            findings.add(inner)
    return count
