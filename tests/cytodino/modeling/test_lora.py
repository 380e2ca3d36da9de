import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from cytodino.errors import MergeError, MissingPathError
from cytodino.modeling.backbone import load_folder
from cytodino.modeling.lora import (
    CONFIG,
    WEIGHTS,
    add_adapter,
    block_prefix,
    load_adapter,
    merge_adapter,
    save_adapter,
    translate,
)


@pytest.fixture
def pixels():
    return torch.randn(2, 3, 32, 32)


@pytest.fixture
def saved(adapted, tmp_path, pixels):
    """Plain backbone and adapter on disk, and what both together answer."""
    with torch.inference_mode():
        answer = adapted(pixel_values=pixels).last_hidden_state.clone()
    save_adapter(adapted, tmp_path / "adapter", backbone="../backbone")
    adapted.base_model.unload().save_pretrained(tmp_path / "backbone")
    return tmp_path, answer


def ask(model, pixels):
    with torch.inference_mode():
        return model.eval()(pixel_values=pixels).last_hidden_state


def rename(folder, change):
    state = load_file(folder / WEIGHTS)
    save_file({change(key): value for key, value in state.items()}, folder / WEIGHTS)


def test_the_published_adapter_touches_every_linear_layer_and_nothing_else(backbone):
    linear = [n for n, m in backbone.model.named_modules() if isinstance(m, torch.nn.Linear)]
    model = add_adapter(backbone.model)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * len(linear) > 0
    assert all(".lora_" in name for name in trained)
    config = model.peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout, config.bias) == (64, 128, 0.1, "none")


def test_a_saved_adapter_comes_back_to_the_bit(saved, pixels):
    folder, answer = saved
    model = load_adapter(load_folder(folder / "backbone"), folder / "adapter")
    assert torch.equal(ask(model, pixels), answer)
    assert not any(p.requires_grad for p in model.parameters())


def test_an_adapter_can_be_loaded_to_train_on(saved):
    folder, _ = saved
    model = load_adapter(load_folder(folder / "backbone"), folder / "adapter", trainable=True)
    assert all(p.requires_grad == (".lora_" in name) for name, p in model.named_parameters())


def test_what_is_saved_is_pefts_own_format_and_names_the_layers_as_any_version_does(saved):
    folder, _ = saved
    assert sorted(p.name for p in (folder / "adapter").iterdir()) == [CONFIG, WEIGHTS]
    config = json.loads((folder / "adapter" / CONFIG).read_text())
    assert config["base_model_name_or_path"] == "../backbone"
    assert config["target_modules"] == [
        "down_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj",
    ]  # fmt: skip


@pytest.mark.parametrize("prefix", ["layer.", "model.layer."])
def test_an_adapter_of_either_version_of_transformers_loads_and_answers_alike(
    saved, pixels, prefix
):
    folder, answer = saved
    stem = "base_model.model."
    rename(
        folder / "adapter",
        lambda key: re.sub(rf"^{stem}(model\.)?layer\.", f"{stem}{prefix}", key),
    )
    assert all(key.startswith(stem + prefix) for key in load_file(folder / "adapter" / WEIGHTS))
    model = load_adapter(load_folder(folder / "backbone"), folder / "adapter")
    assert torch.equal(ask(model, pixels), answer)


def test_names_are_translated_both_ways():
    class Old(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.ModuleList([torch.nn.Linear(1, 1)])

    class New(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = Old()

    old, new = "base_model.model.layer.0.mlp.x", "base_model.model.model.layer.0.mlp.x"
    assert (block_prefix(Old()), block_prefix(New())) == ("layer.", "model.layer.")
    for key in (old, new):
        assert translate(key, Old()) == old
        assert translate(key, New()) == new
    assert translate("base_model.model.norm.weight", New()) == "base_model.model.norm.weight"
    assert translate("model.layer.11.layer_scale1", Old()) == "layer.11.layer_scale1"


def test_merging_changes_nothing_but_the_form(saved, pixels):
    folder, answer = saved
    merged = merge_adapter(load_adapter(load_folder(folder / "backbone"), folder / "adapter"))
    assert not any("lora" in name for name, _ in merged.named_parameters())
    torch.testing.assert_close(ask(merged, pixels), answer, atol=1e-5, rtol=0)
    plain = ask(load_folder(folder / "backbone"), pixels)
    assert (plain - answer).abs().max() > 1e-2


def test_merging_a_nan_is_refused(adapted):
    with torch.no_grad():
        next(p for n, p in adapted.named_parameters() if "lora_B" in n).fill_(float("nan"))
    with pytest.raises(MergeError, match="NaN"):
        merge_adapter(adapted)


def load_again(folder):
    return load_adapter(load_folder(folder / "backbone"), folder / "adapter")


def test_keys_of_layers_that_the_backbone_lacks_are_refused_by_name(saved):
    folder, _ = saved
    rename(folder / "adapter", lambda key: key.replace("layer.1.", "layer.7."))
    with pytest.raises(MergeError, match=r"unexpected \(first: .*layer\.7\..*; export with"):
        load_again(folder)


def test_keys_that_are_all_strange_are_refused_by_name(saved):
    folder, _ = saved
    rename(folder / "adapter", lambda key: key.replace("layer.", "block."))
    with pytest.raises(MergeError, match=r"24 unexpected .*block\.0"):
        load_again(folder)


def test_half_an_adapter_is_refused_with_the_missing_half(saved):
    folder, _ = saved
    state = load_file(folder / "adapter" / WEIGHTS)
    lost = sorted(state)[-1]
    del state[lost]
    save_file(state, folder / "adapter" / WEIGHTS)
    with pytest.raises(MergeError, match=f"1 missing .*{re.escape(lost[-30:])}"):
        load_again(folder)


def test_an_adapter_for_another_width_is_refused(saved):
    folder, _ = saved
    state = load_file(folder / "adapter" / WEIGHTS)
    key = next(key for key in state if "lora_A" in key)
    state[key] = torch.zeros(2, 48)
    save_file(state, folder / "adapter" / WEIGHTS)
    with pytest.raises(MergeError, match=r"is \(2, 48\), the backbone needs \(2, 32\)"):
        load_again(folder)


@pytest.mark.parametrize("keys", [{"classifier.weight": torch.ones(1)}, {}])
def test_weights_that_are_no_adapter_are_refused(saved, keys):
    folder, _ = saved
    save_file(keys, folder / "adapter" / WEIGHTS)
    with pytest.raises(MergeError, match="adapter keys do not fit"):
        load_again(folder)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_missing_file_is_named(saved, name):
    folder, _ = saved
    (folder / "adapter" / name).unlink()
    with pytest.raises(MissingPathError, match=name):
        load_again(folder)


def test_damaged_weights_are_refused(saved):
    folder, _ = saved
    (folder / "adapter" / WEIGHTS).write_bytes(b"no safetensors")
    with pytest.raises(MergeError, match="cannot be read"):
        load_again(folder)


def test_a_damaged_configuration_is_refused(saved):
    folder, _ = saved
    (folder / "adapter" / CONFIG).write_text("{")
    with pytest.raises(MergeError, match="adapter_config.json cannot be read"):
        load_again(folder)


def test_another_kind_of_adapter_is_refused(saved):
    folder, _ = saved
    (folder / "adapter" / CONFIG).write_text('{"peft_type": "IA3"}')
    with pytest.raises(MergeError, match="IA3"):
        load_again(folder)
