import numpy as np
import pytest

from cytodino.cells import MemoryCells
from cytodino.errors import InputError, MissingPathError
from cytodino.training.tables import Names, read_groups, read_split

IDS = ["BLA/0001-1000/BLA_00001.jpg", "BLA/2.png", "LYT/0001-1000/LYT_00001.jpg", "LYT/2.png"]


@pytest.fixture
def cells():
    return MemoryCells([np.zeros((2, 2, 3), np.uint8)] * 4, ids=IDS, labels=[3, 3, 10, 10])


@pytest.fixture
def write(tmp_path):
    def write_table(text, name="table.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write_table


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("BLA/2.png", 1),
        (" ./LYT/2.png ", 3),
        ("LYT\\2.png", 3),
        ("/somewhere/else/LYT/2.png", 3),
        ("/lustre/BM_cytomorphology_data/test/LYT/LYT_00001.jpg", 2),
        ("BLA_00001.jpg", 0),
        ("2.png", None),  # there are two
        ("EOS/BLA_00001.jpg", None),  # another class
        ("BLA/3.png", None),
        ("Image Path", None),
    ],
)
def test_a_name_is_found_however_much_of_its_path_is_given(name, row):
    assert Names(IDS).find(name) == row


def test_ids_without_folders_are_found_by_the_end_of_a_path():
    names = Names(["1.png", "0"])
    assert [names.find(name) for name in ("x/1.png", "1.png", "0")] == [0, 0, 1]


def test_groups_come_in_the_order_of_the_cells(cells, write, listener):
    lines = [f"{name},patient {number % 2}" for number, name in enumerate(IDS)][::-1]
    table = write("\n".join(["image,patient", *lines, "", "EOS/9.png,patient 7"]))
    assert read_groups(table, cells, listener).tolist() == ["patient 0", "patient 1"] * 2
    assert listener.said == [
        f"warning: {table} names 1 images that are not, or not unmistakably, among the cells, "
        "first: EOS/9.png"
    ]
    without_header = write("\n".join(lines))
    assert read_groups(without_header, cells, listener).tolist() == ["patient 0", "patient 1"] * 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("BLA/2.png,a\nLYT/2.png,b", "names no group for 2 of 4 cells, first: BLA/0001"),
        ("\n".join(f"{name}," for name in IDS), "names no group for 4 of 4"),
        ("BLA/2.png,a\nBLA/2.png,b", "BLA/2.png is in 'a' and in 'b'"),
        ("EOS/1.png,a\nEOS/2.png,b", "names none of the 4 cells.*write names such as BLA/0001"),
        ("BLA/2.png;a", "line 1 has no second column; separate"),
        ("\0", "names none|is no CSV|no second column"),
    ],
)
def test_a_table_of_groups_that_cannot_be_used_is_refused(cells, write, listener, text, said):
    with pytest.raises(InputError, match=said):
        read_groups(write(text), cells, listener)


def test_a_table_that_is_not_there_or_not_text_is_refused(cells, tmp_path, listener):
    with pytest.raises(MissingPathError):
        read_groups(tmp_path / "none.csv", cells, listener)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00,\xd8\n")
    with pytest.raises(InputError, match="is no CSV file in UTF-8; save it as one"):
        read_groups(tmp_path / "binary.csv", cells, listener)


def test_a_split_is_read_from_one_table_or_from_one_for_each_part(cells, write, listener):
    expected = {0: "train", 1: "train", 2: "test", 3: "test"}
    one = write("id,part\n" + "\n".join(f"{IDS[row]},{part}" for row, part in expected.items()))
    assert read_split([(None, one)], cells, listener) == expected
    # As DinoBloom publishes it: names and classes, the part is the file's.
    train = write("Image Path,Label\n/a/BLA/BLA_00001.jpg,BLA\n/a/BLA/2.png,BLA\n", "bm_train.csv")
    test = write("Image Path,Label\n/a/LYT/LYT_00001.jpg,LYT\n/a/LYT/2.png,LYT\n", "bm_test.csv")
    assert read_split([("train", train), ("test", test)], cells, listener) == expected
    assert listener.said == []


def test_a_split_that_cannot_be_followed_is_refused(cells, write, listener):
    with pytest.raises(InputError, match="BLA/2.png into the part 'BLA'; name a part of train, "):
        read_split([(None, write("BLA/2.png,BLA"))], cells, listener)
    with pytest.raises(InputError, match="no part for 3 of 4 cells, first: BLA/0001"):
        read_split([("train", write("BLA/2.png"))], cells, listener)
    both = [("train", write("BLA/2.png", "a.csv")), ("test", write("BLA/2.png", "b.csv"))]
    with pytest.raises(InputError, match="b.csv: BLA/2.png is in 'train' and in 'test'"):
        read_split(both, cells, listener)
