"""What is wrong with an archive or a row of it has a reason of its own, in every layout."""

import io
import struct
import subprocess
import sys
import zlib

import h5py
import hdf5plugin  # noqa: F401 - registers its filters before a test hides one
import numpy as np
import pytest
from PIL import Image

from cytodino.archive import ReadOptions, open_archive
from cytodino.archive import probe as probing
from cytodino.errors import ArchiveError, CropError

from .published import WRITERS, decode, draw_jpegs

N = 12
FILES = draw_jpegs(N)
CROPS = decode(FILES)

PAYLOADS = {
    "own raw": "crops",
    "own encoded": "bytes",
    "CLAM": "imgs",
    "PatchCamelyon": "x",
    "h5sc": "obsm/single_cell_images",
    "variable-length JPEG": "images",
    "opaque JPEG": "images",
    "contiguous": "images",
    "nested": "slide/level0/cells",
}
"""Where each layout has its crops."""


@pytest.fixture(params=PAYLOADS)
def layout(request):
    return request.param


@pytest.fixture
def path(tmp_path, layout):
    WRITERS[layout](tmp_path / "a.h5", CROPS, FILES)
    return tmp_path / "a.h5"


def refused(path, match, **options):
    with pytest.raises(ArchiveError, match=match) as caught:
        open_archive(path, options=ReadOptions(**options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def read(path):
    with open_archive(path) as archive:
        rows = archive.read(0, archive.n)
        assert len(rows) == archive.n
        return rows


def lost(rows):
    return {row.row: row.reason for row in rows if isinstance(row, CropError)}


def replace(path, name, data=None, **options):
    """Put another dataset in the place of one, its attributes kept."""
    with h5py.File(path, "r+") as file:
        kept = dict(file[name].attrs)
        del file[name]
        made = file.create_dataset(name, data=data, **options)
        made.attrs.update(kept)


class TestWholeFiles:
    def test_truncated(self, path):
        path.write_bytes(path.read_bytes()[:-200])
        refused(path, "is truncated")

    def test_text(self, path):
        path.write_text("row,id\n", encoding="utf-8")
        refused(path, "is not an HDF5 file")

    def test_open_for_writing_elsewhere(self, path):
        code = (
            f"import h5py, sys; f = h5py.File({str(path)!r}, 'r+'); print(1, flush=True); input()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout.readline()
            refused(path, "is open for writing in another program")
            writer.communicate(b"\n")


class TestPayloadsOutOfTheFile:
    def test_external_link(self, path, layout, tmp_path):
        name = PAYLOADS[layout]
        (tmp_path / "other.h5").write_bytes(path.read_bytes())
        with h5py.File(path, "r+") as file:
            del file[name]
            file[name] = h5py.ExternalLink("other.h5", name)
        refused(path, f"/{name} is a link or lies in another file")

    def test_soft_link(self, path, layout):
        name = PAYLOADS[layout]
        with h5py.File(path, "r+") as file:
            del file[name]
            file[name] = h5py.SoftLink("/elsewhere")
        refused(path, f"/{name} is a link or lies in another file")

    def test_a_link_on_the_way(self, path, layout, tmp_path):
        (tmp_path / "other.h5").write_bytes(path.read_bytes())
        with h5py.File(path, "r+") as file:
            file["door"] = h5py.ExternalLink("other.h5", "/")
        name = f"door/{PAYLOADS[layout]}"
        refused(path, f"/{name} is a link or lies in another file", dataset=name)

    def test_external_storage(self, path, layout, tmp_path):
        with h5py.File(path) as file:
            kind, shape = file[PAYLOADS[layout]].dtype, file[PAYLOADS[layout]].shape
        if kind.hasobject:
            pytest.skip("HDF5 stores data of variable length in no other file")
        size = int(np.prod(shape)) * kind.itemsize
        (tmp_path / "secret").write_bytes(bytes(size))
        replace(
            path,
            PAYLOADS[layout],
            shape=shape,
            dtype=kind,
            external=[(str(tmp_path / "secret"), 0, size)],
        )
        refused(path, "is a link or lies in another file")

    def test_a_virtual_dataset(self, path, layout, tmp_path):
        name = PAYLOADS[layout]
        with h5py.File(path, "r+") as file:
            kind, shape, kept = file[name].dtype, file[name].shape, dict(file[name].attrs)
            source = h5py.VirtualSource(str(tmp_path / "other.h5"), name, shape=shape, dtype=kind)
            virtual = h5py.VirtualLayout(shape=shape, dtype=kind)
            virtual[:] = source
            del file[name]
            file.create_virtual_dataset(name, virtual).attrs.update(kept)
        refused(path, "is a link or lies in another file")


class TestDeclarations:
    @pytest.fixture(params=[name for name in PAYLOADS if name != "own encoded"])
    def layout(self, request):
        return request.param

    def test_more_crops_than_any_file_holds(self, path, layout):
        name = PAYLOADS[layout]
        with h5py.File(path) as file:
            kind, shape = file[name].dtype, file[name].shape[1:]
        chunks = (1, *shape)
        maximum = (None, *shape)
        replace(path, name, shape=(1 << 40, *shape), dtype=kind, chunks=chunks, maxshape=maximum)
        refused(path, "declares more bytes than the file has")

    def test_no_crop(self, path, layout):
        with h5py.File(path) as file:
            kind, shape = file[PAYLOADS[layout]].dtype, file[PAYLOADS[layout]].shape[1:]
        replace(path, PAYLOADS[layout], shape=(0, *shape), dtype=kind)
        refused(path, "holds no crop")

    @pytest.mark.parametrize("side", [0, 1025, 5000])
    def test_crops_of_no_or_absurd_size(self, path, layout, side):
        with h5py.File(path) as file:
            kind, shape = file[PAYLOADS[layout]].dtype, list(file[PAYLOADS[layout]].shape)
        if len(shape) == 1:
            pytest.skip("image files have their sizes in themselves")
        shape[2] = side
        replace(path, PAYLOADS[layout], shape=tuple(shape), dtype=kind)
        refused(path, f"declares crops of .*{side}.* px, not 1 to 1024")

    def test_rows_that_were_never_written(self, path, layout):
        name = PAYLOADS[layout]
        with h5py.File(path) as file:
            kind, values = file[name].dtype, file[name][:]
        shape = values.shape
        replace(path, name, shape=shape, dtype=kind, chunks=(1, *shape[1:]))
        with h5py.File(path, "r+") as file:
            for row in (0, 1, 2, 5, 6):
                file[name][row] = values[row]
        reasons = lost(read(path))
        assert list(reasons) == [3, 4, 7, 8, 9, 10, 11]
        assert set(reasons.values()) == {"was never written"}

    def test_a_filter_that_is_not_installed_is_named(self, path, layout, monkeypatch):
        with h5py.File(path) as file:
            values = file[PAYLOADS[layout]][:]
            kind = file[PAYLOADS[layout]].dtype
        replace(path, PAYLOADS[layout], values, dtype=kind, compression="gzip")
        monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: code != 1)
        refused(path, f"/{PAYLOADS[layout]} needs the HDF5 filter gzip, which is not installed")

    @pytest.mark.parametrize("damage", [b"", b"\x55" * 40, b"longer than the chunk" * 5000])
    def test_a_damaged_chunk_costs_its_row(self, path, layout, damage):
        name = PAYLOADS[layout]
        with h5py.File(path) as file:
            kind, values = file[name].dtype, file[name][:]
        if kind.hasobject:
            pytest.skip("what lies in a heap has no chunk")
        chunks = (1, *values.shape[1:])
        replace(path, name, values, dtype=kind, chunks=chunks, compression="gzip")
        with h5py.File(path, "r+") as file:
            at = (4, *(0,) * (values.ndim - 1))
            # As a stream of zlib it is whole, and inflates to less or more than a chunk.
            stored = zlib.compress(damage) if damage[:1] != b"\x55" else damage
            file[name].id.write_direct_chunk(at, stored)
        assert list(lost(read(path))) == [4]


def png(width, height):
    """Give a PNG that declares a size, and holds hardly any pixels."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, format="PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


def jpeg(width, height):
    """Give a JPEG that declares a size in its frame header."""
    data = bytearray(FILES[0])
    at = data.find(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


class TestImageFiles:
    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (png(60000, 60000), "60000 x 60000 px, more than 1024"),
            (jpeg(60000, 60000), "60000 x 60000 px, more than 1024"),
            (jpeg(0, 0), "has no pixels|cannot be decoded"),
            (FILES[3][:200], "truncated|damaged"),
            (b"", "is empty|was never written"),
            (b"\0\0\0", "is empty"),
            (b"hello", "is no JPEG, PNG, TIFF or BMP image"),
        ],
    )
    def test_a_file_that_is_no_crop_costs_its_row(self, tmp_path, data, reason):
        files = [*FILES[:5], data, *FILES[6:]]
        WRITERS["variable-length JPEG"](tmp_path / "a.h5", CROPS, files)
        rows = read(tmp_path / "a.h5")
        reasons = lost(rows)
        assert list(reasons) == [5]
        assert any(said in reasons[5] for said in reason.split("|"))
        np.testing.assert_array_equal(rows[6], CROPS[6])
        with open_archive(tmp_path / "a.h5") as archive:
            np.testing.assert_array_equal(archive.read(4, 5)[0], CROPS[4])
            assert archive.encoded(6) == FILES[6]

    def test_a_file_that_is_too_long_is_not_decoded(self, tmp_path, monkeypatch):
        WRITERS["variable-length JPEG"](tmp_path / "a.h5", CROPS, FILES)
        monkeypatch.setattr("cytodino.archive.plain.MAX_ENCODED_BYTES", 100)
        with open_archive(tmp_path / "a.h5") as archive:
            assert all("bytes long" in row.reason for row in archive.read(0, N))
            with pytest.raises(CropError, match="bytes long"):
                archive.encoded(0)


class TestProbe:
    """What HDF5 does not come back from."""

    @pytest.fixture
    def hanging(self, tmp_path):
        """An archive in whose heap an object is zero bytes long."""
        path = tmp_path / "a.h5"
        WRITERS["variable-length JPEG"](path, CROPS, FILES)
        content = bytearray(path.read_bytes())
        heap = content.find(b"GCOL")
        (length,) = struct.unpack("<Q", content[heap + 24 : heap + 32])
        following = heap + 16 + 16 + -(-length // 8) * 8
        content[following : following + 16] = bytes(16)
        path.write_bytes(bytes(content))
        return path

    def test_a_file_that_hangs_hdf5_is_refused(self, hanging, monkeypatch):
        monkeypatch.setattr(probing, "PATIENCE", 4.0)
        with pytest.raises(ArchiveError, match="HDF5 does not come back from"):
            open_archive(hanging, probe=True)

    def test_a_crash_is_told_by_its_signal(self, tmp_path, monkeypatch):
        WRITERS["CLAM"](tmp_path / "a.h5", CROPS, FILES)
        died = subprocess.CompletedProcess([], -11)
        monkeypatch.setattr(probing.subprocess, "run", lambda *_args, **_options: died)
        with pytest.raises(ArchiveError, match="crashes HDF5 .SIGSEGV."):
            open_archive(tmp_path / "a.h5", probe=True)

    def test_what_is_whole_or_wrong_otherwise_is_the_callers(self, tmp_path):
        WRITERS["h5path"](tmp_path / "a.h5", CROPS, FILES)
        with open_archive(tmp_path / "a.h5", probe=True) as archive:
            assert archive.n == N
        with pytest.raises(ArchiveError, match="has no dataset gone"):
            open_archive(tmp_path / "a.h5", probe=True, options=ReadOptions(dataset="gone"))

    def test_ours_need_none(self, tmp_path, monkeypatch):
        WRITERS["own raw"](tmp_path / "a.h5", CROPS, FILES)
        monkeypatch.setattr(probing.subprocess, "run", None)
        with open_archive(tmp_path / "a.h5", probe=True) as archive:
            assert archive.n == N
