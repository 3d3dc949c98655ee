"""The Python runtime keeps the contract that the server builds on, whatever shape the function has."""

from __future__ import annotations

from pathlib import Path

import pytest
from oipserver_python import PythonRuntime

from oipserver.testing import check_runtime

HEAD = """
import asyncio
from oipserver_python import Input, Output, function
X = [Input("x", "FP64", [-1, 2]), Input("t", "BYTES", [-1], min_length=1)]
Y = [Output("y", "FP64", [-1, 2]), Output("u", "BYTES", [-1])]
"""
KINDS = {
    "batchable": "@function(inputs=X, outputs=Y, batchable=True)\ndef f(x, t): return x * 2, t + t\n",
    "alone": "@function(inputs=X, outputs=Y)\ndef f(x, t):\n    x += 1\n    return {'y': x, 'u': t}\n",
    "rows": "@function(inputs=X, outputs=Y, per_row=True)\ndef f(x, t): return x.tolist(), t.decode()\n",
    "async": "@function(inputs=X, outputs=Y, batchable=True)\nasync def f(x, t):\n"
    "    await asyncio.sleep(0)\n    return x, t\n",
    "generator": "@function(inputs=X, outputs=Y)\ndef f(x, t): yield x, t\n",
    "example": "@function(inputs=X, outputs=Y, batchable=True, example={'x': [[1, 2]], 't': ['a']})\n"
    "def f(x, t): return 1 / x, t\n",
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_contract_is_kept(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "model.py"
    file.write_text(HEAD + KINDS[kind])
    check_runtime(PythonRuntime, file)
