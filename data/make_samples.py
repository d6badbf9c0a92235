"""Make data/samples: small sets of our own in exactly the formats of COCO, Flickr30k and VQA v2.

    cd data && PYTHONPATH=.. python make_samples.py

The pictures are laid out here from Noto's emoji in data/emoji; captions, questions and answers are written here. The
Pillow of requirements.txt gives the same bytes again; manifest.json in each folder holds their hashes.
"""

from __future__ import annotations

import argparse
import io
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from shipping import ship
from torch import Tensor

from src.datasets import emoji

WIDTH, HEIGHT = 160, 120
HERE = Path(__file__).resolve().parent
FIRST_ID = 900001
BACKGROUNDS = {  # colours above and below the horizon, and its height
    "park": ((150, 205, 240), (120, 180, 90), 60), "road": ((190, 205, 220), (110, 110, 115), 70),
    "table": ((225, 205, 180), (160, 110, 70), 48), "sea": ((170, 215, 245), (40, 110, 170), 55),
    "beach": ((150, 210, 240), (235, 215, 160), 62), "snow": ((170, 200, 235), (240, 245, 250), 50),
    "stage": ((60, 50, 80), (120, 85, 60), 80), "rock": ((160, 200, 235), (140, 120, 100), 30),
}  # fmt: skip
CATEGORIES = {  # number and supercategory as in COCO
    "bicycle": (2, "vehicle"), "car": (3, "vehicle"), "bus": (6, "vehicle"), "boat": (9, "vehicle"),
    "traffic light": (10, "outdoor"), "bird": (16, "animal"), "cat": (17, "animal"), "dog": (18, "animal"),
    "horse": (19, "animal"), "sheep": (20, "animal"), "cow": (21, "animal"), "umbrella": (28, "accessory"),
    "sports ball": (37, "sports"), "cup": (47, "kitchen"), "banana": (52, "food"), "apple": (53, "food"),
    "pizza": (59, "food"), "donut": (60, "food"), "cake": (61, "food"),
}  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """things: (emoji, category, left, top, size) from back to front; crowd: the category that is one group."""

    background: str
    things: tuple[tuple[str, str, int, int, int], ...]
    captions: tuple[str, ...]
    crowd: str = ""


