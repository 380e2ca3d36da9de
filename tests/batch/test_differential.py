import numpy as np
import pytest

from cytodino.taxonomy import CODES, CRITICAL, LINEAGES, index_of
from cytodino_batch.differential import (
    APART,
    ERYTHROID,
    MYELOID,
    count_differential,
    relate_myeloid,
    straddles,
)


def count(unclassified: int = 0, **cells: int):
    """Count a slide of so many cells of each class."""
    labels = [index_of(code) for code, number in cells.items() for _ in range(number)]
    return count_differential(np.array(labels, dtype=np.int64), unclassified=unclassified)


def share_of(found, code):
    return next(entry for entry in found.classes if entry.code == code)


def test_percentages_are_of_the_counted_cells_with_their_exact_interval():
    blasts = share_of(count(BLA=25, NGS=475), "BLA")
    assert (blasts.count, blasts.percent) == (25, 5.0)
    # scipy.stats.beta.ppf(0.025, 25, 476) and (0.975, 26, 475)
    assert (blasts.low, blasts.high) == (3.2615, 7.2928)


@pytest.mark.parametrize(
    ("blasts", "others", "expected"),
    [(0, 100, (0.0, 0.0, 3.6217)), (100, 0, (100.0, 96.3783, 100.0))],
)
def test_none_and_all_have_an_interval_too(blasts, others, expected):
    found = count(BLA=blasts, NGS=others).blasts
    assert (found.percent, found.low, found.high) == expected


def test_artefacts_and_smudge_cells_are_counted_apart():
    found = count(NGS=60, OTH=40, ART=7, KSC=11, NIF=13, unclassified=5)
    assert found.counted == 100
    assert share_of(found, "NGS").percent == 60.0
    assert {entry.code: entry.count for entry in found.apart} == {"ART": 7, "KSC": 11, "NIF": 13}
    assert found.unclassified == 5
    assert not {entry.code for entry in found.classes} & set(APART)
    assert all(code in found.denominator for code in APART)


def test_smudge_cells_are_apart_and_critical_all_the_same():
    assert "KSC" in CRITICAL
    (smudge,) = [entry for entry in count(KSC=3).apart if entry.code == "KSC"]
    assert (smudge.count, smudge.risk) == (3, "critical")


def test_each_class_is_counted_once_in_one_lineage():
    found = count(**dict.fromkeys(CODES, 2))
    codes = [code for lineage in found.lineages for code in lineage.codes]
    assert sorted(codes + list(APART)) == sorted(CODES)
    assert sum(lineage.count for lineage in found.lineages) == found.counted == 36
    assert {lineage.lineage for lineage in found.lineages} == {*LINEAGES, "other"} - {"artefact"}
    assert {entry.lineage for entry in found.classes} == {e.lineage for e in found.lineages}


def test_lineage_sums_have_the_interval_of_their_own_count():
    found = count(PEB=10, EBO=15, NGS=475)
    (erythroid,) = [entry for entry in found.lineages if entry.lineage == "erythroid"]
    assert erythroid.codes == ("PEB", "EBO")
    assert (erythroid.count, erythroid.percent) == (25, 5.0)
    assert (erythroid.low, erythroid.high) == (3.2615, 7.2928)


def test_the_ratio_of_myeloid_to_erythroid_cells():
    # By hand: 300 / 100, whatever else lies on the slide.
    found = count(NGS=250, BLA=20, MON=20, FGC=10, EBO=90, PEB=10, LYT=500, PLM=50, HAC=9, ART=99)
    ratio = found.myeloid_erythroid
    assert (ratio.myeloid, ratio.erythroid, ratio.ratio) == (300, 100, 3.0)
    # scipy.stats.beta.ppf of 300 in 400: 0.704548 and 0.791662; p / (1 - p)
    assert (ratio.low, ratio.high) == pytest.approx((2.3846, 3.7999), abs=1e-3)
    assert ratio.formula == (
        "(BLA + PMO + FGC + MYB + MMZ + NGB + NGS + EOS + ABE + BAS + MON) / (PEB + EBO)"
    )
    assert "blasts (BLA) count as myeloid" in ratio.note


