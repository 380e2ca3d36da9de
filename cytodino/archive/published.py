"""Archives of pixels as CLAM and PatchCamelyon publish them.

CLAM (mahmoodlab/CLAM, ``wsi_core/wsi_utils.py``) crops ``/imgs`` with Pillow's ``RGB`` and writes
``/coords``, x and y at level 0. PatchCamelyon (basveeling/pcam) holds ``/x`` in one file and the
tumour labels ``/y`` in another; those are no classes of cells and are not read.
"""

from pathlib import Path
from typing import Self

import h5py

from cytodino.archive.channels import stated_order
from cytodino.archive.hdf5 import find_dataset
from cytodino.archive.layout import read_text
from cytodino.archive.options import ReadOptions
from cytodino.archive.pixel_layout import PixelLayout, has_channels


class PublishedLayout(PixelLayout):
    """A dataset of a fixed name, uint8 (n, h, w, 3), RGB as its tool documents."""

    payload_name = ""

    @classmethod
    def find(cls, file: h5py.File, path: Path, options: ReadOptions) -> Self | None:
        """Return the layout if the file has what the tool writes."""
        if options.dataset is not None and options.dataset.strip("/") != cls.payload_name:
            return None
        payload = find_dataset(file, path, cls.payload_name)
        if payload is None or not has_channels(payload, "nhwc"):
            return None
        if not cls.recognises(file, path, payload):
            return None
        order = stated_order(file, payload, path, options)
        return cls(file, path, payload, order=order or "rgb")

    @classmethod
    def recognises(cls, file: h5py.File, path: Path, payload: h5py.Dataset) -> bool:
        """Tell whether what lies beside the crops is what the tool puts there."""
        raise NotImplementedError


class ClamLayout(PublishedLayout):
    """``/imgs`` and ``/coords``."""

    name = "CLAM"
    payload_name = "imgs"
    tables = {"coords": "coords"}
    WSI_NAME = "wsi_name"

    @classmethod
    def recognises(cls, file: h5py.File, path: Path, payload: h5py.Dataset) -> bool:
        """Tell whether there are coordinates, or the attribute that CLAM gives its crops."""
        return "coords" in file or cls.WSI_NAME in payload.attrs

    @property
    def slide(self) -> str | None:
        """Name of the slide."""
        return super().slide or read_text(self.payload, self.path, self.WSI_NAME)


class PatchCamelyonLayout(PublishedLayout):
    """``/x``, in a file with ``/y`` or one that is named as the published ones are."""

    name = "PatchCamelyon"
    payload_name = "x"

    @classmethod
    def recognises(cls, file: h5py.File, path: Path, payload: h5py.Dataset) -> bool:
        """Tell whether labels lie beside the crops, here or in the file ``..._y.h5``."""
        return "y" in file or path.stem.endswith("_x")
