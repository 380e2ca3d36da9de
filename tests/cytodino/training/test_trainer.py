import hashlib
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file
from transformers.models.dinov3_vit.modeling_dinov3_vit import DINOv3ViTAttention

from cytodino.archive import write_archive
from cytodino.cells import open_cells
from cytodino.errors import CropError, DivergedError, InputError, TaxonomyError, TrainingError
from cytodino.modeling.inference import predict
from cytodino.modeling.loading import load_run
from cytodino.recipe import Recipe, default_recipe
from cytodino.run import open_run
from cytodino.run_folder import UNFINISHED
from cytodino.training import trainer
from cytodino.training.trainer import train


@pytest.fixture
def trained(images, recipe, listener, tmp_path):
    run = train(
        images, tmp_path / "run", recipe=recipe, backbone="mini", device="cpu", observer=listener
    )
    return run, listener


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_training_leaves_a_run_and_nothing_else(trained):
    run, _ = trained
    assert files(run.path) == [
        "backbone", "backbone/config.json", "backbone/model.safetensors",
        "head.safetensors", "run.json", "split.csv",
    ]  # fmt: skip


def test_the_run_tells_what_was_done(trained, images):
    run, _ = trained
    manifest = run.manifest
    cells = open_cells(images)
    assert manifest.data.fingerprint == cells.fingerprint()
    assert (manifest.data.kind, manifest.data.n) == ("folder", 33)
    assert manifest.backbone.kind == "random"
    assert manifest.lora is None
    assert manifest.recipe.epochs == len(manifest.history) == 2
    assert manifest.split.counts["train"]["BLA"] == 6
    assert manifest.parameters[0] == manifest.parameters[1] - 32  # the mask token
    assert manifest.versions["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert manifest.seconds > 0
    sizes = {part: len(ids) for part, ids in run.split.items()}
    assert sizes == {"train": 20, "validation": 3, "calibration": 3, "test": 7}


def test_its_figures_are_those_of_the_model_that_was_written(trained, images):
    run, _ = trained
    cells = open_cells(images)
    model = load_run(run)
    for part in ("validation", "test"):
        rows = run.rows(cells, part)
        predictions = predict(model, cells, rows).argmax(axis=1)
        recorded = run.manifest.metrics[part]
        assert recorded.scores.accuracy == pytest.approx(
            float((predictions == cells.labels[rows]).mean())
        )
    best = run.manifest.history[run.manifest.best_epoch - 1]
    validation = run.manifest.metrics["validation"]
    assert validation.scores.weighted_f1 == pytest.approx(best.weighted_f1)
    assert validation.loss == pytest.approx(best.validation_loss, abs=1e-4)
    assert best.weighted_f1 == max(epoch.weighted_f1 for epoch in run.manifest.history)


def test_progress_and_epochs_are_reported(trained):
    _, listener = trained
    assert [task for task, *_ in listener.tasks] == [
        "checking images", "training", "scoring the validation part", "scoring the test part",
    ]  # fmt: skip
    assert all(total == done for _, total, done in listener.tasks)
    assert [record.epoch for record, _ in listener.epochs] == [1, 2]
    assert listener.epochs[0][1]
    assert np.isfinite([record.train_loss for record, _ in listener.epochs]).all()


def test_colours_are_learnt(images, recipe, tmp_path):
    recipe = recipe.model_copy(update={"epochs": 12})
    run = train(images, tmp_path / "run", recipe=recipe, backbone="mini", device="cpu")
    # Six of the seven test cells are of the three classes that can be learnt.
    assert run.manifest.metrics["test"].scores.accuracy >= 6 / 7


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(images, recipe, tmp_path):
    def head(name, seed):
        chosen = recipe.model_copy(update={"epochs": 1, "seed": seed})
        run = train(images, tmp_path / name, recipe=chosen, backbone="mini", device="cpu")
        return load_file(run.head_path)["classifier.weight"], run.split

    first, again, other = head("a", 3), head("b", 3), head("c", 4)
    assert torch.equal(first[0], again[0])
    assert first[1] == again[1] != other[1]
    assert not torch.equal(first[0], other[0])


def test_an_adapter_on_an_earlier_run(trained, images, recipe, tmp_path):
    base, _ = trained
    chosen = recipe.model_copy(update={"tune": "lora"})
    run = train(images, tmp_path / "lora", recipe=chosen, backbone=str(base.path), device="cpu")
    assert run.manifest.backbone.kind == "run"
    assert (run.manifest.lora.rank, run.manifest.lora.alpha) == (2, 4)
    before = load_file(base.backbone_path / "model.safetensors")
    after = load_file(run.backbone_path / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    adapter = load_file(run.adapter_path / "adapter_model.safetensors")
    assert any(value.abs().max() > 0 for key, value in adapter.items() if "lora_B" in key)
    cells = open_cells(images)
    logits = [predict(load_run(run, merged=m), cells, range(5)) for m in (True, False)]
    np.testing.assert_allclose(*logits, atol=1e-5)


def test_a_backbone_that_learnt_what_shall_judge_is_named(trained, images, recipe, tmp_path):
    base, listener = trained

    def warnings(name, cells=images, **options):
        listener.said.clear()
        changed = recipe.model_copy(update={"tune": "head", "epochs": 1, "seed": 5})
        train(cells, tmp_path / name, recipe=changed, backbone=str(base.path), device="cpu",
              observer=listener, **options)  # fmt: skip
        return [text for text in listener.said if "was trained on" in text]

    (said,) = warnings("other seed")
    assert f"--split {base.path}/split.csv divides the cells as it did" in said
    assert warnings("its division", split=[(None, base.path / "split.csv")]) == []
    fewer, others = (shutil.copytree(images, tmp_path / name) for name in ("fewer", "others"))
    (fewer / "EOS" / "EOS_03.png").unlink()
    (said,) = warnings("one less", fewer)
    assert re.search(r"was trained on \d+ of the 10 cells of the calibration and the test", said)
    for path in sorted(others.rglob("*.png")):
        ImageOps.invert(Image.open(path)).save(path)
    assert warnings("other cells of the same names", others) == []


def test_a_place_that_is_taken_is_refused_before_anything_is_done(images, recipe, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").touch()
    with pytest.raises(InputError, match="is there already; choose another --out"):
        train(images, tmp_path / "run", recipe=recipe, backbone="mini", device="cpu")
    assert files(tmp_path / "run") == ["mine.txt"]


@pytest.mark.parametrize("existed", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, TrainingError("out of luck")])
def test_what_ends_before_the_first_checkpoint_leaves_nothing(
    images, recipe, tmp_path, monkeypatch, existed, error
):
    def interrupt(*args, **kwargs):
        raise error

    monkeypatch.setattr(trainer, "_fit", interrupt)
    out = tmp_path / "run"
    if existed:
        out.mkdir()
    with pytest.raises(error if isinstance(error, type) else type(error)):
        train(images, out, recipe=recipe, backbone="mini", device="cpu")
    assert out.exists() == existed
    assert not existed or files(out) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, TrainingError("out of luck")])
