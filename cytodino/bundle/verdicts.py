"""Verdicts reached on this machine: kept in its cache folder, never in the hashed bundle."""

import json
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cytodino.bundle.folder import Bundle
from cytodino.bundle.manifest import EngineVerdict
from cytodino.machine import Machine, cache_folder, describe_machine

__all__ = ["MachineRecord", "machine_verdicts", "record_verdicts", "usable_here"]


class MachineRecord(BaseModel):
    """What `verify` found about one bundle on one machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle_sha256: str
    machine: Machine
    verdicts: dict[str, tuple[EngineVerdict, ...]]
    """By variant."""


def record_verdicts(
    bundle: Bundle, verdicts: dict[str, tuple[EngineVerdict, ...]], *, machine: Machine
) -> Path:
    """Keep verdicts reached on this machine, and return the file they are in."""
    path = _record_path(bundle, machine)
    path.parent.mkdir(parents=True, exist_ok=True)
    record = MachineRecord(bundle_sha256=bundle.sha256, machine=machine, verdicts=verdicts)
    beside = path.with_suffix(f".{os.getpid()}.part")
    beside.write_text(record.model_dump_json(indent=2), encoding="utf-8")
    beside.replace(path)
    return path


def machine_verdicts(
    bundle: Bundle, *, machine: Machine | None = None
) -> dict[str, tuple[EngineVerdict, ...]]:
    """Verdicts reached on this machine, by variant; empty before `verify` has run."""
    path = _record_path(bundle, machine or describe_machine())
    try:
        record = MachineRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, json.JSONDecodeError):
        return {}  # a cache: what cannot be read has to be found again
    return record.verdicts if record.bundle_sha256 == bundle.sha256 else {}


def usable_here(bundle: Bundle, engine: str, provider: str) -> tuple[str, ...]:
    """Variants to be used on this machine: what passed, with this machine's word last.

    A verdict reached here, passed or failed, stands above the one from the export; a variant
    that the export marked unusable stays so.
    """
    exported = set(bundle.usable(engine, provider))
    here = {
        name: found.verdict
        for name, verdicts in machine_verdicts(bundle).items()
        for found in verdicts
        if (found.engine, found.provider) == (engine, provider)
    }
    return tuple(
        name
        for name, variant in bundle.manifest.variants.items()
        if variant.usable
        and here.get(name) != "failed"
        and (name in exported or here.get(name) == "passed")
    )


def _record_path(bundle: Bundle, machine: Machine) -> Path:
    return cache_folder() / "verdicts" / bundle.sha256 / f"{machine.key}.json"
