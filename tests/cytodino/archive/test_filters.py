import zlib

import h5py
import numpy as np
import pytest

from cytodino.archive.filters import find_undo, fletcher32


def stored_checksum(tmp_path, data):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset(
            "x", data=np.frombuffer(data, np.uint8), chunks=(len(data),), fletcher32=True
        )
        stored = dataset.id.read_direct_chunk((0,))[1]
    return int.from_bytes(stored[-4:], "little")


@pytest.mark.parametrize("length", [1, 2, 3, 719, 720, 721, 16383, 16384, 16385, 200_001])
@pytest.mark.parametrize("fill", ["noise", "zeros", "ones"])
def test_fletcher32_is_that_of_hdf5(tmp_path, length, fill):
    noise = np.random.default_rng(length).bytes(length)
    data = {"noise": noise, "zeros": bytes(length), "ones": b"\xff" * length}[fill]
    assert fletcher32(data) == stored_checksum(tmp_path, data)


def test_checksums_of_hdf5_1_6_2_are_known(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = np.arange(100, dtype=np.uint8)
        undo = find_undo(file.create_dataset("x", data=data, compression="gzip", fletcher32=True))
    data = zlib.compress(data)
    a, b, c, d = fletcher32(data).to_bytes(4, "little")
    assert undo(data + bytes([a, b, c, d])).tolist() == list(range(100))
    assert undo(data + bytes([b, a, d, c])).tolist() == list(range(100))
    assert undo(data + bytes([a, b, d, c])) is None


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shuffle": True},
        {"fletcher32": True},
        {"compression": "lzf"},
        {"scaleoffset": 4},
        {"compression": "szip"},
    ],
)
def test_other_filters_are_left_to_hdf5(tmp_path, options):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        try:
            dataset = file.create_dataset("x", (4, 64), np.uint8, chunks=(1, 64), **options)
        except ValueError:
            pytest.skip("this build of HDF5 cannot write it")
        assert find_undo(dataset) is None


@pytest.mark.parametrize("dtype", [h5py.string_dtype(), np.dtype([("a", "u1")]), bool, "S3"])
def test_other_types_are_left_to_hdf5(tmp_path, dtype):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        assert find_undo(file.create_dataset("x", (4,), dtype, compression="gzip")) is None


def test_filters_in_another_order_are_left_to_hdf5(tmp_path):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((1, 8))
    properties.set_deflate(4)
    properties.set_shuffle()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        space = h5py.h5s.create_simple((4, 8))
        h5py.h5d.create(file.id, b"x", h5py.h5t.STD_U8LE, space, properties)
        assert find_undo(file["x"]) is None
