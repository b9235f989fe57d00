"""Made-up results of which the right verdict is known, and what comes out of them."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lib.study import claims
from lib.study.claims import FAILS, HOLDS, UNDECIDED, UNMEASURED
from lib.study.config import PROFILES, StudyError
from lib.study.downstream_sets import VARIANTS
from lib.study.runs import REPOSITORY

COLUMNS = ["experiment", "variant", "seed", "epoch", "metric", "value", "n", "status", "profile", "device", "steps",
           "size", "config_hash"]  # fmt: skip
# What each kind of runs measures where every claim is true; for kinds not named, the first of "".
TRUE = {
    "critic_pass": {"": 0.8, "rule-based": 0.1},
    "critic_grey_pass": {"": 0.7, "rule-based": 0.1},
    "truth_nearest_l1": {"": 0.08, "rule-based": 0.14},
    "truth_ssim": {"": 0.7, "rule-based": 0.4},
    "truth_perceptual": {"": 2.0, "rule-based": 4.0},
    "feature_fd": {"": 3.0, "rule-based": 9.0},
    "outside_l1": {"": 0.001, "plain": 0.02, "noise": 0.03},
    "redrawn_share": {"": 0.02, "plain": 0.4, "noise": 0.3},
    "redrawn_worst": {"": 0.05, "plain": 0.3, "noise": 0.25},
    "noise_delta_e": {"": 0.0, "noise": 3.0, "nmc+noise": 4.0},
    "colour_spread": {"": 3.0, "nmc+noise": 6.0},
    "colour_wasserstein": {"": 9.0, "nmc+noise": 4.0},
    "noise_pixel_std": {"": 0.03, "layer1": 0.001},
    "blotches": {"": 2.0},
    "attention_iou": {"": 0.7, "stage1": 0.4, "stage2": 0.5},
    "auc": {"": 0.9, "none": 0.7},
    "ap_face_mask": {"": 0.9, "rule": 0.7, "none": 0.0},
    **{f"forced_pixel_std_l{k}_s{s:g}": {"": 0.001 if k == 1 else 0.03} for k in (1, 2, 3) for s in (0.2, 1.0, 4.0)},
}
FORMER = {"colour_spread": 0.7, "blotches": 0.5, "outside_l1": 0.4}  # at 313, of what is measured later


def results(values=TRUE, seeds=3, jitter=0.03, profile="laptop", device="CPU, 1 threads", steps=1200):
    """The tidy table of a whole set of experiments, every measure with a few per cent of spread over seeds."""
    draw, rows = np.random.default_rng(0), []

    def add(experiment, variant, seed, epoch, factors=()):
        kind = variant.split(" ")[0]
        for metric, of in values.items():
            if (experiment in claims.WORTH) != (metric in ("auc", "ap_face_mask")):
                continue
            value = of.get(kind, of[""]) * dict(factors).get(metric, 1.0) * (1 + jitter * draw.standard_normal())
            rows.append(
                [experiment, variant, seed, epoch, metric, value, 12, "finished", profile, device, steps, 64, kind]
            )

    for seed in range(seeds):
        for variant in ("plain", "nmc", "noise", "nmc+noise"):
            for epoch in (313, 476, 510):
                add("corners", variant, seed, epoch, FORMER.items() if epoch == 313 else ())
        for variant in ("stage1", "stage2"):
            add("filters", variant, seed, 510)
        for variant in (f"layer{k} σ{sigma:g}" for k in (1, 2, 3) for sigma in (0.2, 1.0)):
            add("noise", variant, seed, 510)
        for experiment in claims.WORTH:
            for variant in VARIANTS:
                add(experiment, variant, seed, pd.NA)
        add("reference", "rule-based", seed, pd.NA)
    return pd.DataFrame(rows, columns=COLUMNS).astype({"seed": "Int64", "epoch": "Int64"})


def told(table):
    """claim → verdict; of one profile."""
    found = claims.verdicts(claims.table(table))
    return dict(zip(found["claim"], found["verdict"]))


def changed(**kinds):
    """TRUE with other values: metric={kind: value}."""
    return {metric: of | kinds.get(metric, {}) for metric, of in TRUE.items()}


def part(table, claim, metric, which=0):
    rows = claims.table(table)
    return rows[(rows["claim"] == claim) & (rows["metric"] == metric)].iloc[which]


def test_where_all_is_true_all_holds():
    expected = dict.fromkeys(("C1", "C2", "C3", "C4", "C6", "C7"), HOLDS) | {"C5": UNDECIDED}
    assert told(results()) == expected


@pytest.mark.parametrize(
    ("claim", "values"),
    [
        ("C1", changed(critic_pass={"rule-based": 0.95})),  # one deciding part is enough
        ("C1", changed(critic_grey_pass={"rule-based": 0.95})),
        ("C1", changed(truth_nearest_l1={"rule-based": 0.05})),
        ("C1", changed(truth_ssim={"rule-based": 0.9})),
        ("C1", changed(truth_perceptual={"rule-based": 1.0})),
        ("C2", changed(outside_l1={"noise": 0.0001})),
        ("C3", changed(noise_delta_e={"nmc+noise": 0.3})),  # there, but nobody would see it
        ("C3", changed(colour_spread={"": 9.0})),
        ("C4", changed(noise_pixel_std={"layer1": 0.02})),
        ("C4", changed(noise_pixel_std={"": 0.004, "layer1": 1e-4})),  # there, but nobody would see it
        ("C4", changed(forced_pixel_std_l1_s4={"": 9.0})),  # "no matter how we amplified"
        ("C4", changed(**{"forced_pixel_std_l3_s0.2": {"": 0.004}})),
        ("C6", changed(attention_iou={"stage1": 0.9})),
        ("C7", changed(auc={"none": 0.99, "": 0.8})),
        ("C7", changed(ap_face_mask={"rule": 0.99, "": 0.8})),
    ],
)
def test_where_one_part_is_false_its_claim_does_not_hold(claim, values):
    found = told(results(values))
    assert found.pop(claim) == FAILS
    assert found.pop("C5") == UNDECIDED
    assert set(found.values()) == {HOLDS}


def test_a_part_that_stands_beside_decides_nothing():
    table = results(changed(feature_fd={"rule-based": 0.1}))
    assert part(table, "C1", "feature_fd")["verdict"] == FAILS
    assert told(table)["C1"] == HOLDS
    table = results(changed(auc={"rule,": 0.99, "": 0.8}))  # more colours alone are worth more than the second step
    assert part(table, "C7", "auc", 1)["verdict"] == FAILS
    assert told(table)["C7"] == HOLDS


def test_476_poorer_than_313_is_told_and_decides_nothing():
    """313 is an early pass of a training from random weights, which it is not in the paper."""
    table = results()
    table.loc[(table["metric"] == "colour_spread") & (table["epoch"] == 313), "value"] = 20.0
    row = part(table, "C5", "colour_spread")
    assert row["high"] < 0
    assert (row["verdict"], row["note"]) == (UNDECIDED, "313 comes early here: not yet learnt, rather than less fitted")
    assert told(table)["C5"] == UNDECIDED
    assert told(table)["C3"] == HOLDS  # measured at the end


@pytest.mark.parametrize("how", ["left out", "failed"])
def test_a_missing_run_decides_nothing(how):
    """Fewer seeds have a narrower spread now and then: what was left out must not speak for the method."""
    table = results()
    mine = (table["variant"] == "plain") & (table["seed"] == 0)
    if how == "failed":
        table.loc[mine, ["status", "value"]] = ["failed: no room", np.nan]
    else:
        table = table[~mine]
    row = part(table, "C6", "attention_iou")
    assert (row["n"], row["verdict"], row["note"]) == (2, UNDECIDED, "seeds missing: 1")
    assert told(table)["C2"] == UNDECIDED
    assert told(table)["C1"] == HOLDS


def test_differences_within_the_spread_of_seeds_decide_nothing():
    same = {metric: {"": 1.0} for metric in TRUE}
    assert set(told(results(same, jitter=0.3)).values()) - {FAILS} == {UNDECIDED}
    assert told(results(same, jitter=0.3))["C6"] == UNDECIDED


def test_one_seed_gives_a_value_and_no_verdict():
    found = claims.table(results(seeds=1))
    assert found["value"].notna().all()
    assert found["low"].isna().all()
    assert set(found["verdict"]) == {UNDECIDED}
    assert found["note"].str.contains("one seed").all()


def test_a_diverged_run_of_the_methods_own_kind_leaves_it_undecided():
    table = results()
    lost = (table["variant"] == "nmc+noise") & (table["seed"] == 1)
    table.loc[lost, "status"] = "diverged: loss_G is NaN at step 40"
    row = part(table, "C3", "colour_spread")
    assert (row["n"], row["verdict"], row["note"]) == (2, UNDECIDED, "1 of nmc+noise diverged")
    assert told(table)["C3"] == told(table)["C1"] == UNDECIDED
    assert told(table)["C6"] == HOLDS  # it has nothing to do with that run


def test_a_diverged_run_of_the_other_kind_is_left_out_and_told():
    table = results()
    lost = (table["variant"] == "plain") & (table["seed"] == 2)
    table.loc[lost, ["status", "value"]] = ["diverged: …", np.nan]
    row = part(table, "C2", "outside_l1")
    assert (row["n"], row["verdict"], row["note"]) == (2, HOLDS, "1 of plain diverged")


def test_a_measure_that_one_seed_lacks_decides_nothing():
    table = results()
    lacks = (table["metric"] == "attention_iou") & (table["variant"] == "plain") & (table["seed"] == 2)
    row = claims.table(table[~lacks]).query("claim == 'C6'").iloc[0]
    assert (row["n"], row["verdict"], row["note"]) == (2, UNDECIDED, "seeds missing: 1")


def test_results_of_older_code_or_other_data_are_told(monkeypatch, tmp_path):
    study = SimpleNamespace(name="x", root=tmp_path, profile=PROFILES["laptop"], data="faceworld")
    assert claims._stale(study) == ""
    cases = claims.cases_of(study, ["filters"])[:3]
    for case in cases:
        folder = claims.folder_of(study, case)
        folder.mkdir(parents=True)
        (folder / "result.json").write_text("{}")
    states = pd.DataFrame({"state": ["finished", "to be measured", "failed: x"], "finished": [True, False, False]})
    monkeypatch.setattr(claims, "overview", lambda study, asked: states if asked == cases else None)
    assert claims._stale(study) == "1 of the results below is to be measured"


def test_measures_that_are_missing():
    table = results()
    assert told(table[table["metric"] != "truth_nearest_l1"])["C1"] == UNDECIDED  # photographs: no truth is known
    assert told(table[table["experiment"] != "filters"])["C6"] == UNMEASURED
    no_noise = table[table["experiment"] != "noise"]
    assert (told(no_noise)["C4"], told(no_noise)["C3"]) == (UNDECIDED, HOLDS)
    assert told(no_noise[~no_noise["metric"].str.startswith("forced")])["C4"] == UNMEASURED
    assert told(table[table["variant"] != "layer3 σ1"])["C4"] == HOLDS  # of the σ that both layers have
    assert told(table[table["variant"] != "layer3 σ0.2"])["C4"] == UNDECIDED  # the paper's own
    assert told(table[~table["experiment"].isin(claims.WORTH)])["C7"] == UNMEASURED
    assert told(table[table["experiment"] != "detector"])["C7"] == UNDECIDED


def test_profiles_are_judged_apart():
    both = pd.concat(
        [results(), results(changed(attention_iou={"stage1": 0.9}), profile="gpu", seeds=5, device="NVIDIA X")]
    )
    found = claims.verdicts(claims.table(both)).set_index(["profile", "claim"])["verdict"]
    assert (found["laptop"]["C6"], found["gpu"]["C6"]) == (HOLDS, FAILS)
    assert found["laptop"]["C1"] == found["gpu"]["C1"] == HOLDS
    assert set(claims.table(both).groupby("profile")["device"].first()) == {"CPU, 1 threads", "NVIDIA X"}
    assert "Profile `gpu`" in claims.markdown(both)
    assert "Profile `laptop`" in claims.markdown(both)


def test_markdown_tells_verdict_value_interval_seeds_device_and_profile():
    table = results()
    lost = (table["variant"] == "noise") & (table["seed"] == 0)
    table.loc[lost, "status"] = "diverged: …"
    text = claims.markdown(table)
    head = (
        "Profile `laptop`, on CPU, 1 threads: 36 trainings from random weights, 1,200 steps each, pictures of 64 px; "
    )
    assert text.startswith(head + "1 diverged. 36 detectors and recognisers (C7).")
    assert "| C7 | a detector or recogniser gets better with the data | **holds** | 2 × holds |" in text
    assert f"| C2 | {claims.CLAIMS['C2']} | **holds** | 4 × holds |" in text
    row = part(table, "C1", "critic_pass")
    value, low, high = (claims.number(row[name]) for name in ("value", "low", "high"))
    assert f"`critic_pass` | {claims.number(row['against'])} → {claims.number(row['of'])} |" in text
    assert f"| {value} [{low}, {high}] | 3 | holds |" in text
    assert "prove the code" not in text
    assert "prove the code, not the method" in claims.markdown(results(profile="smoke"))


def test_markdown_of_nothing():
    table = results()
    references = table[table["experiment"] == "reference"]
    assert claims.markdown(references) == claims.markdown(results(seeds=0))
    text = claims.markdown(results(seeds=0))
    assert text.startswith("Nothing has been measured yet")
    assert text.count("**not measured**") == 7
    assert "from → to" not in text


def test_files_hold_what_was_judged(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "collect", lambda study: results())
    rows = claims.write(None, tmp_path)
    again = pd.read_csv(tmp_path / "results.csv", dtype={"seed": "Int64", "epoch": "Int64"})
    pd.testing.assert_frame_equal(claims.table(again), rows)
    assert (tmp_path / "claims.md").read_text(encoding="utf-8") == claims.markdown(again)
    record = json.loads((tmp_path / "claims.json").read_text(encoding="utf-8"))
    assert [claim["verdict"] for claim in record["claims"]] == [HOLDS] * 4 + [UNDECIDED, HOLDS, HOLDS]
    assert len(record["parts"]) == len(claims.PARTS)
    json.dumps(record, allow_nan=False)


def test_every_claim_has_its_parts_and_every_part_a_claim():
    assert {each.claim for each in claims.PARTS} == set(claims.CLAIMS)
    assert all(each.claimed in (1, -1) for each in claims.PARTS)


def test_the_block_goes_between_its_marks(tmp_path):
    page = tmp_path / "README.md"
    page.write_text(f"before\n{claims.START}old\n{claims.END}\nafter\n", encoding="utf-8")
    claims.put_into(page, "new\n")
    assert page.read_text(encoding="utf-8") == f"before\n{claims.START}new\n{claims.END}\nafter\n"
    page.write_text(f"{claims.END}\n{claims.START}", encoding="utf-8")
    with pytest.raises(StudyError, match=r"README\.md: expected the lines"):
        claims.put_into(page, "new\n")


def test_the_readme_shows_the_published_claims():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    block = text[text.index(claims.START) + len(claims.START) : text.index(claims.END)]
    published = pd.read_csv(claims.EVIDENCE / "results.csv", dtype={"seed": "Int64", "epoch": "Int64"})
    assert block == (claims.EVIDENCE / "claims.md").read_text(encoding="utf-8") == claims.markdown(published)


def test_the_command(monkeypatch, tmp_path, capsys):
    profiles = {"tried": "smoke"}
    monkeypatch.setattr(
        claims,
        "find_study",
        lambda name, runs: SimpleNamespace(
            name=name, root=tmp_path / name, profile=SimpleNamespace(name=profiles.get(name, "laptop"))
        ),
    )
    monkeypatch.setattr(claims, "_stale", lambda study: "2 are old" if study.name == "old" else "")
    monkeypatch.setattr(claims, "collect", lambda study: results())
    monkeypatch.setattr(claims, "REPOSITORY", tmp_path)
    monkeypatch.setattr(claims.write, "__defaults__", (tmp_path / "evidence",))
    page = tmp_path / "README.md"
    page.write_text(f"{claims.START}old\n{claims.END}\n", encoding="utf-8")
    assert claims.main(["--name", "first"]) == 0
    assert capsys.readouterr().out == claims.markdown(results())
    assert "old" in page.read_text()
    assert claims.main(["--name", "first", "--write"]) == 0
    assert page.read_text(encoding="utf-8") == f"{claims.START}{claims.markdown(results())}{claims.END}\n"
    assert (tmp_path / "evidence" / "claims.json").is_file()
    published = page.read_text(encoding="utf-8")
    for name, words in (("tried", "profile smoke proves the code alone"), ("old", "2 are old; run")):
        assert claims.main(["--name", name, "--write"]) == 2
        assert f"{words}" in capsys.readouterr().err
        assert page.read_text(encoding="utf-8") == published
    assert claims.main(["--name", "old"]) == 0
    assert capsys.readouterr().err.startswith("warning: ")
    monkeypatch.setattr(claims, "collect", lambda study: results(seeds=0))
    assert claims.main(["--name", "empty", "--write"]) == 2
    assert "empty: no experiment has finished; what was published before stays" in capsys.readouterr().err
    monkeypatch.setattr(claims, "collect", lambda study: results())
    page.write_text("no marks\n", encoding="utf-8")
    assert claims.main(["--name", "first", "--write"]) == 2
    assert "error:" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        claims.main(["--name", ""])
    assert "a study's name is not empty" in capsys.readouterr().err
