"""The page for people: what it says, what it shows, and that it asks for nothing."""

import base64
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytodino.bundle.manifest import EngineVerdict
from cytodino.engines.base import EngineDescription
from cytodino.errors import ExportError, ParityError
from cytodino.limits import LIMITS, Limits
from cytodino.machine import Machine
from cytodino.page.markup import number, share, tag, text
from cytodino.parity import compare
from cytodino.statistics import softmax
from cytodino.synthetic.writer import draw_cell
from cytodino.taxonomy import CODES, CRITICAL, N_CLASSES, SAFE, index_of
from cytodino_export.chain import Speed
from cytodino_export.fp16 import Fp16Report
from cytodino_export.fp16_ranges import RangeReport
from cytodino_export.gate import Invariance, Link, ParityChain, VariantResult
from cytodino_export.int8 import Int8Report, ReturnedGroup
from cytodino_export.parity_page import Evidence, cells, parity_page, write_parity_page
from cytodino_export.parity_page.cells import picture_store
from cytodino_export.parity_page.charts import margin_bars

MACHINE = Machine(
    cpu="Some <CPU>", flags=("avx2",), cores=2, system="Linux", python="3.11", versions={}
)
CELLS = 240
KEY = ("int8", "openvino", "CPU")
VOID = {"meta", "br", "path", "line", "rect", "circle", "image", "use"}

Logits = np.ndarray
Make = Callable[..., tuple[ParityChain, Evidence]]


