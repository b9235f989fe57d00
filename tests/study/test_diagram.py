"""The drawing of the generator tells this profile's sizes and where noise enters."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lib.gan.networks import UPSAMPLING
from lib.study.diagram import NOISE_COLOUR, Tensors, generator_diagram
from lib.study.sheet import TEXT


def texts(fig):
    return [text.get_text() for text in fig.axes[0].texts]


def test_sizes_follow_the_profile():
    found = texts(generator_diagram(64, 256))
    assert {
        "pad 3, conv 7×7\n64 × 256²",
        "128 × 128²",
        "9 residual blocks\n256 × 64²",
        "9·3 × 256²",
        "10 × 256²",
    } <= set(found)
    assert "8 × 64²" in texts(generator_diagram(8, 64))


def test_the_layers_are_those_of_the_upsampling():
    assert "content 1\nTC 3×3" in texts(generator_diagram(8, 64))
    assert "content 1\n×2, conv 3×3" in texts(generator_diagram(8, 64, upsampling="resize"))


def test_noise_is_drawn_where_sigma_is_above_zero():
    fig = generator_diagram(8, 64, (0.0, 1.0, 0.2))
    assert {"noise\nN(0, 1²)", "noise\nN(0, 0.2²)"} <= set(texts(fig))
    assert [t.get_text() for t in fig.axes[0].texts if t.get_color() == NOISE_COLOUR].count("+") == 2
    assert "×" in texts(fig)  # the first layer, crossed out


def test_tensors_replace_the_empty_tiles():
    rng = np.random.default_rng(0)
    face = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    tensors = Tensors(face, np.stack([face] * 9), rng.random((10, 16, 16), dtype=np.float32), face)
    assert len(generator_diagram(8, 16).axes[0].images) == 0
    assert len(generator_diagram(8, 16, tensors=tensors).axes[0].images) == 1 + 9 + 10 + 1


@pytest.mark.parametrize("upsampling", UPSAMPLING)
def test_no_text_leaves_the_drawing_or_overlaps_another(upsampling):
    fig = generator_diagram(64, 256, upsampling=upsampling)
    assert fig.get_figwidth() == TEXT
    assert min(text.get_fontsize() for text in fig.axes[0].texts) >= 7
    FigureCanvasAgg(fig).draw()
    frame, boxes = fig.bbox, [text.get_window_extent() for text in fig.axes[0].texts]
    for k, box in enumerate(boxes):
        assert frame.x0 <= box.x0
        assert box.x1 <= frame.x1
        assert frame.y0 <= box.y0
        assert box.y1 <= frame.y1
        assert not any(box.overlaps(other) for other in boxes[k + 1 :])
