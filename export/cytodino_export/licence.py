"""DINOv3's licence travels with the weights made from it."""

import shutil
from pathlib import Path
from typing import Literal

from cytodino.errors import InputError
from cytodino.run import Run, open_run

__all__ = ["NOTICE_NAME", "licence_of", "write_licence"]

NOTICE_NAME = "LICENSE-DINOV3-NOTICE.md"
LICENCE_URL = "https://ai.meta.com/resources/models-and-libraries/dinov3-license/"

Origin = Literal["meta", "random", "unknown"]
"""Where the backbone's weights began: Meta's DINOv3, random numbers, or nobody says."""

SENTENCES: dict[Origin, str] = {
    "meta": "The weights derive from Meta's DINOv3 and are governed by the DINOv3 License.",
    "random": "The backbone was trained from random weights; the DINOv3 License does not apply.",
    "unknown": "Where the weights derive from Meta's DINOv3, the DINOv3 License governs them.",
}

LONGEST_ANCESTRY = 16
"""Runs that were begun from other runs: further back nobody looks."""


def licence_of(run: Run) -> str:
    """Say in one sentence which licence governs a run's weights."""
    return SENTENCES[_origin(run)]


def write_licence(run: Run, folder: Path) -> list[Path]:
    """Write the notice, and copy the licence's own text where it lies beside the backbone.

    Returns
    -------
    list of Path
        The files written.
    """
    notice = folder / NOTICE_NAME
    notice.write_text(
        "# Licence of the weights in this bundle\n\n"
        f"{licence_of(run)}\n\n"
        f"- Backbone: `{run.manifest.backbone.source}` ({run.manifest.backbone.kind})\n"
        f"- The DINOv3 License: <{LICENCE_URL}>. Who passes on weights derived from DINOv3 has to "
        "pass on a copy of it.\n"
        "- The CytoDINO software itself is under Apache-2.0; that says nothing about weights.\n",
        encoding="utf-8",
    )
    written = [notice]
    for source in _licence_texts(run):
        target = folder / f"LICENSE-DINOV3{source.suffix or '.txt'}"
        if not target.exists():
            shutil.copyfile(source, target)
            written.append(target)
    return written


def _licence_texts(run: Run) -> list[Path]:
    folders = [run.backbone_path]
    backbone = run.manifest.backbone
    if backbone.kind == "folder" and backbone.path is not None:  # not a run's
        folders.append(Path(backbone.path))
    return [file for folder in folders for file in sorted(folder.glob("LICENSE*"))]


def _origin(run: Run) -> Origin:
    """Follow the runs that a backbone came through back to its beginning."""
    for _ in range(LONGEST_ANCESTRY):
        record = run.manifest.backbone
        if record.kind == "random":
            return "random"
        if record.kind == "hub" or _licence_texts(run):
            return "meta"
        if record.kind != "run":
            return "unknown"
        try:
            run = open_run(Path(record.source))
        except InputError:
            return "unknown"
    return "unknown"
