import pytest

from cytodino.errors import TaxonomyError
from cytodino.taxonomy import (
    CLASSES,
    CODES,
    CRITICAL,
    LINEAGES,
    MATURING,
    N_CLASSES,
    SAFE,
    index_of,
    require_order,
)


def test_21_classes_in_alphabetical_order() -> None:
    assert N_CLASSES == 21
    assert list(CODES) == sorted(CODES)
    assert len(set(CODES)) == 21


def test_every_class_stands_in_its_lineage_once() -> None:
    listed = [code for codes in LINEAGES.values() for code in codes]
    assert sorted(listed) == list(CODES)
    assert all(cell.code in LINEAGES[cell.lineage] for cell in CLASSES)
    assert set(MATURING) <= set(LINEAGES)


def test_critical_and_safe_are_those_of_the_paper() -> None:
    assert frozenset(["BLA", "MYB", "PMO", "FGC", "HAC", "KSC", "ABE", "LYI"]) == CRITICAL
    assert frozenset(["NGS", "NGB", "LYT", "MON", "EOS", "BAS", "PLM", "EBO"]) == SAFE


def test_index_of() -> None:
    assert [index_of(code) for code in CODES] == list(range(21))
    with pytest.raises(TaxonomyError, match="not among the 21 classes: XYZ"):
        index_of("XYZ")


def test_another_order_is_refused() -> None:
    require_order(list(CODES))
    with pytest.raises(TaxonomyError, match="in this order"):
        require_order(list(reversed(CODES)), where="run.json")
