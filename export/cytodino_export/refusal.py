"""What is left of an export that was refused: its report, beside the bundle that was asked for."""

import contextlib
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cytodino.run import Run
from cytodino_export.assembly import PAGE_NAME, PARITY_NAME, Parts, write_report
from cytodino_export.gate_cells import GateCells

__all__ = ["clear_report", "keep_report", "report_folder"]


def report_folder(out: Path) -> Path:
    """Folder of the report where the bundle `out` is refused; without a manifest, no bundle."""
    return out.with_name(f"{out.name}.refused")


def clear_report(out: Path) -> None:
    """Take away what an earlier attempt at the same bundle left, and nothing else."""
    folder = report_folder(out)
    with contextlib.suppress(OSError):  # not there, or it holds what others put into it
        for name in (PAGE_NAME, PARITY_NAME):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def keep_report(
    folder: Path,
    out: Path,
    run: Run,
    cells: GateCells,
    parts: Parts,
    refused: str,
    say: Callable[[str], None],
) -> Path | None:
    """Write the report of a refused export and move it to its place.

    Parameters
    ----------
    folder : Path
        Where the export is made, on the same disk as `out`.
    out : Path
        The bundle that was asked for.
    run, cells, parts : as for `assembly.assemble`
    refused : str
        Why, as a sentence; it heads the page.
    say : callable
        Told where the report cannot be kept.

    Returns
    -------
    Path or None
        The report's folder; None where it could not be moved there.

    Raises
    ------
    ExportError
        If the page cannot be written.
    """
    made = folder / "report"
    made.mkdir()
    note = f"Refused, and no bundle was written: {refused}"
    write_report(made, run, cells, parts, datetime.now(UTC), note=note)
    try:
        os.rename(made, report_folder(out))
    except OSError as error:  # the refusal matters more
        say(f"the report is lost: {report_folder(out)} cannot be written ({error.strerror})")
        return None
    return report_folder(out)