def test_what_is_neither_myeloid_nor_erythroid_leaves_the_ratio_alone():
    assert set(CODES) - set(MYELOID) - set(ERYTHROID) == {
        "LYI", "LYT", "PLM", "HAC", "OTH", *APART
    }  # fmt: skip


def test_without_an_erythroid_cell_there_is_no_ratio_but_the_reason():
    ratio = relate_myeloid(50, 0)
    assert (ratio.ratio, ratio.high) == (None, None)
    assert ratio.reason == "no erythroid cell (PEB, EBO) was counted"
    assert ratio.low == pytest.approx(0.025 ** (1 / 50) / (1 - 0.025 ** (1 / 50)), abs=1e-3)


def test_without_a_myeloid_cell_the_ratio_is_nought():
    ratio = relate_myeloid(0, 50)
    assert (ratio.ratio, ratio.low, ratio.reason) == (0.0, 0.0, None)
    assert ratio.high == pytest.approx(0.025 ** (-1 / 50) - 1, abs=1e-3)


@pytest.mark.parametrize(
    ("low", "high", "open_side"),
    [
        (4.9, 5.1, True),
        (5.0, 9.0, False),  # all of it is 5 % or more
        (3.0, 5.0, True),  # its upper end is 5 % already
        (3.0, 4.9999, False),
        (5.0, 5.0, False),
    ],
)
def test_a_threshold_belongs_to_what_is_above_it(low, high, open_side):
    assert straddles(low, high, 5.0) is open_side


@pytest.mark.parametrize(
    ("blasts", "straddled"),
    [(0, ()), (25, (5.0,)), (36, ()), (50, (10.0,)), (75, ()), (100, (20.0,)), (400, ())],
)
def test_blasts_are_flagged_where_the_interval_straddles_a_threshold(blasts, straddled):
    found = count(BLA=blasts, NGS=500 - blasts)
    expected = [t for t in (5, 10, 20) if found.blasts.low < t <= found.blasts.high]
    assert list(found.blasts.straddled) == expected
    assert found.blasts.straddled == straddled
    assert any("straddles" in flag for flag in found.flags) is bool(straddled)


def test_the_flag_names_every_threshold_that_is_open():
    (flag,) = [flag for flag in count(BLA=4, NGS=36).flags if "straddles" in flag]
    assert flag == (
        "blasts: the interval from 2.8 to 23.7 % straddles 5 and 10 and 20 %: "
        "this count does not decide on which side they lie"
    )


@pytest.mark.parametrize(("cells", "few"), [(499, True), (500, False), (501, False)])
def test_fewer_than_500_cells_are_flagged(cells, few):
    found = count(NGS=cells, ART=1000)
    assert found.few_cells is few
    assert any(f"{cells} cells counted" in flag for flag in found.flags) is few


def test_an_empty_slide_knows_nothing():
    found = count(unclassified=4)
    assert found.counted == 0
    assert {entry.percent for entry in (*found.classes, *found.lineages)} == {None}
    assert (found.blasts.low, found.blasts.high) == (0.0, 100.0)
    assert found.blasts.straddled == (5.0, 10.0, 20.0)
    ratio = found.myeloid_erythroid
    assert (ratio.ratio, ratio.low, ratio.high) == (None, None, None)
    assert found.few_cells


def test_artefacts_alone_are_an_empty_slide():
    found = count(ART=600, KSC=300, NIF=100)
    assert found.counted == 0
    assert sum(entry.count for entry in found.apart) == 1000
    assert found.few_cells


def test_the_intervals_are_said_to_be_of_sampling_alone():
    assert "of sampling alone" in count(NGS=1).interval
