"""The descriptions say what their datasheet says: shared attributes, a known share of wrong words."""

import pytest
import torch

from src.datasets.descriptions import ATTRIBUTES, VOCABULARY, attribute_table, attribute_words, sentence

CLASSES = tuple(ATTRIBUTES)


def test_every_attribute_is_shared_or_the_class_is_known_by_it():
    table = attribute_table(CLASSES)
    assert table.shape == (10, len(VOCABULARY))
    assert (table.sum(0) >= 2).float().mean() > 0.6  # most attributes belong to several classes
    assert torch.equal(table[CLASSES.index("cat")], table[CLASSES.index("dog")])  # text alone cannot tell these two


@pytest.mark.parametrize("wrong", [0.0, 0.2, 1.0])
def test_share_of_wrong_words(wrong):
    labels = torch.arange(10).repeat(2000)
    words = attribute_words(labels, CLASSES, wrong=wrong)
    right = attribute_table(CLASSES)[labels].gather(1, words)
    assert abs(float((~right).float().mean()) - wrong) < 0.01
    if wrong in (0, 1):
        assert all(len(set(row.tolist())) == 3 for row in words[:500])


def test_same_seed_same_words():
    labels = torch.arange(10)
    assert torch.equal(attribute_words(labels, CLASSES, seed=3), attribute_words(labels, CLASSES, seed=3))
    assert not torch.equal(attribute_words(labels, CLASSES, seed=3), attribute_words(labels, CLASSES, seed=4))


def test_sentence_reads_as_chinese():
    words = [VOCABULARY.index("会飞"), VOCABULARY.index("能载人")]
    assert sentence(words) == "这个东西会飞、能载人。"


def test_bad_arguments():
    labels = torch.tensor([0])
    with pytest.raises(ValueError, match="wrong: got 1.5"):
        attribute_words(labels, CLASSES, wrong=1.5)
    with pytest.raises(ValueError, match="length: got 9"):
        attribute_words(labels, CLASSES, length=9)
    with pytest.raises(ValueError, match="classes: got 恐龙"):
        attribute_words(labels, ("恐龙",))
