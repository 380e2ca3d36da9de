import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cytodino.engines import compiled_cache
from cytodino.engines.compiled_cache import CHECKSUMS, cache_key, compile_through
from cytodino.paths import hash_file


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    return tmp_path / "not" / "yet" / "entry"


def compiler(seen: list[Path | None]) -> Callable[[Path | None], str]:
    """An engine that writes its compiled form where it is told to, and loads what it finds."""

    def compile_in(folder: Path | None) -> str:
        seen.append(folder)
        if folder is None:
            return "compiled without a cache"
        blob = folder / "model.blob"
        if blob.exists():
            return f"loaded {blob.read_text()}"
        blob.write_text("weights")
        return "compiled"

    return compile_in


def test_the_first_compiles_and_the_next_loads(entry: Path) -> None:
    compile_in = compiler([])
    assert compile_through(entry, compile_in) == "compiled"
    assert compile_through(entry, compile_in) == "loaded weights"
    assert [path.name for path in entry.parent.iterdir()] == ["entry"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: (entry / "model.blob").write_text("weightz"),
        lambda entry: (entry / "model.blob").unlink(),
        lambda entry: (entry / CHECKSUMS).unlink(),
        lambda entry: (entry / CHECKSUMS).write_text("{"),
        lambda entry: (entry / CHECKSUMS).write_text("{}"),
        lambda entry: (entry / "other.blob").write_text("who wrote this"),
    ],
    ids=["changed", "gone", "no checksums", "no JSON", "none listed", "not listed"],
)
def test_an_entry_that_is_not_as_it_was_written_is_made_anew(
    entry: Path, damage: Callable[[Path], object]
) -> None:
    compile_in = compiler([])
    compile_through(entry, compile_in)
    damage(entry)
    assert compile_through(entry, compile_in) == "compiled"
    assert compile_through(entry, compile_in) == "loaded weights"


def test_a_cache_that_cannot_be_written_does_not_stop_the_compiling(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    assert compile_through(blocked / "entry", compiler([])) == "compiled without a cache"


def test_a_second_process_that_was_quicker_is_left_alone(entry: Path) -> None:
    def compile_while_another_does(folder: Path | None) -> str:
        assert compile_through(entry, compiler([])) == "compiled"
        return compiler([])(folder)

    assert compile_through(entry, compile_while_another_does) == "compiled"
    assert compile_through(entry, compiler([])) == "loaded weights"
    assert [path.name for path in entry.parent.iterdir()] == ["entry"]


def test_a_compilation_that_fails_leaves_nothing_behind(entry: Path) -> None:
    def fail(folder: Path | None) -> str:
        raise RuntimeError("no such operator")

    with pytest.raises(RuntimeError, match="no such operator"):
        compile_through(entry, fail)
    assert list(entry.parent.iterdir()) == []


def test_an_entry_is_complete_before_it_has_its_name(
    entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled_cache, "_publish", lambda fresh, folder: shutil.rmtree(fresh))
    compile_through(entry, compiler([]))  # killed before the rename
    assert not entry.exists()
    seen: list[Path | None] = []
    compile_through(entry, compiler(seen))
    assert seen != [entry]


def test_the_key_changes_with_the_model_and_each_condition(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"one")
    content = hash_file(model)
    first = cache_key(content, "2026.4.1", "f32")
    assert first == cache_key(content, "2026.4.1", "f32")
    others = {cache_key(content, "2026.4.1", "bf16"), cache_key(content, "2026.4.1f32")}
    model.write_bytes(b"two")
    others.add(cache_key(hash_file(model), "2026.4.1", "f32"))
    assert len({first, *others}) == 4
