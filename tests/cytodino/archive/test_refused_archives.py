import os
import subprocess
import sys

import h5py
import hdf5plugin  # noqa: F401 - registers its filters before a test hides one
import numpy as np
import pytest

from cytodino.archive import open_archive
from cytodino.errors import MissingPathError, TaxonomyError

from .changes import flip, refused, replace


class TestRefusedArchives:
    def test_missing(self, tmp_path):
        with pytest.raises(MissingPathError):
            open_archive(tmp_path / "nowhere.h5")

    def test_folder(self, tmp_path):
        refused(tmp_path, "is a folder")

    @pytest.mark.skipif(sys.platform == "win32", reason="no named pipes in folders")
    def test_pipe(self, tmp_path):
        os.mkfifo(tmp_path / "a.h5")
        refused(tmp_path / "a.h5", "is a device or a pipe")

    @pytest.mark.parametrize("content", [b"", b"hello, world", bytes(5000)])
    def test_no_hdf5(self, tmp_path, content):
        (tmp_path / "a.h5").write_bytes(content)
        refused(tmp_path / "a.h5", "is not an HDF5 file")

    def test_unreadable(self, archive, monkeypatch):
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        refused(archive, "may not be read")

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
    def test_truncated(self, archive, share):
        content = archive.read_bytes()
        archive.write_bytes(content[: int(len(content) * share)])
        refused(archive, "is truncated")

    def test_broken_superblock(self, archive):
        content = bytearray(archive.read_bytes())
        content[12] ^= 0xFF
        archive.write_bytes(bytes(content))
        refused(archive, "cannot be opened")

    def test_open_for_writing_elsewhere(self, archive):
        code = (
            "import h5py, sys\n"
            f"file = h5py.File({str(archive)!r}, 'r+')\n"
            "print('open', flush=True)\n"
            "sys.stdin.read()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout.readline() == b"open\n"
            refused(archive, "is open for writing in another program")
            writer.stdin.close()

    def test_left_open_by_a_writer_that_was_killed(self, archive, tmp_path):
        with h5py.File(archive, "r+", libver="v110") as file:
            file.flush()
            (tmp_path / "copy.h5").write_bytes(archive.read_bytes())
        refused(tmp_path / "copy.h5", "or was when that was killed")

    def test_without_crops_lists_what_there_is(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["features"] = np.zeros((3, 8), dtype=np.float32)
            file["group/coords"] = np.zeros((3, 2), dtype=np.int64)
        found = str(refused(tmp_path / "a.h5", "holds coordinates but no crops"))
        assert "/features float32 (3, 8)" in found
        assert "/group/coords int64 (3, 2)" in found

    def test_long_listings_are_cut(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            for number in range(30):
                file[f"d{number:02}"] = np.zeros(1)
        assert "and more" in str(refused(tmp_path / "a.h5", "holds no crops"))

    def test_without_any_dataset(self, tmp_path):
        h5py.File(tmp_path / "a.h5", "w").close()
        refused(tmp_path / "a.h5", "no dataset")

    @pytest.mark.parametrize(
        ("attribute", "value", "match"),
        [
            ("version", 2, "version 2.*upgrade"),
            ("version", "one", "version one"),
            ("version", 0, "version 0"),
            ("version", None, "version None"),
            ("format", None, "holds no crops|lost the attribute format"),
            ("format", "another", "holds no crops|lost the attribute format"),
            ("channel_order", "bgr", "channel order 'bgr'"),
            ("slide", np.bytes_(b"\xff\xfe"), "attribute slide"),
        ],
    )
    def test_attributes(self, archive, attribute, value, match):
        with h5py.File(archive, "r+") as file:
            del file.attrs[attribute]
            if value is not None:
                file.attrs[attribute] = value
        refused(archive, match)

    @pytest.mark.parametrize(
        ("name", "data", "match"),
        [
            ("crc32", None, "no /crc32"),
            ("crc32", np.zeros(6, dtype=np.uint32), "no /crc32"),
            ("crc32", np.zeros(7, dtype=np.int64), "no /crc32"),
            ("labels", np.zeros(8, dtype=np.int64), r"/labels has the shape \(8,\)"),
            ("labels", np.zeros(7), "/labels is float64"),
            ("labels", np.full(7, 21), "numbers outside 0 to 20"),
            ("labels", np.full(7, -2), "numbers outside 0 to 20"),
            ("labels", [b"\xff\xff"] * 7, "/labels cannot be read"),
            ("ids", [b"a"] * 6, r"/ids has the shape \(6,\)"),
            ("ids", np.zeros(7, dtype=np.int64), "/ids is int64, not text"),
            ("ids", [b"\xff\xff"] * 7, "/ids cannot be read"),
            ("ids", np.zeros(7, dtype="S5000"), "entries of 5000 bytes"),
            ("coords", np.zeros((7, 3), dtype=np.int64), "/coords has the shape"),
            ("coords", np.zeros((7, 2)), "/coords is float64, not whole numbers"),
        ],
    )
    def test_tables_that_do_not_fit(self, archive, name, data, match):
        replace(archive, name, data)
        refused(archive, match)

    def test_labels_of_other_classes(self, archive):
        replace(archive, "labels", [b"BLA"] * 5 + [b"zebra", b"ant"])
        with open_archive(archive) as opened, pytest.raises(TaxonomyError, match="ant, zebra"):
            _ = opened.labels

    @pytest.mark.parametrize("name", ["labels", "ids", "crc32"])
    def test_a_flipped_bit_in_a_table_is_found(self, archive, name):
        with h5py.File(archive) as file:
            data = file[name][:].tobytes()
        flip(archive, data)
        refused(archive, f"/{name} cannot be read")

    def test_a_table_that_was_never_written(self, archive):
        with h5py.File(archive, "r+") as file:
            file.create_dataset("coords", shape=(7, 2), dtype=np.int64, chunks=(7, 2))
        refused(archive, "/coords was never written")

    @pytest.mark.parametrize("name", ["labels", "crc32"])
    def test_links_out_of_the_file(self, archive, tmp_path, name):
        with h5py.File(tmp_path / "other.h5", "w") as file:
            file[name] = np.zeros(7, dtype=np.uint32)
        with h5py.File(archive, "r+") as file:
            del file[name]
            file[name] = h5py.ExternalLink("other.h5", name)
        refused(archive, f"/{name} is a link")

    def test_data_stored_in_another_file(self, archive, tmp_path):
        (tmp_path / "secret").write_bytes(bytes(28))
        with h5py.File(archive, "r+") as file:
            del file["crc32"]
            file.create_dataset(
                "crc32", shape=(7,), dtype=np.uint32, external=[(str(tmp_path / "secret"), 0, 28)]
            )
        refused(archive, "/crc32 is a link or lies in another file")

    def test_a_virtual_dataset(self, archive, tmp_path):
        layout = h5py.VirtualLayout(shape=(7,), dtype=np.uint32)
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "crc32", shape=(7,))
        with h5py.File(archive, "r+") as file:
            del file["crc32"]
            file.create_virtual_dataset("crc32", layout)
        refused(archive, "/crc32 is a link or lies in another file")

    def test_a_filter_that_is_not_installed_is_named(self, archive, monkeypatch):
        replace(archive, "labels", [b"BLA"] * 7, compression="gzip")
        monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: code != 1)
        refused(archive, "/labels needs the HDF5 filter gzip")

    def test_a_group_in_the_place_of_a_table(self, archive):
        replace(archive, "crc32", None)
        with h5py.File(archive, "r+") as file:
            file.create_group("crc32")
        refused(archive, "no /crc32")

    def test_chunks_too_large_to_read(self, archive):
        with h5py.File(archive, "r+") as file:
            file.create_dataset(
                "coords", shape=(7, 2), dtype=np.int64, chunks=(1 << 27, 2), maxshape=(None, 2)
            )
        refused(archive, "/coords has chunks of 2147483648 bytes")

    @pytest.mark.parametrize("n", [0, 1 << 40])
    def test_absurd_counts(self, archive, encoding, n):
        with h5py.File(archive, "r+") as file:
            for name in ("crc32", "offsets", "crops"):
                if name in file:
                    del file[name]
            file.create_dataset(
                "crc32", shape=(n,), dtype=np.uint32, chunks=(64,), maxshape=(None,)
            )
            if encoding == "raw":
                chunks = (1, 12, 10, 3) if n else None
                file.create_dataset("crops", (n, 12, 10, 3), dtype=np.uint8, chunks=chunks)
            else:
                file.create_dataset(
                    "offsets", shape=(n + 1,), dtype=np.uint64, chunks=(64,), maxshape=(None,)
                )
        refused(archive, "holds no crop" if n == 0 else "declares more bytes than the file has")


class TestRefusedCrops:
    @pytest.fixture
    def encoding(self):
        return "raw"

    @pytest.mark.parametrize(
        ("shape", "dtype"),
        [((7, 12, 10, 3), np.float32), ((7, 12, 10), np.uint8), ((7, 12, 10, 4), np.uint8)],
    )
    def test_crops_of_another_kind(self, archive, shape, dtype):
        replace(archive, "crops", np.zeros(shape, dtype=dtype))
        refused(archive, "not uint8")

    @pytest.mark.parametrize("shape", [(7, 0, 10, 3), (7, 12, 0, 3), (7, 5000, 1, 3)])
    def test_crops_of_no_or_absurd_size(self, archive, shape):
        replace(archive, "crops", np.zeros(shape, dtype=np.uint8))
        refused(archive, "declares crops of")
