"""Run the other commands as a user does: as programs of their own."""

import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

from cytodino.errors import EngineError

__all__ = ["run_program"]

MODULES = {
    "cytodino": "cytodino.cli",
    "cytodino-export": "cytodino_export.cli",
    "cytodino-batch": "cytodino_batch.cli",
}


def run_program(program: str, *words: str | Path, accept: Collection[int] = (0,)) -> str:
    """Run a command by this interpreter, and return what it wrote to stdout.

    Raises
    ------
    EngineError
        If it ends with an exit code that is not accepted, with the last it said.
    """
    code = f"from {MODULES[program]} import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode not in accept:
        said = done.stderr.strip().splitlines()
        raise EngineError(
            f"{program} {words[0]} ended with {done.returncode}: {said[-1] if said else ''}"
        )
    return done.stdout
