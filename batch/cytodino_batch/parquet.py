"""`predictions.parquet`: what `predictions.csv` says, typed, with all probabilities beside it."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from cytodino.errors import MissingExtraError
from cytodino.paths import printable
from cytodino.taxonomy import CODES
from cytodino_batch.classification import Classification

PROBABILITY_PREFIX = "p_"
"""Begins the name of each class's column of probabilities: `p_BLA`."""


def require_parquet() -> None:
    """Refuse to begin what could not be written in the end.

    Raises
    ------
    MissingExtraError
        If pyarrow is not installed.
    """
    if find_spec("pyarrow") is None:
        raise MissingExtraError("pyarrow", "parquet")


def write_predictions_parquet(
    path: Path, result: Classification, attributes: Mapping[str, str]
) -> None:
    """Write one row a classified crop, in row order; the same result gives the same bytes.

    Columns: those of `predictions.csv`, x and y of the archive's own type (null without
    coordinates), critical and review as booleans, then `p_` and the code of each class, float32.
    """
    import pyarrow.parquet

    schema = _schema(result, attributes)
    # Opened here: pyarrow takes no path that is not UTF-8.
    with path.open("wb") as file, pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for part in result.parts():
            writer.write_table(pyarrow.table(_columns(result, part, schema), schema=schema))


def _schema(result: Classification, attributes: Mapping[str, str]) -> Any:
    import pyarrow as pa

    coordinate = pa.float64()
    if result.coords is not None:
        coordinate = pa.from_numpy_dtype(result.coords.dtype.newbyteorder("="))
    label = pa.dictionary(pa.int8(), pa.string())
    fields = [
        ("row", pa.int64()),
        ("id", pa.string()),
        ("x", coordinate),
        ("y", coordinate),
        ("label", label),
        ("confidence", pa.float32()),
        ("runner_up", label),
        ("critical", pa.bool_()),
        ("review", pa.bool_()),
        *((f"{PROBABILITY_PREFIX}{code}", pa.float32()) for code in CODES),
    ]
    return pa.schema(fields, metadata={"format": "cytodino predictions", **attributes})


def _columns(result: Classification, part: slice, schema: Any) -> dict[str, Any]:
    import pyarrow as pa

    rows = result.rows[part]
    best, second = result.ranking[part].astype(np.int8).T
    codes = pa.array(CODES)
    probabilities = result.probabilities(part)
    columns = {
        "row": rows,
        "id": [printable(result.ids[row]) for row in rows.tolist()],
        "label": pa.DictionaryArray.from_arrays(np.ascontiguousarray(best), codes),
        "confidence": result.confidence[part],
        "runner_up": pa.DictionaryArray.from_arrays(np.ascontiguousarray(second), codes),
        "critical": result.critical[part],
        "review": result.review[part],
    }
    for axis, name in enumerate("xy"):
        columns[name] = (
            pa.nulls(len(rows), schema.field(name).type)
            if result.coords is None
            else result.coords[rows, axis].astype(result.coords.dtype.newbyteorder("="))
        )
    for index, code in enumerate(CODES):
        columns[f"{PROBABILITY_PREFIX}{code}"] = np.ascontiguousarray(probabilities[:, index])
    return columns
