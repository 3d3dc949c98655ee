"""Archives, and what hostile ones try."""

from __future__ import annotations

import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from oipserver.config import SourcesConfig
from oipserver.core.model_config import ModelConfig
from oipserver.sources import Fetched, SourceError, fetch
from tests.sources.scripted import Server, get, left_in, whole

MEMBERS = {"iris/MLmodel": b"flavors:\n", "iris/data/model.skops": b"weights" * 1000}


def make_zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def make_tar(members: dict[str, bytes], mode: str = "w:") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as file:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if name.endswith("/"):
                info.type = tarfile.DIRTYPE
            file.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def make_zst(members: dict[str, bytes]) -> bytes:
    return zstandard.compress(make_tar(members))


MAKERS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "zip": make_zip,
    "tar": make_tar,
    "tar.gz": lambda members: make_tar(members, "w:gz"),
    "tgz": lambda members: make_tar(members, "w:gz"),
    "tar.zst": make_zst,
}


def unpacked(tmp_path: Path, name: str, data: bytes, **settings: int) -> Fetched:
    """What a local archive becomes."""
    (tmp_path / name).write_bytes(data)
    sources = SourcesConfig(cache_dir=str(tmp_path / "cache"), **settings)  # type: ignore[arg-type]
    return fetch(ModelConfig("m", "sklearn", str(tmp_path / name)), sources)


def refusal(tmp_path: Path, name: str, data: bytes, **settings: int) -> str:
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    with pytest.raises(SourceError) as caught:
        unpacked(tmp_path, name, data, **settings)
    assert left_in(tmp_path) == []
    after = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    assert after - before <= {tmp_path / name, tmp_path / "cache"}
    return str(caught.value)


@pytest.mark.parametrize("suffix", MAKERS)
def test_an_archive_becomes_its_directory(tmp_path: Path, suffix: str) -> None:
    fetched = unpacked(tmp_path, f"Iris.{suffix.upper()}", MAKERS[suffix](MEMBERS))
    assert (fetched.path.name, fetched.local) == ("iris", True)
    found = {str(p.relative_to(fetched.path.parent)): p.read_bytes() for p in fetched.path.rglob("*.*")}
    assert found == {"iris/data/model.skops": MEMBERS["iris/data/model.skops"]}
    assert (fetched.path / "MLmodel").read_bytes() == MEMBERS["iris/MLmodel"]
    assert fetched.path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("suffix", MAKERS)
def test_a_fetched_archive(tmp_path: Path, suffix: str) -> None:
    with Server(whole(MAKERS[suffix]({"a.txt": b"a", "./b/": b"", "b/c.txt": b"c"}))) as server:
        fetched = get(server.uri(f"/some.{suffix}"), tmp_path)
        again = get(server.uri(f"/some.{suffix}"), tmp_path, pin=fetched.sha256)
    assert (fetched.path.name, fetched.local, again.path) == ("some", False, fetched.path)
    assert [fetched.path.joinpath(name).read_bytes() for name in ("a.txt", "b/c.txt")] == [b"a", b"c"]


def test_an_archive_is_unpacked_once(tmp_path: Path) -> None:
    first = unpacked(tmp_path, "iris.zip", make_zip(MEMBERS))
    inode = first.path.stat().st_ino
    again = unpacked(tmp_path, "iris.zip", make_zip(MEMBERS))
    assert again.sha256 == first.sha256
    assert again.path.stat().st_ino == inode


