"""Files that are written beside the usual results where they are asked for."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter

from cytodino.archive import ReadOptions, open_archive
from cytodino_batch.classification import Classification
from cytodino_batch.header import Header
from cytodino_batch.options import ClassifyOptions
from cytodino_batch.parquet import require_parquet, write_predictions_parquet
from cytodino_batch.plan import PREDICTIONS_PARQUET, REVIEW_SHEET
from cytodino_batch.results import FileWriter
from cytodino_batch.review import list_review
from cytodino_batch.review_sheet import MOST_SHOWN, draw_review_sheet


def name_extras(options: ClassifyOptions) -> tuple[str, ...]:
    """Name the files that are asked for, before any work is done.

    Raises
    ------
    MissingExtraError
        If the library that writes one is not installed.
    """
    asked = {PREDICTIONS_PARQUET: options.parquet, REVIEW_SHEET: options.review_sheet}
    names = tuple(name for name, wanted in asked.items() if wanted)
    _require_libraries(names)
    return names


def extra_files(header: Header, archive: Path) -> dict[str, FileWriter]:
    """Give the writers of the files that a header asks for, by name.

    Parameters
    ----------
    header : Header
    archive : Path
        Where the archive lies: read again by what shows its crops, and by nothing else.

    Raises
    ------
    MissingExtraError
        If the library that writes one is not installed here, where shards are merged.
    """
    _require_libraries(header.extras)
    writers = {
        PREDICTIONS_PARQUET: write_predictions_parquet,
        REVIEW_SHEET: _sheet_writer(archive, header.provenance.read),
    }
    return {name: writers[name] for name in header.extras}


def _require_libraries(names: tuple[str, ...]) -> None:
    if PREDICTIONS_PARQUET in names:
        require_parquet()


def _sheet_writer(archive: Path, read: Mapping[str, str]) -> FileWriter:
    def write(path: Path, result: Classification, _: Mapping[str, str]) -> None:
        review = list_review(result, most=MOST_SHOWN)
        options = TypeAdapter(ReadOptions).validate_python(dict(read))
        with open_archive(archive, options=options) as opened:
            draw_review_sheet(opened, review.cells).save(path, format="PNG")

    return write
