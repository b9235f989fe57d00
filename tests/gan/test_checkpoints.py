"""Checkpoints are whole or refused by name."""

import hashlib
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lib.gan import CheckpointError, Model, load_network, read_meta
from lib.gan.checkpoints import (
    NETWORKS,
    TRAINER,
    clean,
    list_checkpoints,
    load_trainer,
    load_weights,
    newest_usable,
    prune,
    write_checkpoint,
)


@pytest.fixture
def model(tiny) -> Model:
    return Model(tiny())


def save(root, model, *epochs):
    for epoch in epochs:
        path = write_checkpoint(root, epoch, model.networks, {"x": torch.arange(3.0)}, {"step": epoch})
    return path


def damage(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_one_file_alone_is_enough_to_load_a_network(model, tmp_path):
    folder = save(tmp_path, model, 313)
    assert folder.name == "epoch_0313"
    for name, net in model.networks.items():
        loaded = load_network(folder / f"{name}.safetensors")
        assert type(loaded) is type(net)
        assert loaded.config() == net.config()
        assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), net.state_dict().values()))


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
def test_the_upsampling_is_built_again(tiny, tmp_path, upsampling):
    model = Model(tiny(upsampling=upsampling))
    net = load_network(save(tmp_path, model, 1) / "net_G_BA.safetensors")
    assert net.upsampling == upsampling
    noise = [torch.Generator().manual_seed(0) for _ in range(2)]
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    assert torch.equal(net(x, noise[0]), model.net_G_BA(x, noise[1]))
    other = {"transposed": "resize", "resize": "transposed"}[upsampling]
    with pytest.raises(CheckpointError, match=r"net_G_AB.*do not fit.*deconv1_attention\.weight: expected \("):
        load_weights(Model(tiny(upsampling=other)).networks, tmp_path / "epoch_0001")


def test_a_file_from_before_upsampling_loads_as_transposed(model, tmp_path):
    path = save(tmp_path, model, 1) / "net_G_AB.safetensors"
    with safe_open(path, framework="pt") as file:
        note = json.loads(file.metadata()["network"])
    del note["config"]["upsampling"]
    save_file(load_file(path), path, metadata={"network": json.dumps(note)})
    net = load_network(path)
    assert net.upsampling == "transposed"
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), model.net_G_AB.state_dict().values()))


def test_meta_tells_what_it_is(model, tmp_path):
    meta = read_meta(save(tmp_path, model, 313), with_trainer=True)
    assert (meta["format"], meta["epoch"], meta["step"]) == (1, 313, 313)
    assert set(meta["files"]) == {f"{name}.safetensors" for name in model.networks} | {TRAINER}
    assert load_trainer(tmp_path / "epoch_0313", "cpu")["x"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", [*(f"{name}.safetensors" for name in NETWORKS), TRAINER, "meta.json"])
@pytest.mark.parametrize("how", ["damaged", "truncated", "empty", "missing"])
def test_broken_files_are_refused_by_name_and_passed_over(model, tmp_path, name, how):
    save(tmp_path, model, 1, 2)
    path = tmp_path / "epoch_0002" / name
    if how == "missing":
        path.unlink()
    elif how != "damaged":
        path.write_bytes(path.read_bytes()[: -20 if how == "truncated" else 0])
    else:
        damage(path)
    with pytest.raises(CheckpointError, match=f"epoch_0002.{name}"):
        read_meta(tmp_path / "epoch_0002", with_trainer=True)
    with pytest.warns(UserWarning, match=f"falling back to epoch_0001: .*epoch_0002.{name}: (missing|damaged)"):
        folder, meta = newest_usable(tmp_path, last_step=9)
    assert (folder.name, meta["epoch"]) == ("epoch_0001", 1)
    assert list_checkpoints(tmp_path) == [folder]  # the refused one must not count as one of the newest two


def test_files_that_are_no_networks_are_refused(model, tmp_path):
    folder = save(tmp_path, model, 1)
    with pytest.raises(CheckpointError, match=r"trainer\.safetensors: no network description"):
        load_network(folder / TRAINER)
    (tmp_path / "picture.safetensors").write_bytes(b"\xff\xd8 a picture")
    with pytest.raises(CheckpointError, match=r"picture.*missing or damaged"):
        load_network(tmp_path / "picture.safetensors")
    with pytest.raises(CheckpointError, match=r"nowhere.*missing or damaged"):
        load_network(tmp_path / "nowhere.safetensors")


def test_weights_of_another_size_are_refused(model, tiny, tmp_path):
    folder = save(tmp_path, model, 1)
    with pytest.raises(CheckpointError, match=r"net_G_AB.*do not fit.*conv1\.bias: expected \(8,\), got \(4,\)"):
        load_weights(Model(tiny(ngf=8)).networks, folder)
    with pytest.raises(CheckpointError, match=r"net_G_AB.*resnet_blocks\.2.*got None"):
        load_weights(Model(tiny(n_blocks=3)).networks, folder)


def test_another_format_is_refused(model, tmp_path):
    path = save(tmp_path, model, 1) / "meta.json"
    content = json.loads(path.read_text()) | {"format": 2}
    del content["sha256"]
    # Intact: the digest fits. By hand, as meta.json has it: over everything but itself, keys sorted.
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(content | {"sha256": digest}))
    with pytest.raises(CheckpointError, match="expected checkpoint format 1, got 2"):
        read_meta(path.parent)
    # Not damaged, so not removed either.
    save(tmp_path, model, 0)
    with pytest.raises(CheckpointError, match=r"epoch_0001.*got 2; use the version of this package that wrote it"):
        newest_usable(tmp_path, last_step=9)
    assert len(list_checkpoints(tmp_path)) == 2


