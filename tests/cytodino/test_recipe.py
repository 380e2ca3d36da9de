import pytest
from pydantic import ValidationError

from cytodino.recipe import Recipe, default_recipe


@pytest.mark.parametrize(
    ("tune", "pretrained", "rate"),
    [("lora", True, 3e-4), ("head", True, 3e-4), ("full", True, 5e-5), ("full", False, 5e-4)],
)
def test_the_learning_rate_follows_what_is_tuned(tune, pretrained, rate):
    assert default_recipe(tune=tune, pretrained=pretrained).learning_rate == rate


def test_what_was_chosen_stands_and_none_is_no_choice():
    recipe = default_recipe(tune="full", pretrained=True, learning_rate=1e-2, epochs=None, seed=3)
    assert (recipe.learning_rate, recipe.seed) == (1e-2, 3)
    assert recipe.epochs == Recipe().epochs


def test_the_published_adapter_is_the_default():
    recipe = Recipe()
    assert (recipe.lora_rank, recipe.lora_alpha, recipe.lora_dropout) == (64, 128, 0.1)
    assert (recipe.head_layers, recipe.head_heads, recipe.head_dropout) == (4, 4, 0.2)
    assert recipe.image_size == 256


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"learning_rate": 0}, {"colour": 1}])
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValidationError):
        Recipe(**wrong)
