"""Open a bundle: nothing in it is used before its hash has been checked."""

from dataclasses import dataclass
from pathlib import Path

from cytodino.bundle.manifest import MANIFEST_NAME, FileRecord, Manifest, read_manifest
from cytodino.errors import BundleError, MissingPathError
from cytodino.paths import hash_file

__all__ = ["Bundle", "open_bundle", "record_file"]

CHUNK = 1 << 20
"""Bytes hashed at a time: a model of gigabytes never lies in memory whole."""

AGAIN = "copy the bundle again, or export the run again"


@dataclass(frozen=True)
class Bundle:
    """A deployable folder whose every file has been checked."""

    path: Path
    manifest: Manifest
    sha256: str
    """Of `cytodino.json`, which holds the hash of every other file."""

    def model_path(self, variant: str) -> Path:
        """Path of a variant's ONNX file.

        Raises
        ------
        BundleError
            If the bundle has no such variant.
        """
        try:
            return self.path / self.manifest.variants[variant].file
        except KeyError:
            raise BundleError(
                f"has no variant {variant}",
                where=self.path,
                mend=f"use one of: {', '.join(self.manifest.variants)}",
            ) from None

    def usable(self, engine: str, provider: str) -> tuple[str, ...]:
        """Variants that passed at export on an engine and provider."""
        return tuple(
            name
            for name, variant in self.manifest.variants.items()
            if variant.usable
            and any(
                (found.engine, found.provider, found.verdict) == (engine, provider, "passed")
                for found in variant.verdicts
            )
        )


def open_bundle(path: Path) -> Bundle:
    """Open a bundle and check its schema and every file's presence, size and SHA-256.

    Raises
    ------
    MissingPathError
        If there is no such folder.
    BundleError
        If it is no bundle, of a newer schema, or a file is missing, truncated or changed.
    """
    if not path.exists():
        raise MissingPathError(path)
    manifest_path = path / MANIFEST_NAME
    if not manifest_path.is_file():
        raise BundleError(
            f"is no bundle: it holds no {MANIFEST_NAME}",
            where=path,
            mend="name the folder that cytodino-export onnx wrote",
        )
    manifest, sha256 = read_manifest(manifest_path)
    for name, record in manifest.records.items():
        _require_unchanged(path / name, record)
    return Bundle(path=path, manifest=manifest, sha256=sha256)


def record_file(path: Path) -> FileRecord:
    """Record a finished file's hash and size for the manifest."""
    return FileRecord(sha256=hash_file(path), bytes=path.stat().st_size)


def _require_unchanged(path: Path, record: FileRecord) -> None:
    if not path.is_file():
        raise BundleError("is missing from the bundle", where=path, mend=AGAIN)
    found = path.stat().st_size
    if found != record.bytes:
        raise BundleError(
            f"has {found:,} bytes, {record.bytes:,} were exported", where=path, mend=AGAIN
        )
    try:
        sha256 = hash_file(path)
    except OSError as error:
        raise BundleError(f"cannot be read ({error.strerror})", where=path, mend=AGAIN) from error
    if sha256 != record.sha256:
        raise BundleError(
            f"changed since the export: SHA-256 {sha256[:12]}…, expected {record.sha256[:12]}…",
            where=path,
            mend=AGAIN,
        )
