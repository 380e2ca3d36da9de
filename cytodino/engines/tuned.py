"""What `cytodino-bench tune` chose on this machine: kept in its cache folder, read by `classify`.

A choice holds for one bundle on one machine as it is: another CPU, container share, driver or
library may answer differently and at another speed, so a changed machine makes it stale.
"""

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cytodino.bundle.folder import Bundle
from cytodino.bundle.verdicts import usable_here
from cytodino.console import MAX_BATCH
from cytodino.engines.base import Engine
from cytodino.engines.onnxruntime import OnnxRuntimeEngine
from cytodino.engines.openvino import OpenVinoEngine
from cytodino.engines.selection import targets_found
from cytodino.engines.variants import ENGINES
from cytodino.errors import EngineError
from cytodino.machine import Machine, cache_folder, describe_machine

__all__ = [
    "Choice",
    "Configuration",
    "Found",
    "Goal",
    "find_choice",
    "open_chosen",
    "open_configuration",
    "record_choice",
]

Goal = Literal["throughput", "latency"]

MAX_PARTS = 1024
"""Threads or streams: more than any machine here has, so that a damaged record starts no more."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Configuration(_Record):
    """One way to open a bundle's model; what is None is left to the engine."""

    engine: str
    """onnxruntime or openvino."""
    variant: str
    device: str = "cpu"
    """cpu or cuda."""
    threads: int | None = Field(None, ge=1, le=MAX_PARTS)
    """Of all that computes side by side, together."""
    goal: Goal = "throughput"
    """onnxruntime: a crop for each thread, or all threads in each operator; in openvino, what it is
    not told below."""
    streams: int | None = Field(None, ge=1, le=MAX_PARTS)
    """openvino: parts that compute side by side and share out the threads."""
    crops_per_request: int | None = Field(None, ge=1, le=MAX_BATCH)
    """openvino: the batch that is compiled."""

    def sentence(self) -> str:
        """Name it in one line: engine, variant, and what was set."""
        options = {
            "threads": self.threads,
            "streams": self.streams,
            "crops a request": self.crops_per_request,
        }
        said = [f"{name} {value}" for name, value in options.items() if value is not None]
        return ", ".join([f"{self.variant} on {self.engine} ({self.device})", *said])


class Choice(_Record):
    """The fastest configuration found that passed parity, and what that rests on."""

    bundle_sha256: str
    machine: Machine
    configuration: Configuration
    batch_size: int = Field(ge=1, le=MAX_BATCH)
    """Crops in one call."""
    goal: Goal
    images_per_second: float
    p50_ms: float
    """Milliseconds a call, in the last round of the search."""
    golden_cells: int
    """Golden cells on which this very configuration passed."""
    created: datetime

    def sentence(self) -> str:
        """Say in one line what was chosen, when and for what."""
        return (
            f"{self.configuration.sentence()}, batches of {self.batch_size}: tuned here for "
            f"{self.goal} on {self.created:%Y-%m-%d}"
        )


class Found(NamedTuple):
    """What is known of a bundle on this machine."""

    choice: Choice | None
    stale: str | None = None
    """Why an earlier choice does not hold any more, in one line."""


def record_choice(bundle: Bundle, choice: Choice) -> Path:
    """Keep a choice for this machine and bundle, in place of an earlier one; return its file.

    Raises
    ------
    OSError
        If the cache folder cannot be written.
    """
    path = _folder(bundle) / f"{choice.machine.key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}.part")
    beside.write_text(choice.model_dump_json(indent=2) + "\n", encoding="utf-8")
    beside.replace(path)
    return path


def find_choice(bundle: Bundle, *, device: str = "auto", machine: Machine | None = None) -> Found:
    """Find what was chosen for a bundle on this machine, unless it no longer holds.

    Parameters
    ----------
    bundle : Bundle
    device : {"auto", "cpu", "cuda"}
        A choice for another device is no choice.
    machine : Machine, optional
        The one at hand.
    """
    machine = machine or describe_machine()
    choice = _read(_folder(bundle) / f"{machine.key}.json", bundle)
    if choice is None:
        earlier = _latest(bundle)
        if earlier is None:
            return Found(None)
        changed = "; ".join(_changes(earlier.machine, machine))
        return Found(None, f"the choice of cytodino-bench tune is stale, tune again: {changed}")
    configuration = choice.configuration
    if device not in ("auto", configuration.device):
        return Found(None)
    if not _is_usable(bundle, configuration):
        return Found(
            None,
            f"the choice of cytodino-bench tune is stale, tune again: {configuration.variant} is "
            f"no longer passed on {configuration.engine} here",
        )
    return Found(choice)


