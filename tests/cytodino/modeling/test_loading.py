import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from cytodino.errors import InputError, MergeError, MissingPathError
from cytodino.modeling import loading
from cytodino.modeling.backbone import WEIGHTS, load_backbone, random_backbone
from cytodino.modeling.classifier import CytoDino
from cytodino.modeling.head import DecoderHead
from cytodino.modeling.inference import infer
from cytodino.modeling.loading import describe_head, load_run, open_backbone, save_weights
from cytodino.modeling.lora import CONFIG, add_adapter
from cytodino.modeling.preprocessing import MEAN, STD, Preprocess
from cytodino.recipe import Recipe
from cytodino.run_files import ADAPTER, BACKBONE, HEAD
from cytodino.run_folder import write_manifest
from cytodino.run_manifest import MANIFEST, LoraRecord, RunManifest


def sign(run):
    """Let `run.json` say what the files hold now, as if they had been written so."""
    write_manifest(run, RunManifest.model_validate_json((run / MANIFEST).read_text()))


@pytest.fixture
def folder(tmp_path):
    """DINOv3 as a user would have it: a folder, with its licence."""
    path = tmp_path / "dinov3"
    random_backbone("mini").model.save_pretrained(path)
    (path / "LICENSE.md").write_text("DINOv3 License")
    return path


def build(backbone, tune="lora"):
    backbone.model.requires_grad_(tune == "full")
    core = backbone.model
    if tune == "lora":
        core = add_adapter(core, rank=2, alpha=4)
        for name, parameter in core.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.3)
    return CytoDino(core, DecoderHead(32, layers=1), Preprocess(32)).eval()


def write_run(path, backbone, tune="lora"):
    """Write a run without cells, as an import does, and return its record of the backbone."""
    model = build(backbone, tune)
    head = describe_head(model.head)
    path.mkdir()
    record = save_weights(model, path, backbone)
    write_manifest(
        path,
        RunManifest(
            created=datetime.now(UTC),
            image_size=32,
            mean=MEAN,
            std=STD,
            tune=tune,
            backbone=record,
            lora=LoraRecord(rank=2, alpha=4, dropout=0.1) if tune == "lora" else None,
            head=head,
            recipe=Recipe(tune=tune, image_size=32),
            data=None,
            split=None,
            parameters=(1, 2),
            best_epoch=None,
            history=(),
            metrics={},
            seconds=0,
            device="cpu",
            versions={},
        ),
    )
    return record


def answer_of(backbone, crops, tune="lora"):
    torch.manual_seed(1)
    return infer(build(backbone, tune), crops)


@pytest.mark.parametrize("tune", ["lora", "head", "full"])
def test_a_run_answers_as_the_model_that_was_trained(tmp_path, folder, crops, tune):
    reference = answer_of(load_backbone(str(folder)), crops, tune)
    backbone = load_backbone(str(folder))
    torch.manual_seed(1)
    record = write_run(tmp_path / "run", backbone, tune)
    for merged in (True, False):
        model = load_run(tmp_path / "run", merged=merged)
        assert not model.training
        assert abs(infer(model, crops) - reference).max() < 1e-5
        adapted = any("lora" in name for name, _ in model.named_parameters())
        assert adapted == (tune == "lora" and not merged)
    assert record.stored == (tune == "full")


def test_a_folder_that_was_left_alone_is_referred_to_and_not_copied(tmp_path, folder):
    record = write_run(tmp_path / "run", load_backbone(str(folder)))
    assert not (tmp_path / "run" / BACKBONE).exists()
    assert Path(record.path) == folder
    assert (tmp_path / "run" / ADAPTER).is_dir()


def test_weights_trained_here_take_dinov3s_licence_with_them(tmp_path, folder):
    write_run(tmp_path / "run", load_backbone(str(folder)), "full")
    assert (tmp_path / "run" / BACKBONE / "LICENSE.md").read_text() == "DINOv3 License"


def test_random_weights_are_stored_in_the_run(tmp_path, crops):
    record = write_run(tmp_path / "run", open_backbone("mini"))
    assert (record.kind, record.stored, record.path) == ("random", True, None)
    assert infer(load_run(tmp_path / "run"), crops).shape == (3, 21)


