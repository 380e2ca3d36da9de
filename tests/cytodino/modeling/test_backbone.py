import json
import shutil

import pytest
import torch
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from safetensors.torch import load_file, save_file

from cytodino.errors import InputError, MissingPathError
from cytodino.modeling import backbone as module
from cytodino.modeling.backbone import (
    CONFIG,
    INDEX,
    WEIGHTS,
    load_backbone,
    load_folder,
    named_config,
    random_backbone,
    weight_files,
    weights_sha256,
)

HUB_ID = "facebook/dinov3-vitl16-pretrain-lvd1689m"


@pytest.fixture
def folder(backbone, tmp_path):
    path = tmp_path / "dinov3"
    backbone.model.save_pretrained(path)
    return path


@pytest.mark.parametrize(
    ("name", "hidden", "layers", "heads", "wide"),
    [
        ("tiny", 192, 6, 3, 768),
        ("small", 384, 12, 6, 1536),
        ("base", 768, 12, 12, 3072),
        ("large", 1024, 24, 16, 4096),
    ],
)
def test_named_configurations_are_dinov3s(name, hidden, layers, heads, wide):
    config = named_config(name)
    assert (config.hidden_size, config.num_hidden_layers) == (hidden, layers)
    assert (config.num_attention_heads, config.intermediate_size) == (heads, wide)
    assert (config.patch_size, config.num_register_tokens, config.key_bias) == (16, 4, False)


def test_random_weights_come_from_torchs_seed():
    def weights(seed):
        torch.manual_seed(seed)
        return random_backbone("mini").model.embeddings.patch_embeddings.weight

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_a_folder_gives_its_weights_in_evaluation_mode_with_their_hashes(backbone, folder):
    loaded = load_backbone(str(folder))
    assert loaded.kind == "folder"
    assert loaded.folder == folder
    assert loaded.sha256 == weights_sha256(folder)
    assert set(loaded.sha256) == {CONFIG, WEIGHTS}
    assert not loaded.model.training
    for name, value in backbone.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value), name


def test_weights_of_half_precision_are_loaded_as_float32(folder):
    state = {name: value.half() for name, value in load_file(folder / WEIGHTS).items()}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, "dtype": "float16"}))
    assert load_folder(folder).norm.weight.dtype == torch.float32


def test_weights_in_several_files_are_found_through_their_index(backbone, tmp_path):
    backbone.model.save_pretrained(tmp_path, max_shard_size="40KB")
    files = weight_files(tmp_path)
    assert [file.name for file in files[:2]] == [CONFIG, INDEX]
    assert len(files) > 3
    assert torch.equal(load_folder(tmp_path).norm.weight, backbone.model.norm.weight)
    files[-1].unlink()
    with pytest.raises(InputError, match=files[-1].name):
        load_folder(tmp_path)


def test_a_damaged_index_is_refused(backbone, tmp_path):
    backbone.model.save_pretrained(tmp_path, max_shard_size="40KB")
    (tmp_path / INDEX).write_text("[]")
    with pytest.raises(InputError, match="index.json: cannot be read"):
        load_folder(tmp_path)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"has no {name}.*save_pretrained"):
        load_backbone(str(folder))


def test_a_pickle_is_never_loaded(folder):
    state = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model\.bin is a pickle, and never loaded"):
        load_backbone(str(folder))


def test_another_kind_of_model_is_refused(folder):
    (folder / CONFIG).write_text('{"model_type": "vit"}')
    with pytest.raises(InputError, match="of type vit, not dinov3_vit"):
        load_backbone(str(folder))


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_damaged_configuration_is_refused(folder, content):
    (folder / CONFIG).write_text(content)
    with pytest.raises(InputError, match="no model configuration"):
        load_backbone(str(folder))


def test_a_weight_that_is_not_there_is_refused_by_name(folder):
    state = load_file(folder / WEIGHTS)
    del state["norm.weight"]
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 missing weights \(first: norm\.weight\)"):
        load_folder(folder)


def test_a_weight_without_a_place_is_refused_by_name(folder):
    state = {**load_file(folder / WEIGHTS), "decoder.weight": torch.ones(1)}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 unexpected weights \(first: decoder\.weight\)"):
        load_folder(folder)


def test_a_weight_of_another_shape_is_refused(folder):
    state = {**load_file(folder / WEIGHTS), "norm.weight": torch.ones(5)}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(InputError, match="weights"):
        load_folder(folder)


def test_truncated_weights_are_refused(folder):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cannot be loaded"):
        load_folder(folder)


def test_what_is_neither_folder_nor_hub_id_is_a_missing_path():
    with pytest.raises(MissingPathError, match=r"no such file.*tiny, small, base, large"):
        load_backbone("./no/such/folder")


def hub_error(kind, response):
    return kind("refused", response=response) if response else kind("refused")


class Response:
    headers: dict[str, str] = {}
    status_code = 403
    request = None
    text = ""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (lambda: hub_error(GatedRepoError, Response()), "gated on the Hub"),
        (lambda: hub_error(RepositoryNotFoundError, Response()), "neither a local folder nor"),
        (lambda: hub_error(HfHubHTTPError, Response()), "cannot be had from the Hub"),
        (lambda: LocalEntryNotFoundError("offline"), "cannot be had from the Hub"),
        (lambda: ConnectionError("no route"), "cannot be had from the Hub"),
    ],
)
def test_a_hub_that_refuses_tells_how_to_get_access(monkeypatch, error, said):
    def refuse(*args, **kwargs):
        raise error()

    monkeypatch.setattr(module, "snapshot_download", refuse)
    with pytest.raises(InputError, match=said) as caught:
        load_backbone(HUB_ID)
    assert HUB_ID in str(caught.value)
    assert "hf auth login" in str(caught.value)
    assert "save_pretrained" in str(caught.value)


def test_a_hub_model_is_recorded_with_its_commit(monkeypatch, folder, tmp_path):
    snapshot = tmp_path / "snapshots" / "0123abc"
    shutil.copytree(folder, snapshot)
    asked = []

    def download(source, *, revision, allow_patterns):
        asked.append((source, revision))
        assert not any("bin" in pattern for pattern in allow_patterns)
        return str(snapshot)

    monkeypatch.setattr(module, "snapshot_download", download)
    loaded = load_backbone(HUB_ID, revision="0123abc")
    assert (loaded.kind, loaded.revision, loaded.source) == ("hub", "0123abc", HUB_ID)
    assert asked == [(HUB_ID, "0123abc")]