def open_chosen(
    bundle: Bundle, *, device: str, say: Callable[[str], None]
) -> tuple[Engine, Choice] | None:
    """Open what `tune` chose for a bundle on this machine, where that holds.

    Parameters
    ----------
    bundle : Bundle
    device : {"auto", "cpu", "cuda"}
    say : callable
        Told what is used, or why a choice is not.
    """
    choice, stale = find_choice(bundle, device=device)
    if stale is not None:
        say(stale)
    if choice is None:
        return None
    try:
        engine = open_configuration(bundle, choice.configuration, cache=cache_folder() / "openvino")
    except EngineError as error:
        say(f"not used: {choice.sentence()}: {error.what}")
        return None
    say(choice.sentence())
    return engine, choice


def open_configuration(
    bundle: Bundle,
    configuration: Configuration,
    *,
    cache: Path | None,
    notes: tuple[str, ...] = (),
) -> Engine:
    """Open a bundle's model as configured, whatever was proven about it.

    Parameters
    ----------
    bundle : Bundle
    configuration : Configuration
    cache : Path or None
        Folder for compiled models; None keeps none.
    notes : tuple of str
        What the caller has to say; they stand among the engine's warnings.

    Raises
    ------
    BundleError, MissingExtraError, EngineError
        If variant, engine or device cannot be had.
    """
    model, wanted = bundle.model_path(configuration.variant), configuration
    if wanted.engine == "onnxruntime":
        return OnnxRuntimeEngine(
            model,
            variant=wanted.variant,
            device=wanted.device,
            threads=wanted.threads,
            goal=wanted.goal,
            notes=notes,
        )
    if wanted.engine == "openvino":
        return OpenVinoEngine(
            model,
            variant=wanted.variant,
            device=wanted.device,
            threads=wanted.threads,
            goal=wanted.goal,
            streams=wanted.streams,
            crops_per_request=wanted.crops_per_request,
            cache=cache,
            notes=notes,
        )
    raise EngineError(
        f"{wanted.engine} does not read ONNX files here", mend="use onnxruntime or openvino"
    )


def _is_usable(bundle: Bundle, configuration: Configuration) -> bool:
    if configuration.engine not in ENGINES:
        return False
    try:
        targets = targets_found(configuration.engine)
    except EngineError:
        return False
    return any(
        configuration.variant in usable_here(bundle, target.engine, target.provider)
        for target in targets
        if target.device == configuration.device
    )


def _folder(bundle: Bundle) -> Path:
    return cache_folder() / "tuned" / bundle.sha256


def _read(path: Path, bundle: Bundle) -> Choice | None:
    try:
        choice = Choice.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None  # a cache: what cannot be read has to be found again
    return choice if choice.bundle_sha256 == bundle.sha256 else None


def _latest(bundle: Bundle) -> Choice | None:
    try:
        found = [_read(path, bundle) for path in _folder(bundle).glob("*.json")]
    except OSError:
        return None
    return max((one for one in found if one), key=lambda one: one.created, default=None)


def _changes(before: Machine, now: Machine) -> list[str]:
    """Name what differs between two descriptions of a machine."""
    versions = [
        f"{name} {before.versions.get(name, 'none')} is now {now.versions.get(name, 'none')}"
        for name in sorted({*before.versions, *now.versions})
        if before.versions.get(name) != now.versions.get(name)
    ]
    flags = [f"CPU flag {name}" for name in sorted({*before.flags} ^ {*now.flags})]
    plain = [
        f"{name} {was} is now {has}"
        for name, was, has in (
            ("CPU", before.cpu, now.cpu),
            ("cores", before.cores, now.cores),
            ("memory", f"{before.memory_gib} GiB", f"{now.memory_gib} GiB"),
            ("GPUs", ", ".join(before.gpus) or "none", ", ".join(now.gpus) or "none"),
            ("GPU driver", before.gpu_driver, now.gpu_driver),
            ("system", before.system, now.system),
            ("Python", before.python, now.python),
        )
        if was != has
    ]
    return plain + flags + versions
