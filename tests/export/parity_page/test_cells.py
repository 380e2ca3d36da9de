"""The cells that the page shows: which, how, and how small."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from cytodino.limits import LIMITS
from cytodino.statistics import softmax
from cytodino.synthetic.writer import draw_cell
from cytodino.taxonomy import CODES, CRITICAL, N_CLASSES, SAFE
from cytodino_export.gate import ParityChain
from cytodino_export.parity_page import Evidence, cells, parity_page
from cytodino_export.parity_page.cells import picture_store
from tests.export.parity_page.made_page import (
    KEY,
    MACHINE,
    Make,
    Page,
    call_safe,
    link_of,
    nudge,
    page_of,
    reference_of,
    result_of,
)


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
