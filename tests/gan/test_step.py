"""One training step against the equations, written out plainly a second time in float64.

The reference shares no layer with the library: convolutions are sums over patches, transposed convolutions are
convolutions of a zero-stuffed input, instance norm is mean and variance, and no passes are joined.
"""

import functools
import math
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt

from lib.gan import Batch, Model, make_batch, stable_seed, train_step
from lib.gan.step import LOSSES, OF_TWO_SIDES, generator_losses, losses_of, spread_of

# ---- the reference -------------------------------------------------------------------------------------------------


def reflect(x, p):
    def index(n):
        return [*range(p, 0, -1), *range(n), *range(n - 2, n - 2 - p, -1)]

    return x[:, :, index(x.shape[2])][:, :, :, index(x.shape[3])]


def conv(x, w, b, stride=1, zeros=0):
    x = F.pad(x, (zeros,) * 4)
    patches = x.unfold(2, w.shape[2], stride).unfold(3, w.shape[3], stride)
    return torch.einsum("bchwij,ocij->bohw", patches, w) + b[None, :, None, None]


def conv_transposed(x, w, b):
    """3×3, stride 2, padding 1, output padding 1."""
    n, c, h, wd = x.shape
    stuffed = x.new_zeros(n, c, 2 * h + 2, 2 * wd + 2)
    stuffed[:, :, 1 : 2 * h : 2, 1 : 2 * wd : 2] = x
    return conv(stuffed, w.flip(2, 3).transpose(0, 1), b)


def resized(x, w, b):
    """Every pixel four times, then 3×3 within a reflected rim."""
    n, c, h, wd = x.shape
    return conv(reflect(x[..., None, :, None].expand(n, c, h, 2, wd, 2).reshape(n, c, 2 * h, 2 * wd), 1), w, b)


def norm(x):
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) / (((x - mean) ** 2).mean((2, 3), keepdim=True) + 1e-5).sqrt()


def relu(x):
    return x * (x > 0)


def ref_generator(p, x, noise, up):
    """p: name → parameter; noise: what is added to the inputs of content layers 2 and 3, [B, 1, h, w] each."""

    def wb(name):
        return p[f"{name}.weight"], p[f"{name}.bias"]

    h = relu(norm(conv(reflect(x, 3), *wb("conv1"))))
    h = relu(norm(conv(h, *wb("conv2"), stride=2, zeros=1)))
    h = relu(norm(conv(h, *wb("conv3"), stride=2, zeros=1)))
    for i in range(2):
        r = relu(norm(conv(reflect(h, 1), *wb(f"resnet_blocks.{i}.conv1"))))
        h = h + norm(conv(reflect(r, 1), *wb(f"resnet_blocks.{i}.conv2")))
    c = relu(norm(up(h, *wb("deconv1_content"))))
    c = relu(norm(up(c + noise[0], *wb("deconv2_content"))))
    c = torch.tanh(conv(reflect(c + noise[1], 3), *wb("deconv3_content")))
    a = relu(norm(up(h, *wb("deconv1_attention"))))
    a = relu(norm(up(a, *wb("deconv2_attention"))))
    a = conv(a, *wb("deconv3_attention")).exp()
    a = a / a.sum(1, keepdim=True)
    return sum(c[:, 3 * i : 3 * i + 3] * a[:, i : i + 1] for i in range(9)) + x * a[:, 9:]


def ref_discriminator(p, x):
    def leaky(x):
        return torch.where(x > 0, x, 0.2 * x)

    def wb(i):
        return p[f"model.{i}.weight"], p[f"model.{i}.bias"]

    h = leaky(conv(x, *wb(0), stride=2, zeros=1))
    h = leaky(norm(conv(h, *wb(2), stride=2, zeros=1)))
    h = leaky(norm(conv(h, *wb(5), stride=2, zeros=1)))
    h = leaky(norm(conv(h, *wb(8), zeros=1)))
    return conv(h, *wb(11), zeros=1)


