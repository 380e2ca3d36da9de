"""The slide's differential: cells by class, with how far the count of them can be trusted.

What is counted, the M:E ratio and the 500 cells follow the nucleated differential count of the
ICSH: Lee et al., Int. J. Lab. Hematol. 30 (2008), 349-364, DOI 10.1111/j.1751-553X.2008.01100.x,
section 2.6. Where it leaves a choice to the 21 classes, the choice is written into the file.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from cytodino.statistics import clopper_pearson
from cytodino.taxonomy import CLASSES, CODES, LINEAGES
from cytodino_batch.section import Section

APART = ("ART", "KSC", "NIF")
"""Artefacts and smudge cells: no part of a differential. KSC is critical all the same."""

MYELOID = ("BLA", "PMO", "FGC", "MYB", "MMZ", "NGB", "NGS", "EOS", "ABE", "BAS", "MON")
ERYTHROID = LINEAGES["erythroid"]

BLASTS = ("BLA",)
BLAST_THRESHOLDS = (5.0, 10.0, 20.0)
"""Percent; at each, from it upwards, classifications of leukaemia and myelodysplasia change."""

FEWEST_CELLS = 500
"""Cells that a precise percentage takes (ICSH)."""

INTERVAL = (
    "exact (Clopper-Pearson), 95 %, of sampling alone: they allow for which cells happened to be "
    "counted, not for cells that the model mistook"
)

ME_NOTE = (
    "after ICSH 2008: granulocytes, monocytes and their precursors over all erythroblasts; "
    "blasts (BLA) count as myeloid, lymphoblasts among them too, for the classes do not tell "
    "them apart; faggott cells (FGC) count as the promyelocytes that they are; the interval is "
    "that of the myeloid share of both, as odds"
)

BLAST_NOTE = (
    "BLA alone, of all counted cells; what may count as a blast in some diseases is not added: "
    "promyelocytes (PMO, FGC), monocytes (MON), immature lymphocytes (LYI), proerythroblasts (PEB)"
)

_NAMES = {cell.code: cell.name for cell in CLASSES}


class Share(Section):
    """Cells of a kind among all that are counted."""

    count: int
    percent: float | None
    """Of the counted cells, 0 to 100; None where none was counted."""
    low: float
    """Lower end of the 95 % interval, percent."""
    high: float
    """Upper end of the 95 % interval, percent."""


class ClassShare(Share):
    """Cells of one class."""

    code: str
    name: str
    lineage: str
    risk: str


class LineageShare(Share):
    """Cells of one lineage."""

    lineage: str
    codes: tuple[str, ...]
    """The classes that are added up: those of the lineage that are counted."""


class ApartCount(Section):
    """Crops of a class that is no part of the differential."""

    code: str
    name: str
    risk: str
    count: int


class MyeloidErythroid(Section):
    """The M:E ratio."""

    ratio: float | None
    low: float | None
    """Lower end of the 95 % interval; None where neither kind was counted."""
    high: float | None
    """Upper end of the 95 % interval; None where it has none, without an erythroid cell."""
    myeloid: int
    erythroid: int
    formula: str
    note: str
    reason: str | None
    """Why there is no ratio, where there is none."""


class BlastShare(Share):
    """Blasts, and what their percentage leaves open."""

    codes: tuple[str, ...]
    thresholds: tuple[float, ...]
    """Percent."""
    straddled: tuple[float, ...]
    """Thresholds that the interval has cells on both sides of: the count does not decide them."""
    note: str


class Differential(Section):
    """The section `differential` of `summary.json`."""

    counted: int
    """The denominator of every percentage."""
    denominator: str
    interval: str
    classes: tuple[ClassShare, ...]
    """Those that are counted, in the order of the logits."""
    lineages: tuple[LineageShare, ...]
    apart: tuple[ApartCount, ...]
    """Classified, but no part of the denominator."""
    unclassified: int
    """Quarantined rows, no part of the denominator either."""
    myeloid_erythroid: MyeloidErythroid
    blasts: BlastShare
    few_cells: bool
    """Whether fewer cells were counted than a precise percentage takes."""
    flags: tuple[str, ...]
    """What a reader has to know before using a number, in sentences."""


def count_differential(labels: NDArray[np.int64], *, unclassified: int) -> Differential:
    """Count a slide's cells.

    Parameters
    ----------
    labels : int64, (k,)
        Class index, 0 to 20, of each classified crop.
    unclassified : int
        Rows that were quarantined.
    """
    numbers = np.bincount(labels, minlength=len(CODES)).tolist()
    counts = dict(zip(CODES, numbers, strict=True))
    counted = sum(counts.values()) - _total(counts, APART)
    blasts = _count_blasts(counts, counted)
    few_cells = counted < FEWEST_CELLS
    return Differential(
        counted=counted,
        denominator="classified crops without " + ", ".join(f"{c} {_NAMES[c]}" for c in APART),
        interval=INTERVAL,
        classes=_share_classes(counts, counted),
        lineages=_share_lineages(counts, counted),
        apart=tuple(
            ApartCount(code=c.code, name=c.name, risk=c.risk, count=counts[c.code])
            for c in CLASSES
            if c.code in APART
        ),
        unclassified=unclassified,
        myeloid_erythroid=relate_myeloid(_total(counts, MYELOID), _total(counts, ERYTHROID)),
        blasts=blasts,
        few_cells=few_cells,
        flags=tuple(_flags(counted, few_cells, blasts)),
    )


def straddles(low: float, high: float, threshold: float) -> bool:
    """Tell whether an interval leaves open if a value lies below a threshold, or on or above it.

    All three in the same unit. A threshold belongs to what is above it: 20 % blasts are enough.
    """
    return low < threshold <= high


def relate_myeloid(myeloid: int, erythroid: int) -> MyeloidErythroid:
    """Divide myeloid by erythroid cells.

    The interval is exact given how many cells are of either kind: their myeloid share is a
    proportion p, and the ratio its odds p / (1 - p), which rise with p.
    """
    low, high = (_odds(end) for end in clopper_pearson(myeloid, myeloid + erythroid))
    none_at_all = myeloid + erythroid == 0
    return MyeloidErythroid(
        ratio=round(myeloid / erythroid, 4) if erythroid else None,
        low=None if none_at_all else low,
        high=high,
        myeloid=myeloid,
        erythroid=erythroid,
        formula=f"({' + '.join(MYELOID)}) / ({' + '.join(ERYTHROID)})",
        note=ME_NOTE,
        reason=None if erythroid else f"no erythroid cell ({', '.join(ERYTHROID)}) was counted",
    )


def _share(count: int, counted: int) -> Share:
    low, high = clopper_pearson(count, counted)
    return Share(
        count=count,
        percent=round(100 * count / counted, 4) if counted else None,
        low=round(100 * low, 4),
        high=round(100 * high, 4),
    )


def _share_classes(counts: dict[str, int], counted: int) -> tuple[ClassShare, ...]:
    return tuple(
        ClassShare(
            **dict(_share(counts[cell.code], counted)),
            code=cell.code,
            name=cell.name,
            lineage=_lineage_name(cell.lineage),
            risk=cell.risk,
        )
        for cell in CLASSES
        if cell.code not in APART
    )


def _share_lineages(counts: dict[str, int], counted: int) -> tuple[LineageShare, ...]:
    kept = {name: [c for c in codes if c not in APART] for name, codes in LINEAGES.items()}
    return tuple(
        LineageShare(
            **dict(_share(_total(counts, codes), counted)),
            lineage=_lineage_name(name),
            codes=tuple(codes),
        )
        for name, codes in kept.items()
    )


def _count_blasts(counts: dict[str, int], counted: int) -> BlastShare:
    share = _share(_total(counts, BLASTS), counted)
    return BlastShare(
        **dict(share),
        codes=BLASTS,
        thresholds=BLAST_THRESHOLDS,
        straddled=tuple(t for t in BLAST_THRESHOLDS if straddles(share.low, share.high, t)),
        note=BLAST_NOTE,
    )


def _flags(counted: int, few_cells: bool, blasts: BlastShare) -> Iterable[str]:
    if few_cells:
        yield (
            f"{counted} cells counted: a precise percentage takes at least {FEWEST_CELLS} "
            "(ICSH 2008)"
        )
    if blasts.straddled:
        open_ones = " and ".join(f"{threshold:g}" for threshold in blasts.straddled)
        yield (
            f"blasts: the interval from {blasts.low:.1f} to {blasts.high:.1f} % straddles "
            f"{open_ones} %: this count does not decide on which side they lie"
        )


def _total(counts: dict[str, int], codes: Iterable[str]) -> int:
    return sum(counts[code] for code in codes)


def _odds(p: float) -> float | None:
    return round(p / (1 - p), 4) if p < 1 else None


def _lineage_name(lineage: str) -> str:
    """Name a lineage by what is left of it: of the artefacts only OTH, other cells, is counted."""
    return "other" if lineage == "artefact" else lineage
