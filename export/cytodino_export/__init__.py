"""From LoRA weights to a bundle: merge, export, and a gate that fails closed."""