def ref_losses(nets, batch, cfg, step):
    """All named losses of a step whose pools are still empty."""
    A, B, keep = batch
    n, size = len(A), A.shape[-1]
    stream = torch.Generator().manual_seed(stable_seed(cfg.seed, cfg.stage, "noise", step))

    def draw(count):
        half = cfg.noise.sigma[1] * torch.randn((count, 1, size // 2, size // 2), generator=stream).double()
        return half, cfg.noise.sigma[2] * torch.randn((count, 1, size, size), generator=stream).double()

    noise_AB, noise_BA, noise_rec_A, noise_rec_B = draw(2 * n), draw(2 * n), draw(n), draw(n)
    AB, BA, D_A, D_B = (nets[k] for k in ("net_G_AB", "net_G_BA", "net_D_A", "net_D_B"))
    up = {"transposed": conv_transposed, "resize": resized}[cfg.upsampling]
    fake_B = ref_generator(AB, A, [z[:n] for z in noise_AB], up)
    idt_B = ref_generator(AB, B, [z[n:] for z in noise_AB], up)
    fake_A = ref_generator(BA, B, [z[:n] for z in noise_BA], up)
    idt_A = ref_generator(BA, A, [z[n:] for z in noise_BA], up)
    rec_A = ref_generator(BA, fake_B, noise_rec_A, up)
    rec_B = ref_generator(AB, fake_A, noise_rec_B, up)

    v = {
        "loss_G_adv_AB": ((ref_discriminator(D_B, fake_B) - 1) ** 2).mean(),
        "loss_G_adv_BA": ((ref_discriminator(D_A, fake_A) - 1) ** 2).mean(),
        "loss_cycle_A": (rec_A - A).abs().mean(),
        "loss_cycle_B": (rec_B - B).abs().mean(),
        "loss_idt_A": (idt_A - A).abs().mean(),
        "loss_idt_B": (idt_B - B).abs().mean(),
        "loss_nmc": (fake_B - A).abs().permute(0, 2, 3, 1)[keep[:, 0]].mean(),
    }
    v["loss_G"] = (
        v["loss_G_adv_AB"]
        + v["loss_G_adv_BA"]
        + cfg.lambda_A * (v["loss_cycle_A"] + 0.5 * v["loss_idt_A"])
        + cfg.lambda_B * (v["loss_cycle_B"] + 0.5 * v["loss_idt_B"])
        + cfg.lambda_nmc * v["loss_nmc"]
    )
    for name, net, real, fake in (("D_A", D_A, A, fake_A), ("D_B", D_B, B, fake_B)):
        on_real, on_fake = ref_discriminator(net, real), ref_discriminator(net, fake.detach())
        v[f"loss_{name}"] = 0.5 * (((on_real - 1) ** 2).mean() + (on_fake**2).mean())
        v[f"score_{name}_real"], v[f"score_{name}_fake"] = on_real.mean(), on_fake.mean()
    return v


BEFORE_A_NORM = {
    *(f"{name}.bias" for name in ("conv1", "conv2", "conv3", "model.2", "model.5", "model.8")),
    *(f"resnet_blocks.{i}.conv{j}.bias" for i in (0, 1) for j in (1, 2)),
    *(f"deconv{i}_{kind}.bias" for i in (1, 2) for kind in ("content", "attention")),
}


# ---- the tests -----------------------------------------------------------------------------------------------------


@pytest.fixture
def cfg(tiny, request):
    """Noise and NMC on, and no two weights alike."""
    return tiny(lambda_A=8.0, lambda_B=5.0, lr=1e-3, upsampling=getattr(request, "param", "transposed"))


@pytest.fixture
def model(cfg):
    """Float64, biases away from zero so that a forgotten one shows."""
    model = Model(cfg)
    stream = torch.Generator().manual_seed(0)
    for net in model.networks.values():
        net.double()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(5).add_(torch.randn(parameter.shape, generator=stream).double() * 0.02)
    return model


@pytest.fixture
def batch(cfg, toy_data):
    real_A, real_B, non_mask = make_batch(cfg, toy_data, 0)
    return Batch(real_A.double(), real_B.double(), non_mask)


@pytest.mark.parametrize("cfg", ["transposed", "resize"], indirect=True)
def test_losses_gradients_and_update_are_the_equations(cfg, model, batch):
    assert cfg.noise.sigma == (0, 1, 0.2)
    assert cfg.lambda_nmc == 10
    copies = {
        name: {key: p.detach().clone().requires_grad_(True) for key, p in net.named_parameters()}
        for name, net in model.networks.items()
    }
    expected = ref_losses(copies, batch, cfg, step=0)
    values = train_step(model, batch, cfg, step=0)

    assert set(expected) == set(LOSSES)
    for name, value in zip(LOSSES, values.tolist()):
        assert value == pytest.approx(expected[name].item(), rel=1e-10), name

    targets = {"net_G": expected["loss_G"], "net_D": expected["loss_D_A"] + expected["loss_D_B"]}
    checked = 0
    for name, parameters in copies.items():
        target = targets[name[:5]]
        gradients = torch.autograd.grad(target, list(parameters.values()), retain_graph=True)
        gradients = dict(zip(parameters, gradients))
        for key, before in parameters.items():
            after, gradient = model.networks[name].get_parameter(key), gradients[key]
            largest = gradients[key.replace("bias", "weight")].abs().max()
            if key in BEFORE_A_NORM:
                # A norm takes away what is constant over the pixels: nothing but rounding is left.
                assert max(after.grad.abs().max(), gradient.abs().max()) <= 1e-12 * largest, f"{name}.{key}"
            else:
                assert gradient.abs().max() > 1e-6, f"{name}.{key}"
                assert (after.grad - gradient).abs().max() <= 1e-9 * gradient.abs().max(), f"{name}.{key}"
            # Adam's first step, written out.
            first, second = (1 - cfg.betas[0]) * gradient, (1 - cfg.betas[1]) * gradient**2
            first, second = first / (1 - cfg.betas[0]), second / (1 - cfg.betas[1])
            step = cfg.lr * first / (second.sqrt() + 1e-8)
            assert (before - after - step).abs().max() <= 1e-5 * cfg.lr, f"{name}.{key}"
            checked += 1
    assert checked == 2 * 2 * (3 + 2 * 2 + 6) + 2 * 2 * 5


def test_gradient_predicts_the_loss_along_a_line(cfg, model, batch):
    check_along_a_line(model, batch, cfg)


def check_along_a_line(model, batch, cfg):
    """Finite differences: the one check that does not lean on automatic differentiation."""
    noise_seed = 3

    def loss():
        stream = torch.Generator().manual_seed(noise_seed)
        return generator_losses(model, batch, cfg, stream)[0]["loss_G"]

    parameters = list(model.named_parameters(("net_G_AB",) if cfg.one_sided else ("net_G_AB", "net_G_BA")).values())
    gradients = torch.autograd.grad(loss(), parameters)
    stream = torch.Generator().manual_seed(1)
    line = [torch.randn(p.shape, generator=stream).double() for p in parameters]
    slope = sum((g * d).sum() for g, d in zip(gradients, line)).item()

    def along(step):
        with torch.no_grad():
            for p, d in zip(parameters, line):
                p.add_(step * d)
            value = loss().item()
            for p, d in zip(parameters, line):
                p.sub_(step * d)
        return value

    epsilon = 1e-7
    assert (along(epsilon) - along(-epsilon)) / (2 * epsilon) == pytest.approx(slope, rel=1e-3)


def test_terms_that_are_off_leave_no_trace(cfg, tiny, model, batch):
    """λ = 0 takes the gradient away; the value of NMC is still measured, so that stages can be compared."""
    off = tiny(lambda_A=8.0, lambda_B=5.0, lambda_nmc=0.0, identity_ratio=0.0)
    losses, _, _ = generator_losses(model, batch, off, torch.Generator().manual_seed(0))
    assert "loss_idt_A" not in losses
    expected = losses["loss_G_adv_AB"] + losses["loss_G_adv_BA"] + 8 * losses["loss_cycle_A"]
    assert losses["loss_G"].item() == pytest.approx((expected + 5 * losses["loss_cycle_B"]).item(), rel=1e-12)
    assert losses["loss_nmc"].item() > 0

    values = dict(zip(LOSSES, train_step(model, Batch(*batch[:2], None), off, 0).tolist()))
    assert [name for name in LOSSES if math.isnan(values[name])] == ["loss_idt_A", "loss_idt_B", "loss_nmc"]


def test_generators_step_leaves_discriminators_without_gradient(cfg, model, batch):
    from lib.gan.step import frozen

    with frozen(model.net_D_A, model.net_D_B):
        generator_losses(model, batch, cfg, torch.Generator().manual_seed(0))[0]["loss_G"].backward()
    assert all(p.grad is None for n in ("net_D_A", "net_D_B") for p in model.networks[n].parameters())
    assert all(p.grad is not None for n in ("net_G_AB", "net_G_BA") for p in model.networks[n].parameters())
    assert all(p.requires_grad for p in model.net_D_A.parameters())


def test_noise_may_enter_one_direction_only(tiny, batch):
    model = Model(tiny(noise_in_G_BA=False))
    assert model.net_G_AB.noise.sigma == (0, 1, 0.2)
    assert not model.net_G_BA.noise.active
    assert Model(tiny()).net_G_BA.noise.active


def test_noise_is_fresh_in_every_step_and_repeats_with_it(cfg, tiny, batch):
    batch = Batch(batch.real_A.float(), batch.real_B.float(), batch.non_mask)

    def losses(step, cfg=cfg):
        return train_step(Model(cfg), batch, cfg, step)[:8]

    first = losses(0)
    assert torch.equal(first, losses(0))
    assert (first != losses(1)).all()
    quiet = tiny(noise=cfg.noise.__class__())
    assert torch.equal(losses(0, quiet), losses(1, quiet))  # the noise alone made the difference


def test_bfloat16_changes_rounding_and_nothing_else(tiny, toy_data, monkeypatch):
    inside = []

    def one_step(**changes):
        cfg = tiny(batch_size=4, **changes)
        model = Model(cfg)
        inside.clear()
        for net in model.networks.values():
            for module in net.modules():
                if isinstance(module, torch.nn.modules.conv._ConvNd):
                    module.register_forward_hook(lambda _, __, out: inside.append(out.dtype))
        values = train_step(model, make_batch(cfg, toy_data, 0), cfg, 0)
        state = [*model.named_parameters(("net_G_AB", "net_D_B")).values(), *model.trainer_state().values()]
        assert {x.dtype for x in (*state, values)} == {torch.float32}
        assert all(x.isfinite().all() for x in state)
        return values

    full = one_step()
    assert set(inside) == {torch.float32}
    half = one_step(precision="bf16")
    assert set(inside) == {torch.bfloat16}
    assert not torch.equal(half, full)
    # Eight bits of mantissa: a rounding is 0.4 %, and a mean over a picture averages most of them away.
    assert half == pytest.approx(full, rel=0.02, abs=0.01)

    # fp32 is the plain network: with autocast cut out of the step nothing changes by a bit.
    monkeypatch.setattr("lib.gan.step.autocast", lambda *_: nullcontext())
    assert torch.equal(one_step(), full)


def test_trainer_state_goes_out_and_in_unchanged(cfg, toy_data):
    first, second = Model(cfg), Model(cfg)
    for step in range(3):
        train_step(first, make_batch(cfg, toy_data, step), cfg, step)
    for name, net in second.networks.items():
        net.load_state_dict(first.networks[name].state_dict())
    second.load_trainer_state(first.trainer_state())
    for step in range(3, 6):
        a, b = (train_step(m, make_batch(cfg, toy_data, step), cfg, step) for m in (first, second))
        assert np.array_equal(a.numpy(), b.numpy())
    one, two = first.trainer_state(), second.trainer_state()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert one["pool_B"].shape == (3, 3, 32, 32)


def test_four_images_are_learnt(tiny, toy_data):
    """Smooth pictures, a larger learning rate: the cycle must close within a few dozen steps."""
    cfg = tiny(lr=2e-3, ngf=8, ndf=8, batch_size=4, flip=False, lambda_nmc=0.0, noise=tiny().noise.__class__())
    y, x = np.mgrid[0:32, 0:32] / 31
    waves = [np.stack([np.sin((i + 1) * x + c), np.cos((i + 2) * y - c), x * y]) for i in range(8) for c in (i,)]
    toy_data.A, toy_data.B = np.split(((np.stack(waves) + 1) * 127.5).astype(np.uint8), 2)
    toy_data.non_mask = None
    model, at = Model(cfg), [LOSSES.index("loss_cycle_A"), LOSSES.index("loss_cycle_B")]
    cycle = [train_step(model, make_batch(cfg, toy_data, s), cfg, s)[at].sum().item() for s in range(60)]
    assert np.mean(cycle[-5:]) < 0.5 * np.mean(cycle[:3])


def test_a_compiled_step_is_the_step(cfg, tiny, toy_data, monkeypatch):
    """Traced as a whole, without falling back to Python. The tracer's own backend: making kernels takes minutes."""
    traced = functools.partial(torch.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", traced)
    config = tiny(compile=True)
    models = {c.compile: (Model(c), c) for c in (config, replace(config, compile=False))}
    for step in range(2):
        batch = make_batch(config, toy_data, step)
        compiled, eager = (train_step(*models[key][:1], batch, models[key][1], step) for key in (True, False))
        torch.testing.assert_close(compiled, eager, rtol=1e-5, atol=1e-6)
    assert "conv1.weight" in models[True][0].net_G_AB.state_dict()
    assert config.hash() == replace(config, compile=False).hash()


# ---- the paper's future work: each loss from the networks' own outputs, in NumPy -----------------------------------


def standardised(images, spread, kind):
    """Distances of halves or of pairs of pictures [B, 3, H, W], in standard deviations of their set."""
    if kind == "halves":
        left, right = np.split(images, 2, axis=3)
        apart = np.abs(left - right).mean((1, 2, 3))
    else:
        apart = np.array([np.abs(a - b).mean() for i, a in enumerate(images) for b in images[:i]])
    return (apart - spread.mean) / spread.std


OPTIONS = {
    "linear": {"nmc_profile": "linear", "nmc_growth": 4.0},
    "exponential": {"nmc_profile": "exponential", "nmc_growth": 4.0},
    "attention l1": {"lambda_attention": 3.0},
    "attention bce": {"lambda_attention": 3.0, "attention_loss": "bce"},
    "halves": {"lambda_distance": 2.0},
    "pairs": {"lambda_distance": 2.0, "distance_of": "pairs"},
    "one side, halves": {"lambda_distance": 2.0, "one_sided": True},
    "one side": {"one_sided": True},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options_add_their_terms_and_nothing_else(cfg, tiny, model, batch, toy_data, option):
    """The networks' outputs by themselves, one set after the other; then every loss from them, in NumPy."""
    changes = {"lambda_A": 8.0, "lambda_B": 5.0, "noise": cfg.noise.__class__(), "upsampling": cfg.upsampling}
    on = tiny(**changes, **OPTIONS[option])
    model.net_G_AB.noise = model.net_G_BA.noise = on.noise
    model.prepare(on, toy_data)
    found = {name: value.item() for name, value in generator_losses(model, batch, on)[0].items()}

    AB, BA, D_A, D_B = model.networks.values()
    real_A, real_B, keep = batch.real_A, batch.real_B, batch.non_mask[:, 0].numpy()
    with torch.no_grad():
        fake_B, attention, fake_A = AB(real_A), AB(real_A, None, True).attention.numpy(), BA(real_B)
        means = {
            "loss_G_adv_AB": (D_B(fake_B) - 1).square().mean(),
            "loss_G_adv_BA": (D_A(fake_A) - 1).square().mean(),
            "loss_cycle_A": (BA(fake_B) - real_A).abs().mean(),
            "loss_cycle_B": (AB(fake_A) - real_B).abs().mean(),
            "loss_idt_A": (BA(real_A) - real_A).abs().mean(),
            "loss_idt_B": (AB(real_B) - real_B).abs().mean(),
        }
    expected = {name: value.item() for name, value in means.items() if not (on.one_sided and name in OF_TWO_SIDES)}
    real_A, real_B, fake_A, fake_B = (x.numpy() for x in (real_A, real_B, fake_A, fake_B))

    weight = keep.astype(float)
    if on.nmc_profile != "flat":
        for w, outside in zip(weight, keep):
            d = distance_transform_edt(outside)[outside] / 32
            raw = 1 + 4 * d if on.nmc_profile == "linear" else np.exp(4 * d)
            w[outside] = raw / raw.mean()
    expected["loss_nmc"] = (np.abs(fake_B - real_A).mean(1) * weight).sum() / keep.sum()
    if on.lambda_attention:
        drawn = 1 - attention[:, -1]
        error = np.abs(drawn - ~keep) if on.attention_loss == "l1" else -np.log(np.where(keep, 1 - drawn, drawn))
        expected["loss_attention"] = error.mean()
    if on.lambda_distance:
        (of_A, of_B), kind = model.spreads, on.distance_of
        sides = [(real_A, fake_B, of_A, of_B), (real_B, fake_A, of_B, of_A)][: 1 if on.one_sided else 2]
        changes = [standardised(x, of, kind) - standardised(y, to, kind) for x, y, of, to in sides]
        expected["loss_distance"] = sum(np.abs(change).mean() for change in changes)
    weights = {"loss_cycle_A": 8, "loss_cycle_B": 5, "loss_idt_A": 4, "loss_idt_B": 2.5, "loss_nmc": 10}
    weights |= {"loss_attention": 3, "loss_distance": 2}
    expected["loss_G"] = sum(weights.get(name, 1) * value for name, value in expected.items())

    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-6 if name in ("loss_nmc", "loss_G") else 1e-10), name
    judged = {"loss_D_A", "loss_D_B", *(f"score_D_{x}_{y}" for x in "AB" for y in ("real", "fake"))}
    assert set(losses_of(on)) == expected.keys() | (judged - OF_TWO_SIDES if on.one_sided else judged)


def test_options_gradients_predict_the_loss_along_a_line(cfg, tiny, model, batch, toy_data):
    for changes in (
        OPTIONS["exponential"] | OPTIONS["attention bce"] | OPTIONS["pairs"],
        OPTIONS["linear"] | OPTIONS["attention l1"] | OPTIONS["one side, halves"],
    ):
        on = tiny(**changes)
        model.prepare(on, toy_data)
        check_along_a_line(model, batch, on)


def test_one_sided_trains_two_networks_and_leaves_two_as_they_were(tiny, toy_data):
    on = tiny(one_sided=True, lambda_distance=1.0)
    model = Model(on)
    with pytest.raises(ValueError, match=r"lambda_distance is 1\.0: call Model\.prepare"):
        train_step(model, make_batch(on, toy_data, 0), on, 0)
    model.prepare(on, toy_data)

    def never(*_):
        raise AssertionError("not needed, yet computed")

    for net in (model.net_G_BA, model.net_D_A):
        net.register_forward_hook(never)
    before = {name: [p.detach().clone() for p in net.parameters()] for name, net in model.networks.items()}
    for step in range(2):
        train_step(model, make_batch(on, toy_data, step), on, step)
    same = {
        name: all(torch.equal(x, y) for x, y in zip(before[name], net.parameters()))
        for name, net in model.networks.items()
    }
    assert same == {"net_G_AB": False, "net_G_BA": True, "net_D_A": True, "net_D_B": False}
    kept = {name.split(".")[0] for name in model.trainer_state()}
    assert kept == {"opt_G/net_G_AB", "opt_D/net_D_B", "pool_B"}


def test_spread_is_that_of_the_set(tiny, toy_data):
    """Seven pictures, all in one group: every half, every pair."""
    images = toy_data.A / 127.5 - 1
    halves = np.abs(images[..., :16] - images[..., 16:]).mean((1, 2, 3))
    assert spread_of(toy_data.A, tiny(), "A") == pytest.approx((halves.mean(), halves.std()), rel=1e-4)
    pairs = [np.abs(x - y).mean() for i, x in enumerate(images) for y in images[:i]]
    found = spread_of(toy_data.A, tiny(lambda_distance=1.0, distance_of="pairs"), "A")
    assert found == pytest.approx((np.mean(pairs), np.std(pairs)), rel=1e-4)
    # Of more pictures than are compared at once, a part of the pairs.
    some = spread_of(
        np.concatenate([toy_data.A, toy_data.B]), tiny(lambda_distance=1.0, distance_of="pairs"), "A", together=4
    )
    assert some == pytest.approx(found, rel=0.5)
    with pytest.raises(ValueError, match=r"TrainData\.B: all distances \(distance_of 'pairs'\) are 0\.67.* three pict"):
        spread_of(toy_data.B[:2], tiny(lambda_distance=1.0, distance_of="pairs"), "B")
