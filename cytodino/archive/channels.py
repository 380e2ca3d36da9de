"""The order of the colour channels: what decides it, and what contradicts it."""

from pathlib import Path

import h5py

from cytodino.archive.hdf5 import reading
from cytodino.archive.layout import as_text
from cytodino.archive.options import ChannelOrder, ReadOptions
from cytodino.errors import ArchiveError

ATTRIBUTE = "channel_order"

ASSUMED = (
    "nothing in the file says the channel order, and RGB is assumed; if the contact sheet of "
    "cytodino-batch inspect --sheet shows red nuclei, it is BGR: give --channel-order bgr, or, "
    "to train and to export, the attribute channel_order"
)


def stated_order(
    file: h5py.File, dataset: h5py.Dataset, path: Path, options: ReadOptions
) -> ChannelOrder | None:
    """Return the order that an attribute of the file or the dataset, or else the user, states.

    Raises
    ------
    ArchiveError
        If they contradict each other, or the attribute is no order that is known.
    """
    stated: dict[str, str] = {}
    for item in (file, dataset):
        with reading(path, f"the attribute {ATTRIBUTE}"):
            value = item.attrs.get(ATTRIBUTE)
            if value is not None:
                text = as_text(value) if isinstance(value, bytes | str) else str(value)
                stated[f"the attribute of {item.name}"] = text
    for text in stated.values():
        if text.lower() not in ("rgb", "bgr"):
            raise ArchiveError(
                f"has the channel order {text!r}", where=path, mend="write it as rgb or bgr"
            )
    if options.channel_order is not None:
        stated["--channel-order"] = options.channel_order
    orders = {text.lower() for text in stated.values()}
    if len(orders) > 1:
        said = " but ".join(f"{text} by {by}" for by, text in stated.items())
        raise ArchiveError(
            f"contradicts itself: the channel order is {said}",
            where=path,
            mend="leave the option out, or correct the attribute",
        )
    if not orders:
        return None
    return "rgb" if orders == {"rgb"} else "bgr"
