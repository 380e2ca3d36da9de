"""HDF5 archives of crops: layouts, reader, writer, inspection."""

from cytodino.archive.reader import Archive, open_archive
from cytodino.archive.writer import write_archive

__all__ = ["Archive", "open_archive", "write_archive"]
