import json
import os
import signal
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from cytodino.errors import InputError, MissingPathError, TrainingError
from cytodino.recipe import default_recipe
from cytodino.run import open_run
from cytodino.run_folder import UNFINISHED
from cytodino.training import checkpoints, trainer
from cytodino.training.checkpoints import Plan, TimedCheckpoints, last_checkpoint, open_plan
from cytodino.training.trainer import train

CHILD = """
    import os, signal, sys
    from pathlib import Path
    from cytodino.recipe import SHAPES, Recipe
    from cytodino.training import checkpoints
    from cytodino.training.trainer import train

    SHAPES["mini"] = (32, 2, 2)
    images, out, fatal, recipe = sys.argv[1:]
    original = checkpoints.TimedCheckpoints.on_step_end

    def on_step_end(self, args, state, control, **rest):
        if state.global_step == int(fatal):
            os.kill(os.getpid(), signal.SIGKILL)
        original(self, args, state, control, **rest)

    checkpoints.TimedCheckpoints.on_step_end = on_step_end
    train(Path(images), Path(out), recipe=Recipe.model_validate_json(recipe), backbone="mini",
          device="cpu", checkpoint_seconds=0)
"""


@pytest.fixture
def published():
    """The published recipe at a toy's size: dropout, extra draws, accumulation, augmentation."""
    return default_recipe(
        tune="lora", pretrained=True, name="cytodino", image_size=32, epochs=3, batch_size=2,
        accumulation=4, learning_rate=1e-3, head_layers=1, lora_rank=2, lora_alpha=4, seed=5,
    )  # fmt: skip


def weights(run):
    adapter = load_file(run.adapter_path / "adapter_model.safetensors")
    return {**load_file(run.head_path), **adapter}


STEPS_PER_EPOCH = 5  # 40 draws of 20 cells, 8 a step


@pytest.mark.parametrize("fatal", [3, STEPS_PER_EPOCH + 1, 2 * STEPS_PER_EPOCH])
def test_a_killed_training_ends_with_the_weights_of_an_undisturbed_one(
    images, published, tmp_path, listener, fatal
):
    words = [str(images), str(tmp_path / "killed"), str(fatal), published.model_dump_json()]
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    options = {"recipe": published, "backbone": "mini", "device": "cpu"}
    with pytest.raises(InputError, match="holds a training that was interrupted; go on with --res"):
        train(images, tmp_path / "killed", **options)
    resumed = train(images, tmp_path / "killed", resume=True, observer=listener, **options)
    assert f"going on after step {fatal - 1} of 15" in listener.said
    undisturbed = train(images, tmp_path / "whole", **options)
    found, expected = weights(resumed), weights(undisturbed)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-5)
    assert [epoch.weighted_f1 for epoch in resumed.manifest.history] == [
        epoch.weighted_f1 for epoch in undisturbed.manifest.history
    ]
    assert not (tmp_path / "killed" / UNFINISHED).exists()


@pytest.fixture
def interrupted(images, recipe, tmp_path, monkeypatch):
    """Interrupt a training once, after its last epoch; return its folder and options."""

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    options = {"recipe": recipe, "backbone": "mini", "device": "cpu"}
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(trainer, "_judge", interrupt)
        train(images, tmp_path / "run", **options)
    return tmp_path / "run", options


def test_a_training_that_was_interrupted_after_its_last_epoch_trains_no_more(
    images, interrupted, listener
):
    out, options = interrupted
    run = train(images, out, resume=True, observer=listener, **options)
    assert "going on after step 6 of 6" in listener.said
    assert listener.epochs == []
    assert len(run.manifest.history) == 2


def test_what_was_begun_differently_is_not_gone_on_with(images, interrupted, recipe):
    out, options = interrupted
    other = {**options, "recipe": recipe.model_copy(update={"learning_rate": 0.5})}
    said = r"begun differently: recipe.learning_rate 0.001 and now 0.5; give the same data and opt"
    with pytest.raises(TrainingError, match=said):
        train(images, out, resume=True, **other)
    (images / "EOS" / "EOS_03.png").rename(images / "EOS" / "EOS_99.png")
    with pytest.raises(TrainingError, match="begun differently: cells .* split "):
        train(images, out, resume=True, **options)


