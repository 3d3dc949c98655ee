"""What the methods of scikit-learn's own estimators compute, without what scikit-learn does around it.

A request's shape, datatype and values were checked before it was queued; scikit-learn would check them
again, and its parameters and its names as well, which for one row takes far longer than the answer.

Rule: the same numpy and Cython operations in the same order, so that no bit of an answer changes.  That is
tried while the model is loaded, and whatever differs, or is not known here, is called as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from oipserver_sklearn.direct import boosting, kernels, linear, network, steps, trees
from oipserver_sklearn.direct.arrays import FLOAT64, Compute, Computes
from oipserver_sklearn.direct.parity import difference

log = logging.getLogger("oipserver.sklearn")

_METHODS = ("predict", "transform", "predict_proba", "decision_function")
_SEARCHES = ("GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV")

# By name: a class is imported by the file that holds an estimator of it, never for this table.
_KINDS: Sequence[tuple[Callable[[Any], Computes], Sequence[str]]] = (
    (linear.logistic, ("LogisticRegression", "LogisticRegressionCV", "LinearDiscriminantAnalysis")),
    (linear.descent, ("SGDClassifier",)),
    (linear.ridge, ("RidgeClassifier", "RidgeClassifierCV")),
    (linear.classifier, ("LinearSVC", "Perceptron", "PassiveAggressiveClassifier")),
    (linear.regressor, ("LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV", "ElasticNet")),
    (linear.regressor, ("ElasticNetCV", "MultiTaskLasso", "MultiTaskElasticNet", "HuberRegressor")),
    (linear.regressor, ("LinearSVR", "SGDRegressor", "PassiveAggressiveRegressor")),
    (trees.tree_classifier, ("DecisionTreeClassifier", "ExtraTreeClassifier")),
    (trees.tree_regressor, ("DecisionTreeRegressor", "ExtraTreeRegressor")),
    (trees.forest_classifier, ("RandomForestClassifier", "ExtraTreesClassifier")),
    (trees.forest_regressor, ("RandomForestRegressor", "ExtraTreesRegressor")),
    (boosting.classifier, ("GradientBoostingClassifier",)),
    (boosting.regressor, ("GradientBoostingRegressor",)),
    (boosting.histogram_classifier, ("HistGradientBoostingClassifier",)),
    (boosting.histogram_regressor, ("HistGradientBoostingRegressor",)),
    (network.classifier, ("MLPClassifier",)),
    (network.regressor, ("MLPRegressor",)),
    (kernels.classifier, ("SVC", "NuSVC")),
    (kernels.regressor, ("SVR", "NuSVR")),
    (steps.standard_scaler, ("StandardScaler",)),
    (steps.min_max_scaler, ("MinMaxScaler",)),
    (steps.components, ("PCA",)),
)
_RECIPES = {name: recipe for recipe, names in _KINDS for name in names}


def direct_call(estimator: Any, method: str) -> Callable[[Any], Any] | None:
    """A function that answers as that method of a fitted estimator does; None where none is known.

    The function takes float64 rows [rows, columns] and never writes into them.  It leaves to the method
    itself whatever it cannot answer: rows that hold NaN or infinity, another width.
    """
    own, kind = getattr(estimator, method), type(estimator).__name__
    try:
        compute, width = _computes(estimator).get(method), estimator.n_features_in_
    except Exception as error:  # private attributes are another release's to rename
        log.debug("%s.%s is called as it is: %s: %s", kind, method, type(error).__name__, error)
        return None
    if compute is None:
        return None
    call = _guarded(compute, own, width)
    if found := difference(call, own, width):
        log.debug("%s.%s is called as it is: %s", kind, method, found)
        return None
    return call


def _guarded(compute: Compute, own: Callable[[Any], Any], width: int) -> Callable[[Any], Any]:
    def call(rows: Any) -> Any:
        if rows.dtype == FLOAT64 and rows.shape[1:] == (width,):
            answer = compute(rows)
            if answer is not None:
                return answer
        return own(rows)

    return call


def _computes(estimator: Any) -> Computes:
    """What is known of each method of `estimator`."""
    kind = type(estimator).__name__
    if not _is_untouched(estimator):
        return {}
    if kind == "Pipeline":
        return steps.chained([_computes(step) for step in steps.steps_of(estimator)])
    if kind in _SEARCHES:
        return _computes(estimator.best_estimator_)
    return _RECIPES[kind](estimator) if kind in _RECIPES else {}


def _is_untouched(estimator: Any) -> bool:
    """Whether class and methods are scikit-learn's own: no subclass, nothing patched in."""
    kind = type(estimator)
    methods = [getattr(kind, method, kind) for method in _METHODS]
    return (
        all(part.__module__.startswith("sklearn.") for part in (kind, *methods))
        and not vars(estimator).keys() & _METHODS
    )
