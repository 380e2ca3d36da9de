"""`cytodino-batch inspect`: what would be read from an archive, for people and for programs."""

from collections.abc import Iterator
from pathlib import Path

from cytodino.archive.inspection import Inspection, draw_contact_sheet
from cytodino.archive.options import ReadOptions
from cytodino.pictures import require_new_picture, write_picture

MAX_LISTED = 10
"""Sizes, and unusable rows, that are listed before the rest is only counted."""


NO_CHECKSUMS = "none: damage that the storage itself does not find cannot be found"


def inspection_lines(found: Inspection) -> Iterator[str]:
    """Say what was found, one fact a line."""
    stored = "image files" if found.encoding == "files" else f"{found.dtype} pixels"
    tables = [name for name, has in (("ids", found.ids), ("coords", found.coords)) if has]
    yield from (
        f"{name:14} {value}"
        for name, value in (
            ("archive", found.path),
            ("layout", f"{found.layout}, {stored} in {found.dataset}"),
            ("crops", found.n),
            ("sizes", _listed([f"{n} of {size} px" for size, n in found.sizes.items()])),
            ("slide", found.slide),
            ("channel order", found.channel_order),
            ("filters", ", ".join(found.filters) or "none"),
            ("checksums", "one a row" if found.checksums else NO_CHECKSUMS),
            ("read by", found.how),
            ("tables", ", ".join(tables) or "none"),
            ("labels", _label_text(found)),
            ("file", f"{found.file_bytes / 1e6:.1f} MB"),
            (
                "reads at",
                f"{found.crops_per_second:.0f} crops/s with {found.threads} threads, "
                f"over {found.sampled} crops",
            ),
            ("unusable", f"{len(found.unusable)} of {found.sampled} crops that were read"),
        )
    )
    for row, reason in list(found.unusable.items())[:MAX_LISTED]:
        yield f"  row {row}: {reason}"


def write_sheet(archive: Path, sheet: Path, options: ReadOptions) -> None:
    """Write a contact sheet of crops spread over an archive, as a new PNG.

    Raises
    ------
    ArchiveError
        If the archive has no crop that can be shown.
    InputError
        If there is something at the path already, or it cannot be written.
    """
    require_new_picture(sheet)
    write_picture(draw_contact_sheet(archive, options=options), sheet)


def _label_text(found: Inspection) -> str:
    if found.labels is None:
        return "none"
    counts = [f"{code} {count}" for code, count in found.labels.items()]
    if found.unlabelled:
        counts.append(f"without {found.unlabelled}")
    return ", ".join(counts)


def _listed(entries: list[str]) -> str:
    rest = len(entries) - MAX_LISTED
    return ", ".join(entries[:MAX_LISTED]) + (f" and {rest} more" if rest > 0 else "")
