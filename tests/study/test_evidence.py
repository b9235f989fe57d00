"""All measures of the sources a study has, on the tiny study; the order of known cases."""

import os

import numpy as np
import pandas as pd
import pytest
import torch

from lib.data.files import write_png
from lib.data.images import to_tensor
from lib.gan import Translator
from lib.gan.records import strip
from lib.study import critic, evidence, feature_net, metrics
from lib.study.config import StudyError
from lib.study.datasets import load_test_set

FACE_WORLD = {"truth_l1", "truth_nearest_l1", "truth_ssim", "truth_perceptual", "lightness_error", "seam_error"}


@pytest.fixture(scope="module")
def net():
    """A feature network that has learned nothing: what counts here is that it is asked."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return feature_net.FeatureNet(feature_net._Network().eval(), {})


@pytest.fixture(scope="module", autouse=True)
def _short():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(critic, "PASSES", 2)
        yield


@pytest.fixture(scope="module")
def measured(trained, net):
    """measured(source) → {metric: row}, each source once."""
    known = {}

    def measure(source):
        if source not in known:
            rows = evidence.measure_run(trained, source, 0, net)
            known[source] = {row["metric"]: row for row in rows}
            assert len(known[source]) == len(rows)
        return known[source]

    return measure


def weights(study, stage, epoch):
    return study.stage_dir(stage) / "checkpoints" / f"epoch_{epoch:04d}"


def test_the_rule_based_input_changes_nothing(measured, trained):
    rows = measured("rule-based")
    values = {name: row["value"] for name, row in rows.items()}
    assert values["outside_l1"] == values["inside_l1"] == values["outside_l1_composited"] == 0
    assert values["outside_psnr"] == values["composited_psnr"] == 100
    assert values["outside_ssim"] == pytest.approx(1)
    assert values["composited_ssim"] == pytest.approx(1)
    assert values["noise_delta_e"] == values["noise_pixel_std"] == 0
    assert values["identity_cosine"] > values["identity_others"]
    assert {"critic_pass", "critic_grey_pass", "critic_real_error", "feature_fd", "random_fd"} <= set(rows)
    assert set(rows) >= FACE_WORLD
    assert "attention_iou" not in rows  # a picture has none
    assert rows["outside_l1"]["n"] == len(load_test_set(trained).names)


def test_the_truth_beats_it(measured):
    truth, rule = ({k: row["value"] for k, row in measured(source).items()} for source in ("truth", "rule-based"))
    for metric in ("truth_l1", "truth_nearest_l1", "truth_perceptual", "lightness_error"):
        assert truth[metric] < rule[metric], metric
    assert truth["truth_ssim"] > rule["truth_ssim"]
    bare = {name: row["value"] for name, row in measured("bare").items()}
    assert bare["truth_nearest_l1"] > rule["truth_nearest_l1"]
    assert bare["truth_ssim"] < rule["truth_ssim"]
    assert bare["identity_cosine"] == pytest.approx(1)
    assert bare["outside_l1"] == 0
    assert truth["outside_l1"] < 0.02  # its own shadow
    assert truth["identity_cosine"] > 0.98


def test_pictures_made_wrong_on_purpose_are_seen(measured, trained):
    values = {s: {name: row["value"] for name, row in measured(s).items()} for s in evidence.SOURCES}
    truth, flat, blurred, other = (values[source] for source in ("truth", "flat", "blurred", "other"))
    assert flat["colour_spread"] < 0.5 < truth["colour_spread"]
    assert max(flat["grain"], blurred["grain"]) < truth["grain"]
    assert max(flat["truth_ssim"], other["truth_ssim"]) < truth["truth_ssim"]
    for name in ("outside_psnr", "outside_ssim", "composited_psnr", "composited_ssim", "identity_cosine"):
        assert other[name] < truth[name] <= values["rule-based"][name], name
    assert other["composited_psnr"] > other["outside_psnr"]
    assert other["composited_ssim"] > other["outside_ssim"]
    assert truth["noise_delta_e"] > 1  # other masks on the same face
    test, truths = load_test_set(trained), evidence.bench(trained).truths
    core = evidence.bench(trained).core
    painted = evidence._look(evidence.bench(trained), "flat").images
    assert np.abs(painted[:, core].mean(1) - test.B[:, core].mean((0, 1))).max() < 1
    softened = evidence._look(evidence.bench(trained), "blurred").images
    far = metrics.well_inside(~truths.area, 3)
    assert np.array_equal(softened[far], truths.images[:, 0][far])


def test_weights_are_measured_with_their_noise(measured, trained):
    quiet, noisy = measured(weights(trained, "stage3", 140)), measured(weights(trained, "stage5", 510))
    assert set(quiet) == set(noisy) == set(measured("rule-based")) - {"critic_real_error", "critic_grey_real_error"} | {
        "attention_ratio", "attention_iou", "attention_iou_true"
    }  # fmt: skip
    for name in ("noise_delta_e", "noise_pixel_std"):
        assert quiet[name]["value"] == 0
        assert noisy[name]["value"] > 0
    assert quiet["outside_l1"]["value"] > quiet["outside_l1_composited"]["value"] > 0
    assert quiet["outside_psnr"]["value"] < quiet["composited_psnr"]["value"] < 100
    assert quiet["outside_ssim"]["value"] < quiet["composited_ssim"]["value"] < 1


def test_every_measure_is_explained_and_told_in_plain_numbers(measured, trained):
    seen = {}
    for source in (*evidence.SOURCES, weights(trained, "stage5", 510)):
        seen |= measured(source)
    of_trainings = {name for name in evidence.METRICS if name.startswith(("redrawn", "forced"))}
    assert set(evidence.METRICS) - set(seen) <= {"fid", "kid", "lpips"} | of_trainings
    assert len(of_trainings) == 2 + 2 * 3 * len(evidence.FORCED_SIGMAS)
    assert set(seen) <= set(evidence.METRICS)
    for row in seen.values():
        assert type(row["value"]) is float
        assert np.isfinite(row["value"])
        assert type(row["n"]) is int
        assert row["n"] > 0


def test_measuring_again_gives_the_same(measured, trained, net):
    source = weights(trained, "stage5", 510)
    again = evidence.measure_run(trained, source, 7, net)  # another seed: all are judged alike
    assert again == list(measured(source).values())


def test_real_pictures_tell_what_real_ones_score(measured, trained):
    rows = measured("real B")
    assert {"colour_spread", "colour_wasserstein", "random_fd", "feature_fd", "critic_pass"} <= set(rows)
    assert rows["critic_pass"]["value"] == pytest.approx(1 - rows["critic_real_error"]["value"])
    assert "outside_l1" not in rows


def test_what_is_shared_is_loaded_once_and_again_for_another_set_a(trained, copy_of):
    one = evidence.bench(trained)
    assert evidence.bench(trained) is one
    assert one.test is one.test
    other = copy_of(trained)
    assert evidence.bench(other) is not one
    now = evidence.bench(other)
    done = other.data_dir / "A" / "rule" / "done.json"
    os.utime(done, ns=(1, 1))
    assert evidence.bench(other) is not now


def test_what_cannot_be_measured(trained, empty, net):
    with pytest.raises(StudyError, match="notebook 02"):
        evidence.measure_run(empty, "rule-based", 0, net)
    evidence.bench(trained).__dict__["truths"] = None  # as with photographs
    with pytest.raises(StudyError, match="face world only"):
        evidence.measure_run(trained, "truth", 0, net)
    rows = {row["metric"] for row in evidence.measure_run(trained, "rule-based", 0, net)}
    assert not rows & FACE_WORLD
    seen = evidence._look(evidence.bench(trained), "blurred")  # the input, then
    assert (seen.images != load_test_set(trained).rule).any()
    assert np.array_equal(seen.mask, evidence.bench(trained).outline)
    del evidence.bench(trained).__dict__["truths"]


def test_redrawn_epochs_by_hand(trained, tmp_path):
    test, size = load_test_set(trained), trained.profile.size
    given, soft = test.rule[:2], metrics.blurred(test.rule[:2], size / 32)
    made = {299: soft, 313: given, 337: np.roll(given, 1, axis=0), 357: (255 - given)}
    for epoch, images in made.items():
        rows = [to_tensor(images_) for images_ in (given, images, given)]
        write_png(tmp_path / "samples" / f"epoch_{epoch:04d}.png", strip(rows))
    pd.DataFrame({"epoch": list(made), "outside_change": 0.0}).to_csv(tmp_path / "samples.csv", index=False)
    lost = evidence.structure_by_epoch(trained, tmp_path)
    assert lost[313] == 0
    assert lost[299] == pytest.approx(metrics.structure_lost(given, soft, test.non_mask[:2]).mean())
    assert evidence.redrawn(trained, tmp_path) == [
        {"metric": "redrawn_share", "value": 0.75, "n": 4},
        {"metric": "redrawn_worst", "value": lost.max(), "n": 4},
    ]
    (tmp_path / "samples" / "epoch_0313.png").unlink()
    with pytest.raises(FileNotFoundError, match="epoch_0313"):
        evidence.redrawn(trained, tmp_path)
    with pytest.raises(FileNotFoundError):
        evidence.redrawn(trained, tmp_path / "none")


def test_noise_is_forced_one_layer_at_a_time_on_weights_without(trained):
    source = weights(trained, "stage3", 140)
    rows = evidence.forced_noise(trained, source)
    values = {row["metric"]: row["value"] for row in rows}
    assert len(values) == len(rows) == 18
    assert values["forced_pixel_std_l3_s4"] > values["forced_pixel_std_l3_s0.2"] > 0
    given, outline = load_test_set(trained).rule, evidence.bench(trained).outline
    count = min(evidence.FORCED_FACES, len(given))
    each = [
        Translator(source).translate(given[:count], range(1000 * k, 1000 * k + count), (0, 4.0, 0)).images
        for k in range(evidence.DRAWS)
    ]
    by_hand = metrics.noise_pixel_std(np.stack(each), outline[:count])
    assert values["forced_pixel_std_l2_s4"] == pytest.approx(by_hand)
    assert {row["n"] for row in rows} == {count}
    assert evidence.forced_noise(trained, weights(trained, "stage5", 510)) == []
