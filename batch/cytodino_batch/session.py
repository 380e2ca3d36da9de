"""Bundle and engine of a run, opened and checked before the first crop."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from cytodino.bundle import Bundle, open_bundle
from cytodino.bundle.confidence import load_confidence
from cytodino.bundle.golden import check_golden, load_golden
from cytodino.bundle.reference import GIVE_ITS_RUN, require_its_run
from cytodino.calibration.file import ModelCalibration
from cytodino.console import message
from cytodino.engines import Engine, open_engine
from cytodino.engines.tuned import Choice, open_chosen
from cytodino.errors import EngineError, ParityError
from cytodino_batch.batch_size import BatchChoice, fixed_batch_size, measure_batch_size
from cytodino_batch.options import ClassifyOptions
from cytodino_batch.summary import NOT_CHECKED, Comparison

GOLDEN_CELLS = 32
"""Golden cells that are run before the first crop; `cytodino-export verify` runs all of them."""


@dataclass(frozen=True)
class Session:
    """What is opened once and used for every archive."""

    bundle: Bundle
    engine: Engine
    batch: BatchChoice
    golden: Comparison | None
    """None where `--parity off` skipped it."""
    reference: Engine | None = None
    """PyTorch, for live parity."""
    reference_sha256: str | None = None
    """Of the reference's `run.json`."""
    tuned: Choice | None = None
    """What `cytodino-bench tune` chose here; None where the engine was not chosen by it."""
    calibration: ModelCalibration | None = None
    """The bundle's, for the variant and engine that run; None where it has none."""

    @property
    def batch_size(self) -> int:
        """Crops that the engine gets together, where no journal says otherwise."""
        return self.batch.size

    @property
    def statement(self) -> str:
        """Say in one line what was checked."""
        if self.golden is None:
            return NOT_CHECKED
        return f"golden check {self.golden.sentence()}"


@contextmanager
def open_session(options: ClassifyOptions) -> Iterator[Session]:
    """Open bundle and engine, and hold the engine against PyTorch on golden cells.

    A reference has to be the run that the bundle was exported from: its `run.json` is the one
    that the bundle names, and in live parity PyTorch itself has to pass the same golden cells.

    Raises
    ------
    InputError
        If the reference is another run.
    BundleError, EngineError, MissingExtraError
        If bundle or engine cannot be opened.
    ParityError
        If no variant has passed, or the engine or the reference strays on the golden cells.
    """
    bundle = open_bundle(options.bundle)
    reference_sha256 = _hash_reference(bundle, options)
    with ExitStack() as stack:
        engine, tuned = _open_engine(bundle, options)
        stack.enter_context(engine)
        batch = _choose_batch(bundle, engine, options, tuned)
        reference = None
        if options.parity == "live":
            reference = stack.enter_context(_open_reference(bundle, options))
            _require_golden(bundle, reference, batch.size, mend=GIVE_ITS_RUN)
        golden = None
        if options.parity != "off":
            golden = _require_golden(
                bundle,
                engine,
                batch.size,
                mend="choose another --engine or --variant, or export the run again; "
                "cytodino-export verify tells more",
            )
        yield Session(
            bundle=bundle,
            engine=engine,
            batch=batch,
            golden=golden,
            reference=reference,
            reference_sha256=reference_sha256,
            tuned=tuned,
            calibration=_find_calibration(bundle, engine),
        )


def _find_calibration(bundle: Bundle, engine: Engine) -> ModelCalibration | None:
    confidence, found = load_confidence(bundle), engine.describe()
    if confidence is None:
        return None
    return confidence.find(variant=found.variant, engine=found.engine, provider=found.provider)


def _open_engine(bundle: Bundle, options: ClassifyOptions) -> tuple[Engine, Choice | None]:
    """Open what was tuned here where all is left open, else what was asked for."""
    if options.engine == options.variant == "auto":
        opened = open_chosen(bundle, device=options.device, say=message)
        if opened is not None:
            return opened
    engine = open_engine(
        bundle,
        engine=options.engine,
        variant=options.variant,
        device=options.device,
        reference=options.reference,
    )
    return engine, None


def _choose_batch(
    bundle: Bundle, engine: Engine, options: ClassifyOptions, tuned: Choice | None
) -> BatchChoice:
    if options.batch_size is not None:
        return BatchChoice(options.batch_size)
    if options.shard is not None:
        return BatchChoice(fixed_batch_size(engine.device))
    if tuned is not None:
        return BatchChoice(tuned.batch_size)
    return measure_batch_size(engine, load_golden(bundle, cells=GOLDEN_CELLS).crops)


def _open_reference(bundle: Bundle, options: ClassifyOptions) -> Engine:
    if options.reference is None:
        raise EngineError("live parity needs the run itself", mend="give --reference RUN")
    return open_engine(bundle, engine="pytorch", device=options.device, reference=options.reference)


def _require_golden(bundle: Bundle, engine: Engine, batch_size: int, *, mend: str) -> Comparison:
    report = check_golden(bundle, engine, cells=GOLDEN_CELLS, batch_size=batch_size)
    if report.verdict == "failed":
        raise ParityError(
            f"{engine.name} {engine.variant} on {engine.device} strays from the bundle's "
            f"PyTorch model on {report.n} golden cells: {report.failures[0]}",
            where=bundle.path,
            mend=mend,
        )
    return Comparison.of(report)


def _hash_reference(bundle: Bundle, options: ClassifyOptions) -> str | None:
    """Hash the reference's `run.json`, and refuse one that the bundle was not exported from."""
    return None if options.reference is None else require_its_run(bundle, options.reference)
