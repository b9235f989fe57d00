"""Beyond the paper: each generator gets what it was trained on, figures and tables say what was measured."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lib.gan import Translation, Translator
from lib.study import beyond_views as views
from lib.study.datasets import load_test_set
from lib.study.evidence_views import NOTHING, TITLES
from lib.study.metrics import REDRAWN_ABOVE, REDRAWN_BLUR
from lib.study.parts import Side, number
from lib.study.plans import PLANS
from lib.study.timeline import load_stage

DIRECT, TWO = "AttentionGAN, direct", "two steps, NMC + noise"
VALUES = {"nmc": (0.2, 0.4), "linear": (0.1, 0.1), "one-sided": (0.5, np.nan)}


@pytest.fixture
def study(trained, copy_of, monkeypatch):
    """Two generators have left weights: one of the corners, one that is given bare faces."""
    monkeypatch.setitem(PLANS, "tiny", PLANS["smoke"])
    study = copy_of(trained)
    for side in (views.GENERATORS[DIRECT], views.GENERATORS[TWO]):
        case = views.case_of(study, side)
        folder = study.root / "experiments" / case.experiment / case.folder_name
        shutil.copytree(load_stage(study, "stage5").last_checkpoint, folder / "checkpoints" / "epoch_0510")
        result = {"case": {"variant": case.variant}, "status": "finished", "seconds": 90}
        (folder / "result.json").write_text(json.dumps(result))
    return study


def results():
    """A tidy table of `VALUES`, a value per seed, and of the rule-based input."""
    rows = [
        ["corners" if variant == "nmc" else "future", variant, seed, 510, "outside_l1", value, "finished"]
        for variant, values in VALUES.items()
        for seed, value in enumerate(values)
    ]
    rows.append(["reference", "rule-based", pd.NA, pd.NA, "outside_l1", 0.0, "finished"])
    columns = ["experiment", "variant", "seed", "epoch", "metric", "value", "status"]
    return pd.DataFrame(rows, columns=columns).astype({"seed": "Int64", "epoch": "Int64"})


def test_every_kind_of_runs_is_planned(study):
    sides = [*views.FUTURE_WORK.values(), *views.GENERATORS.values()]
    cases = [views.case_of(study, side) for side in sides]
    assert [(c.experiment, c.variant, c.seed) for c in cases] == [(s.experiment, s.variant, 0) for s in sides]


def test_what_is_missing_comes_with_its_command(study):
    state = pd.DataFrame({"experiment": ["future", "future", "noise"], "finished": [True, False, True]})
    assert views.missing(study, state, "future") == (
        "future: 1 of 2 cases are not finished; this makes or measures them: python -m lib.study.experiments "
        "--name tiny --only future"
    )
    assert views.missing(study, state, "noise") == "noise: all of its 1 cases are there"


def test_a_generator_is_given_what_it_was_trained_on(study):
    test = load_test_set(study)
    made = views.painted(study, views.GENERATORS, test)
    assert list(made) == [DIRECT, TWO]
    of = Translator(views.weights(study, views.GENERATORS[TWO]))
    assert np.array_equal(made[TWO].images, of.translate(test.rule, range(len(test.rule))).images)
    assert np.array_equal(made[DIRECT].images, of.translate(test.full, range(len(test.full))).images)
    assert views.weights(study, Side("nmc")) is None
    kept = views.weights(study, views.GENERATORS[TWO])
    kept.rename(kept.with_name("epoch_0476"))  # still in training: not comparable
    assert list(views.painted(study, views.GENERATORS, test)) == [DIRECT]


def test_larger_faces_come_back_as_large(study):
    test = load_test_set(study)
    larger = SimpleNamespace(**{k: np.kron(getattr(test, k), np.ones((2, 2, 1), np.uint8)) for k in ("rule", "full")})
    made = views.painted(study, views.GENERATORS, larger)
    assert made[TWO].images.shape == larger.rule.shape
    small = views.painted(study, views.GENERATORS, test)[TWO].images
    apart = np.abs(made[TWO].images.astype(float) - larger.rule).mean()
    assert apart < 2 * np.abs(small.astype(float) - test.rule).mean() + 10  # the same picture, not another one's


def test_the_gallery_has_a_row_per_way_and_its_attention_beside(study):
    test = load_test_set(study)
    made = views.painted(study, views.GENERATORS, test)
    for attention in (False, True):
        fig = views.gallery(test, made, attention)
        labels = [ax.get_ylabel().replace("\n", " ") for ax in fig.axes if ax.get_ylabel()]
        assert labels == ["bare face", "rule-based", DIRECT, TWO, "truth"]
        drawn = [ax for ax in fig.axes if ax.images]
        assert len(drawn) == len(test.names) * (5 + 4 * attention)
    white = np.asarray(fig.axes[3 * len(test.names)].images[0].get_array()) > 127
    assert np.array_equal(white, ~test.non_mask[0])
    assert views.gallery(test, {}) == NOTHING


def test_a_line_per_training_and_its_bar():
    rows = [(v, seed, e, seed + e / 1000, 2.0) for v in ("plain", "nmc") for seed in (0, 1) for e in (313, 510)]
    names = ["variant", "seed", "epoch", "outside_change", "structure_lost"]
    for ax, bar in zip(views.over_passes(pd.DataFrame(rows, columns=names)).axes, (REDRAWN_ABOVE, REDRAWN_BLUR)):
        drawn = [line for line in ax.lines if len(line.get_xdata()) == 2 and max(line.get_xdata()) == 510]
        assert len(drawn) == 4
        assert len({line.get_color() for line in drawn}) == 2
        assert [bar, bar] in [list(line.get_ydata()) for line in ax.lines]
    assert views.over_passes(pd.DataFrame(columns=names)) == NOTHING


def test_forced_noise_is_a_mean_in_the_band_of_its_seeds():
    rows = [(seed, layer, s, s * layer * (1 + seed), 0.5) for seed in (0, 1) for layer in (1, 3) for s in (0.2, 4.0)]
    names = ["seed", "layer", "sigma", "noise_pixel_std", "noise_delta_e"]
    ax = views.forced_curves(pd.DataFrame(rows, columns=names)).axes[0]
    drawn = [line.get_ydata() for line in ax.lines if len(line.get_ydata()) == 2]
    assert np.allclose(drawn, [[0.3, 6.0], [0.9, 18.0]])
    band = ax.collections[1].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((0.6, 24.0))
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0.2", "4"]
    assert views.forced_curves(pd.DataFrame(columns=names)) == NOTHING


def test_what_attention_draws_anew_by_hand():
    test = SimpleNamespace(non_mask=np.array([[[True, True], [False, False]]]))
    made = {"x": Translation(np.zeros(0), np.array([[[0.0, 0.6], [1.0, 0.95]]]))}
    assert views.drawn_anew(test, made).loc["x"].tolist() == [1.0, 0.5]


def test_a_row_per_kind_with_a_point_per_seed():
    fig = views.beside(results(), views.FUTURE_WORK, ["outside_l1", "nobody took this"])
    (ax,) = fig.axes
    assert [text.get_text() for text in ax.get_yticklabels()] == list(views.FUTURE_WORK)
    for place, variant in enumerate(views.FUTURE_WORK):
        wanted = np.array(VALUES.get(variant, ()), float)
        points = ax.lines[place]
        assert points.get_xdata().tolist() == pytest.approx(wanted[np.isfinite(wanted)].tolist())
        assert (points.get_ydata() == place).all()
    dotted, rule = ax.lines[len(views.FUTURE_WORK) :]
    assert dotted.get_xdata()[0] == pytest.approx(0.3)
    assert (rule.get_label(), rule.get_xdata()[0]) == ("rule-based", 0.0)
    assert views.beside(results(), {"none": Side("none")}, ["outside_l1"]) == NOTHING


def test_means_with_their_spread_and_minutes(study):
    sides = {"nmc": Side("nmc"), "linear": Side("linear", "future"), "rule": Side("rule-based", "reference")}
    table = views.measured(study, results(), sides | {"none": Side("none")}, ["outside_l1", "grain"])
    assert list(table.index) == list(sides)
    assert table[TITLES["outside_l1"]].tolist() == ["0.300 ± 0.141", f"0.100 ± {number(0)}", number(0)]
    assert table["seeds"].tolist() == [2, 2, "–"]
    assert set(table["minutes"]) == {"–"}
    timed = views.measured(study, results().assign(variant="nmc+noise", experiment="corners"), views.GENERATORS,
                           ["outside_l1"])  # fmt: skip
    assert timed["minutes"].tolist() == ["1.50"]


def rated(found=True):
    """What `kinds.rates` gives for two kinds of skin and three of pose."""
    kinds = [("skin", "dark"), ("skin", "light"), ("pitch", "above 3"), ("pitch", "below -3"), ("pitch", "-3 to 3")]
    rows = [
        {"metric": "pattern", "trait": trait, "kind": kind, "faces": 10, "failed": 6 - k, "rate": 0.6 - k / 10,
         "low": 0.1, "high": 0.9, "rest": 0.1, "p": 0.01 if not k else np.nan, "found": found and not k}
        for k, (trait, kind) in enumerate(kinds)
    ]  # fmt: skip
    scores = pd.DataFrame({"pattern": [*np.linspace(0, 0.9, 43), *np.linspace(2, 3, 5), np.nan, np.nan]})
    return SimpleNamespace(rates=pd.DataFrame(rows), scores=scores)


def test_who_fails_in_words():
    assert "1 comparisons on 50 faces, 1 of them beyond chance" in views.who(rated())
    assert views.who(rated(), 0).endswith("- and 1 more")
    assert "- `pattern` (fine pattern added to the mask, ΔL*), skin dark: 6 of 10 failed (60%)" in views.who(rated())
    assert "no kind of face was found" in views.who(rated(found=False))


def test_rates_stand_in_the_order_of_their_kinds():
    ax = views.rates_of(rated(), ["pattern", "grain"]).axes[0]
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels == ["skin light (10)", "skin dark (10)", "pitch below -3 (10)", "pitch -3 to 3 (10)",
                      "pitch above 3 (10)"]  # fmt: skip
    at = {int(line.get_ydata()[0]): (line.get_xdata()[0], line.get_color()) for line in ax.lines[:5]}
    assert [at[k][0] for k in range(5)] == pytest.approx([0.5, 0.6, 0.3, 0.2, 0.4])
    assert [k for k in range(5) if at[k][1] == "C3"] == [1]
    assert ax.lines[-1].get_xdata()[0] == pytest.approx(5 / 48)  # of all: five could be seen, two were not measured
    assert views.rates_of(rated(), ["grain"]) == NOTHING
