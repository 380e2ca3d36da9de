import click
import pytest
from click.testing import CliRunner

from cytodino import errors
from cytodino.console import CommandGroup
from cytodino.errors import (
    CropError,
    CytoDinoError,
    InputError,
    MissingCellsError,
    MissingExtraError,
    MissingPathError,
    ParityError,
)

TREE = """
CytoDinoError
  TaxonomyError
  InputError
    MissingPathError
    MissingCellsError
    ArchiveError
    CropError
  BundleError
  EngineError
    MissingExtraError
  TrainingError
    DivergedError
  ExportError
    MergeError
    ParityError
"""


def test_the_tree() -> None:
    drawn: list[str] = []

    def draw(error: type[CytoDinoError], depth: int) -> None:
        drawn.append("  " * depth + error.__name__)
        for child in error.__subclasses__():
            draw(child, depth + 1)

    draw(CytoDinoError, 0)
    assert drawn == TREE.strip().splitlines()
    assert sorted(errors.__all__) == sorted(line.strip() for line in drawn)


def test_an_error_says_where_what_and_how_to_mend_it() -> None:
    error = InputError("holds no image", where="cells", mend="name a folder of images")
    assert str(error) == "cells: holds no image; name a folder of images"
    assert str(CropError("is grey", where="a.h5", row=3)) == "a.h5: row 3: is grey"
    assert (
        str(MissingExtraError("torch", "train"))
        == "torch is not installed; run: pip install 'cytodino[train]'"
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("x"), 1),
        (MissingPathError("x"), 2),
        (MissingCellsError("x"), 2),
        (ParityError("x"), 4),
        (KeyboardInterrupt(), 130),
    ],
)
def test_a_command_ends_with_the_errors_exit_code_and_one_line(
    error: BaseException, code: int
) -> None:
    @click.group(cls=CommandGroup)
    def group() -> None: ...

    @group.command()
    def fail() -> None:
        raise error

    result = CliRunner().invoke(group, ["fail"])
    assert result.exit_code == code
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1


def test_a_bug_is_not_hidden() -> None:
    @click.group(cls=CommandGroup)
    def group() -> None: ...

    @group.command()
    def fail() -> None:
        raise ValueError("a bug")

    result = CliRunner().invoke(group, ["fail"])
    assert isinstance(result.exception, ValueError)
