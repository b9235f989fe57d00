import numpy as np
import pandas as pd
import pytest

from lib.data.files import write_png, write_table
from lib.study.odd_regions import oddness, region_facts, worst_regions
from lib.warp import non_mask_path, save_non_mask


def disc(x=64, y=70, radius=30, size=128):
    yy, xx = np.mgrid[:size, :size]
    return np.hypot(xx - x, yy - y) < radius


def test_facts_of_a_region():
    full = np.full((128, 128, 3), 100, np.uint8)
    region = disc()
    rule = np.where(region[..., None], np.uint8(180), full)
    facts = region_facts(full, rule, region)
    assert facts["share"] == pytest.approx(region.mean())
    assert abs(facts["dented"]) < 0.03
    notched = region & ~disc(x=94, y=70, radius=20)
    assert region_facts(full, rule, notched)["dented"] > facts["dented"] + 0.08
    assert region_facts(full, rule, notched)["left"] > 0.8
    assert region_facts(full, rule, np.zeros_like(region)) == {"share": 0, "dented": 0, "left": 0}


@pytest.mark.parametrize(("fact", "value", "why"), [("share", 0.02, "small"), ("share", 0.9, "large"),
                                                    ("dented", 0.4, "dented"), ("left", 0.9, "left")])  # fmt: skip
def test_the_odd_one_comes_first_and_says_why(fact, value, why):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"image": [str(k) for k in range(30)], "share": 0.2 + 0.02 * rng.standard_normal(30),
                          "dented": 0.03 + 0.01 * rng.random(30), "left": 0.1 + 0.02 * rng.random(30)})  # fmt: skip
    table.loc[7, fact] = value
    found = oddness(table)
    assert found["image"].iloc[0] == "7"
    assert found["why"].iloc[0] == why
    assert found["odd"].is_monotonic_decreasing


def test_the_worst_of_a_study(empty):
    folder = empty.data_dir / "A"
    names = [f"{k}.png" for k in range(9)]
    for k, name in enumerate(names):
        region = disc(x=60 + k, radius=30 + k % 2)
        full = np.full((128, 128, 3), 90 + k, np.uint8)
        write_png(folder / "full" / name, full)
        write_png(folder / "rule" / name, np.where(region[..., None], np.uint8(200), full))
        wrong = region & disc(x=70, radius=12) if k == 4 else region
        save_non_mask(non_mask_path(folder / "rule" / name), ~wrong)
    write_table(folder / "rule" / "faces.csv", pd.DataFrame({"image": names}))
    table, picture = worst_regions(empty, count=2)
    assert table["image"].iloc[0] == "4.png"
    assert len(table) == 2
    assert picture.shape == (2 * 256, 4 * 256, 3)
    few, _ = worst_regions(empty, count=9, sample=5, seed=1)
    assert len(few) == 5
