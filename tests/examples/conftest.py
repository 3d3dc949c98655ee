"""One walk through an example for each test module, which names it as `EXAMPLE`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.examples.walkthrough import EXAMPLES, Walkthrough, requests, steps_of


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `step` runs once for each step behind the serve command."""
    if "step" in metafunc.fixturenames:
        readme = EXAMPLES / metafunc.module.EXAMPLE / "README.md"
        metafunc.parametrize("step", requests(steps_of(readme.read_text())), ids=str)


@pytest.fixture(scope="module")
def walk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walkthrough]:
    """The example, prepared and served as its README says."""
    folder = tmp_path_factory.mktemp("example")
    with Walkthrough(request.module.EXAMPLE, folder) as walk:
        yield walk
