"""The trees of histogram-based gradient boosting.

scikit-learn walks rows through one tree per call, and for a few rows the call costs far more than the walk.
All trees in one array of nodes, behind nodes that ask for the number of a tree, need a single call: with the
rows repeated for each tree, and its number as one more column.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from oipserver import Array
from oipserver_sklearn.direct.arrays import Compute, summed

# Up to so many rows, with so many values, repeating them costs less than a call per tree.
_FEW, _SMALL = 32, 8192
# Up to so many rows, threads cost more than they take over.
_ONE_THREAD = 256


def raw(estimator: Any) -> Compute | None:
    """The sums of the trees [rows, targets]; None where categories have to be encoded first."""
    from sklearn.ensemble._hist_gradient_boosting._predictor import _predict_from_raw_data
    from sklearn.utils._openmp_helpers import _openmp_effective_n_threads

    if estimator._preprocessor is not None:
        return None
    trees = [tree for stage in estimator._predictors for tree in stage]
    stages, targets = len(estimator._predictors), estimator.n_trees_per_iteration_
    categories = (trees[0].raw_left_cat_bitsets, *estimator._bin_mapper.make_known_categories_bitsets())
    numbers = np.arange(len(trees), dtype=np.float64)[:, np.newaxis]
    start = estimator._baseline_prediction.reshape(-1, 1)

    def walk(nodes: Array, rows: Array, leaves: Array) -> None:
        threads = 1 if len(rows) <= _ONE_THREAD else _openmp_effective_n_threads()
        _predict_from_raw_data(nodes, rows, *categories, threads, leaves)

    def one_by_one(rows: Array, leaves: Array) -> None:
        for tree, part in zip(trees, leaves, strict=True):
            walk(tree.nodes, rows, part)

    def together(rows: Array, leaves: Array) -> None:
        count, width = rows.shape
        repeated = np.empty((len(trees), count, width + 1))
        repeated[:, :, :width] = rows
        repeated[:, :, width] = numbers
        walk(routed, repeated.reshape(-1, width + 1), leaves.reshape(-1))

    def total(rows: Array) -> Array:
        values = np.empty((1 + stages, targets, len(rows)))
        values[0] = start
        fill = together if len(rows) <= _FEW and rows.size <= _SMALL else one_by_one
        fill(rows, values[1:].reshape(len(trees), len(rows)))
        return summed(values).T

    routed = _routed([tree.nodes for tree in trees], estimator.n_features_in_)
    return total


def _routed(trees: Sequence[Array], column: int) -> Array:
    """The nodes of all trees, behind a tree that finds the one whose number stands in `column`."""
    routes = len(trees) - 1
    roots = list(accumulate(map(len, trees), initial=routes))
    nodes = np.concatenate([np.zeros(routes, dtype=trees[0].dtype), *trees])
    for root, end in pairwise(roots):
        inner = np.flatnonzero(nodes["is_leaf"][root:end] == 0) + root
        nodes["left"][inner] += root
        nodes["right"][inner] += root
    free = iter(range(routes))

    def route(first: int, end: int) -> int:
        """The node behind which the trees from `first` to before `end` are found."""
        if end - first == 1:
            return roots[first]
        node, middle = next(free), (first + end) // 2
        nodes["feature_idx"][node], nodes["num_threshold"][node] = column, middle - 0.5
        nodes["left"][node], nodes["right"][node] = route(first, middle), route(middle, end)
        return node

    route(0, len(trees))
    return nodes
