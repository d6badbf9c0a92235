"""Pictures: checks, balanced selections, and the split by content."""

import pytest
import torch

from src.datasets.pictures import Pictures, balanced, hashes, interleaved, split_validation

CLASSES = ("a", "b", "c")


def some(count: int = 300, seed: int = 0) -> Pictures:
    random = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 4, 4), generator=random, dtype=torch.uint8)
    return Pictures(images, torch.randint(0, 3, (count,), generator=random), CLASSES, "test")


def content(pictures: Pictures) -> set[bytes]:
    return {image.numpy().tobytes() for image in pictures.images}


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64), "images must be uint8"),
        (torch.zeros(2, 4, 4, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), "images must be uint8"),
        (torch.zeros(0, 3, 4, 4, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64), "images is empty"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2), "labels must be int64"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, 1, dtype=torch.int64), "labels must be int64"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), "3 entries but images has 2"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 3]), r"0 … 2 for 3 classes, got 0 … 3"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([-1, 0]), r"got -1 … 0"),
    ],
)
def test_wrong_values_are_refused(images, labels, message):
    with pytest.raises(ValueError, match=message):
        Pictures(images, labels, CLASSES, "test")


def test_selection_keeps_pictures_and_labels_together():
    pictures = some(10)
    for selection in (slice(2, 5), torch.tensor([2, 3, 4]), torch.arange(10).div(3, rounding_mode="floor") == 1):
        chosen = pictures[selection]
        first = int(torch.arange(10)[selection][0])
        assert torch.equal(chosen.images[0], pictures.images[first]) and chosen.labels[0] == pictures.labels[first]
        assert (len(chosen), chosen.classes, chosen.source) == (3, CLASSES, "test")


def test_selection_refuses_a_number_and_an_empty_result():
    with pytest.raises(TypeError, match="slice, a mask or an index tensor, not int"):
        some()[0]
    with pytest.raises(ValueError, match="images is empty"):
        some()[5:5]


def test_interleaved_takes_classes_in_turn_and_keeps_their_order():
    labels = torch.tensor([2, 2, 2, 0, 0, 1])
    assert interleaved(labels).tolist() == [3, 5, 0, 4, 1, 2]


def test_balanced_takes_the_first_of_each_class():
    labels = torch.tensor([0] * 10 + [1] * 2 + [2] * 10)
    assert balanced(labels, 8).tolist() == [0, 1, 2, 10, 11, 12, 13, 14]
    assert torch.equal(balanced(labels, 99), torch.arange(22))
    with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
        balanced(labels, 0)


def test_split_does_not_depend_on_order_and_is_disjoint():
    pictures = some(2000)
    train, validation = split_validation(pictures, 0.2)
    assert len(train) + len(validation) == 2000 and not content(train) & content(validation)
    assert 0.16 < len(validation) / 2000 < 0.24
    shuffled = pictures[torch.randperm(2000, generator=torch.Generator().manual_seed(1))]
    assert content(split_validation(shuffled, 0.2)[1]) == content(validation)


def test_split_of_a_part_is_the_part_of_the_split():
    pictures = some(400)
    assert content(split_validation(pictures[:200])[1]) == content(pictures[:200]) & content(split_validation(pictures)[1])


def test_copies_of_a_picture_stay_on_one_side():
    pictures = some(300)
    twice = Pictures(pictures.images.repeat(2, 1, 1, 1), pictures.labels.repeat(2), CLASSES, "test")
    train, validation = split_validation(twice)
    assert not content(train) & content(validation)
    assert len(validation) == 2 * len(content(validation)) > 0


def test_hash_sees_the_bytes_only():
    images = some(5).images
    assert torch.equal(hashes(images), hashes(images.to(memory_format=torch.channels_last)))
    changed = images.clone()
    changed[3, 0, 0, 0] ^= 1
    assert (hashes(images) != hashes(changed)).tolist() == [False, False, False, True, False]


def test_a_larger_share_contains_the_smaller():
    pictures = some(500)
    assert content(split_validation(pictures, 0.1)[1]) < content(split_validation(pictures, 0.3)[1])


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 2])
def test_split_refuses_a_share_outside_of_0_to_1(fraction):
    with pytest.raises(ValueError, match="fraction must lie between 0 and 1"):
        split_validation(some(), fraction)


def test_split_refuses_to_leave_a_side_empty():
    with pytest.raises(ValueError, match="leaves one side empty"):
        split_validation(some(1))
