import contextlib
import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from cytodino.errors import CropError, InputError, MissingPathError, TaxonomyError
from cytodino.images import MAX_SIDE, checksum, decode_rgb, encode_png, scan_folder
from cytodino.taxonomy import CODES, index_of


def draw(height=12, width=10, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encode(image, format_, **options):
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(
        buffer, format=format_, **options
    )
    return buffer.getvalue()


def put(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width, height, bits=8, colour=2, body=b"", before=b""):
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + before
        + png_chunk(b"IDAT", zlib.compress(body))
        + png_chunk(b"IEND", b"")
    )


class TestScanFolder:
    def test_takes_every_depth_and_suffix_in_the_order_of_ids(self, tmp_path):
        put(
            tmp_path, "NGS/b/c/z.TIF", "BLA/1.jpg", "BLA/0001-1000/x.JPEG", "EOS/y.bmp", "EOS/y.png"
        )
        scan = scan_folder(tmp_path)
        assert scan.ids == [
            "BLA/0001-1000/x.JPEG",
            "BLA/1.jpg",
            "EOS/y.bmp",
            "EOS/y.png",
            "NGS/b/c/z.TIF",
        ]
        assert scan.labels.tolist() == [index_of(id_[:3]) for id_ in scan.ids]
        assert scan.labels.dtype == np.int64
        assert scan.passed_over == 0

    def test_passes_over_hidden_entries_and_counts_other_files(self, tmp_path):
        put(tmp_path, "BLA/1.jpg", "BLA/._1.jpg", "BLA/Thumbs.db", "__MACOSX/BLA/1.jpg")
        put(tmp_path, ".cache/1.jpg", "notes/readme.txt")
        scan = scan_folder(tmp_path)
        assert scan.ids == ["BLA/1.jpg"]
        assert scan.passed_over == 2

    def test_lists_every_unknown_class_though_others_are_known(self, tmp_path):
        put(tmp_path, "BLA/1.jpg", "zebra/1.jpg", "blast/1.jpg", "empty/note.txt")
        with pytest.raises(TaxonomyError, match="blast, zebra") as caught:
            scan_folder(tmp_path)
        assert "empty" not in str(caught.value)
        assert CODES[0] in caught.value.mend

    def test_names_the_folder_below_where_the_classes_lie_there(self, tmp_path):
        put(tmp_path, "published/BLA/1.jpg", "published/NGS/1.jpg")
        with pytest.raises(InputError, match="one level down") as caught:
            scan_folder(tmp_path)
        assert str(tmp_path / "published") in caught.value.mend

    def test_images_without_class_folders_have_no_labels(self, tmp_path):
        assert scan_folder(put(tmp_path, "2.png", "1.png")).labels is None

    def test_refuses_images_beside_class_folders(self, tmp_path):
        put(tmp_path, "BLA/1.jpg", *(f"{number}.png" for number in range(7)))
        with pytest.raises(InputError, match=r"0\.png.* and 2 more"):
            scan_folder(tmp_path)

    def test_empty_folder_says_what_to_put_there(self, tmp_path):
        with pytest.raises(InputError, match="holds no image") as caught:
            scan_folder(tmp_path)
        assert ".jpg" in caught.value.mend

    def test_missing_path_is_a_usage_error(self, tmp_path):
        with pytest.raises(MissingPathError) as caught:
            scan_folder(tmp_path / "nowhere")
        assert caught.value.exit_code == 2

    def test_a_file_is_no_folder(self, tmp_path):
        with pytest.raises(InputError, match="is not a folder"):
            scan_folder(put(tmp_path, "1.jpg") / "1.jpg")

    def test_follows_links_to_folders_but_not_round_in_circles(self, tmp_path):
        put(tmp_path, "elsewhere/1.jpg", "set/BLA/2.jpg")
        (tmp_path / "set" / "NGS").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "set" / "BLA" / "again").symlink_to(tmp_path / "set" / "BLA")
        assert scan_folder(tmp_path / "set").ids == ["BLA/2.jpg", "NGS/1.jpg"]

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
    def test_a_pipe_called_like_an_image_is_no_image(self, tmp_path):
        put(tmp_path, "BLA/1.jpg")
        os.mkfifo(tmp_path / "BLA" / "2.jpg")
        assert scan_folder(tmp_path).ids == ["BLA/1.jpg"]

    def test_a_link_that_leads_nowhere_is_not_lost_in_silence(self, tmp_path):
        put(tmp_path, "BLA/1.jpg")
        (tmp_path / "BLA" / "2.jpg").symlink_to(tmp_path / "gone.jpg")
        (tmp_path / "BLA" / "3.jpg").symlink_to(tmp_path / "BLA" / "3.jpg")
        assert scan_folder(tmp_path).ids == ["BLA/1.jpg", "BLA/2.jpg", "BLA/3.jpg"]

    def test_a_name_that_is_no_utf8_is_refused(self, tmp_path):
        put(tmp_path, "BLA/1.jpg")
        name = os.fsencode(tmp_path / "BLA") + b"/\xff.jpg"
        try:
            open(name, "wb").close()
        except OSError:
            pytest.skip("this file system takes only UTF-8 names")
        with pytest.raises(InputError, match="not UTF-8"):
            scan_folder(tmp_path)

    def test_a_folder_that_cannot_be_listed_is_named(self, tmp_path, monkeypatch):
        def refuse(path):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "scandir", refuse)
        with pytest.raises(InputError, match=r"cannot be listed \(Permission denied\)"):
            scan_folder(tmp_path)


