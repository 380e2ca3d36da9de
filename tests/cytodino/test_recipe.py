import pytest
from pydantic import ValidationError

from cytodino.recipe import FocalLoss, Recipe, default_name, default_recipe


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


def test_the_cytodino_recipe_is_the_published_one():
    recipe = default_recipe(tune="lora", pretrained=True, name="cytodino")
    assert recipe.name == "cytodino"
    assert recipe.loss == FocalLoss(
        gamma=2, smoothing=0.1, lineage_share=0.95, neighbour_share=0.01, missed=3, alarmed=1.5
    )
    assert (recipe.learning_rate, recipe.final_learning_rate, recipe.warmup) == (3e-4, 1e-7, 0)
    assert (recipe.weight_decay, recipe.clip, recipe.epochs) == (0.01, 1.0, 8)
    assert (recipe.batch_size, recipe.accumulation, recipe.patience) == (1, 4, 5)
    assert recipe.extra_draws == 0.7
    assert recipe.augmentation.rotation == 180
    assert (recipe.lora_rank, recipe.lora_alpha, recipe.lora_dropout) == (64, 128, 0.1)
    scaled = default_recipe(tune="lora", pretrained=True, name="cytodino", batch_size=16)
    assert (scaled.batch_size, scaled.loss) == (16, recipe.loss)


def test_a_recipe_on_file_from_before_there_were_two_is_plain():
    recipe = Recipe.model_validate({"tune": "full", "epochs": 3})
    assert (recipe.name, recipe.loss, recipe.extra_draws, recipe.patience) == (
        "plain", None, None, None,
    )  # fmt: skip
    assert (recipe.augmentation.colour, recipe.augmentation.degradation) == (1, 0)


@pytest.mark.parametrize(
    ("tune", "published", "name"),
    [("lora", True, "cytodino"), ("lora", False, "plain"), ("head", True, "plain")],
)
def test_the_published_recipe_is_the_default_for_what_it_was_published_for(tune, published, name):
    assert default_name(tune=tune, published_weights=published) == name


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"learning_rate": 0}, {"colour": 1}])
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValidationError):
        Recipe(**wrong)
