"""The 21 bone-marrow classes: order of the logits, lineages, maturation, critical and safe.

Source: Matek et al., Blood 138(20), 2021, DOI 10.1182/blood.2020010568 (classes); Muminov and
Pham, CytoDINO, arXiv 2512.17930, 2025 (lineages, maturation order, critical and safe).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from cytodino.errors import TaxonomyError

Risk = Literal["critical", "safe", "neutral"]


@dataclass(frozen=True)
class CellClass:
    """One class of the taxonomy."""

    code: str
    """Three letters, as in the folders of the published data set."""
    name: str
    """The haematologist's name for it, in lower case."""
    lineage: str
    """One of the keys of `LINEAGES`."""
    risk: Risk
    """critical, safe, or neutral; a critical cell called safe is a critical error."""


CLASSES: tuple[CellClass, ...] = (
    CellClass("ABE", "abnormal eosinophil", "eosinophil", "critical"),
    CellClass("ART", "artefact", "artefact", "neutral"),
    CellClass("BAS", "basophil", "basophil", "safe"),
    CellClass("BLA", "blast", "granulocytic", "critical"),
    CellClass("EBO", "erythroblast", "erythroid", "safe"),
    CellClass("EOS", "eosinophil", "eosinophil", "safe"),
    CellClass("FGC", "faggott cell", "pathological", "critical"),
    CellClass("HAC", "hairy cell", "pathological", "critical"),
    CellClass("KSC", "smudge cell", "pathological", "critical"),
    CellClass("LYI", "immature lymphocyte", "lymphoid", "critical"),
    CellClass("LYT", "lymphocyte", "lymphoid", "safe"),
    CellClass("MMZ", "metamyelocyte", "granulocytic", "neutral"),
    CellClass("MON", "monocyte", "monocytic", "safe"),
    CellClass("MYB", "myelocyte", "granulocytic", "critical"),
    CellClass("NGB", "band neutrophil", "granulocytic", "safe"),
    CellClass("NGS", "segmented neutrophil", "granulocytic", "safe"),
    CellClass("NIF", "not identifiable", "artefact", "neutral"),
    CellClass("OTH", "other cell", "artefact", "neutral"),
    CellClass("PEB", "proerythroblast", "erythroid", "neutral"),
    CellClass("PLM", "plasma cell", "lymphoid", "safe"),
    CellClass("PMO", "promyelocyte", "granulocytic", "critical"),
)
"""All classes in alphabetical order of their codes, which is the order of the logits."""

CODES: tuple[str, ...] = tuple(cell.code for cell in CLASSES)
"""The codes, in the order of the logits."""

N_CLASSES = len(CLASSES)

LINEAGES: dict[str, tuple[str, ...]] = {
    "granulocytic": ("BLA", "PMO", "MYB", "MMZ", "NGB", "NGS"),
    "erythroid": ("PEB", "EBO"),
    "lymphoid": ("LYI", "LYT", "PLM"),
    "monocytic": ("MON",),
    "eosinophil": ("EOS", "ABE"),
    "basophil": ("BAS",),
    "pathological": ("FGC", "HAC", "KSC"),
    "artefact": ("ART", "NIF", "OTH"),
}
"""Codes by lineage; those of `MATURING` stand in order of maturation."""

MATURING: tuple[str, ...] = ("granulocytic", "erythroid")
"""Lineages whose classes are stages of one maturation, given in order in `LINEAGES`."""

CRITICAL: frozenset[str] = frozenset(c.code for c in CLASSES if c.risk == "critical")
SAFE: frozenset[str] = frozenset(c.code for c in CLASSES if c.risk == "safe")

_INDEX = {code: index for index, code in enumerate(CODES)}


def index_of(code: str) -> int:
    """Return the logit index, 0 to 20, of a class code.

    Raises
    ------
    TaxonomyError
        If the code is not one of the 21.
    """
    try:
        return _INDEX[code]
    except KeyError:
        raise unknown_classes([code]) from None


def unknown_classes(names: Iterable[str], *, where: str | None = None) -> TaxonomyError:
    """Form the error that lists class names which are none of the 21."""
    listed = ", ".join(sorted(set(names)))
    return TaxonomyError(
        f"not among the 21 classes: {listed}",
        where=where,
        mend=f"name class folders by these codes: {' '.join(CODES)}",
    )


def require_order(codes: Sequence[str], *, where: str | None = None) -> None:
    """Refuse a class list that is not the 21 codes in the order of the logits.

    Raises
    ------
    TaxonomyError
        If codes are missing, unknown, or in another order.
    """
    if tuple(codes) != CODES:
        raise TaxonomyError(
            f"classes are {' '.join(codes)}",
            where=where,
            mend=f"they have to be, in this order: {' '.join(CODES)}",
        )
