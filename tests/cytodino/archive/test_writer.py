import h5py
import numpy as np
import pytest

from cytodino.archive import newfile, open_archive, write_archive
from cytodino.archive.writer import MAX_REPORTED
from cytodino.cells import MemoryCells, open_cells
from cytodino.errors import ArchiveError, CropError, InputError

from .conftest import NAMES, draw, write_images


def left_behind(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def test_the_format_is_the_one_of_the_design(archive, images, encoding):
    with h5py.File(archive) as file:
        assert dict(file.attrs) == {
            "format": b"cytodino-archive",
            "version": 1,
            "slide": b"slide 7",
            "channel_order": b"rgb",
        }
        for name in ("format", "slide", "channel_order"):
            text = h5py.check_string_dtype(file.attrs.get_id(name).dtype)
            assert text.length is not None  # read without the heap, which has no checksum
        assert file["crc32"].dtype == np.uint32
        for name in ("ids", "labels"):
            text = h5py.check_string_dtype(file[name].dtype)
            assert text.length is not None  # HDF5 takes no checksum on variable lengths
            assert file[name].fletcher32
        assert file["ids"].asstr()[:].tolist() == sorted(NAMES)
        assert file["labels"][:].tolist() == [b"BLA"] * 2 + [b"EOS"] + [b"LYT"] * 2 + [b"NGS"] * 2
        if encoding == "raw":
            assert file["crops"].chunks == (1, 12, 10, 3)
            assert "bytes" not in file
        else:
            assert file["bytes"].chunks is None
            assert file["offsets"].dtype == np.uint64
            assert file["offsets"].shape == (len(NAMES) + 1,)


@pytest.mark.parametrize("compression", ["none", "gzip", "lz4", "zstd"])
def test_raw_pixels_survive_every_compression(images, tmp_path, compression):
    cells = open_cells(images)
    write_archive(tmp_path / "a.h5", cells, encoding="raw", compression=compression)
    with open_archive(tmp_path / "a.h5") as opened:
        assert opened.filters == (() if compression == "none" else (compression,))
        for row, crop in enumerate(opened.read(0, opened.n)):
            np.testing.assert_array_equal(crop, cells.read(row))


def test_files_are_kept_to_the_byte(images, tmp_path):
    cells = open_cells(images)
    write_archive(tmp_path / "a.h5", cells)
    with open_archive(tmp_path / "a.h5") as opened:
        for row, name in enumerate(cells.ids):
            assert opened.encoded(row) == (images / name).read_bytes()
            assert opened.encoded_size(row) == (images / name).stat().st_size


@pytest.mark.parametrize("compression", ["none", "gzip", "lz4", "zstd"])
def test_the_same_cells_give_the_same_bytes(images, tmp_path, compression):
    for name in ("a.h5", "b.h5"):
        write_archive(tmp_path / name, open_cells(images), encoding="raw", compression=compression)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_crops_of_several_sizes_share_an_archive_of_files(tmp_path):
    images = write_images(tmp_path / "set", sizes=((12, 10), (9, 20)))
    written = write_archive(tmp_path / "a.h5", open_cells(images))
    assert written.sizes == {(12, 10): 4, (9, 20): 3}
    with open_archive(tmp_path / "a.h5") as opened:
        assert {crop.shape for crop in opened.read(0, 7)} == {(12, 10, 3), (9, 20, 3)}


def test_crops_of_several_sizes_are_refused_as_pixels(tmp_path):
    images = write_images(tmp_path / "set", sizes=((12, 10), (9, 20)))
    with pytest.raises(InputError, match=r"10 x 12 px.*20 x 9 px") as caught:
        write_archive(tmp_path / "a.h5", open_cells(images), encoding="raw")
    assert "--encoding jpeg" in caught.value.mend
    assert left_behind(tmp_path) == []


def test_an_image_that_cannot_be_used_is_named_and_nothing_is_left(images, tmp_path, encoding):
    broken = images / "LYT" / "e.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(CropError) as caught:
        write_archive(tmp_path / "a.h5", open_cells(images), encoding=encoding)
    assert caught.value.where == broken
    assert left_behind(tmp_path) == []


def test_all_images_that_cannot_be_used_are_named_together(images, tmp_path):
    for name in ("BLA/a.png", "NGS/x.jpeg"):
        (images / name).write_bytes(b"no image")
    with pytest.raises(InputError, match=r"2 images cannot be used: .*a\.png.*x\.jpeg"):
        write_archive(tmp_path / "a.h5", open_cells(images))


@pytest.mark.parametrize("packed_as", ["raw", "jpeg"])
def test_all_rows_of_an_archive_that_cannot_be_used_are_named_together(
    images, tmp_path, packed_as, encoding
):
    write_archive(tmp_path / "in.h5", open_cells(images), encoding=packed_as)
    with h5py.File(tmp_path / "in.h5", "r+") as file:
        file["crc32"][1] ^= 1
        file["crc32"][4] ^= 1
    damaged = "its bytes do not match their checksum"
    with pytest.raises(InputError, match=f": row 1 {damaged}; row 4 {damaged}; replace"):
        write_archive(tmp_path / "a.h5", open_cells(tmp_path / "in.h5"), encoding=encoding)


def test_rows_of_an_archive_that_are_no_images_are_named(images, tmp_path):
    with h5py.File(tmp_path / "in.h5", "w") as file:
        files = file.create_dataset("files", (4,), h5py.vlen_dtype(np.uint8))
        for row in range(4):
            files[row] = np.frombuffer((images / NAMES[0]).read_bytes(), np.uint8)
        files[1] = np.frombuffer(b"no image", np.uint8)
    cells = open_cells(tmp_path / "in.h5")
    with pytest.raises(CropError, match=r"in\.h5: row 1: is no JPEG"):
        write_archive(tmp_path / "a.h5", cells)
    with pytest.raises(CropError, match=r"in\.h5: row 1: is no JPEG"):
        write_archive(tmp_path / "a.h5", cells.subset(np.array([1, 2])))


def test_it_gives_up_after_some_images_that_cannot_be_used(tmp_path):
    names = [f"BLA/{number:03}.png" for number in range(40)]
    images = write_images(tmp_path / "set", names)
    for name in names:
        (images / name).write_bytes(b"no image")
    done = []
    with pytest.raises(InputError, match=f"{MAX_REPORTED} or more images"):
        write_archive(
            tmp_path / "a.h5", open_cells(images), progress=lambda *args: done.append(args)
        )
    assert len(done) < MAX_REPORTED


def test_progress_counts_to_the_end(images, tmp_path, encoding):
    seen = []
    write_archive(
        tmp_path / "a.h5",
        open_cells(images),
        encoding=encoding,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(done, 7) for done in range(1, 8)]


def test_an_existing_target_is_refused_and_kept(images, tmp_path):
    target = tmp_path / "a.h5"
    target.write_bytes(b"precious")
    with pytest.raises(ArchiveError, match="exists already"):
        write_archive(target, open_cells(images))
    assert target.read_bytes() == b"precious"


def test_a_target_that_appears_meanwhile_is_kept(images, tmp_path):
    target = tmp_path / "a.h5"
    with pytest.raises(ArchiveError, match="exists already"):
        write_archive(
            target, open_cells(images), progress=lambda done, total: target.write_bytes(b"new")
        )
    assert target.read_bytes() == b"new"
    assert left_behind(tmp_path) == ["a.h5"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_nothing_is_left_when_it_is_interrupted(images, tmp_path, encoding, interruption):
    def interrupt(done, total):
        if done == 3:
            raise interruption

    with pytest.raises(interruption):
        write_archive(tmp_path / "a.h5", open_cells(images), encoding=encoding, progress=interrupt)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("allowed", [0, 1, 3, 6])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failing_disk_is_one_error(images, tmp_path, monkeypatch, allowed, error, encoding):
    honest = newfile.Sink._put
    calls = []

    def put(self, begin, data):
        calls.append(len(data))
        if len(calls) > allowed:
            raise error
        honest(self, begin, data)

    monkeypatch.setattr(newfile.Sink, "_put", put)
    wanted = ArchiveError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(wanted) as caught:
        write_archive(tmp_path / "a.h5", open_cells(images), encoding=encoding)
    if wanted is ArchiveError:
        assert "No space left" in str(caught.value)
    assert left_behind(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_one_error(images, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ArchiveError, match="cannot be written"):
        write_archive(tmp_path / "file" / "a.h5", open_cells(images))


def test_missing_folders_are_made(images, tmp_path):
    write_archive(tmp_path / "new" / "er" / "a.h5", open_cells(images))
    assert (tmp_path / "new" / "er" / "a.h5").is_file()


def test_a_file_that_changes_meanwhile_is_refused(images, tmp_path):
    cells = open_cells(images)
    honest = cells.encoded_size
    cells.encoded_size = lambda index: honest(index) + (index == 4)
    with pytest.raises(CropError, match="changed while it was packed"):
        write_archive(tmp_path / "a.h5", cells)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"encoding": "webp"}, "no encoding is called webp"),
        ({"encoding": "raw", "compression": "rar"}, "no compression is called rar"),
        ({"compression": "gzip"}, "compressed already"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(images, tmp_path, options, reason):
    with pytest.raises(InputError, match=reason):
        write_archive(tmp_path / "a.h5", open_cells(images), **options)


def test_no_cells_make_no_archive(tmp_path):
    with pytest.raises(InputError, match="no cells"):
        write_archive(tmp_path / "a.h5", MemoryCells([]))


def test_cells_from_memory_keep_labels_and_coordinates(tmp_path, encoding):
    cells = MemoryCells([draw(seed=seed) for seed in range(3)], labels=[4, -1, 20], slide="s")
    cells.coords = np.array([[1, 2], [-3, 4], [2**40, 6]])
    write_archive(tmp_path / "a.h5", cells, encoding=encoding, slide="another")
    with open_archive(tmp_path / "a.h5") as opened:
        assert opened.slide == "another"
        assert opened.ids == ["0", "1", "2"]
        assert opened.labels.tolist() == [4, -1, 20]
        assert opened.coords.tolist() == cells.coords.tolist()
        for row in range(3):
            np.testing.assert_array_equal(opened.read(row, row + 1)[0], draw(seed=row))


def test_cells_without_labels_have_no_table_of_them(tmp_path):
    write_archive(tmp_path / "a.h5", MemoryCells([draw()]))
    with h5py.File(tmp_path / "a.h5") as file:
        assert "labels" not in file
        assert "coords" not in file
