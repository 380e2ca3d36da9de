"""Memory given back: the weights are gone, and what was made of them is not."""

from collections.abc import Callable
from pathlib import Path

import onnx
import torch

from cytodino.modeling.classifier import CytoDino
from cytodino_export.deploy import fold
from cytodino_export.memory import give_back, release
from cytodino_export.onnx_graph import write_graph


def test_released_weights_take_no_memory_even_where_somebody_holds_them(
    make_model: Callable[..., CytoDino],
) -> None:
    model = make_model()
    held = [weight.detach() for weight in model.parameters()]
    assert sum(weight.untyped_storage().nbytes() for weight in held) > 10_000
    release(model)
    assert sum(weight.untyped_storage().nbytes() for weight in held) == 0


def test_the_graph_keeps_its_weights(make_model: Callable[..., CytoDino], tmp_path: Path) -> None:
    folded = fold(make_model())
    weights = sum(weight.numel() for weight in folded.parameters())
    path = write_graph(folded, tmp_path / "model.onnx", image_size=32, metadata={})
    release(folded)
    graph = onnx.load(path).graph
    assert sum(onnx.numpy_helper.to_array(one).size for one in graph.initializer) >= weights


def test_giving_back_changes_no_value() -> None:
    values = torch.arange(5)
    give_back()
    assert values.tolist() == [0, 1, 2, 3, 4]
