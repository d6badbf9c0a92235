"""COCO's format: the shipped sample, the join by id, masks, splits, and what is refused."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from src.datasets import coco, shipped
from src.datasets.splits import SPLITS
from src.runtime import data_dir, root

FOLDER = data_dir() / "samples" / "coco"
SETS = {"coco": "images", "flickr30k": "images", "vqa": "val2014"}


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the sample that a test may spoil."""
    return shutil.copytree(FOLDER, tmp_path / "coco")


def load(folder: Path) -> coco.Coco:
    return coco.load(folder / "captions_sample.json", folder / "instances_sample.json", images=folder / "images")


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_sample():
    found = coco.load_sample()
    assert len(found) == 8 and len(found.categories) == 19 and found.categories[:3] == ("bicycle", "car", "bus")
    image, picture = found[3]
    assert image.shape == (3, 120, 160) and image.dtype == torch.uint8
    assert picture.id == 900004 and len(picture.captions) == 5
    assert picture.captions[1] == "Two birds stand on a lawn beside a cat."
    assert [thing.category for thing in picture.things] == ["bird", "bird", "cat"]
    assert sum(thing.crowd for picture in found.pictures for thing in picture.things) == 1


def test_the_join_agrees_with_the_files():
    """Against a join written the other way round, from the annotations to the pictures."""
    found = {picture.id: picture for picture in coco.load_sample().pictures}
    captions = json.loads((FOLDER / "captions_sample.json").read_text())
    instances = json.loads((FOLDER / "instances_sample.json").read_text())
    names = {record["id"]: record["name"] for record in instances["categories"]}
    for record in captions["annotations"]:
        assert record["caption"] in found[record["image_id"]].captions
    for record in instances["annotations"]:
        (thing,) = [thing for thing in found[record["image_id"]].things if list(thing.box) == record["bbox"]]
        assert (thing.category, thing.area, thing.crowd) == (names[record["category_id"]], record["area"],
                                                             bool(record["iscrowd"]))  # fmt: skip
    assert sum(len(picture.things) for picture in found.values()) == len(instances["annotations"])
    assert sum(len(picture.captions) for picture in found.values()) == len(captions["annotations"]) == 40


def test_masks_fill_their_boxes_and_areas():
    for picture in coco.load_sample().pictures:
        for thing in picture.things:
            mask = thing.mask(picture.height, picture.width)
            assert mask.shape == (120, 160) and mask.dtype == torch.bool and int(mask.sum()) == thing.area
            rows, columns = mask.nonzero().T
            x, y, width, height = thing.box
            assert (columns.min(), rows.min()) == (x, y)
            assert abs(columns.max() - x - width) <= 1 and abs(rows.max() - y - height) <= 1


def test_masks_show_the_objects():
    """Inside the car's mask the picture is red, around it the road is grey."""
    image, picture = coco.load_sample()[1]
    car = next(thing for thing in picture.things if thing.category == "car")
    redness = image[0].float() - image[1:].float().mean(0)
    mask = car.mask(120, 160)
    assert redness[mask].mean() > 60 > 10 > redness[~mask].mean()


def compress(counts: list[int]) -> str:
    """pycocotools' string, written from its description: differences from the run two before, five bits a character."""
    text = ""
    for place, count in enumerate(counts):
        value, more = count - (counts[place - 2] if place > 2 else 0), True
        while more:
            group, value = value & 31, value >> 5
            more = value != (-1 if group & 16 else 0)
            text += chr(48 + group + 32 * more)
    return text


@pytest.mark.parametrize("counts", [[0, 12], [5, 2, 5], [1, 1, 1, 1, 8], [3, 4, 1, 2, 2], [0, 1, 2, 3, 4, 2]])
def test_compressed_masks(counts):
    runs = coco.RunLength(3, 4, tuple(coco._decompress(compress(counts))))
    assert list(runs.counts) == counts
    expected = [place % 2 for place, count in enumerate(counts) for _ in range(count)]
    mask = coco.Thing("x", (0, 0, 4, 3), 1, True, runs).mask(3, 4)
    assert [bool(mask[row, column]) for column in range(4) for row in range(3)] == [bool(value) for value in expected]


def test_long_runs_of_a_compressed_mask():
    random = torch.Generator().manual_seed(0)
    for _ in range(20):
        counts = torch.randint(1, 100_000, (30,), generator=random).tolist()
        assert coco._decompress(compress(counts)) == counts
    assert coco._decompress("52203") == [5, 2, 2, 2, 5]