def test_an_earlier_run_gives_its_merged_backbone_to_the_next(tmp_path, folder, crops):
    write_run(tmp_path / "first", load_backbone(str(folder)))
    first = load_run(tmp_path / "first", merged=True)
    opened = open_backbone(str(tmp_path / "first"))
    assert (opened.kind, opened.folder) == ("run", None)
    for name, value in first.backbone.state_dict().items():
        assert torch.equal(opened.model.state_dict()[name], value)
    record = write_run(tmp_path / "second", opened)
    assert record.stored
    assert Path(record.path) == tmp_path / "first"
    (tmp_path / "first").rename(tmp_path / "elsewhere")
    assert infer(load_run(tmp_path / "second"), crops).shape == (3, 21)


def test_a_folder_called_like_a_configuration_is_not_passed_over(tmp_path, monkeypatch):
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"give \./tiny for the folder"):
        open_backbone("tiny")
    with pytest.raises(InputError, match="has no config"):
        open_backbone("./tiny")


def test_a_hub_model_is_loaded_at_the_commit_that_was_recorded(tmp_path, folder, monkeypatch):
    asked = []

    def download(source, revision):
        asked.append(revision)
        return folder

    monkeypatch.setattr("cytodino.modeling.backbone._download", download)
    hub = load_backbone("facebook/dinov3-vits16-pretrain-lvd1689m")
    record = write_run(tmp_path / "run", hub)
    load_run(tmp_path / "run")
    assert not record.stored
    assert asked == [None, folder.name]


def test_a_backbone_that_has_changed_since_is_refused(tmp_path, folder):
    write_run(tmp_path / "run", load_backbone(str(folder)))
    random_backbone("mini").model.save_pretrained(folder)
    with pytest.raises(InputError, match=f"changed since the run was trained: {WEIGHTS}"):
        load_run(tmp_path / "run")


def test_a_stored_backbone_that_has_changed_since_is_refused(tmp_path):
    write_run(tmp_path / "run", open_backbone("mini"))
    random_backbone("mini").model.save_pretrained(tmp_path / "run" / BACKBONE)
    with pytest.raises(InputError, match="changed since the run was trained"):
        load_run(tmp_path / "run")


def test_a_backbone_that_is_gone_is_missed(tmp_path, folder):
    write_run(tmp_path / "run", load_backbone(str(folder)))
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(MissingPathError, match="put the backbone of this run back"):
        load_run(tmp_path / "run")


@pytest.mark.parametrize("change", [{"lora_alpha": 8}, {"use_rslora": True}, {"r": 4}, {"r": "2"}])
def test_an_adapter_that_counts_otherwise_than_it_was_trained_is_refused(tmp_path, change):
    write_run(tmp_path / "run", open_backbone("mini"))
    path = tmp_path / "run" / ADAPTER / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    sign(tmp_path / "run")
    with pytest.raises(MergeError, match="adapter"):
        load_run(tmp_path / "run")


def test_an_adapter_for_a_language_model_is_refused(tmp_path):
    write_run(tmp_path / "run", open_backbone("mini"))
    path = tmp_path / "run" / ADAPTER / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | {"trainable_token_indices": [0]}))
    sign(tmp_path / "run")
    with pytest.raises(MergeError, match=f"{CONFIG} asks for what DINOv3 does not have.*LoRA on"):
        load_run(tmp_path / "run")


def test_what_an_adapter_is_instead_is_said_with_the_mend(tmp_path, monkeypatch):
    write_run(tmp_path / "run", open_backbone("mini"))
    path = tmp_path / "run" / ADAPTER / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lora_alpha": 8}))
    sign(tmp_path / "run")
    mend = "restore adapter_config.json as it was trained, or copy the run again"
    said = f"the adapter is of rank 2 with scale 4; run.json says rank 2 with scale 2; {mend}"
    with pytest.raises(MergeError, match=f"{said}$"):
        load_run(tmp_path / "run")
    monkeypatch.setattr(loading, "load_adapter", lambda plain, folder: plain)
    said = f"the adapter adds to no layer; run.json says rank 2 with scale 2; {mend}"
    with pytest.raises(MergeError, match=f"{said}$"):
        load_run(tmp_path / "run")


@pytest.mark.parametrize("damage", ["garbage", "other shape"])
def test_a_head_that_does_not_fit_is_refused(tmp_path, damage):
    write_run(tmp_path / "run", open_backbone("mini"))
    path = tmp_path / "run" / HEAD
    if damage == "garbage":
        path.write_bytes(b"no safetensors")
    else:
        loading.save_file(DecoderHead(32, layers=2).state_dict(), path)
    sign(tmp_path / "run")
    with pytest.raises(InputError, match=r"head\.safetensors: the head does not fit"):
        load_run(tmp_path / "run")
