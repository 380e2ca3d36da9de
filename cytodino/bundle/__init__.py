"""The deployable folder: manifest, hashes, golden cells, verdicts of the machine at hand."""

from cytodino.bundle.folder import Bundle, open_bundle

__all__ = ["Bundle", "open_bundle"]
