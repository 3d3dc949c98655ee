"""Runtimes are found by entry point: real metadata, in a real directory on the import path."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Protocol

import pytest

from oipserver.core.model_config import ModelConfig
from oipserver.core.runtimes import RuntimeUnavailable, get_demo, get_runtime, installed, names

ECHO = """
class Echo:
    def load(self, path, config):
        return path, config
"""


class Publish(Protocol):
    def __call__(
        self, package: str, entry: str, source: str = ECHO, needs: str = "", group: str = "oipserver.runtimes"
    ) -> None: ...


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Installs a distribution of one module beside whatever else is installed."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(
        package: str, entry: str, source: str = ECHO, needs: str = "", group: str = "oipserver.runtimes"
    ) -> None:
        monkeypatch.delitem(sys.modules, package, raising=False)
        (tmp_path / f"{package}.py").write_text(source)
        info = tmp_path / f"{package}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n{needs}")
        (info / "entry_points.txt").write_text(f"[{group}]\n{entry}\n")

    return install


def refused(name: str) -> str:
    with pytest.raises(RuntimeUnavailable) as caught:
        get_runtime(name)
    return str(caught.value)


def test_a_runtime_is_found_and_made(publish: Publish) -> None:
    publish("zoo_one", "echo = zoo_one:Echo")
    config = ModelConfig("m", "echo")
    loaded: object = get_runtime("echo").load(Path("x"), config)
    assert loaded == (Path("x"), config)
    assert get_runtime("echo") is not get_runtime("echo")


def test_nothing_is_imported_before_it_is_asked_for(publish: Publish) -> None:
    publish("zoo_one", "echo = zoo_one:Echo", source="raise RuntimeError('imported')")
    assert "echo" in names()
    assert "echo" in [one.name for one in installed()]
    assert "zoo_one" not in sys.modules


def test_names_are_sorted(publish: Publish) -> None:
    publish("zoo_one", "zebra = zoo_one:Echo\nant = zoo_one:Echo")
    assert [name for name in names() if name in ("ant", "zebra")] == ["ant", "zebra"]
    assert list(names()) == sorted(names())


def test_an_unknown_name_is_told_what_there_is(publish: Publish) -> None:
    publish("zoo_one", "echo = zoo_one:Echo")
    text = refused("ehco")
    assert text.startswith("runtime 'ehco' is not installed; installed: ")
    assert "echo" in text
    assert text.endswith("; did you mean 'echo'?")


def test_two_distributions_may_not_share_a_name(publish: Publish) -> None:
    publish("zoo_one", "echo = zoo_one:Echo")
    publish("zoo_two", "echo = zoo_two:Other")
    expected = "'echo' is registered twice in oipserver.runtimes: by "
    origins = ("zoo_one (zoo_one:Echo)", "zoo_two (zoo_two:Other)")
    for call in (names, installed, lambda: get_runtime("echo")):
        with pytest.raises(RuntimeUnavailable) as caught:
            call()
        text = str(caught.value)
        assert text.startswith(expected)
        assert all(origin in text for origin in origins)
        assert text.endswith("; uninstall one of them")


NEEDS = """\
Requires-Dist: numpy>=2
Requires-Dist: no-such-library>=1; extra == 'echo'
Requires-Dist: pytest; extra == "echo"
Requires-Dist: no-such-other; python_version > '3' and extra == "echo"
Requires-Dist: not-asked-for; extra == "dev"
Provides-Extra: echo
Provides-Extra: dev
"""


def test_a_missing_library_names_its_cure(publish: Publish) -> None:
    publish("zoo_one", "echo = zoo_one:Echo", source="import no_such_library", needs=NEEDS)
    assert refused("echo") == (
        "runtime 'echo' needs no-such-library, no-such-other: pip install \"zoo_one[echo]\""
    )
    (info,) = (one for one in installed() if one.name == "echo")
    assert (info.package, info.version, info.target) == ("zoo_one", "1.2", "zoo_one:Echo")
    assert info.missing == ("no-such-library", "no-such-other")
    assert info.install == 'pip install "zoo_one[echo]"'


def test_nothing_missing_needs_no_cure(publish: Publish) -> None:
    publish("zoo_one", "echo = zoo_one:Echo", needs='Requires-Dist: pytest; extra == "echo"\n')
    (info,) = (one for one in installed() if one.name == "echo")
    assert (info.missing, info.install) == ((), "")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("x = 1", "AttributeError: module 'zoo_one' has no attribute 'Echo'"),
        (
            "class Echo:\n    def __init__(self):\n        raise OSError('no licence')",
            "OSError: no licence",
        ),
    ],
)
def test_a_broken_module_is_told_in_one_sentence(source: str, text: str, publish: Publish) -> None:
    publish("zoo_one", "echo = zoo_one:Echo", source=source)
    assert refused("echo") == f"runtime 'echo' cannot be imported from zoo_one (zoo_one:Echo): {text}"


def test_a_class_without_load_is_no_runtime(publish: Publish) -> None:
    publish("zoo_one", "echo = zoo_one:Echo", source="class Echo: ...")
    assert refused("echo") == "zoo_one (zoo_one:Echo) is not a runtime: it has no method 'load'"


def test_a_demo_is_found(publish: Publish, tmp_path: Path) -> None:
    publish("zoo_one", "echo = zoo_one:demo", source="def demo(path): return path", group="oipserver.demos")
    written: object = get_demo("echo")(tmp_path)
    assert written == tmp_path
    with pytest.raises(RuntimeUnavailable, match=r"^demo 'ech' is not installed; .*did you mean 'echo'\?$"):
        get_demo("ech")
