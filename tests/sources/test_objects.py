"""Objects and prefixes in an S3 server."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from oipserver.sources import SourceError, objects
from tests.sources.scripted import get, left_in
from tests.sources.test_archives import MEMBERS, make_tar

SECRET = "wJalrXUtnFEMI"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket called "models", where the environment of this process leads."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    resource = boto3.resource("s3")
    found = resource.create_bucket(Bucket="models")
    yield found
    found.objects.all().delete()
    found.delete()
    resource.meta.client.close()


def put(bucket: Any, **objects: bytes) -> None:
    """Objects by key; "__" is "/" and "_" is "."."""
    for key, data in objects.items():
        bucket.put_object(Key=key.replace("__", "/").replace("_", "."), Body=data)


def files(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def refusal(uri: str, tmp_path: Path, **options: Any) -> str:
    with pytest.raises(SourceError) as caught:
        get(uri, tmp_path, **options)
    return str(caught.value)


def test_one_object(bucket: Any, tmp_path: Path) -> None:
    put(bucket, iris__model_skops=b"weights")
    fetched = get("s3://models/iris/model.skops", tmp_path)
    assert (fetched.path.name, fetched.path.read_bytes()) == ("model.skops", b"weights")
    assert not fetched.trusted
    assert left_in(tmp_path) == ["latest.json", "model.skops"]


@pytest.mark.parametrize("uri", ["s3://models/iris", "s3://models/iris/"])
def test_a_prefix_is_a_directory_and_its_neighbours_are_not_in_it(
    bucket: Any, tmp_path: Path, uri: str
) -> None:
    put(bucket, iris__MLmodel=b"flavors", iris__data__w_bin=b"w", iris_v2__MLmodel=b"2", irisx=b"x")
    bucket.put_object(Key="iris-hf/config.json", Body=b"hf")
    bucket.put_object(Key="iris/", Body=b"")  # what a console makes of "new folder"
    bucket.put_object(Key="iris/empty.txt", Body=b"")
    fetched = get(uri, tmp_path)
    assert fetched.path.name == "iris"
    assert files(fetched.path) == {"MLmodel": b"flavors", "data/w.bin": b"w", "empty.txt": b""}


def test_a_whole_bucket(bucket: Any, tmp_path: Path) -> None:
    put(bucket, a__b=b"b")
    assert files(get("s3://models", tmp_path).path) == {"a/b": b"b"}


def test_an_archive_in_a_bucket(bucket: Any, tmp_path: Path) -> None:
    put(bucket, model_tar_gz=make_tar(MEMBERS, "w:gz"))
    fetched = get("s3://models/model.tar.gz", tmp_path)
    assert (fetched.path / "MLmodel").is_file()


def test_what_did_not_change_is_not_sent_twice(bucket: Any, tmp_path: Path) -> None:
    put(bucket, iris__a=b"1", iris__b=b"2")
    seen: list[int] = []
    first = get("s3://models/iris/", tmp_path, progress=lambda done, total: seen.append(done))
    calls = len(seen)
    assert get("s3://models/iris/", tmp_path, progress=lambda done, total: seen.append(done)) == first
    assert len(seen) == calls > 0
    put(bucket, iris__b=b"3")
    assert files(get("s3://models/iris/", tmp_path).path) == {"a": b"1", "b": b"3"}
    assert files(first.path) == {"a": b"1", "b": b"2"}


def test_a_pin_of_a_directory_is_what_sha256sum_makes_of_it(bucket: Any, tmp_path: Path) -> None:
    put(bucket, iris__a=b"1", iris__b__c=b"2")
    pin = sha256sum(tmp_path, {"a": b"1", "b/c": b"2"})
    assert get("s3://models/iris/", tmp_path, pin=pin).pinned
    assert "it is pinned to 000000000000…" in refusal("s3://models/iris/", tmp_path / "2", pin="0" * 64)
    assert left_in(tmp_path / "2") == []


def sha256sum(tmp_path: Path, content: dict[str, bytes]) -> str:
    for name, data in content.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_bytes(data)
    script = r"find . -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum"
    return subprocess.check_output(["sh", "-c", script], cwd=tmp_path / "tree", text=True).split()[0]


@pytest.mark.parametrize(
    "key", ["iris/../../evil", "iris/a/../../../evil", "iris//tmp/evil", "iris/..\\evil"]
)
def test_keys_that_lead_elsewhere(bucket: Any, tmp_path: Path, key: str) -> None:
    bucket.meta.client.put_object(Bucket="models", Key=key, Body=b"evil")
    put(bucket, iris__a=b"1")
    assert "an object has a name that is not allowed" in refusal("s3://models/iris/", tmp_path)
    assert left_in(tmp_path) == []


def test_what_is_not_there(bucket: Any, tmp_path: Path) -> None:
    put(bucket, iris__a=b"1")
    assert "there is no such object" in refusal("s3://models/iri", tmp_path)
    assert "there is no such object" in refusal("s3://models/iris/b/", tmp_path)
    text = refusal("s3://no-such-bucket/iris", tmp_path)
    assert text.startswith("cannot fetch 's3://no-such-bucket/iris': ")


def test_limits(bucket: Any, tmp_path: Path) -> None:
    put(bucket, iris__a=b"123", iris__b=b"456")
    assert "6 of 5 bytes" in refusal("s3://models/iris/", tmp_path, max_bytes=5)
    assert "sources.max_files allows (1)" in refusal("s3://models/iris/", tmp_path, max_files=1)
    assert left_in(tmp_path) == []


class Killed(BaseException):
    """As if the process ended here."""


def test_ranges_that_came_are_not_fetched_again(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "RANGE", 1000)
    data = bytes(range(256)) * 20
    put(bucket, a=b"first", iris__a=b"first", iris__model_bin=data)

    def kill(done: int, total: int | None) -> None:
        if done > 2500:
            raise Killed

    with pytest.raises(Killed):
        get("s3://models/iris/", tmp_path, progress=kill)
    seen: list[tuple[int, int | None]] = []
    fetched = get("s3://models/iris/", tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert files(fetched.path) == {"a": b"first", "model.bin": data}
    assert seen[0][0] >= 2000
    assert seen[-1] == (5125, 5125)


def test_what_changes_while_it_is_fetched_is_fetched_again(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "RANGE", 4)
    put(bucket, iris__a=b"old!old!")
    waits: list[float] = []

    def change(done: int, total: int | None) -> None:
        if done == 4 and not waits:
            put(bucket, iris__a=b"new!new!")

    fetched = get("s3://models/iris/", tmp_path, progress=change, waits=waits)
    assert (files(fetched.path), len(waits)) == ({"a": b"new!new!"}, 1)


def test_a_store_that_does_not_answer(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    waits: list[float] = []
    text = refusal("s3://models/iris", tmp_path, retries=1, waits=waits, attempt_timeout=0.5)
    assert text.endswith("(tried 2 times)")
    assert len(waits) == 1
    assert SECRET not in text + caplog.text


def test_one_uri_inside_another_is_refused(tmp_path: Path) -> None:
    text = refusal("s3://models/a::http://169.254.169.254/", tmp_path)
    assert "'::' is not allowed" in text


@pytest.mark.parametrize(
    ("uri", "module", "cure"),
    [
        ("s3://models/iris", "s3fs", 's3:// needs s3fs: pip install "oipserver[s3]"'),
        ("gs://models/iris", "gcsfs", 'gs:// needs gcsfs: pip install "oipserver[gs]"'),
        ("az://models/iris", "adlfs", 'az:// needs adlfs: pip install "oipserver[az]"'),
        ("abfs://models@account/iris", "adlfs", 'abfs:// needs adlfs: pip install "oipserver[az]"'),
        ("hf://org/iris", "huggingface_hub", 'hf:// needs huggingface_hub: pip install "oipserver[hf]"'),
    ],
)
def test_a_missing_library_is_named_with_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, module: str, cure: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert refusal(uri, tmp_path).endswith(cure)


@pytest.mark.parametrize("module", ["s3fs", "gcsfs", "adlfs", "huggingface_hub"])
def test_the_libraries_know_their_schemes(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    fsspec = pytest.importorskip("fsspec")
    for scheme, (needed, _) in objects._LIBRARIES.items():
        if needed == module:
            assert fsspec.get_filesystem_class(scheme).__module__.startswith(module)