class Page(HTMLParser):
    """Reads a page back: refuses tags that do not close, gathers text and attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.said: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((name, dict(attrs)))
        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((name, dict(attrs)))

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.said.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.said).split())

    def all(self, name: str, kind: str | None = None) -> list[dict[str, str | None]]:
        return [
            attributes
            for found, attributes in self.tags
            if found == name and (kind is None or kind in (attributes.get("class") or "").split())
        ]


def reference_of(labels: np.ndarray) -> Logits:
    logits = np.random.default_rng(0).normal(0, 0.3, (len(labels), N_CLASSES))
    logits[np.arange(len(labels)), labels] += 5
    return logits.astype(np.float32)


def link_of(reference: Logits, candidate: Logits, labels: np.ndarray, limits: Limits) -> Link:
    return Link(
        reference="PyTorch",
        candidate="int8 on openvino",
        cells="acceptance",
        batch_size=8,
        seconds=1.5,
        report=compare(reference, candidate, limits, labels),
    )


def result_of(link: Link, key: tuple[str, str, str] = KEY, *, alone: float = 0.0) -> VariantResult:
    variant, engine, provider = key
    invariance = Invariance(alone=alone, shuffled=0.0, padded=0.0, limit=1e-3)
    return VariantResult(
        variant=variant,
        verdict=EngineVerdict.from_report(
            link.report,
            engine=engine,
            provider=provider,
            machine=MACHINE.cpu,
            also_broken=invariance.failures,
        ),
        description=EngineDescription(
            engine=engine,
            variant=variant,
            device="cpu",
            provider=provider,
            version="1.0",
            options={"threads": 2},
            warnings=("slower than fp32 here",),
        ),
        links=(link, link),
        invariance=invariance,
    )


@pytest.fixture(scope="module")
def crops() -> list[np.ndarray]:
    drawn = [draw_cell(code, seed=1, size=64) for code in ("MYB", "LYT", "EOS")]
    return [drawn[place % 3] for place in range(CELLS)]


@pytest.fixture
def make(crops: list[np.ndarray]) -> Make:
    """Build a chain of one variant, and the evidence, from a change of the logits."""

    def build(
        change: Callable[[Logits], object] = lambda logits: None,
        *,
        cells: int = CELLS,
        labelled: bool = True,
        variant: str = "int8",
        alone: float = 0.0,
        **reports: object,
    ) -> tuple[ParityChain, Evidence]:
        truth = np.arange(cells) % N_CLASSES
        reference = reference_of(truth)
        candidate = reference.copy()
        change(candidate)
        labels = truth if labelled else np.full(cells, -1)
        key = (variant, *KEY[1:])
        link = link_of(reference, candidate, labels, LIMITS[variant])
        chain = ParityChain(
            machine=MACHINE,
            cells={"acceptance": cells},
            links=(),
            variants=(result_of(link, key, alone=alone),),
        )
        evidence = Evidence(
            crops=crops[:cells],
            labels=labels,
            ids=[f"{CODES[n]}/cell {row}.jpg" for row, n in enumerate(truth)],
            reference=reference,
            candidates={key: candidate},
            **reports,  # type: ignore[arg-type]  # each test names the report it gives
        )
        return chain, evidence

    return build


def page_of(made: tuple[ParityChain, Evidence], **more: object) -> Page:
    chain, evidence = made
    return Page(parity_page(chain=chain, evidence=evidence, title="a <run>", **more))  # type: ignore[arg-type]  # as above


def nudge(logits: Logits) -> None:
    logits += np.random.default_rng(1).normal(0, 0.01, logits.shape).astype(np.float32)


def call_safe(logits: Logits) -> None:
    """Take two myelocytes for lymphocytes, clearly, and one for a metamyelocyte."""
    nudge(logits)
    rows = np.flatnonzero(logits.argmax(axis=1) == index_of("MYB"))
    logits[rows[:2], index_of("LYT")] += 9
    logits[rows[2], index_of("MMZ")] += 9


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


def test_the_flip_table_marks_what_is_critical(make: Make) -> None:
    chain, evidence = make(call_safe)
    page = parity_page(chain=chain, evidence=evidence, title="a run")
    assert page.count('<td class="some critical">2</td>') == 1
    assert page.count('<td class="some">1</td>') == 1
    assert page.count('<td class="same"></td>') == N_CLASSES
    assert page.count('critical">') == len(CRITICAL) * len(SAFE)


def test_flips_come_first_among_the_worst(make: Make) -> None:
    chain, evidence = make(call_safe)
    changes = evidence.changes(chain.variants[0])
    assert changes is not None
    worst = changes.worst(20)
    assert set(worst[:3]) == set(np.flatnonzero(changes.flipped))
    rest = changes.largest[worst[3:]]
    assert (np.diff(rest) <= 0).all()
    assert rest[0] == changes.largest[~changes.flipped].max()


def test_a_card_holds_both_answers(make: Make) -> None:
    chain, evidence = make(nudge)
    changes = evidence.changes(chain.variants[0])
    assert changes is not None
    row = changes.worst(1)[0]
    first = page_of((chain, evidence)).text.split("both models.")[1][:300]
    expected = []
    for logits in (evidence.reference[row], evidence.candidates[KEY][row]):
        p = softmax(logits[None])[0]
        expected += [f"{CODES[k]} {p[k]:.3f}" for k in np.argsort(-p)[:2]]
    before, after = " ".join(expected[:2]), " ".join(expected[2:])
    assert f"PyTorch {before} int8 on openvino, CPU {after}" in first
    assert f"cell {row}.jpg" in first


def picture(attributes: dict[str, str | None]) -> Image.Image:
    data = base64.b64decode((attributes["href"] or "").split(",")[1])
    return Image.open(io.BytesIO(data))


def test_pictures_are_the_cells_and_small() -> None:
    crops = [draw_cell(code, seed=1, size=150) for code in ("MYB", "EOS", "KSC")]
    store = Page(picture_store(crops, [2, 0]))
    assert [a["id"] for a in store.all("symbol")] == ["cell-0", "cell-2"]
    for row, found in zip((0, 2), store.all("image"), strict=True):
        image = picture(found)
        assert image.size == (128, 128)
        seen = np.asarray(image.convert("RGB")).reshape(-1, 3).mean(axis=0)
        assert np.abs(seen - crops[row].reshape(-1, 3).mean(axis=0)).max() < 1


def test_a_small_crop_is_not_enlarged_and_a_long_one_keeps_its_shape() -> None:
    crops = [np.full((40, 20, 3), 90, np.uint8), np.full((64, 256, 3), 90, np.uint8)]
    stored = Page(picture_store(crops, [0, 1, 1])).all("image")
    assert [picture(found).size for found in stored] == [(20, 40), (128, 32)]


def test_pictures_stay_within_their_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = list(np.random.default_rng(0).integers(0, 256, (4, 128, 128, 3), dtype=np.uint8))
    rich = picture_store(noise, range(4))
    assert picture(Page(rich).all("image")[0]).mode == "RGB"
    for budget in (100_000, 60_000):
        monkeypatch.setattr(cells, "BUDGET", budget)
        assert len(picture_store(noise, range(4))) < budget + 1_000 < len(rich)


def test_two_thousand_cells_stay_under_three_megabytes(make: Make, crops: list[np.ndarray]) -> None:
    labels = np.arange(2_000) % N_CLASSES
    reference = reference_of(labels)
    candidate = reference.copy()
    nudge(candidate)
    link = link_of(reference, candidate, labels, LIMITS["int8"])
    keys = [(f"int8-{n}", "openvino", "CPU") for n in range(6)]
    chain = ParityChain(
        machine=MACHINE,
        cells={"acceptance": 2_000},
        links=(link,),
        variants=tuple(result_of(link, key) for key in keys),
    )
    evidence = Evidence(
        crops=[crops[row % 3] for row in range(2_000)],
        labels=labels,
        ids=[str(row) for row in range(2_000)],
        reference=reference,
        candidates=dict.fromkeys(keys, candidate),
    )
    page = parity_page(chain=chain, evidence=evidence, title="a run")
    assert len(page.encode()) < 3_000_000
    assert len(Page(page).all("image")) == 20  # one picture serves all six


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
    fields = {
        "crops": evidence.crops,
        "labels": evidence.labels,
        "ids": evidence.ids,
        "reference": evidence.reference,
        "candidates": {KEY: evidence.candidates[KEY][:-1]},
    }
    with pytest.raises(ParityError, match=r"int8 on openvino are \(239, 21\) for 240 cells"):
        Evidence(**fields)  # type: ignore[arg-type]  # a mapping of fields
    with pytest.raises(ParityError, match="239 ids"):
        Evidence(**fields | {"ids": evidence.ids[1:]})  # type: ignore[arg-type]  # as above


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


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "–"),
        (0.0, "0"),
        (0.05, "0.05"),
        (-0.25, "−0.25"),
        (123.4, "123"),
        (3.21e-6, "3.2 · 10⁻⁶"),
        (1e-4, "10⁻⁴"),
        (-2e-9, "−2 · 10⁻⁹"),
    ],
)
def test_numbers_are_written_for_people(value: float | None, said: str) -> None:
    assert number(value) == said


def test_only_the_whole_is_a_hundred_per_cent() -> None:
    shares = [share(value) for value in (None, 1.0, 0.999999, 0.966666)]
    assert shares == ["–", "100 %", "99.99 %", "96.67 %"]


def test_text_and_attributes_are_escaped() -> None:
    assert tag("a", text("<&>"), href='"', id=None) == '<a href="&quot;">&lt;&amp;&gt;</a>'
