"""The calibrations that a bundle carries, sealed like every file of it."""

from cytodino.bundle.folder import Bundle
from cytodino.calibration.file import CONFIDENCE_NAME, Confidence, read_confidence
from cytodino.errors import BundleError, InputError

__all__ = ["load_confidence"]


def load_confidence(bundle: Bundle) -> Confidence | None:
    """Read a bundle's calibrations; None where it was exported without: it is not calibrated.

    A file that the manifest does not name is none of the bundle's, and is not read.

    Raises
    ------
    BundleError
        If they are of a newer schema, or not valid.
    """
    if CONFIDENCE_NAME not in bundle.manifest.files:
        return None
    try:
        return read_confidence(bundle.path)
    except InputError as error:
        raise BundleError(error.what, where=error.where, mend=error.mend) from error
