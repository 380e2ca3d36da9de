import os
from pathlib import Path

import pytest

from cytodino.errors import InputError
from cytodino.run_folder import new_run_folder, require_free


@pytest.mark.parametrize("taken", ["file", "folder"])
def test_a_place_that_is_taken_is_refused(tmp_path, taken):
    out = tmp_path / "out"
    require_free(out)
    if taken == "file":
        out.touch()
    else:
        out.mkdir()
        require_free(out)
        (out / "mine").touch()
    with pytest.raises(InputError, match="is there already"):
        require_free(out)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match="cannot be made"),
        new_run_folder(tmp_path / "file" / "run"),
    ):
        pass


def test_a_name_that_weights_cannot_be_written_to_is_refused_before_a_training(tmp_path):
    out = tmp_path / "r\udce9sultats"
    with pytest.raises(InputError, match="is no UTF-8") as caught:
        require_free(out)
    str(caught.value).encode()  # so that it can be printed
    require_free(tmp_path / "résultats")


def test_a_training_that_began_meanwhile_keeps_its_folder(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(InputError, match="is there already"), new_run_folder(tmp_path / "run"):
        pass
    assert (tmp_path / "run" / "checkpoints").is_dir()


def test_a_folder_that_somebody_stands_in_is_emptied_not_removed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt), new_run_folder(Path(".")):
        Path("adapter").mkdir()
        Path("head.safetensors").touch()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
def test_others_may_read_the_weights_where_they_may_read_the_run(tmp_path):
    with new_run_folder(tmp_path / "run"):
        (tmp_path / "run" / "backbone").mkdir()
        weights = tmp_path / "run" / "backbone" / "model.safetensors"
        weights.touch(mode=0o600)
        (tmp_path / "run" / "run.json").touch(mode=0o640)
    assert weights.stat().st_mode & 0o777 == 0o640
