"""What the four command lines share: errors become one line, results and messages part ways.

Results and paths go to stdout, progress and messages to stderr.
"""

import io
import math
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import click
from click.exceptions import Exit

from cytodino import __version__
from cytodino.errors import CytoDinoError
from cytodino.telemetry import refuse_telemetry

CONTEXT_SETTINGS = {
    "help_option_names": ["-h", "--help"],
    "show_default": True,
    "max_content_width": 100,
}

MAX_BATCH = 1024
"""Crops that may be asked for in one call: 192 MB of 250 x 250 pixels."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: what a scheduler sends first. It unwinds the command as Ctrl-C does."""


class FiniteRange(click.FloatRange):
    """A range of numbers. NaN is in every range by Click's comparisons, and infinity above most."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read a number, and refuse what is none to compute with."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number


class CommandGroup(click.Group):
    """A Click group that turns a `CytoDinoError` into one line on stderr and its exit code."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", CONTEXT_SETTINGS)
        super().__init__(*args, **kwargs)
        click.version_option(__version__, package_name="cytodino")(self)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program; a full disk below stdout ends it in a line too."""
        refuse_telemetry()
        if isinstance(sys.stdout, io.TextIOWrapper):  # a path's name need not be UTF-8
            sys.stdout.reconfigure(errors="surrogateescape")
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            with suppress(OSError):
                message(f"error: {error.filename or 'the output'}: {error.strerror or error}")
            _drop_output()
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a deliberate error ends it with its own exit code."""
        try:
            with _terminable():
                return super().invoke(ctx)
        except CytoDinoError as error:
            report_error(error)
            raise Exit(error.exit_code) from error
        except Terminated:
            message("terminated")
            raise Exit(128 + signal.SIGTERM) from None
        except KeyboardInterrupt:
            message("interrupted")
            raise Exit(128 + signal.SIGINT) from None


def message(text: str) -> None:
    """Say something to the person at the terminal, on stderr."""
    click.echo(text, err=True)


def report_error(error: CytoDinoError) -> None:
    """Print an error as one line on stderr."""
    click.echo(f"error: {' '.join(str(error).split())}", err=True)


def interactive() -> bool:
    """Tell whether stderr is a terminal that can show a live progress bar."""
    return sys.stderr is not None and sys.stderr.isatty()


@contextmanager
def _terminable() -> Iterator[None]:
    """Raise `Terminated` on SIGTERM, so that half-written files are cleared away."""
    owner = os.getpid()

    def terminate(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            raise Terminated
        # A forked worker inherits this handler, and has nothing to clear away.
        os._exit(128 + number)

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # only the main thread may ask for signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _drop_output() -> None:
    """Give up what could not be written, which Python would try again when it ends."""
    with suppress(OSError, ValueError, io.UnsupportedOperation):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