OBJECTS = (
    Scene("park", (("🐕", "dog", 18, 44, 64), ("⚽", "sports ball", 104, 78, 28)), (
        "A spotted dog standing next to a soccer ball in a park.", "A dog waits beside a ball on the grass.",
        "There is a dog to the left of a ball.", "A dog and a black and white ball on a lawn.",
        "A dog that is ready to play with a ball outside.")),
    Scene("road", (("🚌", "bus", 4, 34, 64), ("🚦", "traffic light", 74, 16, 40), ("🚗", "car", 106, 62, 48)), (
        "A bus and a red car on a road with a traffic light.", "A traffic light stands between a bus and a car.",
        "A bus waits on the left of a street.", "A small red car is in front of a traffic light.",
        "Two vehicles stop near a traffic light on a gray street.")),
    Scene("table", (("🍌", "banana", 8, 50, 52), ("🍎", "apple", 60, 56, 44), ("☕", "cup", 108, 52, 48)), (
        "A banana, an apple and a cup of coffee on a table.", "Some fruit next to a hot drink.",
        "A red apple sits between a banana and a cup.", "A wooden table with a breakfast of fruit and coffee.",
        "A cup of coffee to the right of an apple.")),
    Scene("park", (("🐦", "bird", 8, 62, 30), ("🐦", "bird", 44, 70, 30), ("🐈", "cat", 88, 46, 60)), (
        "A cat looks at two birds on the grass.", "Two birds stand on a lawn beside a cat.",
        "A cat standing to the right of two small birds.", "Birds and a cat together in a green park.",
        "A cat outside with a pair of birds.")),
    Scene("sea", (("⛵", "boat", 52, 36, 64), ("🐦", "bird", 10, 8, 20), ("🐦", "bird", 34, 14, 20),
                  ("🐦", "bird", 58, 6, 20), ("🐦", "bird", 84, 12, 20)), (
        "A sailboat on blue water under a flock of birds.", "Several birds fly above a sailing boat.",
        "A boat sails on the sea on a clear day.", "A flock of small birds in the sky over the ocean.",
        "A boat with a sail in the middle of the sea."), crowd="bird"),
    Scene("park", (("🐎", "horse", 4, 38, 60), ("🐄", "cow", 62, 48, 52), ("🐑", "sheep", 116, 66, 38)), (
        "A horse, a cow and a sheep in a green field.", "Three farm animals side by side on the grass.",
        "A cow between a horse and a sheep.", "A sheep stands to the right of a cow.",
        "Animals of a farm outside under a blue sky.")),
    Scene("table", (("🍕", "pizza", 4, 46, 56), ("🍩", "donut", 62, 72, 36), ("🍩", "donut", 84, 50, 36),
                    ("🍰", "cake", 116, 60, 40)), (
        "A slice of pizza, two donuts and a piece of cake.", "Pizza and sweet food on a wooden table.",
        "Two donuts lie between a pizza and a cake.", "A table with a slice of pizza and some desserts.",
        "A piece of cake to the right of two donuts.")),
    Scene("road", (("🚲", "bicycle", 12, 44, 64), ("☂", "umbrella", 96, 40, 56)), (
        "A bicycle and an open umbrella on a street.", "An umbrella stands to the right of a bicycle.",
        "A parked bike beside an umbrella.", "A bicycle without a rider on a gray road.",
        "A bike and an umbrella in front of a pale sky.")),
)  # fmt: skip
PEOPLE = (
    Scene("park", (("🐕", "", 16, 60, 48), ("🏃", "", 82, 40, 64)), (
        "A person is running in a park with a dog .", "A runner follows a dog across the grass .",
        "A dog is in front of a runner .", "Someone jogs outside on a sunny day .",
        "A person and a dog exercise together .")),
    Scene("road", (("🚴", "", 44, 36, 72),), (
        "A person rides a bicycle on a gray road .", "A cyclist wearing a helmet is on the street .",
        "Someone is riding a bike outside .", "A bike rider travels down an empty road .", "A person is cycling .")),
    Scene("sea", (("🏄", "", 42, 34, 72),), (
        "A surfer rides a wave in the ocean .", "A person is standing on a surfboard .",
        "Someone surfs on blue water .",
        "A person balances on a board at sea .", "A surfer is alone on the water .")),
    Scene("snow", (("⛷", "", 12, 32, 64), ("🏂", "", 88, 46, 60)), (
        "A skier and a snowboarder go down a snowy hill .", "Two people enjoy winter sports .",
        "A snowboarder is to the right of a skier .", "People slide down a white slope .",
        "One person skis while another one rides a snowboard .")),
    Scene("stage", (("🤹", "", 48, 34, 68),), (
        "A person juggles several balls on a stage .", "A juggler is performing indoors .",
        "Someone throws balls into the air .", "A performer shows a trick with balls .", "A person is juggling .")),
    Scene("rock", (("🧗", "", 46, 24, 72),), (
        "A person climbs a steep rock .", "A climber is hanging on a cliff .", "Someone is climbing outside .",
        "A person in climbing gear goes up a wall of stone .", "A rock climber is on the way up .")),
    Scene("beach", (("⛱", "", 10, 34, 64), ("🏐", "", 92, 78, 30)), (
        "A beach umbrella stands in the sand next to a ball .", "A volleyball lies on the beach .",
        "An umbrella gives shade on an empty beach .", "A ball is to the right of a beach umbrella .",
        "Nobody is at the beach on this sunny day .")),
    Scene("park", (("🏌", "", 22, 38, 68), ("⛳", "", 108, 50, 44)), (
        "A golfer swings at a ball near a flag .", "A person plays golf on a green lawn .",
        "Someone holds a golf club outside .", "A flag marks the hole to the right of a golfer .",
        "A person is playing golf .")),
)  # fmt: skip
KARPATHY = ("train", "train", "train", "train", "train", "train", "val", "test")
QUESTIONS = (  # for each scene of OBJECTS: question, its type, the answers and how many people gave them
    (("What animal is in the picture?", "what animal is", {"dog": 10}),
     ("Is the ball to the right of the dog?", "is the", {"yes": 9, "no": 1}),
     ("How many balls are there?", "how many", {"1": 10})),
    (("What color is the car?", "what color is the", {"red": 10}),
     ("Is there a bus?", "is there a", {"yes": 10}),
     ("How many vehicles are in the picture?", "how many", {"2": 8, "3": 2})),
    (("What is in the cup?", "what is in the", {"coffee": 7, "tea": 2, "hot chocolate": 1}),
     ("Is the apple green?", "is the", {"no": 10}),
     ("How many bananas are there?", "how many", {"1": 9, "2": 1})),
    (("What is the cat looking at?", "what is the", {"birds": 7, "bird": 2, "sky": 1}),
     ("Are there two birds?", "are there", {"yes": 10}),
     ("How many birds are there?", "how many", {"2": 10})),
    (("What is on the water?", "what is on the", {"boat": 6, "sailboat": 3, "ship": 1}),
     ("Are the birds flying?", "are the", {"yes": 8, "no": 2}),
     ("How many boats are there?", "how many", {"1": 10})),
    (("What animal is in the middle?", "what animal is", {"cow": 10}),
     ("Is the horse to the right of the cow?", "is the", {"no": 10}),
     ("How many animals are there?", "how many", {"3": 10})),
    (("What food is on the left?", "what", {"pizza": 10}),
     ("Is there a cake?", "is there a", {"yes": 9, "no": 1}),
     ("How many donuts are there?", "how many", {"2": 10})),
    (("What is next to the bicycle?", "what is", {"umbrella": 10}),
     ("Is someone riding the bicycle?", "is", {"no": 10}),
     ("How many wheels does the bicycle have?", "how many", {"2": 10})),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE / "samples", help="where to write (default: data/samples)")
    output = parser.parse_args().output
    for name, folder, files in (("coco", "images", coco()), ("flickr30k", "images", flickr30k()),
                                ("vqa", "val2014", vqa())):  # fmt: skip
        (output / name / folder).mkdir(parents=True, exist_ok=True)
        ship(output / name, files)


