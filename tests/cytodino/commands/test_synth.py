import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from cytodino.commands import synth as module
from cytodino.commands.synth import synth
from cytodino.console import CommandGroup
from cytodino.synthetic import STAINS


@click.group(cls=CommandGroup)
def group() -> None:
    """Stand in for the installed command."""


group.add_command(synth)


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(group, ["synth", *map(str, arguments)])


def test_the_paths_go_to_stdout_and_the_rest_to_stderr(tmp_path: Path) -> None:
    out, sheet = tmp_path / "cells", tmp_path / "sheet.png"
    result = call(out, "--cells-per-class", 1, "--size", 32, "--stain", "b", "--sheet", sheet)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [str(out), str(sheet)]
    assert "21 cells of 21 classes" in result.stderr
    assert len(list(out.rglob("*.jpg"))) == 21
    assert sheet.read_bytes().startswith(b"\x89PNG")


def test_a_terminal_sees_a_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "interactive", lambda: True)
    result = call(tmp_path / "cells", "--cells-per-class", 1, "--size", 32)
    assert "drawing cells" in result.stderr
    assert "drawing cells" not in result.stdout


def test_a_folder_in_use_ends_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "mine.txt").write_text("mine")
    result = call(tmp_path / "cells")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "name a new folder" in result.stderr


def test_a_sheet_that_is_there_is_kept_and_said_before_anything_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "sheet.png").write_text("mine")
    result = call(tmp_path / "cells", "--sheet", tmp_path / "sheet.png")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "exists already" in result.stderr
    assert not (tmp_path / "cells").exists()


def test_a_sheet_among_the_cells_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    result = call(tmp_path / "cells", "--sheet", tmp_path / "cells" / "sheet.png")
    assert result.exit_code == 1
    assert "outside" in result.stderr
    assert not (tmp_path / "cells").exists()


@pytest.mark.parametrize(
    "arguments",
    [("--size", "31"), ("--cells-per-class", "0"), ("--stain", "c"), ("--seed", "-1")],
)
def test_what_is_out_of_bounds_is_a_usage_error(tmp_path: Path, arguments: tuple[str, str]) -> None:
    result = call(tmp_path / "cells", *arguments)
    assert result.exit_code == 2
    assert not (tmp_path / "cells").exists()


def test_the_stains_of_the_command_are_those_of_the_library() -> None:
    (stain,) = [option for option in synth.params if option.name == "stain"]
    assert isinstance(stain.type, click.Choice)
    assert set(stain.type.choices) == set(STAINS)


def test_the_installed_command_draws(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("cytodino")
    if not program.exists():
        pytest.skip("cytodino is not installed beside this Python")
    done = subprocess.run(
        [program, "synth", tmp_path / "cells", "--cells-per-class", "1", "--size", "32"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'cells'}\n"
