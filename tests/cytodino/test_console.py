"""What every command owes the person at the terminal, whatever it does."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cytodino.console import CommandGroup, FiniteRange, interactive
from cytodino.errors import InputError

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
import click
from cytodino.console import CommandGroup

@click.group(cls=CommandGroup)
def main(): pass

@main.command()
@click.argument("path", type=Path)
def wait(path):
    path.write_text("half")
    try:
        child = os.fork()
        if child == 0:
            time.sleep(60)
        time.sleep(0.3)  # Python forgets the signals that come while it forks
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 143
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    finally:
        path.unlink()

@main.command()
def tell():
    click.echo("told")

main()
"""


def run_program(*arguments: str | Path, **options: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
        **options,
    )


@click.group(cls=CommandGroup)
def group() -> None:
    """Stand in for an installed command."""


@group.command()
def fail() -> None:
    """Fail deliberately."""
    raise InputError("is\nwrong", where="there", mend="mend it")


def test_a_deliberate_error_is_one_line_on_stderr() -> None:
    result = CliRunner().invoke(group, ["fail"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: there: is wrong; mend it\n"


@pytest.mark.skipif(os.name == "nt", reason="forks and sends signals")
def test_sigterm_clears_up_as_ctrl_c_does(tmp_path: Path) -> None:
    done = run_program("wait", tmp_path / "partial")
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stderr == "terminated\n"
    assert not (tmp_path / "partial").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("arguments", [("tell",), ("--help",)])
def test_a_full_disk_below_stdout_is_one_line(arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = run_program(*arguments, stdout=full)
    assert done.returncode == 1
    assert done.stderr == "error: the output: No space left on device\n"


def test_a_program_without_stderr_has_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert not interactive()


@pytest.mark.parametrize(("text", "code"), [("0.5", 0), ("nan", 2), ("inf", 2), ("0", 2)])
def test_a_number_that_cannot_be_computed_with_is_in_no_range(text, code):
    @click.command()
    @click.option("--rate", type=FiniteRange(min=0, min_open=True))
    def read(rate):
        click.echo(rate)

    result = CliRunner().invoke(read, ["--rate", text])
    assert (result.exit_code, "Traceback" in result.output) == (code, False), result.output