def test_a_changed_digit_in_the_meta_is_found(model, tmp_path):
    path = save(tmp_path, model, 1) / "meta.json"
    path.write_text(path.read_text().replace('"step": 1', '"step": 3'))
    with pytest.raises(CheckpointError, match=r"epoch_0001.meta\.json: damaged"):
        read_meta(path.parent)


def test_a_changed_digit_of_the_format_is_damage_not_another_format(model, tmp_path):
    save(tmp_path, model, 1, 2)
    path = tmp_path / "epoch_0002" / "meta.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 3'))
    told = []
    with pytest.warns(UserWarning, match=r"falling back to epoch_0001: .*epoch_0002.meta\.json: damaged") as warned:
        assert newest_usable(tmp_path, 9, told.append)[0].name == "epoch_0001"
    assert told == [str(warning.message) for warning in warned]
    assert not path.parent.exists()


def test_a_file_in_the_place_of_a_checkpoint_is_refused_and_stays(model, tmp_path):
    save(tmp_path, model, 1)
    (tmp_path / "epoch_0002").write_text("mine")
    with pytest.raises(CheckpointError, match=r"epoch_0002: expected a checkpoint's folder, got a file; move it"):
        newest_usable(tmp_path, last_step=9)
    assert [folder.name for folder in list_checkpoints(tmp_path)] == ["epoch_0001"]
    prune(tmp_path, keep_epochs=())
    assert (tmp_path / "epoch_0002").read_text() == "mine"


def test_a_meta_from_before_it_had_a_checksum_is_read(model, tmp_path):
    path = save(tmp_path, model, 1) / "meta.json"
    content = json.loads(path.read_text())
    del content["sha256"]
    path.write_text(json.dumps(content))
    assert read_meta(path.parent) == content


def test_weights_that_are_not_finite_are_never_saved(model, tmp_path):
    with torch.no_grad():
        model.net_G_BA.conv2.bias[0] = float("nan")
    with pytest.raises(CheckpointError, match=r"net_G_BA: conv2\.bias"):
        save(tmp_path, model, 1)
    assert list(tmp_path.iterdir()) == []


def test_pruning_keeps_the_newest_two_and_the_named(model, tmp_path):
    save(tmp_path, model, 299, 313, 400, 476, 510)
    prune(tmp_path, keep_epochs=(313,))
    assert [folder.name for folder in list_checkpoints(tmp_path)] == ["epoch_0313", "epoch_0476", "epoch_0510"]
    assert [(folder / TRAINER).exists() for folder in list_checkpoints(tmp_path)] == [False, True, True]
    read_meta(tmp_path / "epoch_0313")
    with pytest.raises(CheckpointError, match=r"trainer.*missing"):
        read_meta(tmp_path / "epoch_0313", with_trainer=True)


def test_a_new_one_replaces_a_damaged_one_and_leftovers_go(model, tmp_path):
    damage(save(tmp_path, model, 1) / TRAINER)
    (tmp_path / ".tmp_epoch_0002_99").mkdir()
    (tmp_path / ".tmp_epoch_0002_99" / "net_G_AB.safetensors").write_bytes(b"half")
    clean(tmp_path)
    save(tmp_path, model, 1)
    read_meta(tmp_path / "epoch_0001", with_trainer=True)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch_0001"]


def test_labels_sort_by_number_not_by_name(model, tmp_path):
    save(tmp_path, model, 9999, 10000)
    (tmp_path / "epoch_9999 (copy)").mkdir()  # of a person, not ours
    assert newest_usable(tmp_path, 0)[1]["epoch"] == 10000


def test_no_checkpoint_yet(tmp_path):
    assert newest_usable(tmp_path / "nothing", 9) is None


def test_the_last_step_needs_no_trainer_state(model, tmp_path):
    (save(tmp_path, model, 9) / TRAINER).unlink()
    assert newest_usable(tmp_path, last_step=9)[0].name == "epoch_0009"


def test_weights_that_cannot_be_resumed_are_never_removed(model, tmp_path):
    save(tmp_path, model, 1, 2)
    for folder in list_checkpoints(tmp_path):
        (folder / TRAINER).unlink()
    message = r"holds weights \(epoch_0002\) but no checkpoint that training can go on from; move"
    with pytest.warns(UserWarning, match="falling back"), pytest.raises(CheckpointError, match=message):
        newest_usable(tmp_path, last_step=9)
    assert len(list_checkpoints(tmp_path)) == 2
