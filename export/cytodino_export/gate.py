"""The gate: every link of the chain and every variant on every engine, against PyTorch."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytodino.bundle.manifest import EngineVerdict
from cytodino.calibration.file import ModelCalibration
from cytodino.engines.base import Engine, batched_logits
from cytodino.engines.onnxruntime import OnnxRuntimeEngine
from cytodino.engines.probe import probe
from cytodino.engines.selection import PROVIDERS, Target, open_model, targets_found, why_unproven
from cytodino.errors import EngineError, ParityError
from cytodino.limits import Limits
from cytodino.machine import Machine
from cytodino.parity import compare
from cytodino.statistics import softmax
from cytodino_export.chain import Invariance, Link, ParityChain, VariantResult
from cytodino_export.gate_cells import GateCells, Group

__all__ = ["Candidate", "Gate", "Invariance", "Link", "ParityChain", "VariantResult"]

BATCH_SIZE = 8
"""Crops in one call in production; the verdict rests on it."""

OTHER_BATCH_SIZES = (1, 7)
"""Alone, and a size that no power of two divides."""

INVARIANCE_CELLS = 24
"""Crops of one size on which a batch is shuffled and padded: three full batches."""

INVARIANCE_SHARE = 0.1
"""Share of the limit on probabilities that a cell's neighbours may make up: a tenth leaves room
for kernels that differ by batch size, and none for statistics taken over the batch."""

NO_CUDA = "no CUDA device here: run cytodino-export verify on a machine that has one"


@dataclass(frozen=True)
class Candidate:
    """A variant on an engine, and its logits; none where it did not run."""

    result: VariantResult
    golden: NDArray[np.float32] | None = None
    """float32 (n, 21), on the golden cells."""
    acceptance: NDArray[np.float32] | None = None
    """float32 (n, 21), on the acceptance cells."""
    calibration: ModelCalibration | None = None
    """Of its confidence; None where it did not pass, or there are no cells to calibrate with."""


class Gate:
    """Holds models against the reference on the gate's cells.

    Parameters
    ----------
    cells : GateCells
    reference : float32, (n, 21)
        The unmerged model's logits in PyTorch, of every one of the gate's crops.
    machine : Machine
    say : callable
        Told what is being measured.
    calibrate : callable, optional
        Calibrates the confidence of an open engine that passed.
    """

    def __init__(
        self,
        cells: GateCells,
        reference: NDArray[np.float32],
        machine: Machine,
        say: Callable[[str], None] = lambda text: None,
        calibrate: Callable[[Engine], ModelCalibration] | None = None,
    ) -> None:
        self.cells = cells
        self.reference = reference
        self.machine = machine
        self._say = say
        self._calibrate = calibrate

    def link(
        self,
        names: tuple[str, str],
        group: Group,
        candidate: Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.float32]],
        limits: Limits,
        *,
        batch_size: int = BATCH_SIZE,
        reference: NDArray[np.float32] | None = None,
    ) -> tuple[Link, NDArray[np.float32]]:
        """Measure one link on a group of cells; return it and the candidate's logits.

        Raises
        ------
        ParityError
            If the logits are not finite.
        EngineError
            If the engine fails.
        """
        began = time.perf_counter()
        logits = candidate(self.cells.pick(group))
        seconds = time.perf_counter() - began
        held = self.reference[group.rows] if reference is None else reference
        report = compare(held, logits, limits, self.cells.labels[group.rows])
        link = Link(
            reference=names[0],
            candidate=names[1],
            cells=group.name,
            batch_size=batch_size,
            seconds=round(seconds, 3),
            report=report,
        )
        return link, logits

    def judge(
        self, model: Path, variant: str, limits: Limits, *, also_broken: tuple[str, ...] = ()
    ) -> list[Candidate]:
        """Try a variant on every engine and provider of this machine that can run it.

        Parameters
        ----------
        model : Path
            ONNX file.
        variant : str
        limits : Limits
        also_broken : sentences
            What speaks against the file apart from its logits: it fails wherever it runs.
        """
        targets = [target for target in targets_found() if variant in target.variants]
        found = [self._judge(model, variant, one, limits, also_broken) for one in targets]
        if variant == "fp16" and all(target.device != "cuda" for target in targets):
            cuda = Target("onnxruntime", "cuda", PROVIDERS["cuda"])
            reasons = also_broken or (NO_CUDA,)
            found.append(self._refuse(cuda, variant, reasons, tried=bool(also_broken)))
        return found

    def _refuse(
        self,
        target: Target,
        variant: str,
        reasons: tuple[str, ...],
        *,
        tried: bool,
        opened: Engine | None = None,
    ) -> Candidate:
        verdict = EngineVerdict(
            engine=target.engine,
            provider=target.provider,
            machine=self.machine.computing_on(target.device),
            verdict="failed" if tried else "unproven",
            reasons=reasons,
        )
        description = opened.describe() if opened else None
        return Candidate(VariantResult(variant=variant, verdict=verdict, description=description))

    def _judge(
        self,
        model: Path,
        variant: str,
        target: Target,
        limits: Limits,
        also_broken: tuple[str, ...],
    ) -> Candidate:
        engine, device = target.engine, target.device
        untried = why_unproven(target, variant)
        if untried is not None:
            return self._refuse(target, variant, (untried,), tried=False)
        self._say(f"measuring {variant} on {engine}, {device}")
        broken = probe(
            model, engine=engine, variant=variant, device=device, provider=target.provider
        )
        if broken is not None:
            # CUDA may be listed and not load: that proves nothing about the variant.
            return self._refuse(target, variant, (broken,), tried=device == "cpu")
        opened = None
        try:
            with ExitStack() as stack:
                opened = whole = stack.enter_context(
                    open_model(
                        model,
                        engine=engine,
                        variant=variant,
                        device=device,
                        provider=target.provider,
                    )
                )
                if opened.describe().options.get("crop_by_crop"):
                    # It could not show that a cell sees its neighbours; for latency they meet.
                    alike = OnnxRuntimeEngine(model, variant=variant, device=device, goal="latency")
                    whole = stack.enter_context(alike)
                return self._measure(opened, whole, variant, limits, also_broken)
        except (EngineError, ParityError) as error:
            return self._refuse(target, variant, (str(error),), tried=True, opened=opened)

    def _measure(
        self,
        engine: Engine,
        whole: Engine,
        variant: str,
        limits: Limits,
        also_broken: tuple[str, ...],
    ) -> Candidate:
        """Hold an engine to the limits; `whole` is the same model computing batches whole."""

        def at(
            batch_size: int, engine: Engine = whole
        ) -> Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.float32]]:
            return lambda crops: batched_logits(engine, crops, batch_size)

        names = ("PyTorch", f"{variant} on {engine.name}")
        link, accepted = self.link(names, self.cells.acceptance, at(BATCH_SIZE, engine), limits)
        on_golden, golden = self.link(names, self.cells.golden, at(BATCH_SIZE, engine), limits)
        few = Group("golden", self.cells.golden.rows[:INVARIANCE_CELLS])
        others = [
            self.link(names, few, at(size), limits, batch_size=size)[0]
            for size in OTHER_BATCH_SIZES
        ]
        others.append(self.link(names, self.cells.odd, at(BATCH_SIZE), limits)[0])
        invariance = self._vary(whole, limits)
        also_broken += invariance.failures + tuple(
            f"{reason} ({other.cells}, batches of {other.batch_size})"
            for other in (on_golden, *others)
            for reason in other.report.failures
        )
        description = engine.describe()
        verdict = EngineVerdict.from_report(
            link.report,
            engine=engine.name,
            provider=description.provider,
            machine=self.machine.computing_on(description.device),
            also_broken=also_broken,
        )
        result = VariantResult(
            variant=variant,
            verdict=verdict,
            description=description,
            links=(link, on_golden, *others),
            invariance=invariance,
        )
        calibration = None
        if self._calibrate is not None and verdict.verdict == "passed":
            self._say(f"calibrating {variant} on {engine.name}, {engine.device}")
            calibration = self._calibrate(engine)
        return Candidate(result, golden, accepted, calibration)

    def _vary(self, engine: Engine, limits: Limits) -> Invariance:
        """Classify the same crops alone, shuffled and padded; compare with full batches."""
        crops = _of_one_shape(self.cells.pick(self.cells.golden))[:INVARIANCE_CELLS]
        batched = softmax(batched_logits(engine, crops, BATCH_SIZE))
        alone = softmax(batched_logits(engine, crops, 1))
        order = np.random.default_rng(0).permutation(len(crops))
        mixed = np.empty_like(batched)
        mixed[order] = softmax(batched_logits(engine, [crops[i] for i in order], BATCH_SIZE))
        few = np.stack(crops[: max(1, BATCH_SIZE // 2)])
        filler = np.zeros((BATCH_SIZE, *few.shape[1:]), dtype=np.uint8)
        padded = softmax(engine.logits(np.concatenate([few, filler])))[: len(few)]
        return Invariance(
            alone=float(np.abs(alone - batched).max()),
            shuffled=float(np.abs(mixed - batched).max()),
            padded=float(np.abs(padded - batched[: len(few)]).max()),
            limit=INVARIANCE_SHARE * limits.probability,
        )


def _of_one_shape(crops: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Keep the crops of the most frequent size."""
    shapes = [crop.shape for crop in crops]
    most = max(set(shapes), key=lambda shape: (shapes.count(shape), shape))
    return [crop for crop in crops if crop.shape == most]
