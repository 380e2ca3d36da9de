import pytest

from cytodino_batch.plan import plan_archives
from cytodino_batch.shards import PlannedRows, Shard, cut, survey

from .conftest import draw_crops, write_crops


def plan(*rows):
    return tuple(PlannedRows(name=str(at), rows=count) for at, count in enumerate(rows))


def rows_of(entries, of, step=64):
    """The rows that all shards together do, by archive, in the order in which they are done."""
    done = {at: [] for at in range(len(entries))}
    for index in range(1, of + 1):
        for at, (start, stop) in cut(entries, Shard(index=index, of=of), step).items():
            done[at] += range(start, stop)
    return done


@pytest.mark.parametrize("of", [1, 2, 3, 7, 50])
def test_every_row_is_in_exactly_one_shard(of):
    entries = plan(150, 1, 64, 700, 65)
    done = rows_of(entries, of)
    assert done == {at: list(range(entry.rows)) for at, entry in enumerate(entries)}


@pytest.mark.parametrize("of", [2, 3, 7])
def test_a_shard_begins_where_a_block_begins(of):
    for index in range(1, of + 1):
        for start, _ in cut(plan(150, 700), Shard(index=index, of=of), 64).values():
            assert start % 64 == 0


def test_shards_are_of_one_length_give_or_take_a_block():
    sizes = [
        sum(stop - start for start, stop in cut(plan(6400, 640), Shard(index=i, of=7), 64).values())
        for i in range(1, 8)
    ]
    assert max(sizes) - min(sizes) <= 64


def test_an_archive_that_cannot_be_opened_is_one_shards_to_report():
    entries = plan(640, None, 640)
    holders = [i for i in range(1, 8) if 1 in cut(entries, Shard(index=i, of=7), 64)]
    assert len(holders) == 1


def test_more_shards_than_blocks_leave_some_without_work():
    spans = [cut(plan(100), Shard(index=index, of=5), 64) for index in range(1, 6)]
    assert sum(map(bool, spans)) == 2


def test_a_survey_counts_rows_and_stops_at_nothing(tmp_path):
    write_crops(tmp_path / "a.h5", draw_crops(3))
    (tmp_path / "b.h5").write_bytes(b"text")
    found = survey(plan_archives([tmp_path], tmp_path / "out"))
    assert [(entry.name, entry.rows) for entry in found] == [("a", 3), ("b", None)]


def test_a_shard_is_written_as_it_is_read():
    assert str(Shard.parse("2/7")) == "2/7"


@pytest.mark.parametrize("text", ["", "2", "/2", "2/", "0/2", "3/2", "1/0", "-1/2", "a/b", "1/2/3"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(ValueError, match=r"form I/N|from 1 to N"):
        Shard.parse(text)
