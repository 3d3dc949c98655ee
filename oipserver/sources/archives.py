"""zip and tar files, member by member.

Nothing of the archive decides where bytes go or how many: names are relative and lead nowhere else, there are
files and directories only, and both count and size end at a limit.  No link is ever made, so none can be
followed.
"""

from __future__ import annotations

import gzip
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, Self, cast

from oipserver.config.uris import archive_stem
from oipserver.core.errors import printable
from oipserver.sources.errors import SourceError
from oipserver.sources.meter import Meter
from oipserver.sources.names import relative

# A bomb grows more than a model does: all zeros shrink a thousandfold, weights hardly at all.
MAX_GROWTH = 100
ALWAYS_ALLOWED = 2**28
# Long names and other headers are read into memory.
MAX_HEADER = 2**20
PIECE = 2**18

_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)


class _Member(NamedTuple):
    name: str
    is_directory: bool
    open: Callable[[], IO[bytes]]


def is_archive(path: Path) -> bool:
    """Whether a file is to be unpacked, by its name."""
    return bool(archive_stem(path.name)) and path.is_file()


def unpack(archive: Path, into: Path, meter: Meter) -> None:
    """Write an archive's files into a directory that does not exist yet.

    Raises:
        SourceError: it cannot be read, or has a member that is not allowed, or too much of them.
        OSError: the disk does not take it.
    """
    allowed = min(meter.max_bytes, max(ALWAYS_ALLOWED, MAX_GROWTH * archive.stat().st_size))
    into.mkdir(mode=0o700, parents=True)
    with _readable(archive):
        for count, member in enumerate(_members(archive), 1):
            meter.files(count)
            place = into if member.name in (".", "./") else into / relative(member.name, "a member")
            if member.is_directory:
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
            else:
                allowed -= _write(member, place, allowed)


def innermost(directory: Path) -> Path:
    """The one directory that an archive holds, as most do; else the directory itself."""
    entries = list(directory.iterdir())
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else directory


def _write(member: _Member, place: Path, allowed: int) -> int:
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    written = 0
    with place.open("xb") as file, member.open() as source:
        while piece := source.read(PIECE):
            written += len(piece)
            if written > allowed:
                raise SourceError("the archive holds more bytes than are allowed")
            file.write(piece)
    return written


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    """Whatever a damaged archive makes its library raise is one sentence."""
    try:
        yield
    except (SourceError, MemoryError):
        raise
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise SourceError("the archive has two members of one name") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        said = printable(str(error)) or type(error).__name__
        raise SourceError(f"'{archive.name}' is not an archive that can be read: {said}") from error


def _members(archive: Path) -> Iterator[_Member]:
    return _of_zip(archive) if archive.name.lower().endswith(".zip") else _of_tar(archive)


def _of_zip(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)  # nothing, where it was not made on Unix
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _not_allowed(info.filename)
            if info.flag_bits & 1:
                raise SourceError(f"'{printable(info.filename)}' in the archive is encrypted")
            yield _Member(info.filename, info.is_dir(), lambda info=info: file.open(info))  # type: ignore[misc]


class _Header(tarfile.TarInfo):
    """A header that is looked at before what it announces is read."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in _HEADERS and header.size > MAX_HEADER):
            raise SourceError(f"a header in the archive announces {header.size} bytes")
        return header


def _of_tar(archive: Path) -> Iterator[_Member]:
    with _plain_tar(archive) as stream, tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header) as file:
        for info in file:
            if info.type not in (*_FILES, tarfile.DIRTYPE) or info.issparse():
                raise _not_allowed(info.name)
            yield _Member(info.name, info.isdir(), lambda info=info: _extracted(file, info))  # type: ignore[misc]


def _extracted(file: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    return cast(IO[bytes], file.extractfile(info))  # None only for what is no file


@contextmanager
def _plain_tar(archive: Path) -> Iterator[Any]:
    name = archive.name.lower()
    if name.endswith((".gz", ".tgz")):
        with gzip.open(archive) as stream:
            yield stream
    elif name.endswith(".zst"):
        import zstandard  # only an archive of this kind pays for it

        with (
            archive.open("rb") as packed,
            closing(zstandard.ZstdDecompressor().stream_reader(packed)) as reader,
        ):
            yield reader
    else:
        with archive.open("rb") as plain:
            yield plain


def _not_allowed(name: str) -> SourceError:
    return SourceError(f"'{printable(name)}' in the archive is neither a file nor a directory")
