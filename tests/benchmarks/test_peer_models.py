"""PyTorch's own peers: as trained and merged, in float32 and bf16, on one tiny run."""

from pathlib import Path

import numpy as np
import pytest

from cytodino_bench.peer_kinds import PEERS, Peer
from cytodino_bench.peer_models import open_peer

torch = pytest.importorskip("torch")

PEER = {one.name: one for one in PEERS}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.export.conftest import draw_cells, write_run  # needs torch

    folder = tmp_path_factory.mktemp("peers")
    return write_run(folder / "run", draw_cells(folder / "cells", cells=2))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[torch.nn.Module]:
    """Models that peers opened."""
    from cytodino.modeling import loading

    plain, found = loading.load_run, []

    def load_run(run: Path, *, merged: bool) -> torch.nn.Module:
        found.append(plain(run, merged=merged))
        return found[-1]

    monkeypatch.setattr(loading, "load_run", load_run)
    return found


def answers(peer: Peer, run: Path) -> np.ndarray:
    crops = np.random.default_rng(3).integers(0, 256, (8, 40, 37, 3), dtype=np.uint8)
    return open_peer(peer, run=run, model=None, batch_size=4)(crops)


def test_as_trained_the_adapter_stands_beside_the_weights(
    run: Path, opened: list[torch.nn.Module]
) -> None:
    merged = answers(PEER["PyTorch eager fp32"], run)
    trained = answers(PEER["PyTorch eager fp32 as trained"], run)
    adapters = [any("lora_" in name for name, _ in one.named_parameters()) for one in opened]
    assert adapters == [False, True]
    assert merged.shape == (8, 21)
    np.testing.assert_allclose(trained, merged, atol=1e-4)


def test_in_bf16_the_weights_are_bf16_and_the_logits_float32(
    run: Path, opened: list[torch.nn.Module]
) -> None:
    exact = answers(PEER["PyTorch eager fp32"], run)
    rounded = answers(PEER["PyTorch eager bf16"], run)
    kinds = [{weight.dtype for weight in one.parameters()} for one in opened]
    assert kinds == [{torch.float32}, {torch.bfloat16}]
    assert rounded.dtype == np.float32
    spread = np.ptp(exact)
    assert 0 < np.abs(rounded - exact).max() < 0.05 * spread


@pytest.mark.parametrize("name", [one.name for one in PEERS if one.library == "pytorch"])
def test_every_peer_of_pytorch_is_compiled_only_where_it_says_so(
    run: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    compiled = []

    def compile_nothing(function: object) -> object:
        compiled.append(function)
        return function

    monkeypatch.setattr(torch, "compile", compile_nothing)
    assert answers(PEER[name], run).shape == (8, 21)
    assert len(compiled) == ("compiled" in name)
