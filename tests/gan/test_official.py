"""Weights of the public code, through a second network written from its equations."""

import os
import pickle
import warnings

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lib.gan import CheckpointError, Generator, load_attentiongan

# ---- the second network --------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1, self.conv1_norm = nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels)
        self.conv2, self.conv2_norm = nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels)
        self.pad = nn.ReflectionPad2d(1)

    def forward(self, x):
        h = torch.relu(self.conv1_norm(self.conv1(self.pad(x))))
        return x + self.conv2_norm(self.conv2(self.pad(h)))


class Twin(nn.Module):
    """Modules for padding and norm, and every content and attention sliced out by name."""

    def __init__(self, ngf, blocks=9, **norm):
        super().__init__()
        self.pad = nn.ReflectionPad2d(3)
        self.conv1, self.conv1_norm = nn.Conv2d(3, ngf, 7), nn.InstanceNorm2d(ngf, **norm)
        self.conv2, self.conv2_norm = nn.Conv2d(ngf, 2 * ngf, 3, 2, 1), nn.InstanceNorm2d(2 * ngf, **norm)
        self.conv3, self.conv3_norm = nn.Conv2d(2 * ngf, 4 * ngf, 3, 2, 1), nn.InstanceNorm2d(4 * ngf, **norm)
        self.resnet_blocks = nn.ModuleList([Block(4 * ngf) for _ in range(blocks)])
        for kind in ("content", "attention"):
            setattr(self, f"deconv1_{kind}", nn.ConvTranspose2d(4 * ngf, 2 * ngf, 3, 2, 1, 1))
            setattr(self, f"deconv1_norm_{kind}", nn.InstanceNorm2d(2 * ngf, **norm))
            setattr(self, f"deconv2_{kind}", nn.ConvTranspose2d(2 * ngf, ngf, 3, 2, 1, 1))
            setattr(self, f"deconv2_norm_{kind}", nn.InstanceNorm2d(ngf, **norm))
        self.deconv3_content = nn.Conv2d(ngf, 27, 7)
        self.deconv3_attention = nn.Conv2d(ngf, 10, 1)

    def forward(self, x):
        h = torch.relu(self.conv1_norm(self.conv1(self.pad(x))))
        h = torch.relu(self.conv2_norm(self.conv2(h)))
        h = torch.relu(self.conv3_norm(self.conv3(h)))
        for block in self.resnet_blocks:
            h = block(h)
        c = torch.relu(self.deconv1_norm_content(self.deconv1_content(h)))
        c = torch.relu(self.deconv2_norm_content(self.deconv2_content(c)))
        content = self.deconv3_content(self.pad(c))
        a = torch.relu(self.deconv1_norm_attention(self.deconv1_attention(h)))
        a = torch.relu(self.deconv2_norm_attention(self.deconv2_attention(a)))
        attention = nn.Softmax(dim=1)(self.deconv3_attention(a))
        output = x * attention[:, 9:10].repeat(1, 3, 1, 1)  # the tenth attends to the input
        for i in range(9):
            image = torch.tanh(content[:, 3 * i : 3 * i + 3])
            output = output + image * attention[:, i : i + 1].repeat(1, 3, 1, 1)
        return output


def twin(ngf=8, blocks=2, **norm):
    torch.manual_seed(ngf)
    return Twin(ngf, blocks, **norm).eval()


def picture(size=32):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


# ---- the same function ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ngf", [8, 64])
def test_the_network_computes_the_same_function_with_the_same_gradients(tmp_path, ngf):
    public = twin(ngf, blocks=9)
    torch.save(public.state_dict(), tmp_path / "latest_net_G_A.pth")
    net = load_attentiongan(tmp_path / "latest_net_G_A.pth")
    assert (net.ngf, net.n_blocks, net.n_content) == (ngf, 9, 9)
    assert not net.training
    assert not net.noise.active

    x = picture(64)[:1]
    with torch.no_grad():
        assert (net(x) - public(x)).abs().max() <= 1e-6

    x = x.double()
    weight = torch.linspace(-1, 1, x.numel()).double().view_as(x)  # every output counts differently
    gradients = []
    for module in (public.double(), net.double()):
        one = x.clone().requires_grad_(True)
        (module(one) * weight).sum().backward()
        gradients.append({"input": one.grad} | {key: p.grad for key, p in module.named_parameters()})
    expected, got = gradients
    assert got.keys() == expected.keys()
    for key, gradient in expected.items():
        # A bias before a norm has no gradient but rounding: it is measured by its layer's weight.
        largest = expected[key.replace("bias", "weight")].abs().max()
        assert largest > 0
        assert (got[key] - gradient).abs().max() <= 1e-9 * largest, key


def test_published_size():
    count = sum(value.numel() for value in twin(64, 9).state_dict().values())
    assert count == sum(value.numel() for value in Generator().state_dict().values()) == 11_822_949


def test_the_way_back_is_the_state_dict():
    net, public = Generator(8, n_blocks=2), twin()
    public.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert (net(picture()) - public(picture())).abs().max() <= 1e-6


