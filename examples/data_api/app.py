"""A data API beside a model: flowers are measured, named by the model, and kept in a database.

The handlers are plain functions: each runs on a thread, where a database may block.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.requests import Request

from oipserver import App, InvalidInput, Models, NotFound

app = App()

MEASUREMENTS = ("sepal_length", "sepal_width", "petal_length", "petal_width")  # in cm


@contextmanager
def database() -> Iterator[sqlite3.Connection]:
    """One connection for one request; what it changed is kept when nothing was raised."""
    connection = sqlite3.connect("flowers.db")
    connection.row_factory = sqlite3.Row
    try:
        with connection:
            yield connection
    finally:
        connection.close()


@app.on_start
def create_table() -> None:
    with database() as db:
        columns = ", ".join(f"{name} REAL" for name in MEASUREMENTS)
        db.execute(f"CREATE TABLE IF NOT EXISTS flowers (id INTEGER PRIMARY KEY, {columns}, species TEXT)")


@app.post("/flowers")
def add(body: Any, models: Models) -> tuple[int, dict[str, Any]]:
    row = measured(body)
    species = name(row, models)
    with database() as db:
        sql = "INSERT INTO flowers VALUES (NULL, ?, ?, ?, ?, ?) RETURNING *"
        return 201, dict(db.execute(sql, [*row, species]).fetchone())


@app.get("/flowers")
def find(request: Request) -> list[dict[str, Any]]:
    with database() as db:
        sql = "SELECT * FROM flowers WHERE ? IN (species, '') ORDER BY id"
        return [dict(row) for row in db.execute(sql, [request.query_params.get("species", "")])]


@app.get("/flowers/{number}")
def get(number: int) -> dict[str, Any]:
    with database() as db:
        return there(db.execute("SELECT * FROM flowers WHERE id = ?", [number]), number)


@app.put("/flowers/{number}")
def change(number: int, body: Any, models: Models) -> dict[str, Any]:
    row = measured(body)
    species = name(row, models)
    with database() as db:
        columns = ", ".join((*MEASUREMENTS, "species"))
        sql = f"UPDATE flowers SET ({columns}) = (?, ?, ?, ?, ?) WHERE id = ? RETURNING *"  # noqa: S608
        return there(db.execute(sql, [*row, species, number]), number)


@app.delete("/flowers/{number}")
def remove(number: int) -> None:
    with database() as db:
        there(db.execute("DELETE FROM flowers WHERE id = ? RETURNING *", [number]), number)


def name(row: list[float], models: Models) -> str:
    """What the model calls it.  The question is batched with those of every other caller of the server."""
    return models.infer_sync("iris", {"input-0": [row]})["predict"][0, 0].decode()


def measured(body: Any) -> list[float]:
    """The measurements in the order of the model's columns."""
    for column in MEASUREMENTS:
        value = body.get(column) if isinstance(body, dict) else None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidInput(f"'{column}': expected a number of centimetres")
    return [float(body[column]) for column in MEASUREMENTS]


def there(found: sqlite3.Cursor, number: int) -> dict[str, Any]:
    row = found.fetchone()
    if row is None:
        raise NotFound(f"no flower {number}")
    return dict(row)