def coco() -> dict[str, bytes]:
    """Pictures, captions and instances."""
    files, images, sentences, things = {}, [], [], []
    for number, scene in enumerate(OBJECTS, start=FIRST_ID):
        picture, masks = paint(scene)
        name = f"{number:012d}.jpg"
        files[f"images/{name}"] = jpeg(picture)
        images.append({"license": 1, "file_name": name, "coco_url": "", "height": HEIGHT, "width": WIDTH,
                       "date_captured": "2026-01-01 00:00:00", "flickr_url": "", "id": number})  # fmt: skip
        sentences += [{"image_id": number, "id": 5 * number + place, "caption": caption}
                      for place, caption in enumerate(scene.captions)]  # fmt: skip
        things += [thing | {"image_id": number, "id": 10 * number + place}
                   for place, thing in enumerate(annotate(scene, masks))]  # fmt: skip
    head = {
        "info": {"description": "A sample in COCO's format, drawn from Noto emoji", "url": "", "version": "1.0",
                 "year": 2026, "contributor": "", "date_created": "2026/01/01"},
        "licenses": [{"url": "http://www.apache.org/licenses/LICENSE-2.0", "id": 1, "name": "Apache License 2.0"}],
        "images": images,
    }  # fmt: skip
    categories = [{"supercategory": group, "id": number, "name": name} for name, (number, group) in CATEGORIES.items()]
    files["captions_sample.json"] = dump(head | {"annotations": sentences})
    files["instances_sample.json"] = dump(head | {"annotations": things, "categories": categories})
    return files


def annotate(scene: Scene, masks: list[Tensor]) -> list[dict]:
    """Annotations of the visible things: a polygon each, and one run-length mask for a crowd."""
    found, crowd = [], torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    for (_, category, *_), mask in zip(scene.things, masks, strict=True):
        if category == scene.crowd:
            crowd |= mask
            continue
        polygon = outline(mask)
        canvas = Image.new("1", (WIDTH, HEIGHT))
        ImageDraw.Draw(canvas).polygon(polygon, fill=1)
        found.append(record(category, polygon[::2], polygon[1::2], canvas.convert("L").histogram()[255])
                     | {"segmentation": [polygon], "iscrowd": 0})  # fmt: skip
    if scene.crowd:
        rows, columns = crowd.nonzero().T.tolist()
        runs = {"counts": run_lengths(crowd), "size": [HEIGHT, WIDTH]}
        columns, rows = [*columns, max(columns) + 1], [*rows, max(rows) + 1]
        found.append(record(scene.crowd, columns, rows, int(crowd.sum())) | {"segmentation": runs, "iscrowd": 1})
    return found


def record(category: str, xs: list[int], ys: list[int], area: int) -> dict:
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    return {"area": area, "bbox": box, "category_id": CATEGORIES[category][0]}


def outline(mask: Tensor) -> list[int]:
    """x, y, x, y, …: down the left edge of a mask and up its right edge, every third row."""
    rows = mask.any(1).nonzero().flatten().tolist()
    edges = [(mask[row].nonzero().flatten(), row) for row in sorted({*rows[::3], rows[-1]})]
    left = [(int(columns.min()), row) for columns, row in edges]
    right = [(int(columns.max()), row) for columns, row in reversed(edges)]
    return [number for point in left + right for number in point]


def run_lengths(mask: Tensor) -> list[int]:
    """Lengths of the runs of a mask column by column, the first of background."""
    flat = torch.cat([torch.zeros(1, dtype=torch.bool), mask.T.flatten()])
    starts = (flat[1:] != flat[:-1]).nonzero().flatten().tolist()
    return [end - start for start, end in zip([0, *starts], [*starts, mask.numel()], strict=True)]


