import os
from pathlib import Path

import pytest

from cytodino.archive import open_archive
from cytodino.errors import InputError, MissingPathError
from cytodino_batch.plan import name_archives, plan_archives
from cytodino_batch.shards import Shard
from cytodino_batch.task import work_file


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(planned) -> list[str]:
    return [archive.name for archive in planned]


def test_two_archives_of_one_name_in_two_folders_never_meet(tmp_path):
    touch(tmp_path / "a/crops.h5", tmp_path / "b/crops.h5")
    planned = plan_archives([tmp_path / "a/crops.h5", tmp_path / "b/crops.h5"], tmp_path / "out")
    assert names(planned) == ["a/crops", "b/crops"]
    assert [archive.folder for archive in planned] == [
        tmp_path / "out/a/crops",
        tmp_path / "out/b/crops",
    ]


def test_archives_that_differ_in_their_suffix_alone_keep_it():
    paths = [Path("a/x.h5"), Path("a/x.hdf5"), Path("a/y.h5")]
    assert name_archives(paths) == ("x.h5", "x.hdf5", "y")


def test_a_name_without_its_suffix_is_never_that_of_another_with_it():
    paths = [Path("a/x.h5"), Path("a/x.hdf5"), Path("a/x.h5.h5"), Path("a/x")]
    assert name_archives(paths) == ("x.h5", "x.hdf5", "x.h5.h5", "x")


@pytest.mark.parametrize("name", ["...h5", "..h5"])
def test_no_name_leads_out_of_the_output_folder_or_to_itself(tmp_path, name):
    touch(tmp_path / name, tmp_path / "s" / name)
    planned = plan_archives([tmp_path / name, tmp_path / "s" / name], tmp_path / "out")
    assert names(planned) == [name, f"s/{name}"]


def test_dots_inside_a_name_stay():
    assert name_archives([Path("slide.2024.01.h5")]) == ("slide.2024.01",)


def test_a_folder_gives_every_archive_below_it_sorted(tmp_path):
    touch(tmp_path / "b.h5", tmp_path / "sub/a.HDF5", tmp_path / "notes.txt")
    (tmp_path / "folder.h5").mkdir()
    assert names(plan_archives([tmp_path], tmp_path / "out")) == ["b", "sub/a"]


def test_a_file_may_be_called_anything(tmp_path):
    touch(tmp_path / "cells.dat")
    assert names(plan_archives([tmp_path / "cells.dat"], tmp_path / "out")) == ["cells"]


def test_a_pattern_is_expanded_where_the_shell_did_not(tmp_path):
    touch(tmp_path / "s1.h5", tmp_path / "s2.h5", tmp_path / "t.h5")
    assert names(plan_archives([tmp_path / "s*.h5"], tmp_path / "out")) == ["s1", "s2"]


def test_an_archive_named_twice_is_taken_once_where_it_was_named_first(tmp_path):
    touch(tmp_path / "b.h5", tmp_path / "a.h5")
    planned = plan_archives([tmp_path / "b.h5", tmp_path], tmp_path / "out")
    assert names(planned) == ["b", "a"]


@pytest.mark.parametrize("name", ["gone.h5", "gone-*.h5"])
def test_a_missing_path_is_a_usage_error(tmp_path, name):
    with pytest.raises(MissingPathError, match="no such file") as caught:
        plan_archives([tmp_path / name], tmp_path / "out")
    assert caught.value.exit_code == 2


def test_a_folder_without_archives_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no archive below.*\*\.h5"):
        plan_archives([tmp_path], tmp_path / "out")


def test_a_folder_of_images_is_to_be_packed_first(tmp_path):
    touch(tmp_path / "s1/BLA/a.PNG")
    with pytest.raises(InputError, match=r"pack its images first: cytodino pack .*s1 s1\.h5"):
        plan_archives([tmp_path / "s1"], tmp_path / "out")


def test_an_output_folder_that_is_a_file_is_refused(tmp_path):
    touch(tmp_path / "a.h5", tmp_path / "out")
    with pytest.raises(InputError, match="is a file"):
        plan_archives([tmp_path / "a.h5"], tmp_path / "out")


