"""The authors' checkpoint, built here in its exact form: PEFT over DINOv3, their head's names."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from cytodino.cli import main
from cytodino.errors import InputError, MergeError, MissingPathError
from cytodino.modeling.checkpoint import import_checkpoint, read_checkpoint
from cytodino.modeling.loading import load_run
from cytodino.run import open_run

HIDDEN, RANK, ALPHA = 32, 4, 16
State = dict[str, torch.Tensor]


class AuthorsHead(nn.Module):
    """Attribute names of the published head; shapes of the published configuration, scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.query_token = nn.Parameter(torch.randn(1, 1, HIDDEN))
        layer = nn.TransformerDecoderLayer(
            HIDDEN, 4, 2 * HIDDEN, 0.2, "gelu", batch_first=True, norm_first=True
        )
        self.transformer_decoder = nn.TransformerDecoder(layer, 4)
        self.norm = nn.LayerNorm(HIDDEN)
        self.fc = nn.Linear(HIDDEN, 21)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        query = self.query_token.expand(len(tokens), -1, -1)
        return self.fc(self.norm(self.transformer_decoder(query, tokens)[:, 0]))


class AuthorsModel(nn.Module):
    def __init__(self, backbone: DINOv3ViTModel) -> None:
        super().__init__()
        self.backbone = nn.Module()
        config = LoraConfig(
            r=RANK, lora_alpha=ALPHA, target_modules="all-linear", lora_dropout=0.1, bias="none"
        )
        self.backbone.model = get_peft_model(backbone, config)
        self.head = AuthorsHead()

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone.model(pixel_values=pixel_values).last_hidden_state)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("backbone") / "dinov3"
    config = DINOv3ViTConfig(
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_register_tokens=4,
        image_size=32,
    )
    DINOv3ViTModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def authors(backbone: Path) -> AuthorsModel:
    torch.manual_seed(1)
    model = AuthorsModel(DINOv3ViTModel.from_pretrained(backbone))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.1)
    return model.eval()


@pytest.fixture
def state(authors: AuthorsModel) -> State:
    return {key: value.clone() for key, value in authors.state_dict().items()}


def save(state: object, folder: Path) -> Path:
    path = folder / "best_model.pt"
    torch.save(state, path)
    return path


def other_version(state: State) -> State:
    """The same keys as the other line of transformers names its blocks."""
    new, old = "base_model.model.model.layer.", "base_model.model.layer."
    source, target = (new, old) if any(new in key for key in state) else (old, new)
    return {key.replace(source, target): value for key, value in state.items()}


@pytest.mark.parametrize("renamed", [False, True], ids=["this version", "the other version"])
def test_the_imported_run_gives_the_authors_logits(
    authors: AuthorsModel, state: State, backbone: Path, tmp_path: Path, renamed: bool
) -> None:
    checkpoint = save(other_version(state) if renamed else state, tmp_path)
    import_checkpoint(
        checkpoint, tmp_path / "run", backbone=str(backbone), image_size=32, lora_alpha=ALPHA
    )
    crops = torch.randint(0, 256, (3, 40, 36, 3), dtype=torch.uint8)
    for merged in (False, True):
        model = load_run(tmp_path / "run", merged=merged)
        with torch.inference_mode():
            expected = authors(model.preprocess(crops))
            torch.testing.assert_close(model(crops), expected, rtol=1e-4, atol=1e-5)
    manifest = open_run(tmp_path / "run").manifest
    assert manifest.imported is not None
    assert manifest.imported.file == "best_model.pt"
    assert manifest.lora is not None
    assert manifest.lora.rank == RANK
    assert manifest.head.layers == 4
    assert not manifest.backbone.stored


def test_the_command(state: State, backbone: Path, tmp_path: Path) -> None:
    words = [save(state, tmp_path), "--backbone", backbone, "--out", tmp_path / "run"]
    result = CliRunner().invoke(
        main, ["import-checkpoint", *map(str, words), "--image-size", "32", "--lora-alpha", "16"]
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(tmp_path / "run")
    with pytest.raises(InputError, match="imported, and names no cells"):
        open_run(tmp_path / "run").open_cells()


def _drop(state: State, part: str) -> State:
    victim = next(key for key in state if part in key)
    return {key: value for key, value in state.items() if key != victim}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: _drop(s, "lora_B"), "1 missing"),
        (lambda s: _drop(s, "base_layer.weight"), "1 missing"),
        (lambda s: _drop(s, "self_attn.in_proj_bias"), "1 missing"),
        (lambda s: s | {"head.extra.weight": torch.zeros(1)}, "1 unexpected"),
        (lambda s: s | {"optimizer": torch.zeros(1)}, "1 unexpected"),
        (lambda s: {k: v for k, v in s.items() if k.startswith("head.")}, "missing"),
        (lambda s: {k: v for k, v in s.items() if "lora" not in k}, "no adapter"),
        (lambda s: s | {"head.norm.weight": torch.zeros(3)}, r"\(3,\)"),
        (lambda s: s | {"head.query_token": torch.zeros(1, 1, 6)}, "attention heads"),
    ],
    ids=["adapter", "frozen", "head", "more", "stranger", "half", "plain", "shape", "query"],
)
def test_every_key_is_accounted_for_or_nothing_is_written(
    state: State, backbone: Path, tmp_path: Path, change: object, said: str
) -> None:
    checkpoint = save(change(state), tmp_path)
    with pytest.raises(MergeError, match=said):
        import_checkpoint(checkpoint, tmp_path / "run", backbone=str(backbone), image_size=32)
    assert not (tmp_path / "run").exists()


