"""The command `cytodino`: draw, pack, train, calibrate, evaluate."""

import click

from cytodino.commands.calibrate import calibrate
from cytodino.commands.evaluate import evaluate
from cytodino.commands.import_checkpoint import import_checkpoint
from cytodino.commands.pack import pack
from cytodino.commands.synth import synth
from cytodino.commands.train import train
from cytodino.console import CommandGroup


@click.group(cls=CommandGroup)
def main() -> None:
    """From images of single bone-marrow cells to a trained classifier.

    Research software, not a medical device. `cytodino-export` makes a bundle of the trained run,
    `cytodino-batch` classifies archives with it.
    """


main.add_command(synth)
main.add_command(pack)
main.add_command(train)
main.add_command(calibrate)
main.add_command(evaluate)
main.add_command(import_checkpoint)
