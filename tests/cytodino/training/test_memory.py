import pytest
import torch

from cytodino.modeling.loading import open_backbone
from cytodino.recipe import default_recipe
from cytodino.training.building import build_model
from cytodino.training.memory import compute_need, count_parameters_of


@pytest.fixture
def published():
    return default_recipe(tune="lora", pretrained=True, name="cytodino")


def test_the_trainable_share_of_the_published_model_beside_the_published_about_8_percent(published):
    found = count_parameters_of(published, "large")
    # Rank 64: four maps of 1024 to 1024, two between 1024 and 4096, in 24 blocks.
    assert found.adapter == 24 * 64 * (4 * 2048 + 2 * 5120) == 28_311_552
    assert found.frozen == 303_129_600
    # A decoder layer: two attentions of 4 * 1024^2, a feed-forward of 2 * 1024 * 2048, biases
    # and three norms; then query, norm and 21 logits.
    layer = 2 * (4 * 1024**2 + 4 * 1024) + 2 * 1024 * 2048 + 3072 + 3 * 2048
    assert found.head == 4 * layer + 1024 + 2048 + 21 * 1025
    print(
        f"\nViT-L/16, r = 64: adapter {found.adapter_share:.1%} of backbone and adapter, published "
        f"about 8 %; with this head {found.trained / found.total:.1%} train"
    )
    assert found.adapter_share == pytest.approx(0.0854, abs=1e-4)
    assert found.trained / found.total == pytest.approx(0.2062, abs=1e-4)


@pytest.fixture
def small(recipe):
    return recipe.model_copy(update={"tune": "lora", "batch_size": 4})


def test_what_is_counted_is_what_a_real_forward_pass_keeps(small, listener):
    expected = compute_need(small, "mini")
    model = build_model(open_backbone("mini"), small, listener).train()
    own = {value.untyped_storage().data_ptr() for value in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model.classify(torch.randn(4, 3, 32, 32))
    assert output.shape == (4, 21)
    assert expected.activations == sum(storage.nbytes() for storage in kept.values())
    trained, total = 0, 0
    for value in model.parameters():
        total += value.numel()
        trained += value.numel() * value.requires_grad
    assert (expected.weights, expected.gradients, expected.optimiser) == (
        4 * total, 4 * trained, 8 * trained,
    )  # fmt: skip
    assert expected.total == 4 * total + 12 * trained + expected.activations


def test_options_that_save_memory_save_it(small):
    def activations(**changes):
        return compute_need(small.model_copy(update=changes), "mini").activations

    whole = activations()
    assert activations(batch_size=8) > 1.8 * whole
    assert activations(gradient_checkpointing=True) < whole
    # Of few tokens, half the bits save less than the copies of the weights take.
    assert activations(mixed_precision="bf16") != whole


@pytest.mark.parametrize("tune", ["head", "full"])
def test_other_ways_of_tuning_are_counted_too(small, tune):
    found = count_parameters_of(small.model_copy(update={"tune": tune}), "mini")
    assert found.adapter == 0 and (found.other > 0) == (tune == "full")
    assert found.trained + found.frozen == found.total
