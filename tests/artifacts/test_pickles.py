"""The scan sees what a pickle would do, and does nothing of it."""

from __future__ import annotations

import io
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from oipserver.artifacts import operations
from oipserver.artifacts.machine import UNRESOLVED, Global
from oipserver.artifacts.pickles import PickleReport, scan_file, scan_stream
from oipserver.artifacts.verdicts import HARMLESS, verdict
from tests.artifacts import hostile

X, y = load_iris(return_X_y=True)
MKDIR = Global("posix", "mkdir")
# What each form of the bomb must be caught by.
CAUGHT = {
    "dotted": Global("joblib.disk", "os.mkdir"),
    "computed": Global(UNRESOLVED, "mkdir"),
    "python2_name": Global("builtins", "eval"),
}


def scan(data: bytes) -> PickleReport:
    return scan_stream(io.BytesIO(data), "it")


@pytest.mark.parametrize("name", hostile.PICKLES)
def test_a_hostile_pickle_is_seen_and_does_not_run(tmp_path: Path, name: str) -> None:
    marker = tmp_path / "marker"
    data = hostile.PICKLES[name](marker)
    report = scan(data)
    assert CAUGHT.get(name, MKDIR) in report.dangerous
    assert bool(report.problem) == (name in ("without_end", "before_nonsense"))
    assert not marker.exists()
    try:  # it is a bomb indeed
        pickle.loads(data)
    except (EOFError, pickle.UnpicklingError):
        assert report.problem
    assert marker.is_dir()


@pytest.mark.parametrize("name", hostile.JOBLIB)
def test_a_hostile_joblib_file_is_seen_and_does_not_run(tmp_path: Path, name: str) -> None:
    marker = tmp_path / "marker"
    data = hostile.JOBLIB[name](marker)
    report = scan(data)
    assert report.dangerous == [MKDIR]
    assert report.problem == ""
    assert not marker.exists()
    joblib.load(io.BytesIO(data))
    assert marker.is_dir()


@pytest.mark.parametrize("compressor", hostile.COMPRESSORS)
def test_compressed_pickles_are_looked_into(tmp_path: Path, compressor: str) -> None:
    marker = tmp_path / "marker"
    for make in (hostile.behind_a_list, hostile.joblib_behind_arrays):
        report = scan(hostile.COMPRESSORS[compressor](make(marker)))
        assert report.dangerous == [MKDIR]
        assert report.problem == ""
    assert not marker.exists()


def test_members_of_an_archive_are_looked_into(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    file = tmp_path / "weights.bin"
    file.write_bytes(hostile.torch_archive(marker))
    (report,) = scan_file(file, "weights.bin")
    assert report.file == "weights.bin!model/data.pkl"
    assert report.dangerous == [MKDIR]
    assert not marker.exists()


def test_object_arrays_of_numpy_are_looked_into(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    data = hostile.numpy_file(marker)
    assert scan(data).dangerous == [MKDIR]
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", data)
    assert [report.dangerous for report in scan_file(tmp_path / "a.npz", "a.npz")] == [[MKDIR]]
    np.save(tmp_path / "plain.npy", np.arange(3))
    assert [report.names for report in scan_file(tmp_path / "plain.npy", "plain.npy")] == [[]]
    assert not marker.exists()


def test_a_pickle_behind_a_pickle_is_looked_into(tmp_path: Path) -> None:
    data = pickle.dumps([1]) + pickle.dumps(hostile.Bomb(tmp_path / "marker"))
    assert scan(data).dangerous == [MKDIR]


def test_what_joblib_passes_over_is_looked_into_as_well(tmp_path: Path) -> None:
    """For joblib these are an array's bytes, for pickle they are operations."""
    marker = tmp_path / "marker"
    hidden = hostile.stack_global(marker)[2:]
    described = pickle.dumps(
        joblib.numpy_pickle.NumpyArrayWrapper(
            np.ndarray, (len(hidden),), "C", np.dtype("u1"), numpy_array_alignment_bytes=None
        ),
        protocol=2,
    )
    data = described[:-1] + hidden
    assert MKDIR in scan(data).dangerous
    assert not marker.exists()
    pickle.loads(data)
    assert marker.is_dir()


def test_nested_pickles_are_counted(tmp_path: Path) -> None:
    inner = pickle.dumps(hostile.Packed(pickle.dumps(hostile.Bomb(tmp_path / "marker"))))
    report = scan(pickle.dumps(hostile.Packed(inner)))
    assert report.nested == 2
    assert report.dangerous == [Global("_pickle", "loads"), MKDIR]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "it ends early"),
        (b"not a pickle", "byte 6e is no operation at offset 0"),
        (b"\x80\x04]", "it ends early"),
        (b"\x80\x04\x8c\x09short.", "expected 9 bytes in a unicodestring1, but only 6 remain"),
        (b"R.", "finds nothing on the stack"),
        (b"t.", "finds no mark"),
        (b"h\x07.", "the memo has no entry 7"),
        (b"\x80\x04\x8d" + b"\xff" * 8 + b".", "it is longer than"),
        (b'\x04"M\x18abc', "compressed with lz4"),
        (b"x\x9cgarbage", "cannot be read: Error -3"),
        (b"\x1f\x8bgarbage", "cannot be read: "),
        (b"\xfd7zXZ\x00garbage", "cannot be read: "),
    ],
)
def test_what_cannot_be_read_says_so(data: bytes, problem: str) -> None:
    report = scan(data)
    assert report.problem.startswith("cannot be read: ")
    assert problem in report.problem