def test_what_ends_later_leaves_what_it_can_go_on_from(
    images, recipe, tmp_path, monkeypatch, listener, error
):
    def interrupt(*args, **kwargs):
        raise error

    monkeypatch.setattr(trainer, "write_split", interrupt)
    out = tmp_path / "run"
    with pytest.raises(error if isinstance(error, type) else type(error)):
        train(images, out, recipe=recipe, backbone="mini", device="cpu", observer=listener)
    assert [path.name for path in out.iterdir()] == [UNFINISHED]
    assert listener.said[-1] == f"what was trained stays in {out}: --resume goes on with it"


@pytest.mark.parametrize("existed", [False, True])
def test_a_training_that_diverged_leaves_the_place_to_the_next(
    images, recipe, tmp_path, listener, existed
):
    out = tmp_path / "run"
    if existed:
        out.mkdir()
    options = {"backbone": "mini", "device": "cpu", "observer": listener, "checkpoint_seconds": 0}
    wild = recipe.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(DivergedError, match="lower --learning-rate"):
        train(images, out, recipe=wild, **options)
    assert not any("--resume" in text for text in listener.said)
    assert out.exists() == existed
    train(images, out, recipe=recipe, resume=existed, **options)


def test_an_unreadable_image_ends_it_before_it_begins(images, recipe, tmp_path):
    path = images / "LYT" / "LYT_01.png"
    path.write_bytes(b"")
    with pytest.raises(CropError, match=re.escape(str(path))):
        train(images, tmp_path / "run", recipe=recipe, backbone="mini", device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_folder_of_strange_classes_is_refused_by_name(images, recipe, tmp_path):
    (images / "LYT").rename(images / "Lymphocytes")
    with pytest.raises(TaxonomyError, match="Lymphocytes"):
        train(images, tmp_path / "run", recipe=recipe, backbone="mini", device="cpu")


def test_a_run_that_was_written_opens(trained):
    run, _ = trained
    assert open_run(run.path).manifest == run.manifest
    assert isinstance(run.manifest.recipe, Recipe)


def test_copies_across_parts_end_it_before_it_begins(images, recipe, tmp_path):
    for number in range(9):
        shutil.copyfile(images / "BLA" / "BLA_09.png", images / "BLA" / f"BLA_0{number}.png")
    with pytest.raises(TrainingError, match=r"BLA_0\d.png \(train\) = BLA/BLA_0\d.png \(test\)"):
        train(images, tmp_path / "run", recipe=recipe, backbone="mini", device="cpu")
    assert not (tmp_path / "run").exists()


def test_the_tables_that_divided_the_cells_are_on_record(images, recipe, tmp_path):
    cells = open_cells(images)
    groups, split = tmp_path / "groups.csv", tmp_path / "test.csv"
    groups.write_text("".join(f"{name},{row % 9}\n" for row, name in enumerate(cells.ids)))
    rows = [row for row in range(33) if row % 9 < 2]
    rest = [row for row in range(33) if row % 9 >= 2]
    split.write_text("".join(f"{cells.ids[row]}\n" for row in rows))
    other = tmp_path / "train.csv"
    other.write_text("".join(f"{cells.ids[row]}\n" for row in rest))
    run = train(
        images,
        tmp_path / "run",
        recipe=recipe.model_copy(update={"epochs": 1}),
        backbone="mini",
        device="cpu",
        groups=groups,
        split=[("test", split), ("train", other)],
    )
    assert set(run.split["test"]) == {cells.ids[row] for row in rows}
    record = run.manifest.split
    assert record.groups.path == str(groups) and record.groups.part is None
    assert [table.part for table in record.files] == ["test", "train"]
    assert record.files[0].sha256 == hashlib.sha256(split.read_bytes()).hexdigest()
    assert record.rule.startswith("as the files say") and "groups kept whole" in record.rule


@pytest.fixture
def gradients(monkeypatch):
    """How the weights of the head change in one training, by what was changed in the recipe."""

    def train_once(images, folder, recipe, **changes):
        recipe = recipe.model_copy(update=changes)
        run = train(images, folder, recipe=recipe, backbone="mini", device="cpu")
        return load_file(run.head_path), run

    return train_once


def test_accumulation_and_checkpointing_give_the_same_weights(images, recipe, tmp_path, gradients):
    base = recipe.model_copy(update={"epochs": 1, "head_dropout": 0.0})
    whole, _ = gradients(images, tmp_path / "a", base, batch_size=8)
    parts, _ = gradients(images, tmp_path / "b", base, batch_size=2, accumulation=4)
    again, _ = gradients(images, tmp_path / "c", base, batch_size=8, gradient_checkpointing=True)
    for name, value in whole.items():
        torch.testing.assert_close(again[name], value, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(parts[name], value, atol=2e-4, rtol=1e-2)


def test_checkpointing_recomputes_the_blocks(images, recipe, tmp_path, monkeypatch):
    counted = []
    original = DINOv3ViTAttention.forward

    def forward(self, *args, **kwargs):
        counted.append(torch.is_grad_enabled())
        return original(self, *args, **kwargs)

    monkeypatch.setattr(DINOv3ViTAttention, "forward", forward)
    base = recipe.model_copy(update={"epochs": 1, "tune": "lora"})
    counts = []
    for checkpointing in (False, True):
        counted.clear()
        changed = base.model_copy(update={"gradient_checkpointing": checkpointing})
        train(images, tmp_path / f"{checkpointing}", recipe=changed, backbone="mini", device="cpu")
        counts.append(sum(counted))
    assert counts[1] == 2 * counts[0]


def test_bf16_trains_and_leaves_float32_weights(images, recipe, tmp_path, gradients):
    head, run = gradients(images, tmp_path / "a", recipe, mixed_precision="bf16", epochs=4)
    assert all(value.dtype == torch.float32 for value in head.values())
    assert run.manifest.history[-1].train_loss < run.manifest.history[0].train_loss


def test_no_setting_of_the_shell_changes_the_precision(
    images, recipe, tmp_path, gradients, monkeypatch
):
    base = recipe.model_copy(update={"epochs": 1})
    before, _ = gradients(images, tmp_path / "a", base)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    after, _ = gradients(images, tmp_path / "b", base)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-6, rtol=1e-4)


def test_the_cytodino_recipe_learns_colours(images, tmp_path, listener):
    recipe = default_recipe(
        tune="full", pretrained=False, name="cytodino", image_size=32, epochs=10, batch_size=8,
        accumulation=1, learning_rate=1e-3, head_layers=1,
    )  # fmt: skip
    run = train(
        images, tmp_path / "run", recipe=recipe, backbone="mini", device="cpu", observer=listener
    )
    assert run.manifest.recipe == recipe
    assert run.manifest.recipe.loss.missed == 3.0
    assert run.manifest.metrics["test"].scores.accuracy >= 4 / 7
    assert any("(99.9%) on cpu, recipe cytodino" in text for text in listener.said)


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_an_archive_is_trained_on_as_its_folder_is(images, recipe, tmp_path, encoding):
    for path in sorted(images.rglob("*.png")):  # of one size, which raw wants
        Image.open(path).resize((20, 20)).save(path)
    write_archive(tmp_path / "cells.h5", open_cells(images), encoding=encoding)
    options = {"recipe": recipe, "backbone": "mini", "device": "cpu"}
    runs = [
        train(path, tmp_path / f"run-{path.stem}", **options)
        for path in (images, tmp_path / "cells.h5")
    ]
    assert runs[0].split == runs[1].split
    heads = [load_file(run.head_path) for run in runs]
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0])
    assert runs[1].manifest.data.kind == "archive"
