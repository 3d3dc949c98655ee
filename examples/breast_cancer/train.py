"""Trains the classifier and writes `model.joblib`, and `request.json` with two patients it has not seen."""

import json

import joblib
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

data = load_breast_cancer()
labels = data.target_names[data.target]  # "malignant", "benign"
X_train, X_test, y_train, y_test = train_test_split(data.data, labels, random_state=0)

model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X_train, y_train)
joblib.dump(model, "model.joblib")

rows = {"name": "input-0", "shape": [2, 30], "datatype": "FP64", "data": X_test[:2].tolist()}
outputs = [{"name": "predict"}, {"name": "predict_proba"}]
with open("request.json", "w") as file:
    json.dump({"id": "two-patients", "inputs": [rows], "outputs": outputs}, file)

print(f"accuracy on {len(y_test)} patients it has not seen: {model.score(X_test, y_test):.2f}")
