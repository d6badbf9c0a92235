"""Make data/emoji from npm packages: one sprite sheet for each art style and one list of concepts.

    cd data && npm install --ignore-scripts && pip install -r requirements.txt
    python make_emoji.py node_modules

The versions pinned in package.json and requirements.txt give the same bytes again; emoji/manifest.json holds their
hashes.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

from PIL import Image
from shipping import ship

SIZE = 64
COLUMNS = 41
STYLES = ("noto", "twemoji", "openmoji")
RASTER = {"noto": ("emoji-datasource-google", "google"), "twemoji": ("emoji-datasource-twitter", "twitter")}
LEFT_OUT = ("country-flag", "subdivision-flag", "skin-tone")
OFFENSIVE = ("1F595",)
HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packages", type=Path, help="the node_modules folder")
    parser.add_argument("--output", type=Path, default=HERE / "emoji", help="where to write (default: data/emoji)")
    options = parser.parse_args()
    make(options.packages, options.output)


def make(packages: Path, output: Path) -> None:
    """Write emoji.json, the three sheets and manifest.json to ``output``."""
    pictures = {"openmoji": openmoji_pictures(packages)}
    pictures |= {style: raster_pictures(packages, *RASTER[style]) for style in RASTER}
    concepts = [concept for concept in read_concepts(packages) if all(plain(concept) in pictures[s] for s in STYLES)]
    files = {"emoji.json": (json.dumps(concepts, ensure_ascii=False, indent=0) + "\n").encode()}
    for style in STYLES:
        files[f"{style}.webp"] = sheet([pictures[style][plain(concept)] for concept in concepts], style)
    ship(output, files)


def read_concepts(packages: Path) -> list[dict]:
    """Names and tags of each emoji in Unicode's order; flags of countries and regions,
    bare skin tones and one insulting gesture left out."""
    folder = packages / "emojibase-data"
    groups = read_json(folder / "meta/groups.json")
    chinese = {entry["hexcode"]: entry for entry in read_json(folder / "zh/data.json")}
    entries = [entry for entry in read_json(folder / "en/data.json") if "group" in entry]
    records = [record(entry, chinese[entry["hexcode"]], groups) for entry in sorted(entries, key=lambda e: e["order"])]
    return [entry for entry in records if entry["subgroup"] not in LEFT_OUT and entry["codepoint"] not in OFFENSIVE]


def record(english: dict, chinese: dict, groups: dict) -> dict:
    """The published record of one concept."""
    return {
        "codepoint": english["hexcode"],
        "zh": chinese["label"], "en": english["label"],
        "zh_tags": chinese.get("tags", []), "en_tags": english.get("tags", []),
        "group": groups["groups"][str(english["group"])], "subgroup": groups["subgroups"][str(english["subgroup"])],
    }


def plain(concept: dict) -> str:
    """The code points without variation selectors, about which the packages disagree."""
    return concept["codepoint"].replace("-FE0F", "")


def read_json(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def raster_pictures(packages: Path, package: str, vendor: str) -> dict[str, Path]:
    folder = packages / package
    return {entry["unified"].replace("-FE0F", ""): folder / f"img/{vendor}/64" / entry["image"]
            for entry in read_json(folder / "emoji.json") if entry[f"has_img_{vendor}"]}


def openmoji_pictures(packages: Path) -> dict[str, Path]:
    return {path.stem.replace("-FE0F", ""): path for path in sorted((packages / "openmoji/color/svg").glob("*.svg"))}


def sheet(paths: list[Path], style: str) -> bytes:
    """A lossless WebP of square cells, ``COLUMNS`` to a row, colour cleared where nothing is drawn."""
    rows = -(-len(paths) // COLUMNS)
    canvas = Image.new("RGBA", (COLUMNS * SIZE, rows * SIZE))
    for place, path in enumerate(paths):
        row, column = divmod(place, COLUMNS)
        canvas.paste(picture(path), (column * SIZE, row * SIZE))
    data = io.BytesIO()
    canvas.save(data, "WEBP", lossless=True, exact=True, quality=75, method=4)
    return data.getvalue()


def picture(path: Path) -> Image.Image:
    """One emoji at ``SIZE`` pixels, RGBA."""
    drawn = Image.open(rasterise(path) if path.suffix == ".svg" else path).convert("RGBA")
    if drawn.size != (SIZE, SIZE):
        raise SystemExit(f"{path} is {drawn.size}, expected {SIZE}×{SIZE}: install the versions of package.json")
    clean = Image.new("RGBA", drawn.size)
    clean.paste(drawn, mask=drawn.getchannel("A").point(lambda alpha: 255 * (alpha > 0)))
    return clean


def rasterise(path: Path) -> io.BytesIO:
    import resvg_py

    return io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_path=str(path), width=SIZE, height=SIZE)))


if __name__ == "__main__":
    main()
