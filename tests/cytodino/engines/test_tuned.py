import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from cytodino.bundle import Bundle, open_bundle
from cytodino.engines import tuned
from cytodino.engines.tuned import (
    Choice,
    Configuration,
    find_choice,
    open_configuration,
    record_choice,
)
from cytodino.errors import EngineError
from cytodino.machine import Machine, describe_machine
from tests.batch.tiny_bundle import write_bundle

pytest.importorskip("onnxruntime")


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    for module in ("cytodino.engines.tuned", "cytodino.bundle.verdicts"):
        monkeypatch.setattr(f"{module}.cache_folder", lambda: tmp_path / "cache")
    return open_bundle(write_bundle(tmp_path / "bundle"))


def choice(bundle: Bundle, machine: Machine | None = None, **changes: object) -> Choice:
    known = {
        "bundle_sha256": bundle.sha256,
        "machine": machine or describe_machine(),
        "configuration": Configuration(engine="onnxruntime", variant="fp32", threads=1),
        "batch_size": 16,
        "goal": "throughput",
        "images_per_second": 98.0,
        "p50_ms": 163.0,
        "golden_cells": 256,
        "created": datetime(2025, 3, 4, tzinfo=UTC),
    }
    return Choice.model_validate(known | changes)


def test_before_anything_was_tuned_there_is_no_choice(bundle: Bundle) -> None:
    assert find_choice(bundle) == (None, None)


def test_a_choice_is_kept_for_this_machine_and_bundle(bundle: Bundle) -> None:
    path = record_choice(bundle, choice(bundle))
    assert path.parent.name == bundle.sha256
    found = find_choice(bundle)
    assert found.choice == choice(bundle)
    assert found.stale is None
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_the_last_choice_stands(bundle: Bundle) -> None:
    record_choice(bundle, choice(bundle))
    record_choice(bundle, choice(bundle, batch_size=4))
    found = find_choice(bundle).choice
    assert found is not None
    assert found.batch_size == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cores": 999}, "cores 999 is now"),
        ({"flags": ("amx_tile_of_old",)}, "CPU flag amx_tile_of_old"),
        ({"cpu": "an older CPU"}, "CPU an older CPU is now"),
        ({"gpu_driver": "1.2.3"}, "GPU driver 1.2.3 is now"),
        ({"gpus": ("GTX",)}, "GPUs GTX is now"),
        ({"versions": {"openvino": "2020.1"}}, "openvino 2020.1 is now"),
    ],
)
def test_a_changed_machine_makes_it_stale_and_is_named(
    bundle: Bundle, change: dict[str, object], said: str
) -> None:
    before = describe_machine().model_copy(update=change)
    record_choice(bundle, choice(bundle, before))
    found = find_choice(bundle)
    assert found.choice is None
    assert found.stale is not None
    assert said in found.stale
    assert "\n" not in found.stale


def test_a_choice_for_another_device_is_none(bundle: Bundle) -> None:
    record_choice(bundle, choice(bundle))
    assert find_choice(bundle, device="cuda") == (None, None)
    assert find_choice(bundle, device="cpu").choice is not None


def test_a_variant_that_no_longer_passes_is_not_used(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_choice(bundle, choice(bundle))
    monkeypatch.setattr(tuned, "usable_here", lambda *_: ())
    found = find_choice(bundle)
    assert found.choice is None
    assert found.stale is not None
    assert "fp32 is no longer passed on onnxruntime" in found.stale


@pytest.mark.parametrize("content", ["", "{}", "[1", "\xff"])
def test_a_damaged_record_is_no_choice(bundle: Bundle, content: str) -> None:
    path = record_choice(bundle, choice(bundle))
    path.write_bytes(content.encode("latin-1"))
    assert find_choice(bundle) == (None, None)


@pytest.mark.parametrize("name", ["batch_size", "crops_per_request", "threads", "streams"])
def test_a_record_of_a_size_that_nobody_tuned_is_no_choice(bundle: Bundle, name: str) -> None:
    path = record_choice(bundle, choice(bundle))
    content = json.loads(path.read_text())
    place = content if name == "batch_size" else content["configuration"]
    place[name] = 1024
    path.write_text(json.dumps(content))
    assert find_choice(bundle).choice is not None
    place[name] = 1025
    path.write_text(json.dumps(content))
    assert find_choice(bundle).choice is None


@pytest.mark.parametrize("engine", ["pytorch", "nobody's"])
def test_a_record_of_another_engine_is_no_choice(bundle: Bundle, engine: str) -> None:
    changed = choice(bundle).configuration.model_copy(update={"engine": engine})
    record_choice(bundle, choice(bundle, configuration=changed))
    found = find_choice(bundle)
    assert found.choice is None
    assert found.stale is not None


def test_another_bundles_record_is_no_choice(bundle: Bundle) -> None:
    path = record_choice(bundle, choice(bundle))
    path.write_text(choice(bundle, bundle_sha256="0" * 64).model_dump_json())
    assert find_choice(bundle) == (None, None)


def test_a_configuration_is_opened_as_it_says(bundle: Bundle) -> None:
    wanted = Configuration(engine="onnxruntime", variant="fp32", threads=1)
    with open_configuration(bundle, wanted, cache=None, notes=("a note",)) as engine:
        assert engine.describe().options["threads"] == 1
        assert "a note" in engine.describe().warnings
        assert engine.logits(np.zeros((2, 4, 4, 3), dtype=np.uint8)).shape == (2, 21)


def test_openvino_is_opened_with_its_streams_and_requests(bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    wanted = Configuration(
        engine="openvino", variant="fp32", threads=2, streams=2, crops_per_request=3
    )
    with open_configuration(bundle, wanted, cache=tmp_path / "compiled") as engine:
        options = engine.describe().options
    assert (options["threads"], options["streams"], options["crops_per_request"]) == (2, 2, 3)


def test_an_engine_that_reads_no_onnx_is_refused(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match="pytorch does not read ONNX"):
        open_configuration(bundle, Configuration(engine="pytorch", variant="fp32"), cache=None)


def test_a_choice_says_what_it_is(bundle: Bundle) -> None:
    assert choice(bundle).sentence() == (
        "fp32 on onnxruntime (cpu), threads 1, batches of 16: tuned here for throughput "
        "on 2025-03-04"
    )