def test_results_that_are_there_already_are_for_the_run_to_judge(tmp_path):
    touch(tmp_path / "a.h5", tmp_path / "out/a/summary.json")
    assert names(plan_archives([tmp_path / "a.h5"], tmp_path / "out")) == ["a"]


def test_results_below_the_archives_are_no_archives(tmp_path):
    touch(tmp_path / "a.h5", tmp_path / "out/old/predictions.h5")
    assert names(plan_archives([tmp_path], tmp_path / "out")) == ["a"]


def test_bundles_and_results_of_other_runs_are_no_archives(tmp_path):
    touch(tmp_path / "a.h5", tmp_path / "bundle/cytodino.json", tmp_path / "bundle/golden.h5")
    touch(tmp_path / "old/a/predictions.h5", tmp_path / "old/a/summary.json")
    touch(tmp_path / "mine/predictions.h5")
    assert names(plan_archives([tmp_path], tmp_path / "out")) == ["a", "mine/predictions"]


def test_bundles_and_results_that_a_pattern_matches_are_no_archives(tmp_path):
    touch(tmp_path / "a.h5", tmp_path / "bundle/cytodino.json", tmp_path / "bundle/golden.h5")
    touch(tmp_path / "out/a/predictions.h5", tmp_path / "out/a/summary.json")
    assert names(plan_archives([tmp_path / "**/*.h5"], tmp_path / "out")) == ["a"]
    assert names(plan_archives([tmp_path / "*"], tmp_path / "out")) == ["a"]
    with pytest.raises(InputError, match="matches no archive"):
        plan_archives([tmp_path / "b*"], tmp_path / "out")


def test_what_a_shell_expands_to_on_the_second_run_gives_the_same_archives(tmp_path):
    touch(tmp_path / "a.h5", tmp_path / "b/crops.h5", tmp_path / "bundle/cytodino.json")
    touch(tmp_path / "a/predictions.h5", tmp_path / "a/summary.json", tmp_path / "a/review.png")
    shard = Shard(index=2, of=3)
    for kind in ("journal", "lock", "part"):
        touch(work_file(tmp_path / "c", kind), work_file(tmp_path / "deep/d", kind, shard))
    planned = plan_archives(sorted(tmp_path.iterdir()), tmp_path)
    assert names(planned) == ["a", "b/crops"]
    assert names(plan_archives([tmp_path / "a.h5", tmp_path / "bu*"], tmp_path)) == ["a"]


@pytest.mark.parametrize("name", ["empty", "images"])
def test_a_folder_that_may_be_a_slip_is_refused_though_others_hold_archives(tmp_path, name):
    touch(tmp_path / "a.h5", tmp_path / "images/1.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no archive below") as caught:
        plan_archives([tmp_path / "a.h5", tmp_path / name], tmp_path / "out")
    assert caught.value.where == tmp_path / name


def test_results_alone_are_no_archives(tmp_path):
    touch(tmp_path / "a/summary.json", tmp_path / "a/review.png", tmp_path / "b/classify.lock")
    with pytest.raises(InputError, match=r"no archive below this folder; name a folder with"):
        plan_archives([tmp_path / "a", tmp_path / "b"], tmp_path / "out")


@pytest.mark.parametrize("mark", ["summary.json", "cytodino.json"])
def test_results_and_bundles_that_are_named_are_passed_over_aloud_unless_alone(
    tmp_path, mark, capsys
):
    ours = tmp_path / "old/predictions.h5"
    touch(tmp_path / "a.h5", ours, tmp_path / "old" / mark, tmp_path / "new/predictions.h5")
    archives = [tmp_path / "a.h5", tmp_path / "new/predictions.h5"]
    assert names(plan_archives([ours, *archives], tmp_path)) == ["a", "new/predictions"]
    assert capsys.readouterr().err == (
        f"{ours}: passed over, for it is of results or a bundle; name it alone to take it\n"
    )
    assert names(plan_archives([ours], tmp_path)) == ["predictions"]
    assert capsys.readouterr().err == ""


def test_results_may_lie_beside_their_archives(tmp_path):
    touch(tmp_path / "a.h5", tmp_path / "b/predictions.h5")
    assert names(plan_archives([tmp_path], tmp_path)) == ["a"]


