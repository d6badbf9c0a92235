"""The style of the figures and the contact sheet of pictures."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from src.plotting import COLOURS, show_confusion, show_pictures, use_book_style
from tools.build import ROOT

# Machado, Oliveira and Fernandes (2009), severity 1, for linear RGB.
BLINDNESS = {
    "none": np.eye(3),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritan": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    """The book's style on a canvas without a window, taken back afterwards."""
    plt.switch_backend("agg")
    with mpl.rc_context():
        use_book_style()
        yield
    plt.close("all")


def linear(colour: str) -> np.ndarray:
    """Return linear RGB in [0, 1] of `#RRGGBB`."""
    value = np.array(mpl.colors.to_rgb(colour))
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """Return CIE L*a*b* (D65) of linear RGB."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ rgb.clip(0, 1) / [0.9505, 1.0, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("kind", BLINDNESS)
def test_colours_stay_apart_under_colour_blindness(kind: str) -> None:
    seen = [lab(BLINDNESS[kind] @ linear(colour)) for colour in COLOURS]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 15


@pytest.mark.parametrize("colour", COLOURS)
def test_colours_stand_out_from_white(colour: str) -> None:
    luminance = linear(colour) @ [0.2126, 0.7152, 0.0722]
    assert 1.05 / (luminance + 0.05) >= 3


def test_style_is_the_same_everywhere() -> None:
    figure, axis = plt.subplots()
    assert [axis.plot([0])[0].get_color() for _ in COLOURS] == list(COLOURS)
    assert (figure.get_size_inches() * figure.dpi).tolist() == [720, 432]
    assert figure.get_facecolor() == (1, 1, 1, 1)


def test_importing_plotting_does_not_import_matplotlib() -> None:
    code = "import sys, src.plotting; print(sorted({'matplotlib', 'numpy', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("shape", [(5, 3, 6, 7), (5, 6, 7, 3), (5, 4, 6, 7), (5, 6, 7, 4)])
@pytest.mark.parametrize("container", [np.asarray, torch.from_numpy])
def test_contact_sheet_shows_the_pictures(shape: tuple[int, ...], container) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    show_pictures(container(array), titles=["图"] * 5, columns=3)
    axes = plt.gcf().axes
    assert len(axes) == 6
    expected = array if shape[3] in (3, 4) else array.transpose(0, 2, 3, 1)
    for axis, picture in zip(axes, expected, strict=False):
        np.testing.assert_array_equal(axis.images[0].get_array(), picture)
        assert axis.get_title() == "图"
    assert not axes[5].images


@pytest.mark.parametrize(
    ("images", "arguments", "message"),
    [
        (np.zeros((2, 3, 4, 4), np.float32), {}, "images: got float32"),
        (np.zeros((3, 4, 4), np.uint8), {}, "expected uint8"),
        (np.zeros((0, 3, 4, 4), np.uint8), {}, "N ≥ 1"),
        (np.zeros((2, 5, 5, 5), np.uint8), {}, "3 or 4 channels"),
        (np.zeros((2, 3, 4, 4), np.uint8), {"titles": ["a"]}, "titles: got 1 for 2"),
        (np.zeros((2, 3, 4, 4), np.uint8), {"columns": 0}, "columns: got 0"),
    ],
)
def test_wrong_pictures_are_refused(images: np.ndarray, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        show_pictures(images, **arguments)


def test_confusion_matrix_is_drawn_in_per_cent_of_each_row() -> None:
    show_confusion(np.array([[3, 1], [0, 0]]), ["猫", "狗"])
    axis = plt.gcf().axes[0]
    assert [text.get_text() for text in axis.texts] == ["75", "25", "0", "0"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["猫", "狗"]
    assert axis.get_ylabel() == "真实类别"


def test_confusion_matrix_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"confusion: got shape \[2, 3\], expected \[2, 2\]"):
        show_confusion(np.zeros((2, 3)), ["猫", "狗"])