def test_every_cut_of_a_pickle_is_told() -> None:
    data = pickle.dumps(LogisticRegression(max_iter=1000).fit(X, y))
    assert scan(data).problem == ""
    assert all(scan(data[:end]).problem for end in range(0, len(data), 7))


def test_a_long_pickle_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "MAX_OPERATIONS", 1000)
    assert "more than 1000 operations" in scan(b"\x80\x04" + b"N0" * 1000 + b"N.").problem
    monkeypatch.setattr(operations, "MAX_BYTES", 2000)
    assert (
        "longer than 2000 bytes"
        in scan(hostile.COMPRESSORS["xz"](b"\x80\x04B\xff\xff\x00\x00" + b"a" * 65535)).problem
    )


def test_what_is_within_a_pickle_counts_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "MAX_OPERATIONS", 1000)
    within = b"\x80\x04" + b"N0" * 200 + b"N."
    assert scan(pickle.dumps([within])).problem == ""
    assert "too many operations" in scan(pickle.dumps([within + bytes([n]) + b"." for n in range(5)])).problem


def test_so_do_the_members_of_an_archive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(operations, "MAX_OPERATIONS", 1000)
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        for number in range(3):
            archive.writestr(f"{number}.pkl", b"\x80\x04" + b"N0" * 200 + b"N.")
    reports = scan_file(tmp_path / "m.zip", "m.zip")
    assert [bool(report.problem) for report in reports] == [False, False, True]


def test_texts_that_are_kept_have_an_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(operations, "MAX_SHORT", 20_000)
    assert "longer than 20000 bytes" in scan(pickle.dumps([bytes([n]) * 200 for n in range(200)])).problem
    monkeypatch.setattr(operations, "MAX_LONG", 100_000)
    report = scan(pickle.dumps([*(bytes([n]) * 70_000 for n in range(9)), hostile.Bomb(tmp_path)]))
    assert (report.problem, report.dangerous) == ("", [MKDIR])


@pytest.mark.parametrize("count", [1, 65])
def test_an_array_of_endless_sizes_is_told_at_once(count: int) -> None:
    size = (
        b"\x8b" + (2**18).to_bytes(4, "little") + b"\xff" * (2**18 - 1) + b"\x7f" if count == 1 else b"K\x01"
    )
    wrapper = b"\x80\x04\x8c\x13joblib.numpy_pickle\x8c\x11NumpyArrayWrapper\x93)\x81}(\x8c\x05shape("
    dtype = b"t\x8c\x05dtype\x8c\x05numpy\x8c\x05dtype\x93\x8c\x02f8\x85Rub."
    assert "an array of unknown size" in scan(wrapper + size * count + dtype).problem


@pytest.mark.parametrize(
    "header", [b"{'descr': (1,\n", b"{'descr': (), 'fortran_order': 0, 'shape': ()}", b"{[]: 1}"]
)
def test_a_broken_header_of_a_numpy_file_is_told(header: bytes) -> None:
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    assert scan(data).problem.startswith("cannot be read: ")


def test_the_data_of_large_arrays_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(operations, "MAX_ARGUMENT", 1000)
    data = pickle.dumps([b"a" * 2000, np.arange(1000.0), hostile.Bomb(tmp_path)])
    for one in (data, hostile.COMPRESSORS["zlib"](data)):
        report = scan(one)
        assert report.problem == ""
        assert report.dangerous == [MKDIR]


