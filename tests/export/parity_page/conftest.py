"""A chain of one variant, and the evidence, from a change of its logits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cytodino.limits import LIMITS
from cytodino.synthetic.writer import draw_cell
from cytodino.taxonomy import CODES, N_CLASSES
from cytodino_export.gate import ParityChain
from cytodino_export.parity_page import Evidence
from tests.export.parity_page.made_page import (
    CELLS,
    KEY,
    MACHINE,
    Logits,
    Make,
    link_of,
    reference_of,
    result_of,
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
        **reports: Any,
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
            **reports,
        )
        return chain, evidence

    return build
