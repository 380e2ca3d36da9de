"""Compiled models kept between runs, each checked against its checksum before it is loaded.

A compiled model holds a copy of the weights. OpenVINO 2026.4 loads one with a flipped bit without
a word and answers wrongly (measured: logits moved by 0.006), so what lies here is trusted only
as far as its checksums: they find rot and half-written files, not forgery. Everything below the
folder can be deleted at any time.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cytodino.paths import hash_file

__all__ = ["CHECKSUMS", "cache_key", "compile_through", "hash_model", "weights_beside"]

CHECKSUMS = "sha256.json"
"""File of an entry: sha256 of each of its other files, by name."""

Compiled = TypeVar("Compiled")


def cache_key(content: str, *conditions: str) -> str:
    """Name an entry: 64 hex digits over the model's content and all its compiling depends on.

    Parameters
    ----------
    content : str
        The file's hash: a model exported again to the same path is another entry.
    conditions : str
        Version of the engine, CPU and its flags, precision, shape, threads: whatever changes the
        compiled form. A condition too many costs a recompilation; one too few, wrong answers.
    """
    return hashlib.sha256(json.dumps([content, *conditions]).encode()).hexdigest()


def weights_beside(model: Path) -> Path:
    """Name the file that holds a model's weights where its own cannot: over 2 GB."""
    return model.with_name(f"{model.name}.data")


def hash_model(model: Path) -> str:
    """Hash an ONNX file and the weights beside it, if any, for `cache_key`.

    Raises
    ------
    OSError
        If either cannot be read.
    """
    beside = weights_beside(model)
    return hash_file(model) + (hash_file(beside) if beside.is_file() else "")


def compile_through(folder: Path, compile_in: Callable[[Path | None], Compiled]) -> Compiled:
    """Compile with an entry of the cache; make it, or make it anew, where it is not intact.

    Parameters
    ----------
    folder : Path
        The entry; its parents are made.
    compile_in : callable
        Compiles with the engine's own cache in the folder given, or without one for None.

    Returns
    -------
    What `compile_in` returns. A cache that cannot be written never stops it: a second process
    that makes the same entry, a full disk and a read-only home all end in a compiled model.
    """
    if _is_intact(folder):
        return compile_in(folder)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix="making-", dir=folder.parent))
    except OSError:
        return compile_in(None)
    try:
        compiled = compile_in(fresh)
        _publish(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)  # renamed away where all went well
    return compiled


def _publish(fresh: Path, folder: Path) -> None:
    """Move a complete entry to its place in one step, unless another process was quicker."""
    try:
        (fresh / CHECKSUMS).write_text(json.dumps(_checksums(fresh)), encoding="utf-8")
        fresh.rename(folder)
    except OSError:
        return


def _is_intact(folder: Path) -> bool:
    try:
        expected = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        return bool(expected) and expected == _checksums(folder)
    except (OSError, ValueError):
        return False


def _checksums(folder: Path) -> dict[str, str]:
    return {path.name: hash_file(path) for path in folder.iterdir() if path.name != CHECKSUMS}
