"""`cytodino evaluate`: a run or a bundle held against labelled cells."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cytodino.console import interactive, message
from cytodino.parts import PARTS
from cytodino.read_options import pop_read_options, read_options

if TYPE_CHECKING:
    from rich.table import Table

    from cytodino.bootstrap import Interval
    from cytodino.evaluation import Evaluation, Part
    from cytodino.metrics import Scores

FILE_WIDTH = 100
"""Columns of a table that goes to a file or a pipe."""

LEFT = ("class", "name", "true -> predicted", "confidence")
"""Columns of words."""

PAIRS_SHOWN = 12
"""Kinds of critical error that are printed; the file has all."""


@click.command()
@click.argument("model", metavar="RUN|BUNDLE", type=click.Path(path_type=Path))
@click.argument("data", metavar="IMAGES|ARCHIVE", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="New folder for evaluation.json and evaluation.html, confusion.json, confusion.png and "
    "predictions.csv. "
    "Without it the scores are only printed.",
)
@click.option(
    "--part",
    type=click.Choice([*PARTS, "all"]),
    help="Part of the run's split to score. By default test, if the cells are those that the run "
    "was trained on, and all of any others.",
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "onnxruntime", "openvino", "pytorch"]),
    default="auto",
    help="What computes. A run is always evaluated in PyTorch.",
)
@click.option(
    "--variant",
    type=click.Choice(["auto", "fp32", "bf16", "fp16", "int8", "int8-bf16"]),
    default="auto",
    help="Which of the bundle's variants; auto takes the fastest that passed.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=32, help="Crops in one call, at most."
)
@read_options
def evaluate(
    model: Path,
    data: Path,
    out: Path | None,
    part: "Part | None",
    engine: str,
    variant: str,
    device: str,
    batch_size: int,
    **given: Any,
) -> None:
    """Score a run or a bundle on labelled cells.

    Prints weighted F1, macro F1, accuracy and weighted precision with bootstrap intervals, the
    critical errors (a critical class called safe), what confidence is worth and what the review
    threshold did, and each class with its support. --out adds a page with plots.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from cytodino.evaluation import evaluate as run_evaluation
    from cytodino.evaluation_report import require_free, write_report

    read = pop_read_options(given)
    if out is not None:
        require_free(out)
    bar = Progress(
        "classifying",
        BarColumn(),
        MofNCompleteColumn(),
        "cells",
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not interactive(),
    )
    with bar:
        task = bar.add_task("cells", total=None)
        evaluation = run_evaluation(
            model,
            data,
            part=part,
            engine=engine,
            variant=variant,
            device=device,
            batch_size=batch_size,
            read=read,
            say=message,
            progress=lambda done, of: bar.update(task, advance=done, total=of),
        )
    _print(evaluation)
    if out is None:
        message("not written to files; --out DIR keeps the scores, the confusion matrix and more")
    else:
        write_report(evaluation, out)
        click.echo(str(out))


def _print(evaluation: "Evaluation") -> None:
    from rich.console import Console

    about, scores = evaluation.provenance, evaluation.scores
    computed = about.engine
    message(
        f"{about.model_kind} {about.model}, {computed.engine} {computed.variant} on "
        f"{computed.device}; part {about.part} of {about.data}"
    )
    console = Console(highlight=False)
    if not console.is_terminal or console.width < FILE_WIDTH:
        console.width = FILE_WIDTH  # folded by a narrow terminal, but no figure is cut
    parts = (_headline(evaluation), _critical(scores), _confidence(evaluation))
    console.print(*parts, _classes(evaluation), sep="\n")


