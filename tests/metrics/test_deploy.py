"""What stands in deploy/ fits what the server exposes: each query is PromQL and asks for what is there."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from oipserver import ModelConfig
from oipserver.core.errors import Fault
from oipserver.core.messages import ModelState
from oipserver.core.model_config import Slo
from oipserver.core.observer import Ended, Phases
from oipserver.metrics import Metrics
from tests.support import Doubler, Plane, faults, run

ROOT = Path(__file__).parent.parent.parent
DASHBOARD = ROOT / "deploy/grafana/oipserver.json"
SCRAPE = ROOT / "deploy/prometheus/prometheus.yaml"
RULES = ROOT / "deploy/prometheus/alerts.yaml"

# What Prometheus itself adds to each series of a scrape.
SCRAPED = {"job", "instance"}


@pytest.fixture(scope="module")
def exposed() -> Mapping[str, set[str]]:
    """Label names by the name of each sample that a server with a busy model exposes."""

    async def serve() -> str:
        metrics = Metrics([ModelConfig("m", "test", slo=Slo(latency=1.0, availability=0.9))])
        async with Plane({"m": Doubler()}, metrics) as plane:
            metrics.watch(plane.gate, plane.registry, "0")
            metrics.requests(Ended("http", "", "m", "1", "OK", [0.1], phases=Phases()))
            metrics.control(Ended("http", "", "", "", "OK", [0.1]))
            metrics.batch("m", "1", 1, 0.1, [0.1])
            return (await metrics.exposition(""))[1].decode()

    found: dict[str, set[str]] = {"up": set()}
    for family in parse_plain(run(serve())):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def panels() -> list[dict[str, Any]]:
    found = json.loads(DASHBOARD.read_text())["panels"]
    assert isinstance(found, list)
    return found


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def queries() -> Iterator[tuple[str, str]]:
    """Where each query stands, and the query as Prometheus gets it."""
    for panel in panels():
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$__rate_interval", "1m")
            yield f"{panel['title']} {target['refId']}", re.sub(r"\$\w+", ".*", query)
    for rule in rules():
        yield rule["alert" if "alert" in rule else "record"], rule["expr"]


QUERIES = dict(queries())


def selectors(node: Any) -> Iterator[Any]:
    """The vector selectors of a parsed query."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    elif isinstance(node, promql_parser.Call):
        yield from itertools.chain.from_iterable(map(selectors, node.args))
    elif not isinstance(node, promql_parser.NumberLiteral | promql_parser.StringLiteral):
        inner = [getattr(node, name, None) for name in ("lhs", "rhs", "expr", "vector_selector")]
        assert any(inner), f"nothing in {node}"
        yield from itertools.chain.from_iterable(selectors(each) for each in inner if each is not None)


@pytest.mark.parametrize("place", QUERIES)
def test_a_query_asks_for_what_is_there(place: str, exposed: Mapping[str, set[str]]) -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    found = list(selectors(promql_parser.parse(QUERIES[place])))
    assert found
    for selector in found:
        if selector.name not in recorded:
            assert selector.name in exposed
            wanted = {matcher.name for matcher in selector.matchers.matchers}
            assert wanted <= exposed[selector.name] | SCRAPED


def test_the_codes_and_states_asked_for_exist() -> None:
    known = {fault.code for fault in faults(Fault)} | {"OK"} | {state.value for state in ModelState}
    asked = {
        word
        for query in QUERIES.values()
        for words in re.findall(r'(?:code|state)!?=~?"([^"]*)"', query)
        for word in words.split("|")
    }
    assert asked
    assert asked <= known


def test_the_variables_of_the_dashboard_ask_for_what_is_there(exposed: Mapping[str, set[str]]) -> None:
    variables = json.loads(DASHBOARD.read_text())["templating"]["list"]
    asked = [one["query"]["query"] for one in variables if one["type"] == "query"]
    assert len(asked) == 3
    for query in asked:
        name, label = re.fullmatch(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", query).groups()  # type: ignore[union-attr]
        assert label in exposed[name] | SCRAPED
    used = set(re.findall(r"\$(\w+)", json.dumps([panel.get("targets") for panel in panels()])))
    assert used <= {one["name"] for one in variables} | {"__rate_interval"}


def test_the_panels_lie_beside_each_other_and_are_told_apart() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for cell in itertools.product(
            range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        ):
            assert taken.setdefault(cell, panel["title"]) == panel["title"]
    assert len({panel["id"] for panel in panels()}) == len(panels())
    assert all(panel["description"] for panel in panels() if panel["type"] != "row")


def test_an_alert_says_what_is_the_matter_and_how_urgent_it_is() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert alerts
    for alert in alerts:
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert set(alert["annotations"]) == {"summary", "description"}


def test_the_scrape_names_the_job_that_the_rules_ask_for() -> None:
    (scrape,) = yaml.safe_load(SCRAPE.read_text())["scrape_configs"]
    jobs = set(re.findall(r'job="([^"]*)"', RULES.read_text()))
    assert jobs == {scrape["job_name"]}


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
@pytest.mark.parametrize(
    "command",
    [
        ("check", "config", str(SCRAPE)),
        ("check", "rules", str(RULES)),
        ("test", "rules", str(Path(__file__).parent / "alerts_test.yaml")),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_promtool_accepts_it(command: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
