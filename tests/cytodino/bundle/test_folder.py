import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cytodino.bundle import open_bundle
from cytodino.errors import BundleError, MissingPathError
from cytodino.paths import hash_file

Reseal = Callable[[Path, Callable[[dict[str, Any]], None]], None]

FILES = ["cytodino.json", "model.fp32.onnx", "golden.h5", "parity.json", "NOTICE.md"]


def test_a_whole_bundle_opens_and_is_named_by_its_manifests_hash(bundle_path: Path) -> None:
    bundle = open_bundle(bundle_path)
    assert bundle.sha256 == hash_file(bundle_path / "cytodino.json")
    assert bundle.model_path("fp32") == bundle_path / "model.fp32.onnx"
    assert bundle.usable("onnxruntime", "CPUExecutionProvider") == ("fp32",)
    assert bundle.usable("onnxruntime", "CUDAExecutionProvider") == ()
    assert bundle.usable("openvino", "CPUExecutionProvider") == ()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_one_flipped_bit_in_any_file_is_refused(bundle_path: Path, name: str, place: float) -> None:
    path = bundle_path / name
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=name):
        open_bundle(bundle_path)


def test_every_bit_of_the_manifest_counts(bundle_path: Path) -> None:
    path = bundle_path / "cytodino.json"
    sound = path.read_bytes()
    for position in range(0, len(sound), 7):
        for bit in (0x01, 0x20):
            data = bytearray(sound)
            data[position] ^= bit
            path.write_bytes(data)
            with pytest.raises(BundleError):
                open_bundle(bundle_path)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused(bundle_path: Path, name: str) -> None:
    path = bundle_path / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=name):
        open_bundle(bundle_path)


@pytest.mark.parametrize("name", FILES[1:])
def test_a_missing_file_is_named_with_the_mend(bundle_path: Path, name: str) -> None:
    (bundle_path / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: is missing.*copy the bundle again"):
        open_bundle(bundle_path)


def test_a_file_says_how_long_it_should_be(bundle_path: Path) -> None:
    (bundle_path / "parity.json").write_text("{")
    with pytest.raises(BundleError, match="has 1 bytes, 3 were exported"):
        open_bundle(bundle_path)


def test_a_file_that_cannot_be_read(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("cytodino.bundle.folder.hash_file", refuse)
    with pytest.raises(BundleError, match="cannot be read \\(Permission denied\\)"):
        open_bundle(bundle_path)


def test_a_missing_path_and_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError) as caught:
        open_bundle(tmp_path / "none")
    assert caught.value.exit_code == 2
    with pytest.raises(BundleError, match="is no bundle"):
        open_bundle(tmp_path)


def test_files_that_the_manifest_does_not_list_are_left_alone(bundle_path: Path) -> None:
    (bundle_path / "notes.txt").write_text("mine")
    assert open_bundle(bundle_path)


def test_a_manifest_that_an_editor_saved_in_another_encoding(bundle_path: Path) -> None:
    path = bundle_path / "cytodino.json"
    path.write_text(path.read_text(), encoding="utf-16")
    with pytest.raises(BundleError, match="is no JSON"):
        open_bundle(bundle_path)


def test_a_newer_schema_says_to_upgrade(bundle_path: Path) -> None:
    path = bundle_path / "cytodino.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"schema_version": 2, "new": True}))
    with pytest.raises(BundleError, match="has schema 2.*upgrade"):
        open_bundle(bundle_path)


@pytest.mark.parametrize("text", ["[]", "{}", '{"schema_version": "1"}', '{"schema_version": 1}'])
def test_a_manifest_that_is_none(bundle_path: Path, text: str) -> None:
    (bundle_path / "cytodino.json").write_text(text)
    with pytest.raises(BundleError):
        open_bundle(bundle_path)


@pytest.mark.parametrize(
    "name", ["../model.fp32.onnx", "/etc/hostname", "a/b.onnx", "..", "", "cytodino.json"]
)
def test_a_file_name_that_leads_elsewhere_is_refused(
    bundle_path: Path, reseal: Reseal, name: str
) -> None:
    reseal(bundle_path, lambda document: document["models"]["fp32"].update(file=name))
    with pytest.raises(BundleError, match="no plain file name"):
        open_bundle(bundle_path)


def test_a_hash_that_is_none_and_classes_in_another_order(
    bundle_path: Path, reseal: Reseal
) -> None:
    reseal(bundle_path, lambda document: document["models"]["fp32"].update(sha256="abc"))
    with pytest.raises(BundleError, match="no SHA-256"):
        open_bundle(bundle_path)
    reseal(bundle_path, lambda document: document["classes"].reverse())
    with pytest.raises(BundleError, match="classes"):
        open_bundle(bundle_path)


def test_a_manifest_that_cannot_be_read(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(BundleError, match="Permission denied"):
        open_bundle(bundle_path)
