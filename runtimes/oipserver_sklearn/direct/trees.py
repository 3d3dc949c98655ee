"""Decision trees and forests.

A forest asks one tree after the other, which for a few rows costs far more than the walk through the tree.
Gradient boosting walks through all its trees in one call and adds up what the leaves hold.  With copies of
the trees whose leaves hold their own numbers, that call finds the leaves of a forest; their values are then
gathered and summed in the order of the trees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from oipserver import Array
from oipserver_sklearn.direct.arrays import Computes, is_finite, summed

# Float32 rows [rows, columns], all finite, to values [rows, targets, classes or 1].
Values: TypeAlias = Callable[[Array], Array]

# For up to so many rows times trees.  The one call keeps the interpreter to itself, for a few ms at the most;
# with more rows, what a call per tree costs is little beside the walk.
_TOGETHER = 16384
# Numbered trees take as much memory again as the forest: 80 MB for so many nodes.
_MOST_NODES = 1_000_000


def tree_classifier(estimator: Any) -> Computes:
    """One tree's share of each class, and the labels."""
    return _classifier(estimator, _of_tree(estimator.tree_))


def tree_regressor(estimator: Any) -> Computes:
    """One tree's values."""
    return _regressor(estimator, _of_tree(estimator.tree_))


def forest_classifier(estimator: Any) -> Computes:
    """The mean of the trees' shares, and the labels."""
    # With several jobs, trees are added up as they come, and by several threads.
    return _classifier(estimator, _of_forest(estimator)) if estimator.n_jobs == 1 else {}


def forest_regressor(estimator: Any) -> Computes:
    """The mean of the trees' values."""
    return _regressor(estimator, _of_forest(estimator)) if estimator.n_jobs == 1 else {}


def single(rows: Array) -> Array | None:
    """The rows as trees read them, float32 in C order; None where one is NaN, infinite or becomes so."""
    with np.errstate(over="ignore"):
        narrow: Array = rows.astype(np.float32, order="C")
    return narrow if is_finite(narrow) else None


def _classifier(estimator: Any, values: Values) -> Computes:
    one = estimator.n_outputs_ == 1
    classes = [estimator.classes_] if one else estimator.classes_

    def shares(rows: Array) -> list[Array] | None:
        narrow = single(rows)
        if narrow is None:
            return None
        found = values(narrow)
        return [found[:, target, : len(labels)] for target, labels in enumerate(classes)]

    def probabilities(rows: Array) -> Any:
        found = shares(rows)
        return found[0] if found is not None and one else found

    def predict(rows: Array) -> Any:
        found = shares(rows)
        if found is None:
            return None
        picked = [labels.take(share.argmax(axis=1)) for labels, share in zip(classes, found, strict=True)]
        if one:
            return picked[0]
        answer = np.empty((len(rows), len(classes)), dtype=classes[0].dtype)
        for target, labels in enumerate(picked):
            answer[:, target] = labels
        return answer

    return {"predict_proba": probabilities, "predict": predict}


def _regressor(estimator: Any, values: Values) -> Computes:
    one = estimator.n_outputs_ == 1

    def predict(rows: Array) -> Array | None:
        narrow = single(rows)
        if narrow is None:
            return None
        found: Array = values(narrow)[:, :, 0]
        return found[:, 0] if one else found

    return {"predict": predict}


def _of_tree(tree: Any) -> Values:
    held, apply = tree.value, tree.apply
    return lambda rows: held.take(apply(rows), axis=0)


def _of_forest(estimator: Any) -> Values:
    trees = [part.tree_ for part in estimator.estimators_]
    many = few = _one_by_one(trees)
    if sum(tree.node_count for tree in trees) <= _MOST_NODES:
        few = _together(trees)
    most = _TOGETHER // len(trees)

    def mean(rows: Array) -> Array:
        found = few(rows) if len(rows) <= most else many(rows)
        found /= len(trees)
        return found

    return mean


def _one_by_one(trees: Sequence[Any]) -> Values:
    parts, shape = [_of_tree(tree) for tree in trees], trees[0].value.shape[1:]

    def total(rows: Array) -> Array:
        found: Array = np.zeros((len(rows), *shape))
        for part in parts:
            found += part(rows)
        return found

    return total


def _together(trees: Sequence[Any]) -> Values:
    from sklearn.ensemble._gradient_boosting import predict_stages

    numbered, held = _numbered(trees)

    def total(rows: Array) -> Array:
        numbers = np.zeros((len(trees), len(rows)))
        predict_stages(numbered, rows, 1.0, numbers.T)
        return summed(held.take(numbers.astype(np.intp), axis=0))

    return total


class _Numbered:
    """A tree whose leaves hold their numbers, counted over all trees of a forest."""

    def __init__(self, tree: Any, first: int) -> None:
        from sklearn.tree._tree import Tree

        state = tree.__getstate__()
        leaves = tree.children_left < 0
        numbers = np.zeros((tree.node_count, 1, 1))
        numbers[leaves, 0, 0] = np.arange(first, first + leaves.sum())
        self.held = tree.value[leaves]
        self.tree_ = Tree(tree.n_features, np.ones(1, dtype=np.intp), 1)
        self.tree_.__setstate__({**state, "values": numbers})


def _numbered(trees: Sequence[Any]) -> tuple[Array, Array]:
    """The trees as one stage of a boosting that has a target per tree, and the values of all leaves."""
    stage = np.empty((1, len(trees)), dtype=np.object_)
    first = 0
    for position, tree in enumerate(trees):
        stage[0, position] = _Numbered(tree, first)
        first += len(stage[0, position].held)
    return stage, np.concatenate([numbered.held for numbered in stage[0]])
