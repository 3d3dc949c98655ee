"""Trains a classifier of irises and saves it with MLflow, with a signature, as the folder `model`."""

import shutil

import mlflow.sklearn
import sklearn
from mlflow.models import infer_signature
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

X, y = load_iris(return_X_y=True)
classifier = LogisticRegression(max_iter=1000).fit(X, y)

shutil.rmtree("model", ignore_errors=True)
mlflow.sklearn.save_model(
    classifier,
    "model",
    signature=infer_signature(X, classifier.predict(X)),
    pip_requirements=[
        f"scikit-learn=={sklearn.__version__}"
    ],  # otherwise MLflow starts a process to find out
)
