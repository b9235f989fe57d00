"""Released models: rounded once, whole or refused, found by name."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save

from lib.augment.translate import training_size
from lib.data.files import read_json, sha256
from lib.gan import CheckpointError, Generator, NoiseConfig, init_weights, list_released, load_released, pack_released
from lib.gan import released as module
from lib.gan.checkpoints import load_network, write_checkpoint
from lib.gan.released import CARD, MODEL, default_released, find_weights, read_model, register_released

FACTS = {"trained_on": "noise", "run": {"epoch": 313}}


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint of a tiny generator for 32² pictures."""
    net = Generator(ngf=4, n_blocks=2, noise=NoiseConfig((0, 1, 0.2), place="pre_norm"), upsampling="resize")
    init_weights(net, torch.Generator().manual_seed(3))
    return write_checkpoint(tmp_path / "checkpoints", 313, {"net_G_AB": net}, {}, {"config": {"size": 32}})


@pytest.fixture
def root(checkpoint, tmp_path):
    """A registry with two models, the second the default."""
    for name, limit in (("first", 12_000), ("second", 2**20)):
        pack_released(checkpoint, tmp_path / "weights" / name, FACTS, limit)
        register_released(tmp_path / "weights" / name, default=name == "second")
    return tmp_path / "weights"


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_comes_back_is_the_weights_rounded_to_bfloat16(checkpoint, root):
    before, after = load_network(checkpoint / "net_G_AB.safetensors"), load_released("first", root=root)
    assert after.config() == before.config()
    for key, value in before.state_dict().items():
        got = after.state_dict()[key]
        assert got.dtype == torch.float32
        assert torch.equal(got, value.to(torch.bfloat16).to(torch.float32)), key
    assert not torch.equal(before.conv1.weight, after.conv1.weight), "rounding shows"
    assert not after.training
    assert not any(p.requires_grad for p in after.parameters())


def test_parts_stay_below_their_limit_and_no_tensor_is_cut(checkpoint, root):
    model = read_model(root / "first")
    parts = model["parts"]
    assert len(parts) > 2
    assert all(part["bytes"] <= 12_000 for part in parts)
    for part in parts:
        path = root / "first" / part["file"]
        assert (path.stat().st_size, sha256(path)) == (part["bytes"], part["sha256"])
    assert parts[1]["file"] == f"part-00002-of-{len(parts):05}.safetensors"
    assert model["bytes"] == sum(part["bytes"] for part in parts)
    net = load_network(checkpoint / "net_G_AB.safetensors")
    assert model["parameters"] == sum(p.numel() for p in net.parameters())
    assert model["bytes"] == pytest.approx(2 * model["parameters"], abs=160 * len(net.state_dict()))
    assert len(read_model(root / "second")["parts"]) == 1
    one, two = (load_released(name, root=root).state_dict() for name in ("first", "second"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_the_limit_holds_where_headers_outweigh_the_tensors():
    tensors = {f"block.{k}.with.a.long.name.bias": torch.zeros(4, dtype=torch.bfloat16) for k in range(100)}
    groups = module._split(tensors, 2_000)
    assert [key for group in groups for key in group] == list(tensors)
    assert len(groups) > 4
    assert max(len(save({key: tensors[key] for key in group})) for group in groups) <= 2_000


def test_a_part_ends_only_where_the_next_tensor_has_no_room(root):
    parts = read_model(root / "first")["parts"]
    contents = [load_file(root / "first" / part["file"]) for part in parts]
    order = list(load_released("first", root=root).state_dict())
    assert sorted(key for tensors in contents for key in tensors) == sorted(order), "each tensor once"
    for part, tensors, following in zip(parts, contents, contents[1:]):
        first = min(following, key=order.index)
        spare = 160 * (2 + len(tensors))  # header bytes that were reserved, not all used
        assert part["bytes"] + following[first].nbytes + len(first) > 12_000 - spare


def test_a_tensor_larger_than_a_part_is_refused(checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match=r"conv1\.weight: 1,176 bytes do not fit into a part of 900"):
        pack_released(checkpoint, tmp_path / "weights" / "x", FACTS, 900)
    assert not (tmp_path / "weights").exists()


def test_equal_checkpoints_give_equal_files(checkpoint, root, tmp_path):
    pack_released(checkpoint, tmp_path / "again" / "first", FACTS, 12_000)
    assert files(tmp_path / "again" / "first") == files(root / "first")


def test_facts_are_kept_but_override_nothing(checkpoint, tmp_path):
    model = pack_released(checkpoint, tmp_path / "w" / "x", {**FACTS, "sha256": "mine", "size_px": 7})
    assert model == read_json(tmp_path / "w" / "x" / MODEL)
    assert (model["trained_on"], model["run"], model["size_px"]) == ("noise", {"epoch": 313}, 32)
    assert model["source_sha256"] == sha256(checkpoint / "net_G_AB.safetensors")
    other = pack_released(checkpoint, tmp_path / "w" / "y", {"trained_on": "something else"})
    assert other["sha256"] == model["sha256"], "facts may be corrected; the checksum is of what computes"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: p.unlink(), "missing"),
        (lambda p: p.write_bytes(p.read_bytes()[:-1]), "damaged or truncated"),
        (lambda p: p.write_bytes(p.read_bytes()[:-1] + b"\x7f"), "damaged or truncated"),
        (lambda p: p.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "git lfs pull"),
    ],
    ids=["missing", "short", "flipped", "pointer"],
)
def test_a_part_that_is_not_whole_is_named(root, spoil, words):
    spoil(root / "first" / read_model(root / "first")["parts"][1]["file"])
    with pytest.raises(CheckpointError, match=rf"part-00002-of-.*{words}"):
        load_released("first", root=root)
    load_released("second", root=root)


