import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cytodino.cli import main
from cytodino.commands import train as module
from cytodino.recipe import DEFAULT_BACKBONE, SHAPES
from cytodino.run import open_run

SMALL = ["--backbone", "mini", "--device", "cpu", "--lora-rank", "2", "--lora-alpha", "4"]


@pytest.fixture(autouse=True)
def mini(monkeypatch, tmp_path_factory):
    """A configuration small enough to train in a second."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setitem(SHAPES, "mini", (32, 2, 2))
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    random = np.random.default_rng(0)
    for code in ("BLA", "LYT"):
        (folder / code).mkdir(parents=True)
        for number in range(5):
            crop = random.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(crop).save(folder / code / f"{number}.png")
    return folder


def run(*arguments):
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


def test_a_base_from_scratch_and_an_adapter_on_it(images, tmp_path):
    base, adapted = tmp_path / "base", tmp_path / "adapted"
    result = run(images, "--out", base, *SMALL, "--epochs", "1", "--image-size", "32")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(base)
    assert "weighted F1" in result.stderr and "test: " in result.stderr
    manifest = open_run(base).manifest
    assert (manifest.tune, manifest.image_size, manifest.lora) == ("full", 32, None)
    assert (manifest.recipe.learning_rate, manifest.recipe.epochs) == (5e-4, 1)
    result = run(
        images, "--out", adapted, "--backbone", base, *SMALL[2:], "--epochs", "1", "--seed", "5"
    )
    assert result.exit_code == 0, result.output
    manifest = open_run(adapted).manifest
    assert (manifest.tune, manifest.image_size) == ("lora", 32)
    assert (manifest.lora.rank, manifest.lora.alpha, manifest.recipe.seed) == (2, 4, 5)


@pytest.mark.parametrize(
    ("prepare", "arguments", "code", "said"),
    [
        (lambda p: None, ["missing"], 2, "missing: no such file or folder"),
        (lambda p: (p / "empty").mkdir(), ["empty"], 1, "empty: "),
        (lambda p: (p / "out").mkdir() or (p / "out/x").touch(), ["images"], 1, "already"),
        (
            lambda p: (p / "images/BLA/0.png").write_bytes(b""),
            ["images"],
            1,
            "images/BLA/0.png: ",
        ),
        (lambda p: None, ["images", "--backbone", "./none"], 2, "none: no such file"),
        (lambda p: None, ["images", "--image-size", "33"], 1, "choose 32"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    images, tmp_path, monkeypatch, prepare, arguments, code, said
):
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    # A value named twice is the later one's.
    result = run(arguments[0], "--out", "out", *SMALL, "--image-size", "32", *arguments[1:])
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ") and said in last
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--learning-rate", "nan"),
        ("--learning-rate", "inf"),
        ("--seed", str(2**32)),
        ("--batch-size", str(10**21)),
        ("--accumulation", str(10**21)),
    ],
)
def test_a_number_that_nothing_can_train_with_is_a_usage_error(images, tmp_path, option, value):
    result = run(images, "--out", tmp_path / "out", *SMALL, "--image-size", "32", option, value)
    assert result.exit_code == 2 and f"'{option}'" in result.stderr
    assert not (tmp_path / "out").exists()


def test_groups_and_split_are_read_from_the_command_line(images, tmp_path):
    names = [f"{code}/{number}.png" for code in ("BLA", "LYT") for number in range(5)]
    groups = tmp_path / "groups.csv"
    groups.write_text("".join(f"{name},{row % 5}\n" for row, name in enumerate(names)))
    odd = tmp_path / "a=b.csv"
    odd.write_text("".join(f"{name},test\n" for name in names if name.endswith("0.png")))
    rest = tmp_path / "rest.csv"
    rest.write_text("".join(f"{name}\n" for name in names if not name.endswith("0.png")))
    tables = ["--groups", groups, "--split", odd, "--split", f"train={rest}"]
    out = tmp_path / "out"
    result = run(
        images, "--out", out, *SMALL, "--epochs", "1", "--image-size", "32", *tables
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    split = open_run(out).split
    assert set(split["test"]) == {"BLA/0.png", "LYT/0.png"}
    digits = [{name[-5] for name in part} for part in split.values()]
    assert sum(map(len, digits)) == len(set().union(*digits)) == 5
    result = run(images, "--out", tmp_path / "other", *SMALL, "--groups", tmp_path / "none")
    assert result.exit_code == 2 and "none: no such file" in result.stderr


def test_the_recipe_and_its_options_reach_the_run(images, tmp_path):
    out = tmp_path / "out"
    options = [
        "--recipe",
        "cytodino",
        "--accumulation",
        "2",
        "--patience",
        "3",
        "--batch-size",
        "2",
    ]
    options += ["--mixed-precision", "bf16", "--gradient-checkpointing", "--epochs", "1"]
    result = run(images, "--out", out, *SMALL, "--image-size", "32", *options)
    assert result.exit_code == 0, result.output
    recipe = open_run(out).manifest.recipe
    assert (recipe.name, recipe.accumulation, recipe.patience) == ("cytodino", 2, 3)
    assert (recipe.mixed_precision, recipe.gradient_checkpointing) == ("bf16", True)
    assert recipe.loss is not None and recipe.extra_draws == 0.7


def test_a_missing_library_is_one_line_with_the_command_that_mends_it(
    images, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    result = run(images, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "torch is not installed; run: pip install 'cytodino[train]'" in result.stderr


def test_the_help_names_the_backbone_that_is_the_default():
    assert DEFAULT_BACKBONE in run("--help").stdout


def test_the_installed_program_answers_without_loading_torch(tmp_path):
    code = (
        "import sys; from cytodino.cli import main\n"
        "try: main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--backbone" in done.stdout
