from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cytodino.bundle import open_bundle
from cytodino.bundle.golden import check_golden, choose_golden, load_golden
from cytodino.engines.selection import open_model
from cytodino.errors import BundleError

Reseal = Callable[[Path, Callable[[dict[str, Any]], None]], None]


class TestChoice:
    labels = np.repeat(np.arange(21), 40)

    def test_the_first_21_span_the_classes_and_so_does_each_turn(self) -> None:
        rows = choose_golden(self.labels, seed=0, count=256)
        assert len(set(rows.tolist())) == 256
        assert sorted(self.labels[rows[:21]]) == list(range(21))
        assert sorted(self.labels[rows[21:42]]) == list(range(21))

    def test_the_seed_decides(self) -> None:
        first = choose_golden(self.labels, seed=0)
        assert np.array_equal(first, choose_golden(self.labels, seed=0))
        assert not np.array_equal(first, choose_golden(self.labels, seed=1))

    def test_small_classes_give_all_and_fewer_cells_are_taken_whole(self) -> None:
        labels = np.array([3] * 300 + [7] * 2 + [-1] * 5)
        rows = choose_golden(labels, seed=0)
        assert (labels[rows] == 7).sum() == 2
        assert (labels[rows] == -1).sum() == 5
        assert len(rows) == 256
        assert len(choose_golden(labels[:10], seed=0)) == 10


def test_golden_cells_come_back_as_they_were(bundle_path: Path) -> None:
    golden = load_golden(open_bundle(bundle_path))
    assert len(golden.crops) == len(golden.ids) == 210
    assert golden.crops[0].shape == (12, 10, 3)
    assert golden.crops[1].shape == (9, 14, 3)
    assert golden.reference.shape == (210, 21)
    assert golden.reference.dtype == np.float32
    assert golden.labels is not None
    assert golden.labels[:3].tolist() == [0, 1, 2]
    assert list(golden.exported) == ["fp32.onnxruntime"]


def test_the_first_few_can_be_had_alone(bundle_path: Path) -> None:
    golden = load_golden(open_bundle(bundle_path), cells=32)
    assert len(golden.crops) == len(golden.reference) == len(golden.ids) == 32
    assert len(golden.exported["fp32.onnxruntime"]) == 32


def test_an_engine_that_says_the_same_passes(bundle_path: Path) -> None:
    bundle = open_bundle(bundle_path)
    with open_model(bundle.model_path("fp32")) as engine:
        whole = check_golden(bundle, engine)
        few = check_golden(bundle, engine, cells=32, batch_size=5)
    assert (whole.verdict, whole.n) == ("passed", 210)
    assert (few.verdict, few.n, few.failures) == ("unproven", 32, ())


def test_an_engine_that_strays_fails_even_on_few(
    bundle_path: Path, reseal: Reseal, linear: Callable[[Path, np.ndarray], None]
) -> None:
    weight = np.random.default_rng(0).normal(0, 8, (3, 21))
    weight[:, 0] *= 1.03
    linear(bundle_path / "model.fp32.onnx", weight)
    reseal(bundle_path, lambda document: None)
    bundle = open_bundle(bundle_path)
    with open_model(bundle.model_path("fp32")) as engine:
        assert check_golden(bundle, engine, cells=32).verdict == "failed"


def test_a_damaged_golden_cell_is_named(bundle_path: Path, reseal: Reseal) -> None:
    with h5py.File(bundle_path / "golden.h5", "r+") as file:
        file["crc32"][3] += 1
    reseal(bundle_path, lambda document: None)
    with pytest.raises(BundleError, match=r"golden\.h5: golden cell"):
        load_golden(open_bundle(bundle_path))


def test_a_bundle_without_golden_cells_or_limits(bundle_path: Path, reseal: Reseal) -> None:
    reseal(bundle_path, lambda document: document.update(limits={}))
    bundle = open_bundle(bundle_path)
    with (
        open_model(bundle.model_path("fp32")) as engine,
        pytest.raises(BundleError, match="no limits for fp32"),
    ):
        check_golden(bundle, engine)
    reseal(bundle_path, lambda document: document["files"].pop("golden.h5"))
    with pytest.raises(BundleError, match=r"has no golden\.h5"):
        load_golden(open_bundle(bundle_path))
