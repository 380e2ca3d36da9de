"""Prove a bundle on the machine at hand: hashes, golden cells on every engine found; no torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from cytodino.bundle.folder import Bundle, open_bundle
from cytodino.bundle.golden import Golden, load_golden
from cytodino.bundle.manifest import EngineVerdict
from cytodino.bundle.verdicts import record_verdicts
from cytodino.engines.base import EngineDescription, batched_logits
from cytodino.engines.probe import probe
from cytodino.engines.selection import Target, open_model, targets_found, why_unproven
from cytodino.errors import EngineError, ParityError
from cytodino.machine import Machine, cache_folder, describe_machine
from cytodino.parity import ParityReport, compare

__all__ = ["Check", "Verification", "verify_bundle"]

BATCH_SIZE = 8
"""Crops in one call, as at the export."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Check(_Frozen):
    """One variant on one engine and provider of this machine."""

    variant: str
    verdict: EngineVerdict
    description: EngineDescription | None = None
    """None where the engine did not open."""
    report: ParityReport | None = None
    drift: float | None = None
    """Largest change of a logit against the same variant and engine where it was exported: what
    the machine does, apart from what the variant's precision does."""


class Verification(_Frozen):
    """What `verify` found."""

    bundle: str
    sha256: str
    machine: Machine
    checks: tuple[Check, ...]
    usable: tuple[str, ...]
    """Variants that the export left usable."""
    failed_at_export: tuple[tuple[str, str, str], ...] = ()
    """Variant, engine and provider of what the export refused: no news if it fails here too."""
    record: str | None
    """File in this machine's cache that keeps the verdicts; None where it cannot be written."""

    @property
    def refused(self) -> str | None:
        """Why the bundle is refused on this machine, or None."""
        failed = [
            check
            for check in self.checks
            if check.verdict.verdict == "failed"
            and check.variant in self.usable
            and (check.variant, check.verdict.engine, check.verdict.provider)
            not in self.failed_at_export
        ]
        if failed:
            first = failed[0]
            reason = "; ".join(first.verdict.reasons)
            return f"{first.variant} fails on {first.verdict.engine}: {reason}"
        if not self.usable:
            return "the export marked every variant unusable"
        return None


def verify_bundle(path: Path, *, say: Callable[[str], None] = lambda text: None) -> Verification:
    """Check a bundle's files, then its golden cells on each engine found, and keep the verdicts.

    Parameters
    ----------
    path : Path
        The bundle.
    say : callable
        Told what is being done.

    Raises
    ------
    MissingPathError, BundleError
        If it is no bundle, or a file is missing, truncated or changed.
    MissingExtraError
        If no engine is installed.
    """
    say("checking files")
    bundle = open_bundle(path)
    machine = describe_machine()
    targets = targets_found()
    golden = load_golden(bundle)
    checks = []
    for variant in bundle.manifest.variants:
        for target in (one for one in targets if variant in one.variants):
            say(f"checking {variant} on {target.engine}, {target.device}")
            checks.append(_check(bundle, golden, machine, variant, target))
    verdicts = {
        variant: tuple(check.verdict for check in checks if check.variant == variant)
        for variant in bundle.manifest.variants
    }
    try:
        record = str(record_verdicts(bundle, verdicts, machine=machine))
    except OSError as error:  # what was found is worth saying all the same
        say(f"not recorded: {cache_folder()} cannot be written ({error.strerror})")
        record = None
    return Verification(
        bundle=str(path),
        sha256=bundle.sha256,
        machine=machine,
        checks=tuple(checks),
        usable=tuple(name for name, v in bundle.manifest.variants.items() if v.usable),
        failed_at_export=tuple(
            (name, found.engine, found.provider)
            for name, v in bundle.manifest.variants.items()
            for found in v.verdicts
            if found.verdict == "failed"
        ),
        record=record,
    )


def _check(bundle: Bundle, golden: Golden, machine: Machine, variant: str, target: Target) -> Check:
    model = bundle.model_path(variant)
    engine, device, provider = target.engine, target.device, target.provider

    def unmeasured(
        verdict: Literal["failed", "unproven"],
        reason: str,
        description: EngineDescription | None = None,
    ) -> Check:
        found = EngineVerdict(
            engine=engine,
            provider=provider,
            machine=machine.computing_on(device),
            verdict=verdict,
            reasons=(reason,),
        )
        return Check(variant=variant, verdict=found, description=description)

    untried = why_unproven(target, variant)
    if untried is not None:
        return unmeasured("unproven", untried)
    # Compiled once, kept, and checked as it is loaded: that is what `classify` starts from.
    cache = cache_folder()
    broken = probe(
        model, engine=engine, variant=variant, device=device, provider=provider, cache=cache
    )
    if broken is not None:
        # CUDA may be listed and not load: that proves nothing about the variant.
        return unmeasured("unproven" if device == "cuda" else "failed", broken)
    description = None
    try:
        with open_model(
            model, engine=engine, variant=variant, device=device, provider=provider, cache=cache
        ) as opened:
            description = opened.describe()
            logits = batched_logits(opened, golden.crops, BATCH_SIZE)
        report = compare(golden.reference, logits, bundle.manifest.limits[variant], golden.labels)
    except (EngineError, ParityError) as error:
        return unmeasured("failed", str(error), description)
    exported = golden.exported.get(f"{variant}.{engine}")
    return Check(
        variant=variant,
        verdict=EngineVerdict.from_report(
            report, engine=engine, provider=provider, machine=machine.computing_on(device)
        ),
        description=description,
        report=report,
        drift=None if exported is None else float(abs(logits - exported).max()),
    )
