import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cytodino.engines.pytorch import open_reference
from cytodino.errors import InputError, MergeError
from cytodino.run import open_run
from cytodino.run_folder import write_manifest
from cytodino.run_manifest import RunManifest
from cytodino_export.merge import load_unmerged, logits_of, merge

WEIGHTS = "adapter/adapter_model.safetensors"


@pytest.fixture
def run_copy(run_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_path, tmp_path / "run"))


def read_manifest(run: Path) -> RunManifest:
    return RunManifest.model_validate_json((run / "run.json").read_text())


def draw(n: int = 6) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (n, 40, 40, 3), dtype=np.uint8))


def test_merged_says_what_unmerged_said_and_the_adapter_matters(run_path: Path) -> None:
    model = load_unmerged(open_run(run_path))
    unmerged = logits_of(model, draw())
    merged = logits_of(merge(model), draw())
    assert np.abs(merged - unmerged).max() < 1e-5
    assert not any("lora" in name for name in model.state_dict())
    base = load_unmerged(open_run(run_path))
    with torch.no_grad():
        for name, weight in base.named_parameters():
            if "lora_B" in name:
                weight.zero_()
    assert np.abs(logits_of(base, draw()) - unmerged).max() > 1e-2


def test_a_model_without_an_adapter_is_left_as_it_is(make_model: Any) -> None:
    model = make_model(2)
    before = logits_of(model, draw())
    assert np.array_equal(logits_of(merge(model), draw()), before)


def test_adapter_weights_that_stay_behind_are_an_error(make_model: Any) -> None:
    model = make_model(2)
    model.head.lora_A = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(MergeError, match="1 adapter weights are left"):
        merge(model)


def test_the_reference_engine_is_the_merged_run(run_path: Path) -> None:
    crops = np.stack(draw())
    expected = logits_of(merge(load_unmerged(open_run(run_path))), draw())
    with open_reference(run_path) as engine:
        assert np.abs(engine.logits(crops) - expected).max() < 1e-6


def test_an_adapter_whose_keys_do_not_fit_is_refused(run_copy: Path) -> None:
    state = load_file(run_copy / WEIGHTS)
    first = sorted(state)[0]
    state["base_model.model.layer.9.nowhere.lora_A.weight"] = state.pop(first)
    save_file(state, run_copy / WEIGHTS)
    with pytest.raises(InputError, match=f"{WEIGHTS} has changed since the run was written"):
        load_unmerged(open_run(run_copy))
    write_manifest(run_copy, read_manifest(run_copy))  # as if they had been written so
    with pytest.raises(MergeError, match="keys do not fit") as caught:
        load_unmerged(open_run(run_copy))
    assert caught.value.exit_code == 1


def test_a_backbone_that_changed_is_refused(run_copy: Path) -> None:
    path = run_copy / "backbone" / "model.safetensors"
    state = load_file(path)
    state["norm.weight"] = state["norm.weight"] + 1e-3
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"backbone has changed.*model\.safetensors"):
        load_unmerged(open_run(run_copy))


def test_a_backbone_that_the_hub_does_not_give_is_one_line(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = json.loads((run_copy / "run.json").read_text())
    manifest["backbone"] |= {"kind": "hub", "source": "no-one/nothing", "stored": False}
    (run_copy / "run.json").write_text(json.dumps(manifest))

    def unreachable(*arguments: Any, **options: Any) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr("cytodino.modeling.backbone.snapshot_download", unreachable)
    with pytest.raises(InputError, match="no-one/nothing: cannot be had from the Hub"):
        load_unmerged(open_run(run_copy))
