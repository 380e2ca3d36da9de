"""Every deliberate error, as one tree.

Each error carries what it is about, forms its own sentence (what, where, how to mend it), and
owns the exit code that a command ends with when nothing catches it. The codes are a contract:
0 done, 1 failed, 2 usage, 3 finished but archives or rows failed, 4 parity refused.
"""

from pathlib import Path

__all__ = [
    "ArchiveError",
    "BundleError",
    "CropError",
    "CytoDinoError",
    "DivergedError",
    "EngineError",
    "ExportError",
    "InputError",
    "MergeError",
    "MissingCellsError",
    "MissingExtraError",
    "MissingPathError",
    "ParityError",
    "TaxonomyError",
    "TrainingError",
]


class CytoDinoError(Exception):
    """Base of every deliberate error.

    Parameters
    ----------
    what : str
        What is wrong, without a full stop at the end.
    where : Path or str, optional
        The file, folder or dataset that it is about.
    mend : str, optional
        What the reader can do about it, as an imperative.
    """

    exit_code = 1

    def __init__(
        self, what: str, *, where: Path | str | None = None, mend: str | None = None
    ) -> None:
        self.what = what
        self.where = where
        self.mend = mend
        super().__init__(what)

    def __str__(self) -> str:
        sentence = self.what if self.where is None else f"{self.where}: {self.what}"
        return sentence if self.mend is None else f"{sentence}; {self.mend}"


class TaxonomyError(CytoDinoError):
    """A class name or class list that is not one of the 21 classes in their order."""


class InputError(CytoDinoError):
    """Cells given by the user cannot be used: images, archives, tables."""


class MissingPathError(InputError):
    """A file or folder that was named is not there."""

    exit_code = 2

    def __init__(self, path: Path | str, *, mend: str | None = None) -> None:
        super().__init__("no such file or folder", where=path, mend=mend)


class MissingCellsError(InputError):
    """A run names no cells of its own, and none were given."""

    exit_code = 2


class ArchiveError(InputError):
    """A whole HDF5 archive cannot be read or written."""


class CropError(InputError):
    """One crop cannot be used; the rest of its archive or folder can.

    Parameters
    ----------
    reason : str
        Why, in words that stand alone in `quarantine.csv`.
    where : Path or str, optional
        The image file, or the archive that holds the row.
    row : int, optional
        0-based row in the archive.
    """

    def __init__(
        self,
        reason: str,
        *,
        where: Path | str | None = None,
        row: int | None = None,
        mend: str | None = None,
    ) -> None:
        self.reason = reason
        self.row = row
        super().__init__(reason if row is None else f"row {row}: {reason}", where=where, mend=mend)


class BundleError(CytoDinoError):
    """A bundle is incomplete, changed since its export, or of a schema not known here."""


class EngineError(CytoDinoError):
    """An inference engine, device or variant cannot be had, or failed while running."""


class MissingExtraError(EngineError):
    """A library of an optional extra is not installed.

    Parameters
    ----------
    library : str
        The import name that was not found, such as ``torch``.
    extra : str
        The extra of this package that brings it, such as ``train``.
    """

    def __init__(self, library: str, extra: str) -> None:
        self.library = library
        self.extra = extra
        super().__init__(
            f"{library} is not installed", mend=f"run: pip install 'cytodino[{extra}]'"
        )


class TrainingError(CytoDinoError):
    """Training cannot start or go on."""


class DivergedError(TrainingError):
    """The loss is not finite any more: to go on, or to train again alike, ends the same way."""


class ExportError(CytoDinoError):
    """A run cannot be exported."""


class MergeError(ExportError):
    """Adapter and backbone do not fit each other."""


class ParityError(ExportError):
    """A model's answers stray from the reference's beyond the limits."""

    exit_code = 4
