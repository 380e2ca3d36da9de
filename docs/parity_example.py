"""Write `docs/parity-example.html`: drawn cells and made-up answers, no patient and no model.

    python docs/parity_example.py [FILE]

The answers are drawn so that every verdict occurs: what a real export finds is in the bundle's
own `parity.html`.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytodino.bundle.manifest import EngineVerdict
from cytodino.engines.base import EngineDescription
from cytodino.limits import LIMITS
from cytodino.machine import Machine
from cytodino.parity import compare
from cytodino.synthetic.writer import draw_set
from cytodino.taxonomy import CODES, N_CLASSES, index_of
from cytodino_export.gate import Invariance, Link, ParityChain, VariantResult
from cytodino_export.parity_page import Evidence, write_parity_page

CELLS_PER_CLASS = 20
SIZE = 56
COLOURS = 16
"""Of a drawn cell, so that the page stays below 500 kB: it lies in the repository."""

NOTE = (
    "An example: the cells are drawn by a program and the answers are made up, so that every "
    "verdict occurs. No patient's cell and no model stands behind it."
)

MACHINE = Machine(
    cpu="Example CPU",
    flags=("avx2", "avx512f", "avx512_vnni", "avx512_bf16"),
    cores=8,
    system="Linux x86_64",
    python="3.11",
    versions={"cytodino": "0.1.0", "onnxruntime": "1.32.0", "openvino": "2026.4.1"},
)

CPU = "CPUExecutionProvider"

MADE: tuple[tuple[str, str, str, float], ...] = (
    ("fp32", "onnxruntime", CPU, 2e-6),
    ("bf16", "openvino", "CPU", 0.011),
    ("int8", "openvino", "CPU", 0.026),
    ("int8", "onnxruntime", CPU, 0.05),
)
"""Variant, engine, provider, and the noise of its made-up logits (standard deviation)."""

FAVOURED = ("LYT", "EOS", "MMZ")
"""Classes that the failing variant leans to."""

NEIGHBOURS = {"BLA": "LYI", "PMO": "MYB", "MYB": "MMZ", "MMZ": "NGB", "NGB": "NGS", "NGS": "NGB"}
NEIGHBOURS |= {"PEB": "EBO", "EBO": "LYT", "LYT": "LYI", "LYI": "LYT", "ABE": "EOS", "EOS": "ABE"}
"""What a class is taken for most easily; any other class for an artefact."""


def made_logits(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float32]:
    """Make up a model's logits: sure of most cells, torn between neighbours on some."""
    n = len(labels)
    logits = rng.normal(0, 0.9, (n, N_CLASSES))
    rows = np.arange(n)
    second = [index_of(NEIGHBOURS.get(CODES[label], "ART")) for label in labels]
    logits[rows, labels] += 6.0
    logits[rows, second] += np.where(rng.random(n) < 0.25, rng.normal(5.5, 0.8, n), 2.0)
    return logits.astype(np.float32)


def result_of(
    key: tuple[str, str, str],
    reference: NDArray[np.float32],
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
) -> VariantResult:
    """Judge made-up answers as the gate judges real ones."""
    variant, engine, provider = key
    limits = LIMITS[variant]
    change = float(np.abs(logits - reference).max())

    def link(name: str, rows: slice, batch_size: int) -> Link:
        report = compare(reference[rows], logits[rows], limits, labels[rows])
        return Link(
            reference="PyTorch",
            candidate=f"{variant} on {engine}",
            cells=name,
            batch_size=batch_size,
            seconds=round(report.n / 40, 1),
            report=report,
        )

    links = (link("acceptance", slice(None), 8), link("golden", slice(0, 256), 8))
    return VariantResult(
        variant=variant,
        verdict=EngineVerdict.from_report(
            links[0].report, engine=engine, provider=provider, machine=MACHINE.cpu
        ),
        description=EngineDescription(
            engine=engine,
            variant=variant,
            device="cpu",
            provider=provider,
            version=MACHINE.versions[engine],
            options={"threads": 8},
        ),
        links=(*links, link("golden", slice(0, 24), 1)),
        invariance=Invariance(
            alone=1e-4 * change, shuffled=0.0, padded=0.0, limit=0.1 * limits.probability
        ),
    )


def fewer_colours(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Reduce a crop (h, w, 3) to `COLOURS` colours."""
    return np.asarray(Image.fromarray(crop).quantize(COLOURS).convert("RGB"))


def unproven() -> VariantResult:
    """Make up a variant that this machine cannot try."""
    verdict = EngineVerdict(
        engine="onnxruntime",
        provider="CUDAExecutionProvider",
        machine=MACHINE.cpu,
        verdict="unproven",
        reasons=("this machine has no CUDA device: run cytodino-export verify on one that has",),
    )
    return VariantResult(variant="fp16", verdict=verdict)


def main(path: Path) -> None:
    """Draw the cells, make the answers up, judge them, and write the page."""
    drawn = [
        (fewer_colours(crop), label, f"{code}/{code}_{number + 1:05d}.jpg")
        for label, code in enumerate(CODES)
        for number, _, crop in draw_set(code, CELLS_PER_CLASS, size=SIZE, stain="a", seed=3)
    ]
    labels = np.array([label for _, label, _ in drawn])
    rng = np.random.default_rng(5)
    reference = made_logits(labels, rng)
    candidates = {}
    for variant, engine, provider, noise in MADE:
        # Heavy tails: a few cells stray much further than the rest, as quantisation makes them.
        strayed = noise * rng.standard_t(6, reference.shape)
        candidates[variant, engine, provider] = (reference + strayed).astype(np.float32)
    for code in FAVOURED:
        candidates["int8", "onnxruntime", CPU][:, index_of(code)] += 1.1
    results = [result_of(key, reference, found, labels) for key, found in candidates.items()]
    merged = (reference + 1e-6 * rng.normal(size=reference.shape)).astype(np.float32)
    chain = ParityChain(
        machine=MACHINE,
        cells={"acceptance": len(labels), "golden": 256},
        links=(
            Link(
                reference="unmerged",
                candidate="merged",
                cells="golden",
                batch_size=8,
                seconds=11.2,
                report=compare(reference[:256], merged[:256], LIMITS["fp32"], labels[:256]),
            ),
        ),
        variants=(*results, unproven()),
    )
    evidence = Evidence(
        crops=[crop for crop, _, _ in drawn],
        labels=labels,
        ids=[name for _, _, name in drawn],
        reference=reference,
        candidates=candidates,
    )
    write_parity_page(
        path, chain=chain, evidence=evidence, title="Parity of an example bundle",
        source={"path": "drawn", "parts": ["test"]}, note=NOTE,
    )  # fmt: skip


if __name__ == "__main__":
    main(
        Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("parity-example.html")
    )
