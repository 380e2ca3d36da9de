"""The numbers a training goes by, as they stand in `run.json`; no torch.

There are two recipes: `cytodino` is the published one (Muminov and Pham, arXiv 2512.17930), `plain`
is cross-entropy without any of its extras, and what the fields' defaults give: a `run.json` of an
earlier version that lacks a field was trained so.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Tune = Literal["lora", "head", "full"]
"""What is trained: an adapter and the head, the head alone, or every weight."""

RecipeName = Literal["cytodino", "plain"]

MixedPrecision = Literal["bf16", "fp16"]

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
    colour: float = Field(1.0, ge=0, le=1)
    """Probability that the colours vary at all."""
    channel_shift: float = Field(0.0, ge=0, lt=1)
    """Most by which red, green and blue are each raised or lowered, of their full scale, in half of
    the crops whose colours vary, in place of the above; 0 for never."""
    degradation: float = Field(0.0, ge=0, le=1)
    """Probability of a blur, camera noise or JPEG compression."""
    equalisation: float = Field(0.0, ge=0, le=1)
    """Probability of contrast-limited adaptive histogram equalisation (CLAHE) of the lightness."""


class FocalLoss(BaseModel):
    """Parameters of the published loss, see `cytodino.modeling.loss`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gamma: float = Field(2.0, ge=0)
    """Power of the focal factor: how little is left of a cell that is recognised already."""
    smoothing: float = Field(0.1, ge=0, lt=1)
    """What the other classes get of a label."""
    lineage_share: float = Field(0.95, ge=0, le=1)
    """Share of the smoothing that stays within the lineage."""
    neighbour_share: float = Field(0.01, ge=0, le=1)
    """Share of the lineage's share for the stages next to it in maturation."""
    missed: float = Field(3.0, gt=0)
    """Factor where a critical cell is called safe."""
    alarmed: float = Field(1.5, gt=0)
    """Factor where a safe cell is called critical."""
    class_weight_power: float = Field(0.5, ge=0)
    """Power of the balanced class weights; 0.5 is their square root."""


class Recipe(BaseModel):
    """Everything that was chosen before the first step."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: RecipeName = "plain"
    """Which of the two it began from, before what was chosen by option."""
    tune: Tune = "lora"
    image_size: int = Field(256, ge=16)
    """Side of the square a crop is resized to, pixels; a multiple of the patch size."""
    epochs: int = Field(16, ge=1)
    """Passes over the training part."""
    batch_size: int = Field(16, ge=1)
    """Crops at a time, of all GPUs together."""
    accumulation: int = Field(1, ge=1)
    """Batches whose gradients make one step."""
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
    loss: FocalLoss | None = None
    """None for cross-entropy."""
    extra_draws: float | None = Field(None, ge=0)
    """Each epoch sees every crop once and, unless None, as many again, drawn with the weight
    (cells of the class + 1) to this power, negative."""
    patience: int | None = Field(None, ge=1)
    """Epochs without a better weighted F1 on the validation part after which training stops."""
    mixed_precision: MixedPrecision | None = None
    """What matrices are multiplied in; None for float32. Weights and loss stay float32."""
    gradient_checkpointing: bool = False
    """Compute each block again in the backward pass, in place of keeping what it computed."""
    seed: int = Field(0, ge=0)
    """Of the weights, the split, the order and the augmentation."""


PUBLISHED: dict[str, Any] = {
    "epochs": 8,
    "batch_size": 1,
    "accumulation": 4,
    "warmup": 0.0,
    "patience": 5,
    "loss": FocalLoss(),
    "extra_draws": 0.7,
    "augmentation": Augmentation(
        scale=0.0,
        shift=0.0,
        brightness=0.1,
        contrast=0.1,
        colour=0.5,
        channel_shift=0.06,
        degradation=0.3,
        equalisation=0.3,
    ),
}
"""Where `cytodino` differs from the defaults of `Recipe`; rates, adapter and head are theirs."""


def default_name(*, tune: Tune, published_weights: bool) -> RecipeName:
    """Return the recipe for those who name none: the published one for what it was published for.

    Parameters
    ----------
    tune : lora, head or full
    published_weights : bool
        The backbone is DINOv3's own, from the Hub or a folder; not an earlier run, nor random.
    """
    return "cytodino" if tune == "lora" and published_weights else "plain"


def default_recipe(
    *, tune: Tune, pretrained: bool, name: RecipeName = "plain", **chosen: Any
) -> Recipe:
    """Return the recipe for a way of tuning, with what the user chose put in place.

    Parameters
    ----------
    tune : lora, head or full
    pretrained : bool
        False for a backbone of random weights.
    name : cytodino or plain
    chosen : fields of `Recipe`; None means not chosen
    """
    rates: dict[tuple[Tune, bool], float] = {("full", True): 5e-5, ("full", False): 5e-4}
    given = {field: value for field, value in chosen.items() if value is not None}
    rate = rates.get((tune, pretrained), Recipe.model_fields["learning_rate"].default)
    preset = PUBLISHED if name == "cytodino" else {}
    return Recipe(**{"name": name, "tune": tune, "learning_rate": rate, **preset, **given})
