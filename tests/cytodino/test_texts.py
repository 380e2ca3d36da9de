import pytest

from cytodino.texts import Texts

PARTS = [["a", "", "Zelle ä"], [], ["two\nlines", "lone \udcff", "\0"]]
ALL = [text for part in PARTS for text in part]


def test_texts_come_back_as_they_were():
    texts = Texts(PARTS)
    assert len(texts) == len(ALL)
    assert list(texts) == ALL
    assert [texts[at] for at in range(-6, 6)] == ALL + ALL


@pytest.mark.parametrize("cut", [slice(None), slice(1, 4), slice(-2, None), slice(4, 1, -1)])
def test_a_slice_is_a_list(cut):
    assert Texts(PARTS)[cut] == ALL[cut]


@pytest.mark.parametrize("at", [6, -7])
def test_outside_there_is_nothing(at):
    with pytest.raises(IndexError):
        Texts(PARTS)[at]


def test_none_at_all():
    assert list(Texts()) == []


def test_texts_are_made_of_texts():
    assert list(Texts([Texts(PARTS), Texts(PARTS)[1:3]])) == [*ALL, *ALL[1:3]]
