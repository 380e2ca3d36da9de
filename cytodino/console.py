"""What the four command lines share: errors become one line, results and messages part ways.

Results and paths go to stdout, progress and messages to stderr.
"""

import sys
from typing import Any

import click
from click.exceptions import Exit

from cytodino import __version__
from cytodino.errors import CytoDinoError

CONTEXT_SETTINGS = {
    "help_option_names": ["-h", "--help"],
    "show_default": True,
    "max_content_width": 100,
}


class CommandGroup(click.Group):
    """A Click group that turns a `CytoDinoError` into one line on stderr and its exit code."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", CONTEXT_SETTINGS)
        super().__init__(*args, **kwargs)
        click.version_option(__version__, package_name="cytodino")(self)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a deliberate error ends it with its own exit code."""
        try:
            return super().invoke(ctx)
        except CytoDinoError as error:
            report_error(error)
            raise Exit(error.exit_code) from error
        except KeyboardInterrupt:
            message("interrupted")
            raise Exit(130) from None


def message(text: str) -> None:
    """Say something to the person at the terminal, on stderr."""
    click.echo(text, err=True)


def report_error(error: CytoDinoError) -> None:
    """Print an error as one line on stderr."""
    click.echo(f"error: {' '.join(str(error).split())}", err=True)


def interactive() -> bool:
    """Tell whether stderr is a terminal that can show a live progress bar."""
    return sys.stderr.isatty()
