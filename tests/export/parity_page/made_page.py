"""Made-up answers, the chain of what was found of them, and the page read back."""

from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import numpy as np

from cytodino.bundle.manifest import EngineVerdict
from cytodino.engines.base import EngineDescription
from cytodino.limits import Limits
from cytodino.machine import Machine
from cytodino.parity import compare
from cytodino.taxonomy import N_CLASSES, index_of
from cytodino_export.gate import Invariance, Link, ParityChain, VariantResult
from cytodino_export.parity_page import Evidence, parity_page

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


def page_of(made: tuple[ParityChain, Evidence], **more: Any) -> Page:
    chain, evidence = made
    return Page(parity_page(chain=chain, evidence=evidence, title="a <run>", **more))


def nudge(logits: Logits) -> None:
    logits += np.random.default_rng(1).normal(0, 0.01, logits.shape).astype(np.float32)


def call_safe(logits: Logits) -> None:
    """Take two myelocytes for lymphocytes, clearly, and one for a metamyelocyte."""
    nudge(logits)
    rows = np.flatnonzero(logits.argmax(axis=1) == index_of("MYB"))
    logits[rows[:2], index_of("LYT")] += 9
    logits[rows[2], index_of("MMZ")] += 9
