"""The options of the command lines that say about an archive what it does not say itself."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from cytodino.archive.options import ReadOptions

__all__ = ["pop_read_options", "read_options"]

_NAMES = ("dataset", "layout", "channel_order", "labels", "ids")


def read_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add them to a command, which takes them out of its arguments by `pop_read_options`."""
    for option in (
        click.option("--ids", metavar="NAME", help="Dataset with what each crop is called."),
        click.option(
            "--labels",
            metavar="NAME",
            help="Dataset with each crop's class: codes, or numbers from 0 to 20.",
        ),
        click.option(
            "--channel-order",
            type=click.Choice(["rgb", "bgr"]),
            help="Where the file does not say it; contradicts no attribute.",
        ),
        click.option(
            "--layout",
            type=click.Choice(["nhwc", "nchw", "encoded"]),
            help="Channels last or first, or the bytes of image files; where it is ambiguous.",
        ),
        click.option(
            "--dataset",
            metavar="NAME",
            help="Dataset with the crops, groups before it with slashes; where there are several.",
        ),
    ):
        command = option(command)
    return command


def pop_read_options(given: dict[str, Any]) -> "ReadOptions":
    """Take them out of what a command was given."""
    from cytodino.archive.options import ReadOptions

    return ReadOptions(**{name: given.pop(name) for name in _NAMES})
