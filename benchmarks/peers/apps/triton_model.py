"""Triton's Python backend imports it as `model.py`: the requests of a dynamic batch are one predict."""

from __future__ import annotations

import json
from typing import Any

import joblib
import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]


class TritonPythonModel:
    """A scikit-learn estimator; its file and the answer's dtype stand in the model's configuration."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the estimator."""
        config = json.loads(args["model_config"])
        self._predict = joblib.load(config["parameters"]["joblib"]["string_value"]).predict
        self._dtype = pb_utils.triton_string_to_numpy(config["output"][0]["data_type"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request with its own rows."""
        rows = [pb_utils.get_input_tensor_by_name(each, "input-0").as_numpy() for each in requests]
        together = rows[0] if len(rows) == 1 else np.concatenate(rows)
        answers = self._predict(together).reshape(len(together), -1).astype(self._dtype, copy=False)
        ends = np.cumsum([len(each) for each in rows])[:-1]
        return [
            pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("predict", part)])
            for part in np.split(answers, ends)
        ]