def test_a_compressed_mask_in_a_file(copied):
    def change(content: dict) -> None:
        (crowd,) = [record for record in content["annotations"] if record["iscrowd"]]
        crowd["segmentation"]["counts"] = compress(crowd["segmentation"]["counts"])

    edit(copied / "instances_sample.json", change)
    assert [picture.things for picture in load(copied).pictures] == [p.things for p in coco.load_sample().pictures]


def test_one_file_alone():
    sentences = coco.load(FOLDER / "captions_sample.json", images=FOLDER / "images")
    assert sentences.categories == () and all(len(p.captions) == 5 and not p.things for p in sentences.pictures)
    objects = coco.load(instances=FOLDER / "instances_sample.json", images=FOLDER / "images")
    assert len(objects.categories) == 19 and all(p.things and not p.captions for p in objects.pictures)
    with pytest.raises(ValueError, match="captions and instances are both None: give at least one"):
        coco.load(images=FOLDER / "images")


def test_splits_are_disjoint_and_follow_the_id():
    pictures = tuple(coco.Picture(number, Path(f"{number}.jpg"), 1, 1, (), ()) for number in range(2000))
    parts = {name: {p.id for p in coco.Coco(pictures, ()).split(name).pictures} for name in SPLITS}
    assert sum(map(len, parts.values())) == 2000 and set.union(*parts.values()) == set(range(2000))
    assert 150 < len(parts["test"]) < 250 and 150 < len(parts["validation"]) < 250
    backwards = coco.Coco(pictures[::-1], ()).split("test")
    assert {picture.id for picture in backwards.pictures} == parts["test"]
    with pytest.raises(ValueError, match="name must be one of train, validation, test, got 'val'"):
        coco.Coco(pictures, ()).split("val")


def unknown_picture(content):
    content["annotations"][0]["image_id"] = 7


def picture_twice(content):
    content["images"].append(content["images"][0])


def annotation_twice(content):
    content["annotations"].append(content["annotations"][0])


def box_outside(content):
    content["annotations"][0]["bbox"] = [100, 20, 130, 90]


def negative_box(content):
    content["annotations"][0]["bbox"] = [100, 20, -30, 9]


def unknown_category(content):
    content["annotations"][0]["category_id"] = 99


def no_area(content):
    del content["annotations"][0]["area"]


def no_image_id(content):
    del content["annotations"][0]["image_id"]


def odd_polygon(content):
    content["annotations"][0]["segmentation"] = [[1, 2, 3, 4, 5, 6, 7]]


def other_mask(content):
    content["annotations"][0]["segmentation"] = {"size": [120, 160], "counts": [5, 6]}


def other_split(content):
    content["images"].append(content["images"][0] | {"id": 5})


def bare_mask(content):
    content["annotations"][0]["segmentation"] = {"counts": [5, 6]}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (unknown_picture, "annotation 9000010 is about picture 7, which the file does not list"),
        (picture_twice, "id 900001 occurs twice"),
        (annotation_twice, "id 9000010 occurs twice"),
        (box_outside, r"bbox \[100, 20, 130, 90\], which sticks 70 pixels out of its picture of 160×120"),
        (negative_box, r"expected \[x, y, width, height\]"),
        (unknown_category, "category_id 99, which is not in the file's categories"),
        (no_area, "a record lacks one of id, category_id, bbox, area"),
        (no_image_id, "a record lacks one of image_id, id"),
        (odd_polygon, r"a polygon \[.*, expected x and y of each corner"),
        (other_mask, r"a mask of runs \(5, 6\) for size \[120, 160\], expected the picture's 120×160"),
        (other_split, r"list different pictures \(1 are in one only, such as 5\): take both from the same split"),
        (bare_mask, "annotation 9000010: a record lacks one of size, counts"),
    ],
)
def test_bad_annotations_are_refused(copied, spoil, message):
    edit(copied / "instances_sample.json", spoil)
    with pytest.raises(ValueError, match=rf"instances_sample\.json.*{message}"):
        load(copied)


def test_a_picture_without_its_size_is_refused(copied):
    edit(copied / "captions_sample.json", lambda content: content["images"][0].pop("height"))
    with pytest.raises(ValueError, match="a record lacks one of file_name, height, width"):
        load(copied)


def test_published_boxes_may_stick_out_by_a_rounding(copied):
    def change(content: dict) -> None:
        content["annotations"][0]["bbox"] = [100.5, 20, 60.0, 90]

    edit(copied / "instances_sample.json", change)
    assert load(copied).pictures[0].things[0].box == (100.5, 20, 60.0, 90)


