"""What a variant is, where it can run, and which is taken first: one table each, no heavy import.

A variant is a file of the bundle and the precision that its float parts run at.
"""

from collections.abc import Mapping

__all__ = ["ENGINES", "FILES", "PREFERENCE", "VARIANTS", "file_of", "variants_of"]

FILES: Mapping[str, str] = {
    "fp32": "fp32",
    "bf16": "fp32",
    "fp16": "fp16",
    "int8": "int8",
    "int8-bf16": "int8",
}
"""Precision of the file that a variant runs, by variant."""

VARIANTS = tuple(FILES)

ENGINES = ("onnxruntime", "openvino")
"""Engines that read ONNX files."""

PREFERENCE: Mapping[str, tuple[tuple[str, str], ...]] = {
    "cpu": (
        ("openvino", "int8-bf16"),
        ("openvino", "int8"),
        ("openvino", "bf16"),
        ("onnxruntime", "int8"),
        ("openvino", "fp32"),
        ("onnxruntime", "fp32"),
        ("openvino", "fp16"),
        ("onnxruntime", "fp16"),
    ),
    "cuda": (("onnxruntime", "fp16"), ("onnxruntime", "fp32")),
}
"""Engine and variant by device, fastest first: everything that can run there at all.

Measured on two cores with AVX512-VNNI and BF16, ViT-S/16, images/s: 98, 72, 53, 36, 27 and 21 in
the order above. FP16 is for GPUs: CPUs compute it in float32 with casts around every node, about
twice as slow. INT8 is for CPUs: CUDA has no kernels for it (0.3 s became 4, onnxruntime#24807).
"""


def variants_of(engine: str, device: str) -> tuple[str, ...]:
    """Variants that an engine can run on a device, in the order of `VARIANTS`."""
    found = {variant for name, variant in PREFERENCE[device] if name == engine}
    return tuple(variant for variant in VARIANTS if variant in found)


def file_of(variant: str) -> str:
    """Precision of the file that a variant runs: bf16 is the fp32 file at another precision."""
    return FILES[variant]