class TestDecode:
    @pytest.mark.parametrize("format_", ["PNG", "BMP", "TIFF"])
    def test_lossless_formats_come_back_as_they_were(self, format_):
        pixels = draw()
        decoded = decode_rgb(encode(pixels, format_))
        np.testing.assert_array_equal(decoded, pixels)
        assert decoded.flags.writeable

    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
    def test_jpeg_is_what_pillow_decodes(self, options):
        data = encode(draw(), "JPEG", **options)
        np.testing.assert_array_equal(decode_rgb(data), np.array(Image.open(io.BytesIO(data))))

    def test_compressed_tiff_is_read(self):
        pixels = draw()
        data = encode(pixels, "TIFF", compression="tiff_lzw")
        np.testing.assert_array_equal(decode_rgb(data), pixels)

    def test_orientation_is_not_applied(self):
        exif = Image.Exif()
        exif[0x0112] = 6
        assert decode_rgb(encode(draw(12, 10), "JPEG", exif=exif)).shape == (12, 10, 3)

    @pytest.mark.parametrize(
        ("mode", "format_", "reason"),
        [
            ("L", "JPEG", "is a grey image"),
            ("L", "PNG", "is a grey image"),
            ("1", "TIFF", "is a grey image"),
            ("LA", "PNG", "is a grey image with transparency"),
            ("P", "PNG", "is a palette image"),
            ("P", "TIFF", "is a palette image"),
            ("RGBA", "PNG", r"has 4 channels \(RGBA\)"),
            ("RGBA", "TIFF", r"has 4 channels \(RGBA\)"),
            ("CMYK", "JPEG", r"has 4 channels \(CMYK\)"),
            ("I;16", "PNG", "is a grey image of more than 8 bits"),
            ("F", "TIFF", "is a grey image of more than 8 bits"),
            ("LAB", "TIFF", "has the colours LAB"),
        ],
    )
    def test_other_colours_are_refused(self, mode, format_, reason):
        data = encode(Image.new(mode, (10, 12)), format_)
        with pytest.raises(CropError, match=reason) as caught:
            decode_rgb(data, "cells/1.img")
        assert caught.value.where == "cells/1.img"
        assert "8-bit RGB" in caught.value.mend

    def test_sixteen_bit_rgb_is_refused(self):
        body = b"".join(b"\0" + bytes(10 * 6) for _ in range(12))
        with pytest.raises(CropError, match="has 16 bits a channel"):
            decode_rgb(png_of(10, 12, bits=16, body=body))

    @pytest.mark.parametrize("format_", ["JPEG", "PNG", "TIFF", "BMP"])
    @pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
    def test_truncated_files_are_refused(self, format_, share):
        data = encode(draw(64, 64), format_)
        with pytest.raises(CropError, match="cannot be decoded") as caught:
            decode_rgb(data[: int(len(data) * share)], "1.img", 7)
        assert caught.value.row == 7
        assert caught.value.where == "1.img"

    @pytest.mark.parametrize(
        "data", [b"hello, world", b"GIF89a" + bytes(40), b"RIFF\0\0\0\0WEBP", bytes(100)]
    )
    def test_other_content_is_refused(self, data):
        with pytest.raises(CropError, match="is no JPEG, PNG, TIFF or BMP image"):
            decode_rgb(data)

    @pytest.mark.parametrize(
        "start", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"BM"]
    )
    @pytest.mark.parametrize("seed", range(5))
    def test_garbage_after_a_right_beginning_is_refused(self, start, seed):
        noise = np.random.default_rng(seed).integers(0, 256, 400, dtype=np.uint8).tobytes()
        with pytest.raises(CropError):
            decode_rgb(start + noise)

    def test_an_empty_file_is_refused(self):
        with pytest.raises(CropError, match="is empty"):
            decode_rgb(b"")

    def test_a_bomb_is_refused_by_its_header(self):
        data = png_of(60_000, 60_000)
        with pytest.raises(CropError, match=rf"60000 x 60000 px, more than {MAX_SIDE}.*; cut"):
            decode_rgb(data)

    def test_an_inflating_text_chunk_is_refused(self, monkeypatch):
        monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", 1000)
        text = png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(100_000)))
        with pytest.raises(CropError, match="cannot be decoded"):
            decode_rgb(png_of(1, 1, body=bytes(4), before=text))

    def test_many_pictures_in_a_file_are_refused(self):
        frames = [Image.fromarray(draw(seed=seed)) for seed in range(3)]
        data = encode(frames[0], "TIFF", save_all=True, append_images=frames[1:])
        with pytest.raises(CropError, match="holds 3 pictures"):
            decode_rgb(data)
        data = encode(frames[0], "PNG", save_all=True, append_images=frames[1:])
        with pytest.raises(CropError, match="is an animation"):
            decode_rgb(data)

    def test_pillows_warnings_stay_inside(self):
        # Broken EXIF makes Pillow warn on TIFF; the tags lie behind the pixels.
        data = bytearray(encode(draw(), "TIFF", tiffinfo={270: "x" * 40}))
        at = data.find(struct.pack("<HHI", 270, 2, 41))
        struct.pack_into("<I", data, at + 8, 1 << 24)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            with pytest.raises(Warning), warnings.catch_warnings():
                warnings.simplefilter("error")
                Image.open(io.BytesIO(bytes(data))).load()
            with contextlib.suppress(CropError):
                decode_rgb(bytes(data))
        assert seen == []


def test_png_bytes_hold_the_pixels():
    pixels = draw()
    np.testing.assert_array_equal(decode_rgb(encode_png(pixels)), pixels)
    np.testing.assert_array_equal(decode_rgb(encode_png(pixels[::2, ::2])), pixels[::2, ::2])


def test_checksum_is_of_the_values_in_c_order():
    pixels = draw()
    assert checksum(pixels) == zlib.crc32(pixels.tobytes())
    assert checksum(pixels[:, ::2]) == zlib.crc32(pixels[:, ::2].tobytes())
