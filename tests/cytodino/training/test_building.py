import pytest
import torch

from cytodino.errors import TrainingError
from cytodino.modeling.loading import open_backbone
from cytodino.training import building
from cytodino.training.building import build_model, choose_device, default_workers


@pytest.mark.parametrize("tune", ["lora", "head", "full"])
def test_only_what_is_tuned_trains(recipe, listener, tune):
    model = build_model(open_backbone("mini"), recipe.model_copy(update={"tune": tune}), listener)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    head = {name for name, _ in model.named_parameters() if name.startswith("head.")}
    assert head <= trained
    backbone = trained - head
    if tune == "head":
        assert not backbone
    elif tune == "lora":
        assert backbone and all(".lora_" in name for name in backbone)
    else:
        untrained = {name for name, _ in model.named_parameters()} - trained
        assert untrained == {"backbone.embeddings.mask_token"}
    assert model.preprocess.image_size == 32
    assert len(model.head.decoder.layers) == 1


@pytest.mark.parametrize(("tune", "warned"), [("full", False), ("head", True), ("lora", True)])
def test_random_weights_that_stay_random_are_warned_of(recipe, listener, tune, warned):
    build_model(open_backbone("mini"), recipe.model_copy(update={"tune": tune}), listener)
    assert any("random weights" in text for text in listener.said) == warned


def test_an_image_size_that_the_patch_does_not_divide_is_refused(recipe, listener):
    recipe = recipe.model_copy(update={"image_size": 40})
    with pytest.raises(TrainingError, match="40 is no multiple of the patch, 16 pixels; choose 32"):
        build_model(open_backbone("mini"), recipe, listener)


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == "cpu"
    with pytest.raises(TrainingError, match="no CUDA device"):
        choose_device("cuda")


def test_a_device_that_is_there_is_taken(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == choose_device("cuda") == "cuda"
    assert choose_device("cpu") == "cpu"


def test_cells_are_loaded_beside_a_gpu_but_not_beside_a_cpu(monkeypatch):
    monkeypatch.setattr(building.os, "cpu_count", lambda: 3)
    assert (default_workers("cpu"), default_workers("cuda")) == (0, 3)


def test_a_process_for_each_gpu_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="once for each GPU; start it once"):
        choose_device("auto")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert choose_device("cpu") == "cpu"