def flickr30k() -> dict[str, bytes]:
    """Pictures, and the captions in the three files in which they go round."""
    files, token, records = {}, [], []
    table = ["image_name| comment_number| comment"]
    for place, scene in enumerate(PEOPLE):
        name = f"{1000000001 + place}.jpg"
        files[f"images/{name}"] = jpeg(paint(scene)[0])
        token += [f"{name}#{number}\t{caption}" for number, caption in enumerate(scene.captions)]
        table += [f"{name}| {number}| {caption}" for number, caption in enumerate(scene.captions)]
        sentences = [{"tokens": caption.lower().rstrip(" .").split(), "raw": caption, "imgid": place,
                      "sentid": 5 * place + number} for number, caption in enumerate(scene.captions)]  # fmt: skip
        records.append({"sentids": [sentence["sentid"] for sentence in sentences], "imgid": place,
                        "sentences": sentences, "split": KARPATHY[place], "filename": name})  # fmt: skip
    files["results_20130124.token"] = ("\n".join(token) + "\n").encode()
    files["results.csv"] = ("\n".join(table) + "\n").encode()
    files["dataset_flickr30k.json"] = dump({"images": records, "dataset": "flickr30k"})
    return files


def vqa() -> dict[str, bytes]:
    """Pictures, questions and answers."""
    files, questions, annotations = {}, [], []
    for number, (scene, asked) in enumerate(zip(OBJECTS, QUESTIONS, strict=True), start=FIRST_ID):
        files[f"val2014/COCO_val2014_{number:012d}.jpg"] = jpeg(paint(scene)[0])
        for place, (text, start, given) in enumerate(asked):
            key = {"image_id": number, "question_id": 1000 * number + place}
            questions.append({"image_id": number, "question": text, "question_id": key["question_id"]})
            annotations.append(key | answers(start, given))
    head = {"info": {"description": "A sample in VQA v2's format, drawn from Noto emoji", "version": "2.0"},
            "license": {"url": "http://www.apache.org/licenses/LICENSE-2.0", "name": "Apache License 2.0"},
            "data_type": "mscoco", "data_subtype": "val2014"}  # fmt: skip
    files["v2_OpenEnded_mscoco_val2014_questions.json"] = dump(
        head | {"task_type": "Open-Ended", "questions": questions})  # fmt: skip
    files["v2_mscoco_val2014_annotations.json"] = dump(head | {"annotations": annotations})
    return files


def answers(start: str, given: dict[str, int]) -> dict:
    """The fields of an annotation that come from the ten answers."""
    texts = [text for text, count in given.items() for _ in range(count)]
    most = texts[0]
    kind = "yes/no" if most in ("yes", "no") else "number" if most.isdigit() else "other"
    listed = [{"answer": text, "answer_confidence": "yes", "answer_id": place} for place, text in enumerate(texts, 1)]
    return {"question_type": start, "multiple_choice_answer": most, "answers": listed, "answer_type": kind}


def paint(scene: Scene) -> tuple[Tensor, list[Tensor]]:
    """(picture uint8 ``[3, HEIGHT, WIDTH]``, what is seen of each thing, bool ``[HEIGHT, WIDTH]``)."""
    above, below, horizon = BACKGROUNDS[scene.background]
    picture = torch.tensor(above, dtype=torch.uint8).view(3, 1, 1).repeat(1, HEIGHT, WIDTH)
    picture[:, horizon:] = torch.tensor(below, dtype=torch.uint8).view(3, 1, 1)
    masks: list[Tensor] = []
    for character, _, left, top, size in scene.things:
        thing = torch.zeros(4, HEIGHT, WIDTH, dtype=torch.uint8)
        thing[:, top : top + size, left : left + size] = drawing(character, size)
        picture = emoji.over(thing, picture)
        covered = thing[3] > 127
        masks = [mask & ~covered for mask in masks] + [covered]
    return picture, masks


def drawing(character: str, size: int) -> Tensor:
    """Noto's emoji, uint8 RGBA ``[4, size, size]``."""
    (row,) = [row for row, concept in enumerate(NOTO.concepts) if concept.character.replace("\ufe0f", "") == character]
    pixels = Image.fromarray(NOTO.images["noto"][row].permute(1, 2, 0).contiguous().numpy())
    scaled = pixels.resize((size, size), Image.Resampling.LANCZOS)
    return torch.frombuffer(bytearray(scaled.tobytes()), dtype=torch.uint8).view(size, size, 4).permute(2, 0, 1)


NOTO = emoji.load(["noto"])


def jpeg(picture: Tensor) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(data, "JPEG", quality=85)
    return data.getvalue()


def dump(content: dict) -> bytes:
    """JSON as the originals have it, on one line."""
    return (json.dumps(content) + "\n").encode()


if __name__ == "__main__":
    main()
