"""HDF5 archives of crops: layouts, reader, writer, inspection."""

from cytodino.archive.options import ReadOptions
from cytodino.archive.reader import Archive, open_archive
from cytodino.archive.writer import write_archive

__all__ = ["Archive", "ReadOptions", "open_archive", "write_archive"]
