"""The Python runtime of oipserver: plain functions and classes of the user's own.

    from oipserver_python import Input, Output, function

    @function(inputs=[Input("x", "FP64", [-1, 3])], outputs=[Output("y", "FP64", [-1, 1])], batchable=True)
    def total(x):
        return x.sum(axis=1, keepdims=True)

Served by `oipserver serve --runtime python --model-uri file.py`.
"""

from __future__ import annotations

from oipserver import Input, InvalidInput, Output
from oipserver_python.contents import image, json_value, text
from oipserver_python.described import function
from oipserver_python.runtime import PythonRuntime

__all__ = ["Input", "InvalidInput", "Output", "PythonRuntime", "function", "image", "json_value", "text"]