def test_a_spoilt_description_is_named(root):
    path = root / "first" / MODEL
    whole = path.read_text()
    model = json.loads(whole)
    for text, words in (
        (whole[:99], "not valid JSON"),
        ("[]", "missing or damaged"),
        (json.dumps({**model, "format": 9}), "expected format 1"),
        (json.dumps({k: v for k, v in model.items() if k != "size_px"}), r"damaged \(size_px\)"),
        (json.dumps({**model, "network": {**model["network"], "ngf": 8}}), "network, size or parts changed"),
        (json.dumps({**model, "parts": model["parts"][1:]}), "network, size or parts changed"),
    ):
        path.write_text(text)
        with pytest.raises(CheckpointError, match=rf"first.model\.json.*{words}"):
            load_released(root / "first")


def test_parts_that_do_not_fit_the_network_are_refused(root):
    path = root / "first" / MODEL
    model = read_json(path)
    model["network"]["ngf"] = 8
    path.write_text(json.dumps({**model, "sha256": module._digest(model)}))
    with pytest.raises(CheckpointError, match=r"first.model\.json: its parts do not fit the network"):
        load_released(root / "first")
    with pytest.raises(CheckpointError, match=r"not the model that registry\.json lists"):
        load_released("first", root=root)


def test_the_registry_lists_the_default_first(root):
    rows = list_released(root)
    assert [(row["name"], row["default"]) for row in rows] == [("second", True), ("first", False)]
    model = read_model(root / "second")
    assert rows[0] == {
        "name": "second",
        "default": True,
        "folder": root / "second",
        **{key: model[key] for key in ("sha256", "bytes", "size_px", "trained_on")},
    }
    assert default_released(root) == "second"
    register_released(root / "first")
    assert default_released(root) == "second", "another model leaves the default alone"