def test_a_finished_run_has_nothing_to_go_on_with(images, interrupted, recipe, listener):
    out, options = interrupted
    run = train(images, out, resume=True, **options)
    before = run.head_path.stat().st_mtime_ns
    (out / UNFINISHED).mkdir()  # killed just before it was cleared away
    again = train(images, out, resume=True, observer=listener, **options)
    assert again.manifest == run.manifest and run.head_path.stat().st_mtime_ns == before
    assert listener.said == [f"{out} is finished"]
    assert not (out / UNFINISHED).exists()
    other = {**options, "recipe": recipe.model_copy(update={"epochs": 9})}
    with pytest.raises(InputError, match="holds a finished run of another recipe;"):
        train(images, out, resume=True, **other)
    with pytest.raises(InputError, match="holds a finished run of another backbone;"):
        train(images, out, resume=True, **{**options, "backbone": "tiny"})
    table = out / "split.csv"
    with pytest.raises(InputError, match="holds a finished run of another division of the cells;"):
        train(images, out, resume=True, split=[(None, table)], **options)
    (images / "EOS" / "EOS_03.png").unlink()
    with pytest.raises(InputError, match="holds a finished run of another set of cells;"):
        train(images, out, resume=True, **options)
    with pytest.raises(MissingPathError):
        train(images / "none", out, resume=True, **options)


def test_resume_begins_where_there_is_nothing(images, recipe, tmp_path):
    run = train(images, tmp_path / "run", recipe=recipe, backbone="mini", device="cpu", resume=True)
    assert open_run(run.path).manifest.best_epoch


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("optimizer.pt", "cut short"),
        ("optimizer.pt", "a byte changed"),
        ("trained.safetensors", "cut short"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    images, interrupted, listener, name, how
):
    out, options = interrupted
    assert last_checkpoint(out / UNFINISHED).name == "checkpoint-6"
    path = out / UNFINISHED / "checkpoint-6" / name
    content = bytearray(path.read_bytes())
    if how == "cut short":
        del content[-50:]
    else:
        content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert last_checkpoint(out / UNFINISHED).name == "checkpoint-3"
    train(images, out, resume=True, observer=listener, **options)
    assert "going on after step 3 of 6" in listener.said


def test_a_checkpoint_holds_no_pickle_that_could_run(images, interrupted, tmp_path):
    out, options = interrupted

    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    folder = last_checkpoint(out / UNFINISHED)
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "trained.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth",
        "trainer_state.json",
    }  # fmt: skip
    earlier = folder.with_name("checkpoint-3")
    torch.save(Bomb(), earlier / "rng_state.pth")
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(TrainingError, match="checkpoint-3: holds what is no.*; remove"):
        train(images, out, resume=True, **options)
    assert not (tmp_path / "ran").exists()


def test_a_half_written_checkpoint_is_none(tmp_path):
    assert last_checkpoint(tmp_path) is None
    (tmp_path / "checkpoint-10").mkdir()
    assert last_checkpoint(tmp_path) is None
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}").mkdir(exist_ok=True)
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    assert last_checkpoint(tmp_path).name == "checkpoint-10"
    (tmp_path / "checkpoint-10" / "trainer_state.json").write_text('{"a')
    assert last_checkpoint(tmp_path).name == "checkpoint-9"


def test_checkpoints_come_when_due_but_not_with_the_last_step_of_an_epoch(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    timed = TimedCheckpoints(steps_per_epoch=4, seconds=10)
    asked = []
    for step in range(1, 10):
        now[0] += 4
        control = SimpleNamespace(should_save=False)
        timed.on_step_end(None, SimpleNamespace(global_step=step), control)
        if control.should_save:
            asked.append(step)
            timed.on_save(None, None, None)
    assert asked == [3, 6, 9]
    now[0] = 1000
    control = SimpleNamespace(should_save=False)
    timed.on_step_end(None, SimpleNamespace(global_step=8), control)
    assert not control.should_save


def test_a_plan_without_a_checkpoint_binds_nobody(tmp_path, recipe):
    plans = [Plan(recipe=recipe, backbone={}, cells=cells, split="s") for cells in "ab"]
    for plan in plans:
        folder = open_plan(tmp_path, plan)
    assert json.loads((folder / "plan.json").read_text())["cells"] == "b"
