"""What the page says, and that it asks for nothing."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cytodino.bundle.manifest import EngineVerdict
from cytodino.errors import ExportError, ParityError
from cytodino.limits import LIMITS
from cytodino_export.chain import Speed
from cytodino_export.fp16 import Fp16Report
from cytodino_export.fp16_ranges import RangeReport
from cytodino_export.gate import VariantResult
from cytodino_export.int8 import Int8Report, ReturnedGroup
from cytodino_export.parity_page import Evidence, parity_page, write_parity_page
from cytodino_export.parity_page.charts import margin_bars
from tests.export.parity_page.made_page import (
    CELLS,
    KEY,
    Make,
    Page,
    call_safe,
    link_of,
    nudge,
    page_of,
    reference_of,
    result_of,
)


def test_what_passed_is_said_and_shown(make: Make) -> None:
    page = page_of(make(nudge))
    assert "1 passed" in page.text
    assert not page.all("span", "failed")
    assert "int8 on openvino, CPU" in page.text
    assert "No cell changed its class" in page.text
    assert "slower than fp32 here" in page.text
    assert len(page.all("svg", "chart")) == 4
    assert len(page.all("div", "cell")) == 20
    assert page.text.endswith("Research software, not a medical device.")


def test_the_page_asks_for_nothing_and_runs_nothing(make: Make) -> None:
    chain, evidence = make(call_safe)
    page = parity_page(chain=chain, evidence=evidence, title="a run")
    assert not re.search(r"https?:|<script|<link|@import|url\(|\son\w+=", page)
    sources = [a.get("href") or a.get("src") or "" for _, a in Page(page).tags]
    assert all(s.startswith(("#", "data:image/png;base64,")) for s in sources if s)


def test_every_link_within_the_page_has_an_end(make: Make) -> None:
    page = page_of(make(call_safe))
    anchors = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    ends = {href[1:] for _, a in page.tags if (href := a.get("href") or "").startswith("#")}
    assert ends and ends <= anchors


def test_titles_ids_and_machines_are_escaped(make: Make) -> None:
    chain, evidence = make(nudge)
    page = parity_page(
        chain=chain, evidence=evidence, title="<b>", note="<i>", source={"path": "<u>"}
    )
    assert not re.search(r"<[biu]>", page)
    assert "Some &lt;CPU&gt;" in page


def test_what_failed_is_told_with_its_reasons_and_its_flips(make: Make) -> None:
    page = page_of(make(call_safe))
    assert "1 failed" in page.text
    assert "3 flips where the margin is at least 0.1" in page.text
    assert "2 critical flips of a clear margin" in page.text
    assert page.text.count("broken") >= 3
    assert "critical flip: MYB → LYT, clear margin" in page.text
    assert "flip: MYB → MMZ, clear margin" in page.text
    assert page.text.count("critical flip: ") == 2
    assert len(page.all("div", "flipped")) == 3
    assert "open" in page.all("details")[0]


def test_the_table_gives_speeds_and_says_where_int8_is_not_worth_it(make: Make) -> None:
    chain, evidence = make()
    (result,) = chain.variants
    assert f"{CELLS / 1.5:.3g}" in page_of((chain, evidence)).text  # in the gate: 1.5 s
    for speed, said in ((72.0, "72 (fp32 on openvino: 27)"), (20.0, "20 (not worth it here; ")):
        timed = Speed(
            images_per_second=speed,
            against="fp32 on openvino",
            against_images_per_second=27.0,
            batch_size=8,
            rounds=3,
        )
        variants = (result.model_copy(update={"speed": timed}),)
        timed_chain = chain.model_copy(update={"variants": variants})
        assert said in page_of((timed_chain, evidence)).text
        # The style sheet gives such a note a line of its own, or it pushes the column out.
        html = parity_page(chain=timed_chain, evidence=evidence, title="a run")
        (note,) = re.findall(rf'class="figure">{speed:.3g} <small>([^<]*)</small>', html)
        assert f"{speed:.3g} {note}".startswith(said)


def test_no_labels(make: Make) -> None:
    page = page_of(make(nudge, labelled=False))
    assert "none: scores cannot be compared" in page.text
    assert "no label" in page.text
    assert "macro F1, " not in page.text


def test_labels_show_the_change_of_scores(make: Make) -> None:
    page = page_of(make(call_safe))
    assert "change of macro F1, 240 labelled cells" in page.text
    assert "no class has 20 cells" in page.text
    assert re.search(r"change of weighted F1 – −0\.0\d+ recorded", page.text)


def test_macro_f1_is_judged_by_its_interval(make: Make) -> None:
    chain, evidence = make(nudge)
    labels = np.zeros(CELLS, dtype=np.int64)
    reference = reference_of(labels)
    worse = reference.copy()
    worse[:40, 1] += 9
    for candidate, word in ((reference, "holds"), (worse, "broken")):
        link = link_of(reference, candidate, labels, LIMITS["int8"])
        broken = chain.model_copy(update={"variants": (result_of(link),)})
        assert re.search(
            rf"macro F1, 240 labelled cells interval reaches 0 \S+ \(95 %: .{{1,20}}\) {word}",
            page_of((broken, evidence)).text,
        )


def test_one_cell(make: Make) -> None:
    page = page_of(make(nudge, cells=1))
    assert "1 unproven" in page.text
    assert "1 cells, 200 are needed" in page.text
    assert "cells compared ≥ 200 1 too few" in page.text
    assert not page.all("span", "failed")
    assert len(page.all("div", "cell")) == 1


def test_nothing_moved(make: Make) -> None:
    page = page_of(make(variant="fp32"))
    assert "1 passed" in page.text
    assert "open" not in page.all("details")[0]
    assert "limit ± 0.001" in page.text or "limit ± 1" in page.text


def test_a_variant_that_depends_on_its_neighbours_is_shown(make: Make) -> None:
    page = page_of(make(nudge, alone=0.5))
    assert "1 failed" in page.text
    assert re.search(r"a cell alone: \|Δp\| to a full batch ≤ 0\.001 0\.5 broken", page.text)


def test_a_variant_that_did_not_open(make: Make) -> None:
    chain, evidence = make(nudge)
    closed = VariantResult(
        variant="fp16",
        verdict=EngineVerdict(
            engine="onnxruntime",
            provider="CUDAExecutionProvider",
            machine="box",
            verdict="unproven",
            reasons=("no CUDA here",),
        ),
    )
    both = chain.model_copy(update={"variants": (*chain.variants, closed)})
    page = page_of((both, evidence))
    assert "1 passed 1 unproven" in page.text
    assert "fp16 on onnxruntime, CUDA: no CUDA here" in page.text
    assert "The engine did not open, on box." in page.text
    assert "Not measured: fp16 on onnxruntime, CUDA." in page.text


def test_answers_that_are_not_at_hand_or_not_finite_leave_the_figures(make: Make) -> None:
    chain, evidence = make(nudge)
    broken = np.full_like(evidence.reference, np.nan)
    for candidates in ({}, {KEY: broken}):
        without = Evidence(
            crops=evidence.crops,
            labels=evidence.labels,
            ids=evidence.ids,
            reference=evidence.reference,
            candidates=candidates,
        )
        page = page_of((chain, without))
        assert len(page.all("svg", "chart")) == 1
        assert not page.all("div", "cell")


def test_nothing_measured(make: Make) -> None:
    chain, evidence = make(nudge)
    page = page_of((chain.model_copy(update={"variants": ()}), evidence))
    assert "No variant was measured." in page.text
    assert "Limits by variant" not in page.text


def test_a_broken_chain_is_said_before_everything(make: Make) -> None:
    chain, evidence = make(nudge)
    labels = evidence.labels
    strayed = link_of(evidence.reference, -evidence.reference, labels, LIMITS["fp32"])
    page = page_of((chain.model_copy(update={"links": (strayed,)}), evidence))
    assert page.text.index("The chain is broken") < page.text.index("1 passed")
    assert "Nothing below may be used" in page.text


def test_what_went_back_to_float_is_listed(make: Make) -> None:
    group = ReturnedGroup(
        name="block 3 down_proj",
        nodes=("a", "b"),
        error_before=0.05,
        error_after=0.02,
        probability_before=0.08,
        probability_after=0.04,
    )
    report = Int8Report(products=70, calibration_crops=300, tuning_crops=64, returned=(group,))
    page = page_of(make(nudge, int8=report))
    assert "70 matrix products, calibrated on 300 crops" in page.text
    assert "block 3 down_proj 2 0.05 → 0.02 0.08 → 0.04" in page.text
    nothing = report.model_copy(update={"returned": ()})
    assert "No node went back to float." in page_of(make(nudge, int8=nothing)).text
    assert "matrix products" not in page_of(make(nudge, variant="bf16", int8=report)).text


def test_islands_of_float32_are_listed(make: Make) -> None:
    fp16 = Fp16Report(half_nodes=90, islands={"norm": 12}, grown=("up",), constants=(), casts=8)
    ranges = RangeReport(
        crops=32,
        tensors=80,
        limit=16_000,
        largest=20_000,
        largest_tensor="x",
        beyond={"x": 20_000},
        islands=("up",),
        reference_crops=0,
        reference_finite=True,
        reference_probability_max=None,
        failures=("x reaches 20,000",),
    )
    page = page_of(make(variant="fp16", fp16=fp16, fp16_ranges=ranges))
    assert "90 nodes in FP16; islands of float32: 12 for norm." in page.text
    assert "Float32 because of the range of a value: up" in page.text
    assert "limit 1.6 · 10⁴" in page.text
    assert "x reaches 20,000" in page.text
    plain = fp16.model_copy(update={"grown": (), "islands": {}})
    assert "islands of float32: none." in page_of(make(variant="fp16", fp16=plain)).text
    assert "FP16 tensors" in page_of(make(variant="fp16", fp16_ranges=ranges)).text


def test_bars_beyond_a_limit_stand_out(make: Make) -> None:
    chain, _ = make(call_safe)
    report = chain.variants[0].links[0].report
    bars = Page(margin_bars(report.margins, report.limits.margin))
    lengths = [float(a["width"] or 0) for a in bars.all("rect", "beyond")]
    assert sum(length > 0 for length in lengths) == 1
    assert not any(float(a["width"] or 0) for a in bars.all("rect", "within"))
    assert len(bars.all("line", "limit")) == 1
    assert Page(margin_bars(report.margins, 2.0)).all("line", "limit") == []


def test_evidence_of_other_cells_is_refused(make: Make) -> None:
    _, evidence = make(nudge)
    fields: dict[str, Any] = {
        "crops": evidence.crops,
        "labels": evidence.labels,
        "ids": evidence.ids,
        "reference": evidence.reference,
        "candidates": {KEY: evidence.candidates[KEY][:-1]},
    }
    with pytest.raises(ParityError, match=r"int8 on openvino are \(239, 21\) for 240 cells"):
        Evidence(**fields)
    with pytest.raises(ParityError, match="239 ids"):
        Evidence(**fields | {"ids": evidence.ids[1:]})


def test_it_is_written_beside_and_renamed(make: Make, tmp_path: Path) -> None:
    chain, evidence = make(nudge)
    path = tmp_path / "parity.html"
    path.write_text("old")
    write_parity_page(path, chain=chain, evidence=evidence, title="a run")
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ExportError, match="cannot be written"):
        write_parity_page(tmp_path / "no" / "p.html", chain=chain, evidence=evidence, title="a")
    blocked = tmp_path / "folder"
    blocked.mkdir()
    with pytest.raises(ExportError):
        write_parity_page(blocked, chain=chain, evidence=evidence, title="a run")
    assert sorted(tmp_path.iterdir()) == [blocked, path]
