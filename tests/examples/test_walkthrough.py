"""The reader of READMEs notices what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.walkthrough import EXAMPLES, Step, difference, preparations, requests, steps_of

README = """
1. Train:

   ```sh
   python train.py
   ```
   ```text
   accuracy 0.9
   ```

2. Serve, as `serve.yaml` says, which is

   ```yaml
   name: iris
   ```
   ```sh
   oipserver --config serve.yaml
   ```

3. Ask:

   ```sh
   curl -s http://localhost:8080/v2
   ```
   ```json about
   {"share": 0.5}
   ```
   ```python
   print("no answer is shown")
   ```

   An answer has to stand right behind its step:

   ```json
   {}
   ```
"""


def test_steps_are_read_with_their_answers() -> None:
    steps = steps_of(README)
    assert steps == [
        Step("sh", "python train.py\n", "text", "accuracy 0.9\n"),
        Step("sh", "oipserver --config serve.yaml\n"),
        Step("sh", "curl -s http://localhost:8080/v2\n", "json", '{"share": 0.5}\n', 0.1),
        Step("python", 'print("no answer is shown")\n'),
    ]
    assert preparations(steps) == steps[:1]
    assert requests(steps) == steps[2:]


@pytest.mark.parametrize(
    ("shows", "shown", "said"),
    [
        ("json", '{"a": [1, 2.0, "x", null, true]}', '{"a": [1, 2.0001, "x", null, true]}'),
        ("json", '{"a": "...", "...": "..."}', '{"a": [1], "b": 2, "c": 3}'),
        ("json", '[1, "..."]', "[1, 2, 3]"),
        ("text", "accuracy 0.9...\n", "accuracy 0.9432"),
    ],
)
def test_an_answer_as_shown(shows: str, shown: str, said: str) -> None:
    assert difference(Step("sh", "", shows, shown), said) == ""


@pytest.mark.parametrize(
    ("shows", "shown", "said", "place"),
    [
        ("json", '{"a": 1}', '{"a": 2}', "the answer.a"),
        ("json", '{"a": 1}', '{"a": true}', "the answer.a"),
        ("json", '{"a": 1}', '{"a": 1, "b": 2}', "'b'"),
        ("json", '{"a": 1, "...": "..."}', '{"b": 2}', "'a'"),
        ("json", "[1, 2]", "[1]", "expected 2 elements"),
        ("json", '[1, 2, "..."]', "[1]", "expected 2 elements"),
        ("json", "[0.5]", "[0.51]", "the answer[0]"),
        ("json", "[0.0]", "[0.01]", "the answer[0]"),
        ("text", "accuracy 0.9\n", "accuracy 0.94", "expected"),
    ],
)
def test_another_answer(shows: str, shown: str, said: str, place: str) -> None:
    assert place in difference(Step("sh", "", shows, shown), said)


def test_about_is_not_anything() -> None:
    step = Step("sh", "", "json", "[0.5]", 0.1)
    assert difference(step, "[0.54]") == ""
    assert difference(step, "[0.6]") != ""


def test_every_example_has_a_test_and_a_line_in_the_table() -> None:
    table = (EXAMPLES / "README.md").read_text()
    for readme in EXAMPLES.glob("*/README.md"):
        name = readme.parent.name
        assert f"[{name}]({name}/README.md)" in table
        assert (Path(__file__).parent / f"test_{name}.py").exists(), name