# ---- the forms a file comes in -------------------------------------------------------------------------------------


def wrapped(state):
    return {"epoch": 60, "state_dict": {f"module.{key}": value for key, value in state.items()}}


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("bare.pth", dict),
        ("SUFFIX.PT", dict),
        ("parallel.pth", lambda state: {f"module.{key}": value for key, value in state.items()}),
        ("wrapped.pt", wrapped),
        ("parameters.pth", lambda state: {key: nn.Parameter(value) for key, value in state.items()}),
        ("double.pth", lambda state: {key: value.double() for key, value in state.items()}),
    ],
)
def test_pickled_forms(tmp_path, name, form):
    public = twin()
    torch.save(form(public.state_dict()), tmp_path / name)
    assert_same(load_attentiongan(str(tmp_path / name)), public)


def test_old_pickles_without_a_zip_around_them(tmp_path):
    public = twin()
    torch.save(public.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert_same(load_attentiongan(tmp_path / "old.pth"), public)


def test_safetensors(tmp_path):
    public = twin()
    save_file({f"module.{key}": value for key, value in public.state_dict().items()}, tmp_path / "net.safetensors")
    assert_same(load_attentiongan(tmp_path / "net.safetensors"), public)


def test_sizes_are_read_off_the_shapes(tmp_path):
    net = Generator(4, n_blocks=3, n_content=2)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    loaded = load_attentiongan(tmp_path / "net.pth")
    assert loaded.config() == net.config()
    assert_same(loaded, net)


def test_tensors_that_share_memory_in_the_file_do_not_in_the_network(tmp_path):
    state = twin().state_dict()
    state["conv2.bias"] = state["deconv1_content.bias"]
    torch.save(state, tmp_path / "net.pth")
    net = load_attentiongan(tmp_path / "net.pth")
    assert net.conv2.bias.data_ptr() != net.deconv1_content.bias.data_ptr()
    assert all(p.requires_grad and p.dtype == torch.float32 for p in net.parameters())


def assert_same(net, public):
    with torch.no_grad():
        assert (net(picture()) - public(picture())).abs().max() <= 1e-6


# ---- refused -------------------------------------------------------------------------------------------------------


class Runs:
    """Unpickled without restriction, calls something."""

    def __init__(self, call, *arguments):
        self.call = call, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("place", ["whole file", "beside the weights"])
@pytest.mark.parametrize("saver", ["torch", "torch before 1.6", "pickle"])
@pytest.mark.parametrize("how", ["os.system", "open"])
def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(tmp_path, how, saver, place):
    def trap(marker):
        bait = Runs(os.system, f'echo caught > "{marker}"') if how == "os.system" else Runs(open, str(marker), "w")
        return bait if place == "whole file" else {**twin().state_dict(), "conv1.bias": bait}

    def save(content, path):
        if saver == "pickle":
            path.write_bytes(pickle.dumps(content, protocol=2))
        else:
            torch.save(content, path, _use_new_zipfile_serialization=saver == "torch")

    # The trap works: an unrestricted load springs it.
    save(trap(tmp_path / "control"), tmp_path / "control.pth")
    if saver == "pickle":
        pickle.loads((tmp_path / "control.pth").read_bytes())
    else:
        torch.load(tmp_path / "control.pth", weights_only=False)
    assert (tmp_path / "control").exists()

    save(trap(tmp_path / "marker"), tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=r"net\.pth: .*more than tensors .*nothing in it was run") as info:
        load_attentiongan(tmp_path / "net.pth")
    assert not (tmp_path / "marker").exists()
    assert "weights_only" not in str(info.value)
    assert info.value.__suppress_context__  # torch's own message advises to load without restriction


def test_the_environment_cannot_lift_the_restriction(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save(Runs(open, str(tmp_path / "marker"), "w"), tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="more than tensors"):
        load_attentiongan(tmp_path / "net.pth")
    assert not (tmp_path / "marker").exists()


def test_a_whole_network_is_refused(tmp_path):
    torch.save(Generator(4, n_blocks=1), tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=r"net\.pth: .*write only net\.state_dict\(\)"):
        load_attentiongan(tmp_path / "net.pth")


def without(*keys):
    return lambda state: {key: value for key, value in state.items() if key not in keys}


def adding(**values):
    return lambda state: state | {key.replace("__", "."): value for key, value in values.items()}


OTHER = {
    "a tensor alone": (lambda s: s["conv1.bias"], "expected a state dict .* got a Tensor"),
    "a list": (lambda s: list(s.values()), "expected a state dict .* got a list"),
    "optimiser beside": (adding(lr=0.1), "got 'lr': float"),
    "numbered": (lambda s: dict(enumerate(s.values())), "got 0: Tensor"),
    "both networks": (lambda s: {"net_G_A": s, "net_G_B": s}, "got 'net_G_A': dict"),
    "nothing": (lambda s: {}, r"54 missing: conv1\.weight, .* and 48 more"),
    "missing": (without("conv2.bias"), r"AttentionGAN-v2 \(1 missing: conv2\.bias\)"),
    "unexpected": (adding(conv4__weight=torch.ones(1)), r"\(1 unexpected: conv4\.weight\)"),
    "block left out": (
        lambda s: {key.replace("blocks.1", "blocks.7"): value for key, value in s.items()},
        r"4 missing: resnet_blocks\.1\.conv1\.weight.*4 unexpected: resnet_blocks\.7",
    ),
    "no blocks": (lambda s: {k: v for k, v in s.items() if "resnet" not in k}, "36 missing: resnet_blocks.0.conv1"),
    "half prefixed": (adding(module__conv1__bias=torch.ones(8)), r"1 unexpected: module\.conv1\.bias"),
    "shape": (
        adding(conv3__weight=torch.ones(32, 16, 4, 4)),
        r"1 of another shape: conv3\.weight \[32, 16, 4, 4\] for \[32, 16, 3, 3\]",
    ),
    "another ngf": (adding(conv1__weight=torch.ones(16, 3, 7, 7)), r"conv1\.bias \[8\] for \[16\]"),
    "numbers": (adding(conv1__weight=torch.tensor(1.0)), r"conv1\.weight \[\] for"),
    "huge": (adding(conv1__weight=torch.ones(1).expand(10**6, 3, 7, 7)), "of another shape"),
    "a transposed convolution as a plain one": (
        adding(deconv1_content__weight=torch.ones(16, 32, 3, 3)),
        r"deconv1_content\.weight \[16, 32, 3, 3\] for \[32, 16, 3, 3\]",
    ),
    "beyond counting": (
        adding(conv1__weight=torch.ones(10**9, 0, 7, 7)),
        r"of another shape: conv1\.weight \[1000000000, 0, 7, 7\] for \[64, 3, 7, 7\]",
    ),
    "integers": (
        adding(conv1__bias=torch.ones(8, dtype=torch.int64)),
        r"conv1\.bias: .* of 16 to 64 bits, got int64 \(strided, cpu\)",
    ),
    "eight bits": (adding(conv1__bias=torch.ones(8).to(torch.float8_e4m3fn)), r"conv1\.bias: .* got float8_e4m3fn"),
    "quantised": (
        adding(conv1__bias=torch.quantize_per_tensor(torch.ones(8), 0.1, 0, torch.qint8)),
        r"conv1\.bias: .* got qint8",
    ),
    "sparse": (adding(conv1__bias=torch.ones(8).to_sparse()), r"conv1\.bias: expected a dense"),
    "not finite": (adding(conv1__bias=torch.full((8,), float("nan"))), r"conv1\.bias holds values that are not finite"),
}


@pytest.mark.parametrize("case", OTHER)
def test_other_content_is_refused_by_name(tmp_path, case):
    change, message = OTHER[case]
    with warnings.catch_warnings():  # torch's own on what this test writes
        warnings.simplefilter("ignore")
        torch.save(change(dict(twin().state_dict())), tmp_path / "net.pth")
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        with pytest.raises(CheckpointError, match=rf"net\.pth: .*{message}"):
            load_attentiongan(tmp_path / "net.pth")
    assert leaked == []


@pytest.mark.parametrize(
    ("norm", "message"),
    [
        ({"affine": True}, r"norms with weights \(conv1_norm\.weight, .*another function"),
        ({"track_running_stats": True}, r"running statistics of norms \(conv1_norm\.running_mean, .*another function"),
    ],
)
def test_norms_that_make_another_function_are_refused(tmp_path, norm, message):
    """And rightly: with the same convolutions such a network gives something else."""
    public, plain = twin(**norm), twin()
    plain.load_state_dict({key: value for key, value in public.state_dict().items() if "norm" not in key})
    with torch.no_grad():
        for module in public.modules():
            if isinstance(module, nn.InstanceNorm2d) and module.affine:
                module.weight.fill_(1.5)
        assert (public(picture()) - plain(picture())).abs().max() > 1e-3
    torch.save(public.state_dict(), tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=message):
        load_attentiongan(tmp_path / "net.pth")


def test_files_that_are_none_are_refused(tmp_path):
    good = tmp_path / "good.pth"
    torch.save(twin().state_dict(), good)
    content = good.read_bytes()
    files = {
        "cut.pth": (content[: len(content) // 2], r"cut\.pth: damaged"),
        "empty.pth": (b"", r"empty\.pth: damaged"),
        "picture.pt": (b"\xff\xd8 a picture", r"picture\.pt: damaged"),
        "picture.safetensors": (b"\xff\xd8 a picture", r"picture\.safetensors: damaged"),
        "renamed.safetensors": (content, r"renamed\.safetensors: damaged"),
        "net.ckpt": (content, r"net\.ckpt: expected a \.pth, \.pt or \.safetensors file, got \.ckpt"),
        "net": (content, "got no suffix"),
    }
    for name, (written, message) in files.items():
        (tmp_path / name).write_bytes(written)
        with pytest.raises(CheckpointError, match=message):
            load_attentiongan(tmp_path / name)
    for name in ("nowhere.pth", "."):
        with pytest.raises(CheckpointError, match="no such file"):
            load_attentiongan(tmp_path / name)
