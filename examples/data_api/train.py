"""Trains the model that names flowers, and writes `model.joblib`."""

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

iris = load_iris()
species = iris.target_names[iris.target]  # "setosa", "versicolor", "virginica"
joblib.dump(LogisticRegression(max_iter=1000).fit(iris.data, species), "model.joblib")