NAMES = [
    "../evil",
    "a/../../evil",
    "/tmp/evil",
    "//evil",
    "..",
    "a/..",
    "..\\evil",
    "C:\\evil",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_names_that_lead_elsewhere(tmp_path: Path, suffix: str, name: str) -> None:
    data = MAKERS[suffix]({"good": b"good", name: b"evil"})
    assert "has a name that is not allowed" in refusal(tmp_path, f"model.{suffix}", data)


def with_member(type_: bytes, link: str = "", name: str = "member") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = type_, link
        file.addfile(info)
        after = tarfile.TarInfo(f"{name}/evil")
        file.addfile(after)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("type_", "link"),
    [
        pytest.param(tarfile.SYMTYPE, "/etc", id="link"),
        pytest.param(tarfile.SYMTYPE, "good", id="link inside"),
        pytest.param(tarfile.LNKTYPE, "../../etc/passwd", id="hard link"),
        pytest.param(tarfile.CHRTYPE, "", id="device"),
        pytest.param(tarfile.BLKTYPE, "", id="block device"),
        pytest.param(tarfile.FIFOTYPE, "", id="pipe"),
        pytest.param(tarfile.CONTTYPE, "", id="contiguous"),
        pytest.param(b"Z", "", id="unknown"),
    ],
)
def test_neither_file_nor_directory_in_a_tar(tmp_path: Path, type_: bytes, link: str) -> None:
    assert "neither a file nor a directory" in refusal(tmp_path, "model.tar", with_member(type_, link))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_neither_file_nor_directory_in_a_zip(tmp_path: Path, kind: int) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        info = zipfile.ZipInfo("member")
        info.external_attr = (kind | 0o777) << 16
        file.writestr(info, "/etc/passwd")
    assert "neither a file nor a directory" in refusal(tmp_path, "model.zip", buffer.getvalue())


@pytest.mark.parametrize("suffix", MAKERS)
def test_a_bomb_ends_at_a_hundredfold(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oipserver.sources.archives.ALWAYS_ALLOWED", 2**20)
    data = MAKERS[suffix]({"zeros": bytes(2**27)})
    if suffix == "tar":
        assert unpacked(tmp_path, "model.tar", data).path.joinpath("zeros").stat().st_size == 2**27
    else:
        assert "more bytes than are allowed" in refusal(tmp_path, f"model.{suffix}", data)


@pytest.mark.parametrize("suffix", MAKERS)
def test_sizes_and_counts_have_limits(tmp_path: Path, suffix: str) -> None:
    data = MAKERS[suffix]({str(number): b"12345" for number in range(11)})
    assert "more bytes than are allowed" in refusal(tmp_path, f"model.{suffix}", data, max_bytes=54)
    assert "sources.max_files allows (10)" in refusal(tmp_path, f"model.{suffix}", data, max_files=10)
    assert len(list(unpacked(tmp_path, f"model.{suffix}", data, max_bytes=55).path.iterdir())) == 11


def test_a_lying_size_in_a_zip(tmp_path: Path) -> None:
    data = bytearray(make_zip({"zeros": bytes(100_000)}))
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.index(signature) + at, 5)  # the size when unpacked
    assert "not an archive that can be read" in refusal(tmp_path, "model.zip", bytes(data))


@pytest.mark.parametrize("type_", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_a_header_that_would_fill_the_memory(tmp_path: Path, type_: bytes) -> None:
    info = tarfile.TarInfo("header")
    info.type, info.size = type_, 2**33
    block = info.tobuf(tarfile.GNU_FORMAT)
    assert "announces 8589934592 bytes" in refusal(tmp_path, "model.tar", block + bytes(10240))


@pytest.mark.parametrize("suffix", MAKERS)
@pytest.mark.parametrize("kind", ["junk", "empty", "cut"])
def test_damaged_archives(tmp_path: Path, suffix: str, kind: str) -> None:
    good = MAKERS[suffix]({"a": bytes(range(256)) * 500})
    data = {"junk": b"\x01\x02junk" * 400, "empty": b"", "cut": good[: len(good) // 2]}[kind]
    assert "not an archive that can be read" in refusal(tmp_path, f"model.{suffix}", data)


@pytest.mark.parametrize("suffix", MAKERS)
def test_an_empty_archive_is_an_empty_directory(tmp_path: Path, suffix: str) -> None:
    assert list(unpacked(tmp_path, f"model.{suffix}", MAKERS[suffix]({})).path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["a", "a/b"])
def test_two_members_of_one_name(tmp_path: Path, second: str) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a", "first")
        file.writestr(second, "second")
    assert "two members of one name" in refusal(tmp_path, "model.zip", buffer.getvalue())


def test_an_encrypted_member(tmp_path: Path) -> None:
    data = bytearray(make_zip({"a": b"a"}))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    assert "is encrypted" in refusal(tmp_path, "model.zip", bytes(data))


def test_a_directory_is_no_archive_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "model.zip").mkdir()
    assert fetch(ModelConfig("m", "sklearn", str(tmp_path / "model.zip")), SourcesConfig()).path.is_dir()
