"""Cells drawn from a seed: the same bytes again, and what tells the classes apart."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytodino.errors import InputError, TaxonomyError
from cytodino.synthetic import (
    MORPHOLOGY,
    STAINS,
    draw_cell,
    draw_sheet,
    draw_slide,
    write_sheet,
    write_slides,
)
from cytodino.synthetic.canvas import Canvas
from cytodino.synthetic.scene import draw_scene
from cytodino.synthetic.shapes import FIELD, dots, grid_of
from cytodino.synthetic.stain import Dye
from cytodino.synthetic.writer import draw_set
from cytodino.taxonomy import CODES


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def middle(crop: np.ndarray) -> np.ndarray:
    """Return the pixels of the central half, float (n, 3)."""
    edge = crop.shape[0] // 4
    return crop[edge:-edge, edge:-edge].reshape(-1, 3).astype(float)


def mean_colour(code: str, stain: str = "a", cells: int = 6) -> np.ndarray:
    drawn = [draw_cell(code, seed=seed, size=64, stain=stain) for seed in range(cells)]
    return np.mean([middle(crop).mean(axis=0) for crop in drawn], axis=0)


def nuclear_area(code: str, cells: int = 6) -> float:
    """Return the mean area of the nucleus, square micrometres, without stain and camera."""
    grid = grid_of(96)
    near = np.hypot(grid.x, grid.y) < 8
    areas = []
    for seed in range(cells):
        canvas = Canvas(grid)
        draw_scene(canvas, MORPHOLOGY[code][0], np.random.default_rng(seed), tint=0.0)
        areas.append((near & (canvas.dyes[Dye.CHROMATIN] > 0.35)).sum() * grid.pixel**2)
    return float(np.mean(areas))


@pytest.mark.parametrize("code", CODES)
def test_every_class_is_drawn_as_an_rgb_crop_that_holds_something(code: str) -> None:
    crop = draw_cell(code, seed=1, size=48)
    assert crop.shape == (48, 48, 3)
    assert crop.dtype == np.uint8
    assert crop.min() < 120 < 180 < crop.max()


def test_a_large_crop_needs_no_finer_canvas() -> None:
    assert draw_cell("EBO", seed=1, size=160).shape == (160, 160, 3)


def test_the_table_holds_the_21_classes() -> None:
    assert tuple(sorted(MORPHOLOGY)) == CODES


@pytest.mark.parametrize("code", CODES)
def test_the_ranges_of_the_table_are_ordered_and_possible(code: str) -> None:
    for row in MORPHOLOGY[code]:
        assert 0 < row.diameter[0] <= row.diameter[1] < FIELD * 1.2
        assert 0 <= row.nucleus_share[0] <= row.nucleus_share[1] <= 1
        ranges = (row.density, row.eccentricity, row.basophilia, row.acidophilia, row.hof)
        assert all(0 <= low <= high for low, high in ranges)
        counts = (row.lobes, row.nucleoli, row.vacuoles, row.rods)
        assert all(0 <= low <= high for low, high in counts)
        for granules in row.granules:
            assert 0 < granules.number[0] <= granules.number[1]
            assert 0 < granules.diameter[0] <= granules.diameter[1]


def test_the_same_seed_draws_the_same_cell_and_another_seed_another() -> None:
    one = draw_cell("NGS", seed=5, size=64)
    np.testing.assert_array_equal(one, draw_cell("NGS", seed=5, size=64))
    assert (one != draw_cell("NGS", seed=6, size=64)).mean() > 0.5


def test_a_cell_keeps_its_picture_at_another_size() -> None:
    small = draw_cell("PLM", seed=3, size=64)
    large = Image.fromarray(draw_cell("PLM", seed=3, size=192)).reduce(3)
    assert np.abs(small.astype(float) - np.asarray(large, float)).mean() < 6


def test_stain_b_is_another_laboratory() -> None:
    for code in ("LYT", "EOS", "PEB"):
        shift = np.abs(mean_colour(code, "a") - mean_colour(code, "b"))
        assert shift.max() > 12


def test_slides_differ_in_stain_white_and_noise() -> None:
    slides = [draw_slide("a", np.random.default_rng(k)) for k in range(4)]
    assert len({round(slide.noise, 6) for slide in slides}) == 4
    assert np.ptp([slide.white.mean() for slide in slides]) > 2
    assert not np.allclose(slides[0].absorption, slides[1].absorption, rtol=0.02)


def test_granules_and_cytoplasm_have_their_colours() -> None:
    red, _, blue = mean_colour("EOS")
    assert red > blue, "the granules of an eosinophil are orange-red"
    assert mean_colour("PEB")[0] < mean_colour("MON")[0] - 20, "a proerythroblast is deep blue"
    red, green, blue = mean_colour("NGS")
    assert red > green + 20, "the cytoplasm of a neutrophil is pink"


def test_the_nucleus_shrinks_as_the_cell_ripens() -> None:
    blast, myelocyte, segmented = (nuclear_area(code) for code in ("BLA", "MYB", "NGS"))
    assert blast > 1.25 * myelocyte > 1.25 * 1.25 * segmented


def test_a_lymphocyte_is_smaller_than_a_blast() -> None:
    assert nuclear_area("LYT") < 0.6 * nuclear_area("BLA")


def test_an_unidentifiable_cell_is_out_of_focus() -> None:
    def sharpness(code: str) -> float:
        crops = [draw_cell(code, seed=seed, size=96)[..., 1].astype(float) for seed in range(5)]
        return float(np.mean([np.quantile(np.abs(np.diff(crop)), 0.99) for crop in crops]))

    assert sharpness("NIF") < 0.5 * sharpness("NGS")


def test_a_crop_can_be_drawn_on_a_given_slide() -> None:
    dark = draw_slide("a", np.random.default_rng(0))
    crop = draw_cell("LYT", seed=1, size=64, slide=dark)
    assert np.quantile(crop, 0.999) <= 255
    assert (crop != draw_cell("LYT", seed=1, size=64)).any()


def test_dots_lie_where_they_should_and_weigh_what_they_should() -> None:
    grid = grid_of(200)
    at = np.array([2.0], np.float32)
    disc = dots(grid, at, -at, np.array([1.5], np.float32), np.array([0.5], np.float32))
    assert disc.max() == pytest.approx(0.5)
    assert disc.sum() / 0.5 * grid.pixel**2 == pytest.approx(np.pi * 1.5**2, rel=0.02)
    assert (disc * grid.x).sum() / disc.sum() == pytest.approx(2.0, abs=0.02)
    assert (disc * grid.y).sum() / disc.sum() == pytest.approx(-2.0, abs=0.02)
    twice = dots(grid, *(np.repeat(values, 2) for values in (at, -at, at, 0.25 * at)))
    assert twice.max() == pytest.approx(0.5), "where discs overlap one of them counts"
    empty = np.zeros(0, np.float32)
    assert dots(grid, empty, empty, empty, empty).sum() == 0


def test_each_dye_has_an_absorption_in_each_profile() -> None:
    assert all(len(profile.absorption) == len(Dye) for profile in STAINS.values())


@pytest.mark.parametrize("size", [31, 1025])
def test_a_size_out_of_bounds_is_refused(size: int, tmp_path: Path) -> None:
    for draw in (
        lambda: draw_cell("LYT", size=size),
        lambda: draw_sheet(size=size),
        lambda: write_slides(tmp_path / "out", size=size),
    ):
        with pytest.raises(InputError, match="32 to 1024"):
            draw()


def test_an_unknown_class_or_stain_is_refused() -> None:
    with pytest.raises(TaxonomyError, match="XYZ"):
        draw_cell("XYZ")
    with pytest.raises(InputError, match="a, b"):
        draw_cell("LYT", stain="c")


# --- the image folder ---


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "cells"
    assert write_slides(out, cells_per_class=2, size=32, seed=4) == 42
    return out


def test_the_folder_is_laid_out_like_the_published_set(cells: Path) -> None:
    names = [name for name in contents(cells) if name.endswith(".jpg")]
    assert names == sorted(
        f"{code}/0001-1000/{code}_{number:05d}.jpg" for code in CODES for number in (1, 2)
    )
    with Image.open(cells / names[0]) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (32, 32))


def test_every_crop_has_its_slide_in_the_table(cells: Path) -> None:
    with (cells / "slides.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [
        f"{code}/0001-1000/{code}_{number:05d}.jpg" for code in CODES for number in (1, 2)
    ]
    assert {row["slide"] for row in rows} == {"a-4-01", "a-4-02"}


def test_the_same_seed_writes_the_same_bytes_and_more_cells_change_none(
    cells: Path, tmp_path: Path
) -> None:
    write_slides(tmp_path / "three", cells_per_class=3, size=32, seed=4)
    fewer, more = contents(cells), contents(tmp_path / "three")
    assert len(more) == 21 * 3 + 1
    del fewer["slides.csv"]
    assert fewer == {name: more[name] for name in fewer}


def test_another_seed_writes_other_cells(cells: Path, tmp_path: Path) -> None:
    write_slides(tmp_path / "other", cells_per_class=1, size=32, seed=5)
    ours, others = contents(cells), contents(tmp_path / "other")
    assert all(ours[name] != others[name] for name in others)


def test_another_seed_draws_other_shapes_too_and_not_only_another_stain() -> None:
    (one,), (other,) = (
        [crop[..., 1].ravel() for _, _, crop in draw_set("NGS", 1, size=64, stain="a", seed=seed)]
        for seed in (4, 5)
    )
    assert np.corrcoef(one, other)[0, 1] < 0.9


def test_the_thousand_and_first_cell_begins_a_new_folder(tmp_path: Path) -> None:
    from cytodino.synthetic.writer import _write_crop

    crop = np.zeros((32, 32, 3), np.uint8)
    assert _write_crop(tmp_path, "LYT", 999, crop) == "LYT/0001-1000/LYT_01000.jpg"
    assert _write_crop(tmp_path, "LYT", 1000, crop) == "LYT/1001-2000/LYT_01001.jpg"


def test_an_empty_folder_is_used_and_one_in_use_is_left_alone(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert write_slides(empty, cells_per_class=1, size=32) == 21
    before = contents(empty)
    with pytest.raises(InputError, match="not empty"):
        write_slides(empty, cells_per_class=1, size=32, seed=9)
    assert contents(empty) == before
    a_file = tmp_path / "file"
    a_file.write_text("")
    with pytest.raises(InputError, match="this is a file"):
        write_slides(a_file)


def test_who_stands_in_the_folder_sees_the_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_slides(Path("."), cells_per_class=1, size=32)
    assert sorted(path.name for path in Path(".").iterdir()) == [*sorted(CODES), "slides.csv"]


def test_a_sheet_takes_the_place_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "sheet.png").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        write_sheet(tmp_path / "sheet.png", size=32)
    assert (tmp_path / "sheet.png").read_text() == "mine"


@pytest.mark.parametrize(("cells_per_class", "slides"), [(0, 8), (100_000, 8), (1, 0)])
def test_numbers_out_of_bounds_are_refused(
    cells_per_class: int, slides: int, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="ask for 1"):
        write_slides(tmp_path / "out", cells_per_class=cells_per_class, slides=slides)


def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path) -> None:
    drawn: list[int] = []

    def stop_at_the_fifth() -> None:
        drawn.append(1)
        if len(drawn) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_slides(tmp_path / "out", cells_per_class=1, size=32, progress=stop_at_the_fifth)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_slides(tmp_path / "file" / "out", cells_per_class=1, size=32)
    with pytest.raises(InputError, match="cannot be written"):
        write_sheet(tmp_path / "file" / "sheet.png", size=32)


def test_the_sheet_shows_the_cells_of_the_set(tmp_path: Path) -> None:
    sheet = np.asarray(draw_sheet(size=32, seed=4, cells=2))
    first = draw_sheet(size=32, seed=4, cells=1)
    assert sheet.shape[1] > first.width
    np.testing.assert_array_equal(sheet[:, : 6 + 32], np.asarray(first)[:, : 6 + 32])
    write_sheet(tmp_path / "new" / "sheet.png", size=32, seed=4)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["sheet.png"]