def _headline(evaluation: "Evaluation") -> "Table":
    scores, spread = evaluation.scores, evaluation.intervals
    columns = {
        "cells": str(scores.n),
        "weighted F1": _percent(scores.weighted_f1),
        "macro F1": _percent(scores.macro_f1),
        "accuracy": _percent(scores.accuracy),
        "weighted precision": _percent(scores.weighted_precision),
        "macro F1, 20+ cells": (
            "-" if scores.macro_f1_supported is None else _percent(scores.macro_f1_supported)
        ),
    }
    table = _table(
        "Scores, %",
        f"macro F1 over the {scores.macro_f1_classes} classes that occur; "
        f"{scores.macro_f1_supported_classes} of them have 20 cells or more",
        columns,
    )
    table.add_row(*columns.values())
    table.add_row(
        "95 %",
        *(
            _between(ends)
            for ends in (
                spread.weighted_f1,
                spread.macro_f1,
                spread.accuracy,
                spread.weighted_precision,
                spread.macro_f1_supported,
            )
        ),
    )
    return table


def _confidence(evaluation: "Evaluation") -> "Table | str":
    found = evaluation.confidence
    table = _table(
        "Confidence",
        "\n".join(_promises(evaluation)),
        ("confidence", "temperature", "ECE", "NLL", "confidence - accuracy"),
    )
    for name, one in (("raw", found.raw), ("calibrated", found.calibrated)):
        if one is not None:
            table.add_row(
                name,
                f"{one.temperature:.3f}",
                f"{one.reliability.ece:.4f}",
                f"{one.nll:.4f}",
                f"{one.reliability.overconfidence:+.4f}",
            )
    return table


def _promises(evaluation: "Evaluation") -> Iterator[str]:
    found = evaluation.confidence
    accepted = found.accepted
    if accepted is not None:
        right = "-" if accepted.accuracy is None else f"{accepted.accuracy:.1%}"
        yield (
            f"accepted from {accepted.promised.threshold:.4f} up: {accepted.accepted} cells "
            f"({accepted.coverage:.1%}), {right} of them right; promised: "
            f"{accepted.promised.targets.sentence()}; {'kept' if accepted.held else 'NOT kept'}"
        )
    elif found.refusal is not None:
        yield f"no threshold is promised: {found.refusal.reason}"
    else:
        yield "not calibrated: nothing is promised of any threshold"
    if found.shift is not None and found.shift.shifted:
        yield "the guarantee is not supported here: these are not like the calibration cells"


def _critical(scores: "Scores") -> "Table | str":
    errors = scores.critical_errors
    if errors.rate is None:
        return "Critical errors: not measured, for no cell is of a critical class"
    told = f"{errors.count} of {errors.critical_cells} critical cells called safe"
    told = f"Critical errors: {told} ({errors.rate:.1%})"
    if not errors.pairs:
        return told
    rest = len(errors.pairs) - PAIRS_SHOWN
    told_in = "all of them in evaluation.json (--out DIR)"
    more = f"and {rest} rarer kinds, {told_in}" if rest > 0 else None
    table = _table(told, more, ("true -> predicted", "cells"))
    for pair in errors.pairs[:PAIRS_SHOWN]:
        table.add_row(f"{pair.true} -> {pair.predicted}", str(pair.count))
    return table


def _classes(evaluation: "Evaluation") -> "Table":
    table = _table(
        "Classes, %",
        "classes without a cell that were never predicted are left out",
        ("class", "name", "support", "predicted", "precision", "recall", "F1", "F1, 95 %"),
    )
    both = zip(evaluation.scores.per_class, evaluation.intervals.per_class, strict=True)
    for row, spread in both:
        if row.support or row.predicted:
            precision = _percent(row.precision) if row.predicted else "-"
            found = (_percent(row.recall), _percent(row.f1)) if row.support else ("-", "-")
            table.add_row(
                row.code,
                row.name,
                str(row.support),
                str(row.predicted),
                precision,
                *found,
                _between(spread.f1 if row.support else None),
            )
    return table


def _table(title: str, caption: str | None, columns: "tuple[str, ...] | dict[str, str]") -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(
        title=title,
        caption=caption,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
        min_width=60,
    )
    for column in columns:
        table.add_column(column, justify="left" if column in LEFT else "right")
    return table


def _between(ends: "Interval | None") -> str:
    return "-" if ends is None else f"{100 * ends[0]:.1f}-{100 * ends[1]:.1f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