def test_another_backbone_is_refused(state: State, backbone: Path, tmp_path: Path) -> None:
    key = next(key for key in state if key.endswith("base_layer.weight"))
    state[key] = state[key] + 1e-3
    with pytest.raises(MergeError, match="frozen weights are not those of the backbone"):
        import_checkpoint(
            save(state, tmp_path), tmp_path / "run", backbone=str(backbone), image_size=32
        )


class Danger:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("a pickle ran",)


def test_a_pickle_that_could_run_code_is_not_loaded(
    backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "best_model.pt"
    path.write_bytes(pickle.dumps(Danger()))
    with pytest.raises(InputError):
        import_checkpoint(path, tmp_path / "run", backbone=str(backbone))
    with pytest.raises(InputError, match="could run code"):
        import_checkpoint(save({"x": Danger()}, tmp_path), tmp_path / "run", backbone=str(backbone))
    assert "a pickle ran" not in capsys.readouterr().out


NO_WEIGHTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "a number": lambda value: value.sum(),
    "sparse": torch.Tensor.to_sparse,
    "without content": lambda value: value.to("meta"),
    "quantised": lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
    "two in a byte": lambda value: value.to(torch.uint8).view(torch.float4_e2m1fn_x2),
    "complex": lambda value: value.to(torch.complex64),
    "whole numbers": torch.Tensor.long,
}


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")  # deprecated
@pytest.mark.parametrize("change", NO_WEIGHTS.values(), ids=NO_WEIGHTS.keys())
def test_what_can_be_no_weight_is_refused_by_name(
    state: State, backbone: Path, tmp_path: Path, change: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    name = next(key for key in state if "lora_A" in key)
    checkpoint = save({**state, name: change(state[name])}, tmp_path)
    with pytest.raises(InputError, match=f"no weights .first: {name}"):
        import_checkpoint(checkpoint, tmp_path / "run", backbone=str(backbone))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("precision", [torch.float32, torch.float8_e4m3fn])
def test_a_weight_that_is_not_finite_wants_another_training(
    state: State, backbone: Path, tmp_path: Path, precision: torch.dtype
) -> None:
    name = next(key for key in state if "lora_A" in key)
    checkpoint = save({**state, name: (state[name] * float("nan")).to(precision)}, tmp_path)
    said = f"not finite .first: {name}.*save it again, from a training that did not diverge"
    with pytest.raises(InputError, match=said):
        import_checkpoint(checkpoint, tmp_path / "run", backbone=str(backbone))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("precision", [torch.float64, torch.bfloat16, torch.float8_e4m3fn])
def test_weights_of_any_floating_point_are_read(
    state: State, tmp_path: Path, precision: torch.dtype
) -> None:
    path = save({key: value.to(precision) for key, value in state.items()}, tmp_path)
    assert {value.dtype for value in read_checkpoint(path).values()} == {precision}


def test_what_is_no_state_dict_is_refused(backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingPathError):
        import_checkpoint(tmp_path / "none.pt", tmp_path / "run", backbone=str(backbone))
    for content, said in (([1], "no state dict"), ({"epoch": 3}, "more than tensors: epoch")):
        with pytest.raises(InputError, match=said):
            import_checkpoint(save(content, tmp_path), tmp_path / "run", backbone=str(backbone))
    for damaged in (b"PK\x03\x04 torn", b"hello", b""):
        (tmp_path / "best_model.pt").write_bytes(damaged)
        with pytest.raises(InputError, match="cannot be read"):
            import_checkpoint(tmp_path / "best_model.pt", tmp_path / "run", backbone=str(backbone))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").touch()
    with pytest.raises(InputError, match="is there already"):
        import_checkpoint(tmp_path / "best_model.pt", tmp_path / "run", backbone=str(backbone))
