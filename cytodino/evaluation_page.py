"""`evaluation.html`: an evaluation on one self-contained page, for people."""

import base64
import io
from collections.abc import Iterator

from PIL import Image

from cytodino.bootstrap import Interval
from cytodino.calibration.evidence import ConfidenceEvidence, ConfidenceQuality
from cytodino.evaluation import Evaluation
from cytodino.evaluation_plots import figure, plot_classes, plot_reliability, plot_risk
from cytodino.page.markup import Html, code, fragment, table, tag, text
from cytodino.page.style import STYLE

__all__ = ["evaluation_page"]


def evaluation_page(evaluation: Evaluation, *, title: str, picture: Image.Image) -> str:
    """Write the page.

    Parameters
    ----------
    evaluation : Evaluation
    title : str
        What was scored on what.
    picture : PIL.Image.Image
        The confusion matrix.

    Returns
    -------
    str
        HTML that loads nothing from anywhere.
    """
    head = tag(
        "head",
        Html('<meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", text(f"Evaluation: {title}")),
        tag("style", Html(STYLE)),
    )
    body = tag(
        "main",
        tag("h1", text(title)),
        tag("p", text(_subject(evaluation)), class_="soft"),
        _scores(evaluation),
        _critical(evaluation),
        _confidence(evaluation.confidence),
        _classes(evaluation),
        tag("section", tag("h2", text("Confusions")), _picture(picture)),
        _provenance(evaluation),
        tag("footer", text("Research software, not a medical device.")),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", body), lang="en") + "\n"


def _subject(evaluation: Evaluation) -> str:
    about = evaluation.provenance
    return (
        f"Evaluation by CytoDINO {about.machine.versions.get('cytodino', '')}: "
        f"{about.model_kind} in {about.engine.engine} {about.engine.variant} on "
        f"{about.engine.device}, {evaluation.scores.n} cells, part {about.part}, {about.finished}"
    )


def _scores(evaluation: Evaluation) -> Html:
    scores, spread = evaluation.scores, evaluation.intervals
    few = f"macro F1, {scores.macro_f1_supported_classes} classes of 20 cells or more"
    rows = [
        ("weighted F1", scores.weighted_f1, spread.weighted_f1),
        (f"macro F1, all {scores.macro_f1_classes} classes", scores.macro_f1, spread.macro_f1),
        (few, scores.macro_f1_supported, spread.macro_f1_supported),
        ("accuracy", scores.accuracy, spread.accuracy),
        ("weighted precision", scores.weighted_precision, spread.weighted_precision),
    ]
    listed = [
        (text(name), text(_percent(value)), text(_between(ends))) for name, value, ends in rows
    ]
    said = (
        f"Columns of the published table. Intervals: {spread.method}, {spread.rounds} draws, "
        f"seed {spread.seed}; cells of one patient are more alike than this allows for."
    )
    return tag(
        "section",
        tag("h2", text("Scores, %")),
        table(("score", "value", "95 % interval"), listed, figures=(1, 2)),
        tag("p", text(said), class_="soft"),
    )


def _critical(evaluation: Evaluation) -> Html:
    errors = evaluation.scores.critical_errors
    parts = [tag("h2", text("Critical errors"))]
    if errors.rate is None:
        parts.append(tag("p", text("Not measured: no cell is of a critical class.")))
        return tag("section", *parts)
    said = (
        f"{errors.count} of {errors.critical_cells} critical cells called safe: "
        f"{_percent(errors.rate)} %, interval {_between(evaluation.intervals.critical_error_rate)}."
    )
    parts.append(tag("p", text(said), class_="lead"))
    rows = [
        (fragment((code(pair.true), text(" called "), code(pair.predicted))), text(pair.count))
        for pair in errors.pairs
    ]
    if rows:
        parts.append(table(("true class, and what it was called", "cells"), rows, figures=(1,)))
    return tag("section", *parts)


def _confidence(found: ConfidenceEvidence) -> Html:
    kinds = [("raw", found.raw), *([("calibrated", found.calibrated)] if found.calibrated else [])]
    heads = ("confidence", "temperature", "ECE", "NLL", "mean confidence − accuracy", "area, %")
    rows = [
        (
            text(name),
            text(f"{one.temperature:.3f}"),
            text(f"{one.reliability.ece:.4f}"),
            text(f"{one.nll:.4f}"),
            text(f"{one.reliability.overconfidence:+.4f}".replace("-", "−")),
            text(_percent(one.errors.area)),
        )
        for name, one in kinds
    ]
    said = (
        f"ECE: expected calibration error, {found.raw.reliability.binning}. Area: under the "
        "risk-coverage curve."
    )
    return tag(
        "section",
        tag("h2", text("Confidence")),
        *_acceptance(found),
        table(heads, rows, figures=range(1, 6)),
        tag("p", text(said), class_="soft"),
        tag("div", *_plots(kinds, found), class_="charts"),
    )


def _acceptance(found: ConfidenceEvidence) -> Iterator[Html]:
    if found.shift is not None and found.shift.shifted:
        said = (
            "The guarantee is not supported on these cells: their scores do not look like the "
            f"calibration cells' (Kolmogorov-Smirnov distance {found.shift.distance:.3f}, chance "
            f"explains {found.shift.allowed:.3f})."
        )
        yield tag("p", text(said), class_="alarm")
    accepted = found.accepted
    if accepted is not None:
        seen = "none" if accepted.accuracy is None else f"{_percent(accepted.accuracy)} %"
        said = (
            f"From confidence {accepted.promised.threshold:.4f} up, {accepted.accepted} cells are "
            f"accepted, {_percent(accepted.coverage)} %; of these {seen} are right (exact 95 % "
            f"interval {_between((accepted.accuracy_low, accepted.accuracy_high))}). "
            f"{'Kept' if accepted.held else 'Not kept'} here: "
        )
        yield tag("p", text(said), text(accepted.promised.sentence() + "."))
    elif found.refusal is not None:
        yield tag("p", text(f"No threshold is promised: {found.refusal.reason}."), class_="note")
    else:
        yield tag("p", text("Not calibrated: nothing is promised of any threshold."), class_="note")


def _plots(kinds: list[tuple[str, ConfidenceQuality]], found: ConfidenceEvidence) -> Iterator[Html]:
    for name, one in kinds:
        yield figure(
            f"Reliability, {name}",
            plot_reliability(one.reliability, f"Reliability diagram, {name}"),
            "Bars: accuracy. Narrow bars: what is missing to the claim (vermilion) or was kept "
            "beyond it (blue). On the dashed line confidence is what it says.",
        )
    accepted = found.accepted
    best = found.calibrated or found.raw
    curves = [("raw", found.raw.errors)] if found.calibrated else []
    limit = None if accepted is None else accepted.promised.targets.limits.get("errors")
    wrong = None if accepted is None or accepted.accuracy is None else 1 - accepted.accuracy
    yield figure(
        "Risk and coverage",
        plot_risk(
            [*curves, ("", best.errors)],
            "Risk-coverage curve of all errors",
            limit=limit,
            accepted=accepted,
            risk=wrong,
        ),
        "Errors among the most confident cells. "
        + ("Pale: raw. " if curves else "")
        + ("Dot: accepted cells, of which none is called critical." if accepted else ""),
    )
    yield figure(
        "Risk and coverage, critical errors",
        plot_risk([("critical", best.critical_errors)], "Risk-coverage curve of critical errors"),
        "Critical cells called safe, among the most confident cells.",
    )


def _classes(evaluation: Evaluation) -> Html:
    rows = [
        (
            code(one.code),
            text(one.name),
            text(one.support),
            text(one.predicted),
            *(
                text(f"{_percent(value)} ({_between(ends)})" if known else "–")
                for value, ends, known in (
                    (one.precision, spread.precision, one.predicted),
                    (one.recall, spread.recall, one.support),
                    (one.f1, spread.f1, one.support),
                )
            ),
        )
        for one, spread in zip(
            evaluation.scores.per_class, evaluation.intervals.per_class, strict=True
        )
        if one.support or one.predicted
    ]
    heads = ("class", "name", "cells", "predicted", "precision, %", "recall, %", "F1, %")
    said = "F1 in per cent with its 95 % interval; pale: fewer than 20 cells."
    return tag(
        "section",
        tag("h2", text("Classes")),
        tag(
            "div",
            figure("F1", plot_classes(evaluation.scores, evaluation.intervals), said),
            class_="charts single",
        ),
        table(heads, rows, figures=range(2, 7)),
    )


def _picture(picture: Image.Image) -> Html:
    stream = io.BytesIO()
    picture.quantize(64).save(stream, format="PNG", optimize=True)
    return tag(
        "img",
        src="data:image/png;base64," + base64.b64encode(stream.getvalue()).decode(),
        alt="confusion matrix: true class by predicted class",
        class_="picture",
    )


def _provenance(evaluation: Evaluation) -> Html:
    about = evaluation.provenance
    engine = about.engine
    facts = (
        ("model", f"{about.model}, SHA-256 {about.model_sha256}"),
        ("engine", f"{engine.engine} {engine.version}, {engine.provider}, {engine.variant}"),
        ("cells", f"{about.data}, fingerprint {about.data_fingerprint}"),
        ("machine", f"{about.machine.computing_on(engine.device)}, {about.machine.system}"),
        ("versions", ", ".join(f"{k} {v}" for k, v in about.machine.versions.items())),
    )
    listed = fragment(
        part for name, said in facts for part in (tag("dt", text(name)), tag("dd", text(said)))
    )
    return tag("section", tag("h2", text("What was scored, with what")), tag("dl", listed))


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def _between(ends: Interval | None) -> str:
    return "–" if ends is None else f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"
