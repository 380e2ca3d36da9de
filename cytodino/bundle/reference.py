"""The run that a bundle was exported from, told from others."""

from pathlib import Path

from cytodino.bundle.folder import Bundle
from cytodino.errors import InputError
from cytodino.paths import hash_file
from cytodino.run_manifest import MANIFEST

__all__ = ["GIVE_ITS_RUN", "require_its_run"]

GIVE_ITS_RUN = "give the run that the bundle was exported from, or export this one"


def require_its_run(bundle: Bundle, run: Path) -> str:
    """Return the SHA-256 of a run's `run.json`, which holds those of its weights.

    Raises
    ------
    InputError
        If it is no run, or not the one that the bundle was exported from.
    """
    manifest = run / MANIFEST
    if not manifest.is_file():
        raise InputError(f"holds no {MANIFEST}", where=run, mend=GIVE_ITS_RUN)
    found = hash_file(manifest)
    if bundle.manifest.provenance.run.get("sha256", found) != found:
        raise InputError(
            "is not the run that the bundle was exported from", where=run, mend=GIVE_ITS_RUN
        )
    return found