def test_without_a_registry_there_is_nothing(tmp_path):
    assert list_released(tmp_path) == []
    assert default_released(tmp_path) is None
    with pytest.raises(CheckpointError, match=r"no released model is the default.*none yet"):
        load_released(root=tmp_path)
    (tmp_path / "registry.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"registry\.json: damaged"):
        list_released(tmp_path)


def test_a_model_is_no_default_by_itself(checkpoint, tmp_path):
    pack_released(checkpoint, tmp_path / "w" / "x", FACTS)
    register_released(tmp_path / "w" / "x")
    assert default_released(tmp_path / "w") is None
    with pytest.raises(CheckpointError, match=r"no released model is the default; name one \(there are: x\)"):
        find_weights(root=tmp_path / "w")


def test_weights_are_found_by_name_folder_and_file(root, checkpoint, tmp_path, monkeypatch):
    assert find_weights(root=root) == root / "second"
    assert find_weights("first", root) == root / "first"
    assert find_weights(str(root / "first")) == root / "first"
    assert find_weights(checkpoint) == find_weights(checkpoint / "net_G_AB.safetensors") == checkpoint / module.SOURCE
    (tmp_path / "here" / "first").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert find_weights("first", root) == root / "first", "a folder without weights does not hide a model of its name"
    shutil.copytree(root / "second", tmp_path / "here" / "second")
    assert find_weights("second", root).resolve() == tmp_path / "here" / "second", "one with weights does"


def test_an_unknown_name_lists_the_known_ones(root, tmp_path):
    for which in ("third", tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match=r"no such checkpoint file, and no released model.*second, first"):
            find_weights(which, root)
    with pytest.raises(CheckpointError, match="got a file"):
        load_released(root / "first" / MODEL)


def test_a_failure_leaves_the_older_model_as_it_was(checkpoint, root, monkeypatch):
    before = files(root / "first")

    def fail(*_):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        pack_released(checkpoint, root / "first", {"trained_on": "other"}, card=fail)
    assert files(root / "first") == before
    replace = os.replace

    def fails_at_the_end(source, target):  # the older one is moved away first
        fail() if str(target) == str(root / "first") and ".tmp_old_" not in str(source) else replace(source, target)

    monkeypatch.setattr(module.os, "replace", fails_at_the_end)
    with pytest.raises(OSError, match="disk full"):
        pack_released(checkpoint, root / "first", {"trained_on": "other"})
    monkeypatch.undo()
    assert files(root / "first") == before
    assert not list(root.glob(".tmp_*"))
    pack_released(checkpoint, root / "first", {"trained_on": "other"}, card=lambda model: model["trained_on"])
    assert (root / "first" / CARD).read_text() == "other"
    assert set(files(root / "first")) == {MODEL, CARD, "part-00001-of-00001.safetensors"}, "nothing of the older one"


def test_what_is_no_checkpoint_and_what_is_no_model_is_refused(checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        pack_released(tmp_path, tmp_path / "w" / "x", FACTS)
    (tmp_path / "mine").mkdir()
    with pytest.raises(CheckpointError, match="mine: is there and no released model"):
        pack_released(checkpoint, tmp_path / "mine", FACTS)
    with pytest.raises(CheckpointError, match=r"name '\.hidden'"):
        pack_released(checkpoint, tmp_path / ".hidden", FACTS)
    path = checkpoint / "net_G_AB.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"1234")
    with pytest.raises(CheckpointError, match=r"net_G_AB\.safetensors: damaged"):
        pack_released(checkpoint, tmp_path / "w" / "x", FACTS)


def test_the_models_of_this_package_are_whole_and_small_enough():
    rows = list_released()
    if not rows:
        pytest.skip("this copy has no released model")
    for row in rows:
        load_released(row["name"])
        assert max(part["bytes"] for part in read_model(row["folder"])["parts"]) < 16 * 2**20
        assert row["trained_on"]
        assert (row["folder"] / CARD).is_file()


def test_the_size_to_use_is_told_where_it_differs_and_belongs_to_the_checksum(checkpoint, tmp_path):
    plain, same, other = (
        pack_released(checkpoint, tmp_path / "w" / name, {**FACTS, **use})
        for name, use in (("x", {}), ("y", {"use_px": 32}), ("z", {"use_px": 64}))
    )
    assert "use_px" not in plain
    assert "use_px" not in same
    assert (other["use_px"], other["size_px"]) == (64, 32)
    assert plain["sha256"] == same["sha256"] != other["sha256"]
    assert training_size(tmp_path / "w" / "z") == 64
    assert training_size(tmp_path / "w" / "x") == 32