ESTIMATORS = [
    LogisticRegression(max_iter=1000),
    RandomForestClassifier(n_estimators=3),
    HistGradientBoostingClassifier(max_iter=3),
    KNeighborsClassifier(algorithm="kd_tree"),
    make_pipeline(FunctionTransformer(np.log1p), StandardScaler(), LogisticRegression()),
    make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression(max_iter=1000)),
]


def forms(value: Any) -> dict[str, bytes]:
    made = {f"protocol {protocol}": pickle.dumps(value, protocol) for protocol in range(6)}
    for compress in (0, 3, ("gzip", 3), ("bz2", 3), ("lzma", 3), ("xz", 3)):
        file = io.BytesIO()
        joblib.dump(value, file, compress=compress)
        made[f"joblib {compress}"] = file.getvalue()
    return made


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda one: type(one).__name__)
def test_an_honest_model_is_harmless_in_every_form(estimator: Any) -> None:
    import sklearn

    estimator.fit(X, y)
    for form, data in forms(estimator).items():
        report = scan(data)
        assert report.problem == "", form
        assert {verdict(name.module, name.name) for name in report.names} == {HARMLESS}, form
        assert Global(type(estimator).__module__, type(estimator).__name__) in report.names
        assert report.sklearn_versions == [sklearn.__version__]


def test_the_version_is_the_recorded_one() -> None:
    import sklearn

    data = pickle.dumps(LogisticRegression(max_iter=1000).fit(X, y))
    old = data.replace(sklearn.__version__.encode(), b"0.0.1")
    assert scan(old).sklearn_versions == ["0.0.1"]


def test_nothing_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tripwire.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'stepped')!r})\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = hostile.imported()
    report = scan(b"\x80\x04\x8c\x08tripwire\x8c\x05Thing\x93)R.")
    assert report.names == [Global("tripwire", "Thing")]
    assert hostile.imported() == before
    assert not (tmp_path / "stepped").exists()
    with pytest.raises(AttributeError):
        pickle.loads(b"\x80\x04\x8c\x08tripwire\x8c\x05Thing\x93)R.")
    assert (tmp_path / "stepped").exists()
    del sys.modules["tripwire"]


@pytest.mark.parametrize("content", [b"", b"{}", b"a,b\n1,2\n", b"N.", b"(lp0\n.", b"I5\n."])
def test_files_that_are_something_else_are_passed_over(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes.txt").write_bytes(content)
    assert scan_file(tmp_path / "notes.txt", "notes.txt") == []


def test_a_pickle_under_another_name_is_found(tmp_path: Path) -> None:
    for protocol in range(6):
        (tmp_path / "notes.txt").write_bytes(pickle.dumps(hostile.Bomb(tmp_path), protocol))
        (report,) = scan_file(tmp_path / "notes.txt", "notes.txt")
        assert report.dangerous == [MKDIR]


def test_a_broken_archive_is_told(tmp_path: Path) -> None:
    data = hostile.torch_archive(tmp_path)
    file = tmp_path / "model.pt"
    file.write_bytes(data[:-30])
    assert scan_file(file, "model.pt")[0].problem.startswith("cannot be read: ")
    # Another checksum: Python's reader refuses it, others may not.
    place = data.index(b"mkdir")
    file.write_bytes(data[:place] + b"MKDIR" + data[place + 5 :])
    assert any(report.problem.startswith("cannot be read: ") for report in scan_file(file, "model.pt"))


@given(st.binary(max_size=400))
def test_any_bytes_are_read_without_harm(data: bytes) -> None:
    before = hostile.imported()
    report = scan(data)
    assert report.file == "it"
    assert hostile.imported() == before


SEEDS = [*(pickle.dumps({"a": [1, (2.5, "x")], "b": Global("x", "y")}, protocol) for protocol in range(6))]


@given(
    st.sampled_from(SEEDS), st.integers(0, 200), st.binary(min_size=1, max_size=8), st.sampled_from([0, 1, 4])
)
def test_any_damage_is_read_without_harm(seed: bytes, place: int, change: bytes, cut: int) -> None:
    before = hostile.imported()
    scan(seed[:place] + change + seed[place + cut :])
    assert hostile.imported() == before


@pytest.mark.parametrize("wrap", hostile.COMPRESSORS.values(), ids=hostile.COMPRESSORS)
def test_a_bomb_of_zeros_ends(wrap: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "MAX_BYTES", 2**20)
    described = b"\x80\x04B" + (2**27).to_bytes(4, "little")
    assert "it is longer than 1048576 bytes" in scan(wrap(described + bytes(2**22))).problem
