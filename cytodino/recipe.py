"""The numbers a training goes by, as they stand in `run.json`; no torch.

Defaults are the published ones (Muminov and Pham, arXiv 2512.17930) unless a field says otherwise.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Tune = Literal["lora", "head", "full"]
"""What is trained: an adapter and the head, the head alone, or every weight."""

DEFAULT_BACKBONE = "facebook/dinov3-vitl16-pretrain-lvd1689m"
"""The published system's; gated on the Hub."""

SHAPES: dict[str, tuple[int, int, int]] = {
    "tiny": (192, 6, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}
"""Width, blocks and attention heads of the backbones that a name alone gives, with random weights;
all but tiny are DINOv3's own ViT-S, B and L."""


class Augmentation(BaseModel):
    """How a training crop is varied; a cell has no up, and a stain no exact colour."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip: float = Field(0.5, ge=0, le=1)
    """Probability of a horizontal, and independently of a vertical, flip."""
    rotation: float = Field(180.0, ge=0, le=180)
    """Degrees, either way; corners are filled by reflection, since a black one gives it away."""
    scale: float = Field(0.1, ge=0, lt=1)
    """Share by which a crop is enlarged or reduced: smears and cameras differ in scale."""
    shift: float = Field(0.05, ge=0, lt=1)
    """Share of the side by which a crop is moved: cutters do not centre exactly."""
    brightness: float = Field(0.15, ge=0, lt=1)
    """Mild, as are contrast, saturation and hue: colour is evidence in cytology."""
    contrast: float = Field(0.15, ge=0, lt=1)
    saturation: float = Field(0.15, ge=0, lt=1)
    hue: float = Field(0.03, ge=0, le=0.5)
    """Share of the colour circle."""


class Recipe(BaseModel):
    """Everything that was chosen before the first step."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tune: Tune = "lora"
    image_size: int = Field(256, ge=16)
    """Side of the square a crop is resized to, pixels; a multiple of the patch size."""
    epochs: int = Field(16, ge=1)
    """Passes over the training part; the published eight are over 137,000 images."""
    batch_size: int = Field(16, ge=1)
    """Crops a step; the published four train too slowly on a CPU."""
    learning_rate: float = Field(3e-4, gt=0)
    """Peak of the schedule."""
    final_learning_rate: float = Field(1e-7, ge=0)
    """End of the cosine."""
    warmup: float = Field(0.05, ge=0, lt=1)
    """Share of all steps over which the rate rises from zero: the head starts from noise."""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW's, not applied to biases and norms."""
    clip: float = Field(1.0, gt=0)
    """Largest norm of a step's gradient."""
    lora_rank: int = Field(64, ge=1)
    lora_alpha: int = Field(128, ge=1)
    lora_dropout: float = Field(0.1, ge=0, lt=1)
    head_layers: int = Field(4, ge=1)
    head_heads: int = Field(4, ge=1)
    """At most this many: the largest number that divides the backbone's width."""
    head_dropout: float = Field(0.2, ge=0, lt=1)
    augmentation: Augmentation = Augmentation()
    seed: int = Field(0, ge=0)
    """Of the weights, the split, the order and the augmentation."""


def default_recipe(*, tune: Tune, pretrained: bool, **chosen: Any) -> Recipe:
    """Return the recipe for a way of tuning, with what the user chose put in place.

    Parameters
    ----------
    tune : lora, head or full
    pretrained : bool
        False for a backbone of random weights.
    chosen : fields of `Recipe`; None means not chosen
    """
    rates: dict[tuple[Tune, bool], float] = {("full", True): 5e-5, ("full", False): 5e-4}
    given = {name: value for name, value in chosen.items() if value is not None}
    rate = rates.get((tune, pretrained), Recipe.model_fields["learning_rate"].default)
    return Recipe(**{"tune": tune, "learning_rate": rate, **given})
