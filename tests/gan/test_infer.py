"""Translating pictures with a trained generator."""

import numpy as np
import pytest
import torch

from lib.gan import CheckpointError, Generator, Model, Translator, load_generator, seconds_per_face
from lib.gan.checkpoints import write_checkpoint

PICTURES = np.random.default_rng(0).integers(0, 256, (5, 32, 48, 3), dtype=np.uint8)
SEEDS = [3, 1, 4, 1, 5]


@pytest.fixture
def folder(tiny, tmp_path):
    """A checkpoint whose weights are large enough for noise to show in eight bits."""
    model = Model(tiny())
    with torch.no_grad():
        for parameter in model.net_G_AB.parameters():
            parameter.mul_(10)
    return write_checkpoint(tmp_path, 313, model.networks, {}, {"step": 9, "config": {"size": 32}})


def test_folder_and_file_load_the_same_generator(folder):
    a, b = load_generator(folder), load_generator(str(folder / "net_G_AB.safetensors"))
    assert isinstance(a, Generator)
    assert not a.training
    assert a.noise.sigma == (0, 1, 0.2)
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))
    assert not any(p.requires_grad for p in a.parameters())


def test_a_flipped_bit_is_noticed(folder):
    path = folder / "net_G_AB.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"net_G_AB\.safetensors: damaged"):
        load_generator(folder)


def test_a_discriminator_is_refused(folder):
    with pytest.raises(CheckpointError, match="expected a generator, got a Discriminator"):
        load_generator(folder / "net_D_A.safetensors")


def test_result_is_the_networks(folder):
    got = Translator(folder, "cpu").translate(PICTURES, SEEDS)
    assert (got.images.dtype, got.images.shape) == (np.uint8, PICTURES.shape)
    assert (got.attention.dtype, got.attention.shape) == (np.float32, PICTURES.shape[:3])
    assert 0 <= got.attention.min() <= got.attention.max() <= 1

    x = torch.from_numpy(PICTURES[2].astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    parts = load_generator(folder)(x, [torch.Generator().manual_seed(4)], return_parts=True)
    expected = (parts.output[0].permute(1, 2, 0).numpy() + 1) * 127.5
    assert np.abs(got.images[2] - expected).max() <= 0.51
    assert got.attention[2] == pytest.approx(1 - parts.attention[0, 9].numpy(), abs=1e-5)


def test_a_result_does_not_depend_on_its_batch(folder):
    """Promised: within one step of 255. Convolutions may sum in another order for another batch size."""
    results = [Translator(folder, "cpu", batch_size=n).translate(PICTURES, SEEDS) for n in (1, 2, 16)]
    order = [4, 2, 0, 3, 1]
    shuffled = Translator(folder, "cpu", batch_size=3).translate(PICTURES[order], [SEEDS[i] for i in order])
    for other in (results[1].images, results[2].images, shuffled.images[np.argsort(order)]):
        assert np.abs(results[0].images.astype(int) - other).max() <= 1


def test_seeds_repeat_and_differ(folder):
    translator = Translator(folder, "cpu")
    same = np.repeat(PICTURES[:1], 3, axis=0)
    images = translator.translate(same, [8, 8, 9]).images.astype(int)
    assert np.abs(images[0] - images[1]).max() <= 1
    assert np.abs(images[0] - images[2]).max() > 5


def test_sigma_can_be_overridden_for_one_call(folder):
    translator = Translator(folder, "cpu")
    quiet = translator.translate(PICTURES, sigma=(0, 0, 0)).images
    assert np.array_equal(quiet, translator.translate(PICTURES, SEEDS, sigma=(0, 0, 0)).images)
    loud = translator.translate(PICTURES, SEEDS, sigma=(0, 3, 1)).images
    usual = translator.translate(PICTURES, SEEDS).images
    far = [np.abs(x.astype(int) - quiet).mean() for x in (usual, loud)]
    assert 0 < far[0] < far[1]


def test_no_pictures_is_no_error(folder):
    got = Translator(folder, "cpu").translate(PICTURES[:0], [])
    assert got.images.shape == (0, 32, 48, 3)


def test_wrong_input_is_refused_in_words(folder):
    translator = Translator(folder, "cpu")
    with pytest.raises(ValueError, match=r"one per image \(5\), got none"):
        translator.translate(PICTURES)
    with pytest.raises(ValueError, match=r"one per image \(5\), got 2"):
        translator.translate(PICTURES, [1, 2])
    with pytest.raises(ValueError, match=r"expected uint8 \[N, H, W, 3\], got float32"):
        translator.translate(PICTURES.astype(np.float32), SEEDS)
    with pytest.raises(ValueError, match="divisible by 4"):
        translator.translate(PICTURES[:, :30], SEEDS)


@pytest.fixture
def released(folder, tmp_path, monkeypatch):
    """The same weights as a released model, the default."""
    from lib.gan import released as module

    module.pack_released(folder, tmp_path / "weights" / "tiny", {"trained_on": "noise"}, 12_000)
    module.register_released(tmp_path / "weights" / "tiny", default=True)
    monkeypatch.setattr(module, "WEIGHTS", tmp_path / "weights")
    return tmp_path / "weights" / "tiny"


def test_a_released_model_translates_by_name_by_folder_and_by_default(folder, released):
    results = [Translator(which, "cpu").translate(PICTURES, SEEDS) for which in (None, "tiny", released, str(released))]
    for other in results[1:]:
        assert np.array_equal(results[0].images, other.images)
        assert np.array_equal(results[0].attention, other.attention)
    exact = Translator(folder, "cpu").translate(PICTURES, SEEDS)
    change = np.abs(exact.images.astype(int) - results[0].images)
    assert 0 < change.mean() < 3, "the weights were rounded, not replaced"
    with pytest.raises(CheckpointError, match=r"no released model of that name \(there are: tiny\)"):
        Translator("other", "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_cpus_pictures(released):
    """Noise is drawn on the CPU for either, so that only the rounding of sums differs (cuDNN may take TF32)."""
    a, b = (Translator("tiny", device).translate(PICTURES, SEEDS) for device in ("cpu", "cuda"))
    assert np.abs(a.images.astype(int) - b.images).mean() < 1
    assert np.abs(a.attention - b.attention).mean() < 0.01


def test_the_cost_of_a_face_is_the_median_batch_without_the_first(folder, monkeypatch):
    translator = Translator(folder, "cpu", batch_size=7)
    clock = iter([0, 90, 100, 104, 200, 208, 300, 330])  # batches of 90 (warming up), 4, 8 and 30 seconds
    seen = []
    translate = translator.translate

    def watched(images, seeds):
        seen.append((images.shape, len(seeds), translator.batch_size))
        return translate(images, seeds)

    monkeypatch.setattr(translator, "translate", watched)
    monkeypatch.setattr("lib.gan.infer.time.perf_counter", lambda: next(clock))
    assert seconds_per_face(translator, 32, 4, repeats=3) == 8 / 4
    assert seen == [((4, 32, 32, 3), 4, 4)] * 4
    assert translator.batch_size == 7
    monkeypatch.undo()
    assert 0 < seconds_per_face(translator, 32, 2, repeats=1) < 60
