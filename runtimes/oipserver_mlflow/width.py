"""How wide a data frame a request may ask for, found out before pandas makes it.

A column costs pandas a thousand times what its name costs a caller, and objects that have no name in common
make a frame of their product: a few hundred kilobytes would hold a processor for a minute, or gigabytes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from oipserver import BadRequest

# Columns; a model that declares more takes twice what it declares.
MOST_COLUMNS = 4096
# Cells that a frame may have whatever was sent, and how many for each value that was sent.
FREE_CELLS = 2**20
CELLS_PER_VALUE = 4


def check_csv(text: str, declared: int) -> None:
    """Refuse a table with too many columns, by its first two lines: the names, and the first values.

    Raises:
        BadRequest: too many; both numbers are told.
        csv.Error: no CSV.
    """
    for line in islice(_lines(text), 2):
        _check_columns(len(line), declared)


def check_split(data: Any, declared: int) -> None:
    """Refuse what stands in `dataframe_split`: its names are counted, and the values of its first row.

    Raises:
        BadRequest: too many columns.
    """
    if isinstance(data, dict):
        for part in (data.get("columns"), *_first_of(data.get("data"))):
            if isinstance(part, list):
                _check_columns(len(part), declared)


def check_objects(data: Any, declared: int) -> None:
    """Refuse what stands in another form: an object of columns, or a list that may hold objects.

    Raises:
        BadRequest: too many columns, or far more cells than values.
    """
    if isinstance(data, dict):
        _check_columns(len(data), declared)
    elif isinstance(data, list):
        check_records(data, declared)


def check_records(data: Sequence[Any], declared: int) -> None:
    """The same for one object per row; rows that are none are passed over."""
    records: list[Mapping[str, Any]] = [each for each in data if isinstance(each, dict)]
    names: set[str] = set()
    values = 0
    for record in records:
        names.update(record)
        values += len(record)
        _check_columns(len(names), declared)
    cells = len(records) * len(names)
    if cells > max(FREE_CELLS, CELLS_PER_VALUE * values):
        raise BadRequest(
            f"{len(records)} objects with {len(names)} different names hold {values} values only, "
            f"and would make {cells} cells: send objects with the same names"
        )


def _check_columns(columns: int, declared: int) -> None:
    most = max(MOST_COLUMNS, 2 * declared)
    if columns > most:
        raise BadRequest(f"the request has more than {most} columns, and the model declares {declared}")


def _lines(text: str) -> Iterator[list[str]]:
    """The lines that are not blank, which pandas skips."""
    return (line for line in csv.reader(io.StringIO(text, newline="")) if "".join(line).strip() or line[1:])


def _first_of(rows: Any) -> list[Any]:
    return rows[:1] if isinstance(rows, list) else []
