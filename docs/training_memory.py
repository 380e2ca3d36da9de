"""Write `docs/training-memory.md`: what training takes of a GPU's memory, computed without one.

    python docs/training_memory.py

Needs the extra [train], no weights and no GPU; takes about a minute.
"""

from pathlib import Path

from cytodino.recipe import MixedPrecision, Recipe, default_recipe
from cytodino.training.memory import compute_need, count_parameters_of

OUT = Path(__file__).with_name("training-memory.md")
BACKBONE = "large"
GB = 1e9
BUDGET = 12.0
"""GB of the GPU that shall be enough."""

RESERVE = 1.5
"""GB for the driver, its libraries' workspaces, and what the allocator cannot use: an allowance,
not a measurement."""

ROWS: tuple[tuple[int, int, MixedPrecision | None, bool], ...] = (
    (1, 4, None, False),
    (4, 1, None, False),
    (4, 1, "bf16", False),
    (4, 1, "bf16", True),
    (16, 1, "bf16", False),
    (16, 1, "bf16", True),
)
"""Batch size, accumulation, mixed precision, gradient checkpointing."""


def main() -> None:
    """Compute, and write the page."""
    recipe = default_recipe(tune="lora", pretrained=True, name="cytodino")
    OUT.write_text("\n".join([*parameters(recipe), *memory(recipe)]) + "\n", encoding="utf-8")
    print(OUT.read_text(encoding="utf-8"))


def parameters(recipe: Recipe) -> list[str]:
    """Say what trains, beside what was published."""
    found = count_parameters_of(recipe, BACKBONE)
    return [
        "# What the published training takes of a GPU",
        "",
        "Written by `python docs/training_memory.py`, which counts on tensors without content: no",
        f"weights, no GPU. DINOv3 ViT-L/16, LoRA of rank {recipe.lora_rank} on every linear layer,",
        f"a head of {recipe.head_layers} layers, {recipe.image_size} × {recipe.image_size} pixels.",
        "",
        "## What trains",
        "| | parameters | share |",
        "|---|---|---|",
        f"| backbone, frozen | {found.frozen:,} | {found.frozen / found.total:.1%} |",
        f"| adapter | {found.adapter:,} | {found.adapter / found.total:.1%} |",
        f"| head | {found.head:,} | {found.head / found.total:.1%} |",
        f"| **trained** | {found.trained:,} | **{found.trained / found.total:.1%}** |",
        f"| adapter, of backbone and adapter alone | | **{found.adapter_share:.1%}** |",
        "| published | | about 8 % |",
        "",
        "The published share is near the adapter's; with the head, which trains too, it is more",
        "than twice that.",
        "",
    ]


def memory(recipe: Recipe) -> list[str]:
    """Compute a line for each way to take the same step, or a larger one."""
    lines = [
        "## Memory, GB",
        "Weights (float32) + gradients + AdamW's two moments + what autograd keeps for the",
        "backward pass (with mixed precision, copies of the weights in half the bits are among",
        f"it). The last column adds {RESERVE} GB for the driver, workspaces and the allocator: an",
        "allowance, not measured.",
        "",
        "| `--batch-size` | `--accumulation` | `--mixed-precision` | `--gradient-checkpointing` "
        "| weights | gradients | AdamW | activations | sum | with reserve | 12 GB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for batch_size, accumulation, precision, checkpointing in ROWS:
        changes = {
            "batch_size": batch_size,
            "mixed_precision": precision,
            "gradient_checkpointing": checkpointing,
        }
        need = compute_need(recipe.model_copy(update=changes), BACKBONE)
        figures = (need.weights, need.gradients, need.optimiser, need.activations, need.total)
        whole = need.total / GB + RESERVE
        cells = [
            str(batch_size), str(accumulation), precision or "–", "yes" if checkpointing else "–",
            *(f"{figure / GB:.2f}" for figure in figures), f"{whole:.1f}",
            "fits" if whole < BUDGET else "does not",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
