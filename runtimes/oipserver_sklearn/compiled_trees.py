"""scikit-learn's trees as ONNX TreeEnsemble nodes in double precision, for skl2onnx to put into its graphs.

skl2onnx writes trees whose leaves are float32, which are off by 1e-6 and more after a hundred additions.
TreeEnsemble (ai.onnx.ml 5) computes in float64.  Leaves are added up in scikit-learn's order, so that a
forest's sums are the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper
from skl2onnx.common.data_types import DoubleTensorType
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import (
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    ExtraTreeClassifier,
    ExtraTreeRegressor,
)

from oipserver import Array
from oipserver_sklearn.compiled_nodes import Graph

DOMAIN, VERSION = "ai.onnx.ml", 5
SUM, NO_TRANSFORM, LESS_OR_EQUAL = 1, 0, 0

_SINGLE = (DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor)
_FORESTS = (RandomForestClassifier, RandomForestRegressor, ExtraTreesClassifier, ExtraTreesRegressor)
_BOOSTED = (GradientBoostingClassifier, GradientBoostingRegressor)
_BINNED = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
TREES = (*_SINGLE, *_FORESTS, *_BOOSTED, *_BINNED)


@dataclass(frozen=True, slots=True)
class Tree:
    """A fitted tree; every array has one entry per node.

    Attributes:
        goes_left: where NaN goes.
        values: [nodes, targets], added to the targets by a leaf.
    """

    left: Array
    right: Array
    feature: Array
    threshold: Array
    goes_left: Array
    is_leaf: Array
    values: Array


@dataclass(slots=True)
class Ensemble:
    """The attributes of a TreeEnsemble node, grown tree by tree.  A leaf can add to one target only."""

    n_targets: int
    roots: list[int] = field(default_factory=list)
    inner: list[Mapping[str, Array]] = field(default_factory=list)
    leaves: list[tuple[Array, Array]] = field(default_factory=list)
    n_inner: int = 0
    n_leaves: int = 0

    def add(self, tree: Tree, targets: Sequence[int]) -> None:
        """`tree`, once for each of its targets; `targets` are theirs among those of the ensemble."""
        for column, target in enumerate(targets):
            self._add(tree, tree.values[:, column], target)

    def _add(self, tree: Tree, values: Array, target: int) -> None:
        leaf = tree.is_leaf
        number = np.where(leaf, np.cumsum(leaf) - 1 + self.n_leaves, np.cumsum(~leaf) - 1 + self.n_inner)
        # A tree that never splits is one node with its leaf on either side.
        nodes = np.flatnonzero(~leaf) if not leaf[0] else np.zeros(1, dtype=np.intp)
        left, right = (tree.left[nodes], tree.right[nodes]) if not leaf[0] else (nodes, nodes)
        self.roots.append(self.n_inner)
        self.inner.append(
            {
                "nodes_featureids": np.maximum(tree.feature[nodes], 0),
                "nodes_splits": tree.threshold[nodes],
                "nodes_missing_value_tracks_true": tree.goes_left[nodes],
                "nodes_truenodeids": number[left],
                "nodes_falsenodeids": number[right],
                "nodes_trueleafs": leaf[left],
                "nodes_falseleafs": leaf[right],
            }
        )
        self.leaves.append((values[leaf], np.full(int(leaf.sum()), target)))
        self.n_inner += len(nodes)
        self.n_leaves += int(leaf.sum())

    def attributes(self) -> dict[str, Any]:
        """As ONNX wants them."""
        nodes = {name: np.concatenate([tree[name] for tree in self.inner]) for name in self.inner[0]}
        splits = nodes.pop("nodes_splits").astype(np.float64)
        weights, targets = (np.concatenate(parts) for parts in zip(*self.leaves, strict=True))
        return {
            "n_targets": self.n_targets,
            "aggregate_function": SUM,
            "post_transform": NO_TRANSFORM,
            "tree_roots": self.roots,
            "nodes_modes": numpy_helper.from_array(np.full(self.n_inner, LESS_OR_EQUAL, dtype=np.uint8)),
            "nodes_splits": numpy_helper.from_array(splits),
            "leaf_weights": numpy_helper.from_array(weights.astype(np.float64)),
            "leaf_targetids": targets.astype(np.int64).tolist(),
            **{name: values.astype(np.int64).tolist() for name, values in nodes.items()},
        }


# ------------------------------------------------------------------------------ what is in a fitted estimator


def thresholds_of(estimator: Any) -> dict[int, Array]:
    """For each feature that a tree of `estimator` asks about, the values that it is compared with."""
    trees = [tree for tree, _ in _trees(estimator)]
    features = np.concatenate([tree.feature[~tree.is_leaf] for tree in trees])
    thresholds = np.concatenate([tree.threshold[~tree.is_leaf] for tree in trees])
    finite = np.isfinite(thresholds)  # an infinite one keeps NaN apart
    features, thresholds = features[finite], thresholds[finite]
    return {int(one): thresholds[features == one] for one in np.unique(features)}


def _trees(model: Any) -> Iterator[tuple[Tree, Sequence[int]]]:
    """The trees in the order of addition, and the targets of each."""
    if isinstance(model, _SINGLE):
        yield _tree(model.tree_, model), range(_n_targets(model))
    elif isinstance(model, _FORESTS):
        for one in model.estimators_:
            yield _tree(one.tree_, model), range(_n_targets(model))
    elif isinstance(model, _BOOSTED):
        for stage in model.estimators_:
            for target, one in enumerate(stage):
                yield _tree(one.tree_, one, model.learning_rate), [target]
    else:
        for stage in model._predictors:
            for target, one in enumerate(stage):
                yield _binned_tree(one.nodes), [target]


def _tree(tree: Any, model: Any, weight: float = 1.0) -> Tree:
    """A tree of `sklearn.tree`: `value` is [nodes, outputs, classes]."""
    values = tree.value[:, 0, :] if hasattr(model, "classes_") else tree.value[:, :, 0]
    return Tree(
        tree.children_left,
        tree.children_right,
        tree.feature,
        tree.threshold,
        tree.missing_go_to_left,
        tree.children_left == -1,
        values * weight if weight != 1.0 else values,
    )


def _binned_tree(nodes: Array) -> Tree:
    if nodes["is_categorical"].any():
        raise NotImplementedError("a tree with categorical splits")
    return Tree(
        nodes["left"],
        nodes["right"],
        nodes["feature_idx"].astype(np.int64),
        nodes["num_threshold"],
        nodes["missing_go_to_left"],
        nodes["is_leaf"].astype(bool),
        nodes["value"].reshape(-1, 1),
    )


def _n_targets(model: Any) -> int:
    """Columns of the sums: classes of a forest, outputs of a regressor, trees per stage when boosted."""
    if isinstance(model, (*_BOOSTED, *_BINNED)):
        return int(model.n_trees_per_iteration_)
    if not hasattr(model, "classes_"):
        return int(model.n_outputs_)
    if model.n_outputs_ > 1:
        raise NotImplementedError("a classifier of several targets")
    return int(model.n_classes_)


def _start(model: Any) -> Array | None:
    """What boosting starts from: one number per target."""
    if isinstance(model, _BINNED):
        if model._preprocessor is not None:
            raise NotImplementedError("categorical features")
        return np.asarray(model._baseline_prediction).ravel()
    if not isinstance(model, _BOOSTED):
        return None
    if not (isinstance(model.init_, DummyClassifier | DummyRegressor) or model.init_ == "zero"):
        raise NotImplementedError("boosting that starts from another estimator's answers")
    return np.asarray(model._raw_predict_init(np.zeros((1, model.n_features_in_)))).ravel()


def _ensemble(model: Any) -> Ensemble:
    ensemble = Ensemble(_n_targets(model))
    start = _start(model)
    if start is not None:
        ensemble.add(_constant(start), range(len(start)))
    for tree, targets in _trees(model):
        ensemble.add(tree, targets)
    return ensemble


def _constant(values: Array) -> Tree:
    """A tree of one leaf: boosting adds its start first."""
    none = np.zeros(1, dtype=np.int64)
    return Tree(none, none, none, none.astype(float), none, np.ones(1, dtype=bool), values.reshape(1, -1))


# -------------------------------------------------------------------------------------------- skl2onnx's part


def _sums(graph: Graph, operator: Any, output: str = "") -> str:
    """The value with the sums of the leaves, [rows, targets]."""
    model, rows = operator.raw_operator, operator.inputs[0].full_name
    if not isinstance(model, _BINNED):  # all but these look at float32 features
        rows = graph.add("Cast", rows, to=TensorProto.FLOAT)
    rows = graph.add("Cast", rows, to=TensorProto.DOUBLE)
    is_mean = isinstance(model, _FORESTS)
    sums = graph.add(
        "TreeEnsemble", rows, output="" if is_mean else output, domain=DOMAIN, **_ensemble(model).attributes()
    )
    return graph.add("Div", sums, graph.constants(len(model.estimators_)), output=output) if is_mean else sums


def _convert_regressor(scope: Any, operator: Any, container: Any) -> None:
    graph, output = Graph(scope, container), operator.outputs[0].full_name
    link = getattr(getattr(operator.raw_operator, "_loss", None), "link", None)
    kind = type(link).__name__ if isinstance(operator.raw_operator, _BINNED) else "IdentityLink"
    if kind == "IdentityLink":
        _sums(graph, operator, output)
    elif kind == "LogLink":
        graph.add("Exp", _sums(graph, operator), output=output)
    else:
        raise NotImplementedError(f"a loss with {kind}")


def _convert_classifier(scope: Any, operator: Any, container: Any) -> None:
    graph, model = Graph(scope, container), operator.raw_operator
    label, scores = (output.full_name for output in operator.outputs)
    sums = _sums(graph, operator)
    position = _position(graph, model, sums)
    graph.add("Gather", graph.labels(model.classes_), position, output=label, axis=0)
    boosted = isinstance(model, (*_BOOSTED, *_BINNED))
    if not boosted or container.get_options(model, {"raw_scores": False})["raw_scores"]:
        graph.add("Identity", sums, output=scores)
    elif _n_targets(model) > 1:
        graph.add("Softmax", sums, output=scores, axis=1)
    else:
        if type(model._loss).__name__ == "ExponentialLoss":
            sums = graph.add("Mul", sums, graph.constants(2.0))
        chance = graph.add("Sigmoid", sums)
        graph.add("Concat", graph.add("Sub", graph.constants(1.0), chance), chance, output=scores, axis=1)


def _position(graph: Graph, model: Any, sums: str) -> str:
    """The position of each row's label among the classes, [rows]."""
    if _n_targets(model) > 1 or not isinstance(model, (*_BOOSTED, *_BINNED)):
        return graph.add("ArgMax", sums, axis=1, keepdims=0)
    # On the border the two ways of boosting differ.
    above = "GreaterOrEqual" if isinstance(model, _BOOSTED) else "Greater"
    is_second = graph.add("Cast", graph.add(above, sums, graph.constants(0.0)), to=TensorProto.INT64)
    return graph.add("Squeeze", is_second, graph.axis(1))


def _regressor_shape(operator: Any) -> None:
    rows = operator.inputs[0].get_first_dimension()
    operator.outputs[0].set_type(DoubleTensorType([rows, _n_targets(operator.raw_operator)]))


def _classifier_shape(operator: Any) -> None:
    calculate_linear_classifier_output_shapes(operator)
    operator.outputs[1].set_type(DoubleTensorType(operator.outputs[1].type.shape))


def _is_classifier(kind: type) -> bool:
    return kind.__name__.endswith("Classifier")


CONVERTERS: Mapping[type, Callable[[Any, Any, Any], None]] = {
    kind: _convert_classifier if _is_classifier(kind) else _convert_regressor for kind in TREES
}
SHAPES: Mapping[type, Callable[[Any], None]] = {
    kind: _classifier_shape if _is_classifier(kind) else _regressor_shape for kind in TREES
}