def test_damaged_and_missing_files(copied):
    path = copied / "captions_sample.json"
    whole = path.read_text()
    for text, message in (
        (whole[:500], "is no valid JSON .*unpack it again"),
        ("", "is no valid JSON"),
        ("ÿþ", "is no valid JSON"),
        ("[]", "holds a JSON list, expected an object"),
        (whole.replace('"annotations"', '"notes"'), "has no list annotations, but info, licenses, images, notes"),
    ):
        path.write_text(text, "latin-1")
        with pytest.raises(ValueError, match=rf"captions_sample\.json {message}"):
            load(copied)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"captions_sample\.json is missing: give the annotation file"):
        load(copied)


def test_a_missing_or_other_picture_shows_when_it_is_read(copied):
    found = load(copied)
    path = found.pictures[2].path
    shutil.copy(data_dir() / "samples" / "coco" / "images" / "000000900001.jpg", path)
    assert found[2][0].shape == (3, 120, 160)
    from PIL import Image

    Image.new("RGB", (80, 60)).save(path)
    with pytest.raises(ValueError, match="is 80×60 pixels, its annotation says 160×120"):
        found[2]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"000000900003\.jpg is missing"):
        found[2]


@pytest.mark.parametrize("name", SETS)
def test_the_samples_are_small_and_as_they_were_made(name):
    manifest = json.loads((data_dir() / "samples" / name / "manifest.json").read_text())
    files = {path.relative_to(data_dir() / "samples" / name).as_posix()
             for path in (data_dir() / "samples" / name).rglob("*") if path.is_file()}  # fmt: skip
    assert files == {*manifest, "manifest.json"}
    assert sum(len(shipped.read(f"samples/{name}", file)) for file in manifest) < 60_000
    assert sum(file.endswith(".jpg") for file in manifest) == 8


def test_making_the_samples_again_gives_the_same_bytes(tmp_path):
    import PIL

    if PIL.__version__ != "13.0.0":
        pytest.skip(f"Pillow {PIL.__version__} may write other JPEG bytes than the 13.0.0 of data/requirements.txt")
    environment = {**os.environ, "PYTHONPATH": str(root()), "PYTHONDONTWRITEBYTECODE": "1"}
    script = data_dir() / "make_samples.py"
    subprocess.run([sys.executable, script, "--output", tmp_path], check=True, env=environment)
    for name in SETS:
        for path in (tmp_path / name).rglob("*"):
            if path.is_file():
                assert path.read_bytes() == (data_dir() / "samples" / path.relative_to(tmp_path)).read_bytes(), path


def test_a_polygon_of_two_corners_covers_nothing():
    square, line = (2.0, 2.0, 5.0, 2.0, 5.0, 5.0, 2.0, 5.0), (0.0, 0.0, 7.0, 7.0)
    masks = [coco.Thing("dog", (2, 2, 4, 4), 16, False, polygons).mask(8, 8)
             for polygons in ((square,), (square, line), (line,))]  # fmt: skip
    assert masks[0].sum() == 16 and torch.equal(masks[0], masks[1]) and not masks[2].any()


def test_files_that_disagree_about_a_picture(copied):
    def other_height(content):
        content["images"][0]["height"] = 7

    edit(copied / "captions_sample.json", other_height)
    with pytest.raises(ValueError, match="disagree about picture .*take both from the same release"):
        load(copied)


def everywhere(content):
    """Every place in a JSON document, as the container and its key."""
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        yield content, key
        if isinstance(value, dict | list):
            yield from everywhere(value)


@pytest.mark.parametrize("value", [None, "text", 3, [], {}], ids=repr)
@pytest.mark.parametrize("name", ["captions_sample.json", "instances_sample.json", "dataset_flickr30k.json",
                                  "v2_OpenEnded_mscoco_val2014_questions.json", "v2_mscoco_val2014_annotations.json"])
def test_a_value_of_another_type_is_named_or_harmless(tmp_path, name, value):
    """Each value of the first records replaced by one of another type is read, or refused with the file's name."""
    from src.datasets import flickr30k, vqa

    kind = next(kind for kind in SETS if (data_dir() / "samples" / kind / name).exists())
    folder = shutil.copytree(data_dir() / "samples" / kind, tmp_path / kind)
    readers = {
        "coco": lambda: load(folder),
        "flickr30k": lambda: flickr30k.load(folder / name, images=folder / "images"),
        "vqa": lambda: vqa.load(folder / "v2_OpenEnded_mscoco_val2014_questions.json",
                                folder / "v2_mscoco_val2014_annotations.json", images=folder / "val2014"),
    }
    path = folder / name
    content = json.loads(path.read_text("utf-8"))
    for container, key in list(everywhere(content))[:400]:
        kept, container[key] = container[key], value
        path.write_text(json.dumps(content), "utf-8")
        try:
            readers[kind]()
        except ValueError as error:
            assert ".json" in str(error)
        container[key] = kept
