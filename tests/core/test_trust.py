"""Files that run code when they are loaded, and the digests that pin them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from oipserver import ModelConfig, require_trust
from oipserver.core.digest import digest, files_in

CONTENT = b"a model"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.joblib"
    path.write_bytes(CONTENT)
    return path


def refusal(uri: str, file: Path) -> str:
    with pytest.raises(ValueError, match="it was fetched") as refused:
        require_trust(ModelConfig("m", "sklearn", uri), file)
    return str(refused.value)


def test_what_is_trusted_may_be_loaded(file: Path) -> None:
    require_trust(ModelConfig("m", "sklearn", "https://host/model.joblib", trust_pickle=True), file)


@pytest.mark.parametrize("query", ["", "?signature=secret"])
def test_a_refusal_says_what_to_do(file: Path, query: str) -> None:
    assert refusal(f"https://host/models/model.joblib{query}", file) == (
        "'model.joblib' is a pickle, which runs code when it is loaded; it was fetched, so pin it with "
        f"sha256: {SHA256}, or set trust_pickle: true if you trust its source, or use .skops"
    )


def test_a_file_out_of_an_archive_is_not_what_is_pinned(file: Path) -> None:
    text = refusal("https://host/models.tar.gz", file)
    assert SHA256 not in text
    assert "pin the download with sha256: ('oipserver inspect' shows its digest)" in text


def test_python_and_directories_are_called_what_they_are(file: Path) -> None:
    code = file.with_name("model.py")
    code.write_bytes(CONTENT)
    assert "'model.py' is Python code, which runs when it is loaded; it was fetched, so pin it with " in (
        refusal("https://host/model.py", code)
    )
    assert "may hold pickles and Python code" in refusal("s3://bucket/models", file.parent)


def test_the_digest_of_a_file(file: Path) -> None:
    assert digest(file) == SHA256


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for name in ("b.txt", "a/z.bin", "a-1/empty", "ä.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def test_the_digest_of_a_tree_is_that_of_its_listing(tree: Path) -> None:
    if not shutil.which("sha256sum"):
        pytest.skip("sha256sum is not installed")
    command = r"find . -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum"
    told = subprocess.run(["sh", "-c", command], cwd=tree, capture_output=True, text=True, check=True).stdout
    assert digest(tree) == told.split()[0]


def test_the_digest_of_a_tree_changes_with_a_name_and_with_a_byte(tree: Path) -> None:
    before = digest(tree)
    (tree / "b.txt").rename(tree / "c.txt")
    renamed = digest(tree)
    (tree / "c.txt").write_bytes(b"other")
    assert len({before, renamed, digest(tree)}) == 3


def test_times_and_empty_directories_do_not_count(tree: Path) -> None:
    before = digest(tree)
    (tree / "empty").mkdir()
    (tree / "b.txt").touch()
    assert digest(tree) == before
    assert [file.relative_to(tree).as_posix() for file in files_in(tree)] == [
        "a-1/empty", "a/z.bin", "b.txt", "ä.txt",
    ]  # fmt: skip