def test_an_archive_behind_a_link_is_taken_and_one_that_is_gone_is_not_forgotten(tmp_path):
    touch(tmp_path / "elsewhere/b.h5", tmp_path / "in/a.h5")
    (tmp_path / "in/disk").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/gone.h5").symlink_to(tmp_path / "unmounted/c.h5")
    for entry in (tmp_path / "in", tmp_path / "in*"):
        assert names(plan_archives([entry], tmp_path / "out")) == ["a", "disk/b", "gone"]
    assert names(plan_archives([tmp_path / "in/g*"], tmp_path / "out")) == ["gone"]


def test_a_link_to_itself_fails_by_itself(tmp_path):
    touch(tmp_path / "in/a.h5")
    for name in ("b.h5", "predictions.h5", "loop"):
        (tmp_path / "in" / name).symlink_to(tmp_path / "in" / name)
    for entry in (tmp_path / "in", tmp_path / "in/*.h5"):
        planned = plan_archives([entry], tmp_path / "out")
        assert names(planned) == ["a", "b", "predictions"]
    with pytest.raises(MissingPathError):
        open_archive(planned[1].path)


def test_what_systems_put_on_a_disk_is_passed_over(tmp_path):
    touch(tmp_path / "disk/a.h5", tmp_path / "disk/$Recycle.Bin/a.h5")
    touch(tmp_path / "disk/lost+found/a.h5", tmp_path / "disk/System Volume Information/a.h5")
    for entry in (tmp_path / "disk", tmp_path / "disk/*"):
        assert names(plan_archives([entry], tmp_path / "out")) == ["a"]


def test_what_is_hidden_is_taken_only_where_it_is_named(tmp_path):
    touch(tmp_path / "a.h5", tmp_path / "._a.h5", tmp_path / ".snapshot/a.h5")
    assert names(plan_archives([tmp_path], tmp_path / "out")) == ["a"]
    assert names(plan_archives([tmp_path / ".snapshot"], tmp_path / "out")) == ["a"]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    touch(tmp_path / "a.h5", tmp_path / "closed/b.h5")
    listed = os.scandir

    def refuse(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(InputError, match=r"closed: cannot be listed \(Permission denied\); give "):
        plan_archives([tmp_path], tmp_path / "out")


def test_a_pattern_that_matches_nothing_says_how_a_bracket_is_written(tmp_path):
    touch(tmp_path / "slides [2024]/a.h5")
    with pytest.raises(MissingPathError, match=r"write \[\[\] for a \[") as caught:
        plan_archives([tmp_path / "slides [2024]/*.h5"], tmp_path / "out")
    assert caught.value.exit_code == 2
    assert names(plan_archives([tmp_path / "slides [[]2024]/*.h5"], tmp_path / "out")) == ["a"]


def test_an_output_folder_below_a_file_is_refused_at_once(tmp_path):
    touch(tmp_path / "a.h5")
    with pytest.raises(InputError, match="is a file") as caught:
        plan_archives([tmp_path / "a.h5"], tmp_path / "a.h5/deep/out")
    assert caught.value.where == tmp_path / "a.h5"


@pytest.mark.parametrize("below", ["", "deep/out"])
def test_an_output_folder_behind_a_link_to_nothing_is_refused_at_once(tmp_path, below):
    touch(tmp_path / "a.h5")
    (tmp_path / "nas").symlink_to(tmp_path / "unmounted")
    with pytest.raises(InputError, match="is a link to nothing") as caught:
        plan_archives([tmp_path / "a.h5"], tmp_path / "nas" / below)
    assert caught.value.where == tmp_path / "nas"


def test_an_output_folder_that_may_not_be_written_is_refused_at_once(tmp_path, monkeypatch):
    touch(tmp_path / "a.h5")
    asked = []
    monkeypatch.setattr("os.access", lambda path, mode: asked.append(path))
    with pytest.raises(InputError, match="may not be written"):
        plan_archives([tmp_path / "a.h5"], tmp_path / "new/out")
    assert asked == [tmp_path]
