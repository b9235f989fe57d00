"""The displayed equations of notebooks 05 to 09: each is in the table below with a check of the code that computes it,
so that a new or changed equation without one fails."""

import re

import nbformat
import numpy as np
import pytest
import torch
from skimage.color import rgb2lab

from lib.gan import NoiseConfig, TrainConfig, make_batch
from lib.gan.losses import non_mask_change
from lib.gan.networks import Generator
from lib.gan.step import Model, generator_losses
from lib.study.config import LAMBDA_NMC, PAPER_NOISE_SIGMA, STAGES
from lib.study.datasets import train_data
from lib.study.driver import list_notebooks
from lib.study.metrics import attention_split, noise_diversity
from lib.study.sweep import equal_weight
from lib.study.timeline import load_stage, loss_weights, train_config


def attention_ratio(trained):
    rng = np.random.default_rng(0)
    anew, outside = rng.random((3, 12, 12)), rng.random((3, 12, 12)) < 0.6
    for n, ratio in enumerate(attention_split(anew, outside)["ratio"]):
        inside, others = anew[n][~outside[n]], anew[n][outside[n]]
        assert ratio == pytest.approx(inside.sum() / len(inside) / (others.sum() / len(others)))


def total_is_the_weighted_sum(trained):
    """The logged total is the sum of the logged losses under their λ, with and without the NMC loss."""
    for stage in ("stage3", "stage4", "stage5"):
        run = load_stage(trained, stage)
        weights = loss_weights(TrainConfig.from_dict(run.manifest["config"]))
        total = sum(run.metrics[name] * weight for name, weight in weights.items())
        assert total.to_numpy() == pytest.approx(run.metrics["loss_G"].to_numpy(), rel=1e-4)


def nmc_and_what_it_adds(trained):
    rng = np.random.default_rng(0)
    a, fake = rng.uniform(-1, 1, (2, 4, 3, 8, 8))
    M = (rng.random((4, 1, 8, 8)) < 0.7).astype(float)
    one_norm = np.abs(fake - a).sum(1, keepdims=True)  # of a pixel's three channels
    expected = (M * one_norm).sum() / (3 * M.sum())
    assert non_mask_change(*map(torch.from_numpy, (a, fake, M))).item() == pytest.approx(expected)
    config = train_config(trained, STAGES["stage4"], device="cpu")
    data, _ = train_data(trained, STAGES["stage4"], 2)
    model, batch = Model(config), make_batch(config, data, step=0)
    on, off = (generator_losses(model, batch, c)[0] for c in (config, train_config(trained, STAGES["stage3"])))
    added = LAMBDA_NMC * on["loss_nmc"].item()
    assert on["loss_G"].item() - off["loss_G"].item() == pytest.approx(added, rel=1e-3)


def equally_strong_weights(trained):
    share, size = 0.75, 16
    assert equal_weight("image", 10.0, share, size) == pytest.approx(10.0 / share)
    assert equal_weight("sum", 10.0, share, size) == pytest.approx(10.0 / (3 * share * size**2))
    assert equal_weight("sum", 10.0, share, size) == pytest.approx(
        equal_weight("image", 10.0, share, size) / 3 / size**2
    )
    # They pull alike: the same weighted loss over a batch whose average share it is, though its masks differ.
    real, fake = torch.rand(2, 2, 3, size, size, generator=torch.Generator().manual_seed(0))
    free = torch.ones(2, 1, size, size)
    free[0, :, 14:], free[1, :, 10:] = 0, 0
    assert free.mean().item() == share
    pulls = [
        equal_weight(n, 10.0, share, size) * non_mask_change(real, fake, free, n) for n in ("region", "image", "sum")
    ]
    assert torch.stack(pulls).numpy() == pytest.approx(pulls[0].item(), rel=1e-5)


def noise_at_a_layers_input(trained):
    """What layers 2 and 3 receive differs from the quiet pass by one draw per pixel, equal in all channels, of σ."""
    assert PAPER_NOISE_SIGMA == (0.0, 1.0, 0.2)
    x, received = torch.zeros(8, 3, 64, 64), {}
    for k in (1, 2, 3):
        net = Generator(
            4, 1, noise=NoiseConfig(tuple(s if j == k else 0.0 for j, s in enumerate(PAPER_NOISE_SIGMA, 1)))
        )
        layer = getattr(net, f"deconv{k}_content")
        layer.register_forward_pre_hook(lambda _, inputs, k=k: received.setdefault(k, []).append(inputs[0]))
        with torch.no_grad():
            net(x, torch.Generator().manual_seed(0))
            net.noise = NoiseConfig()
            net(x)
        noise = received[k][0] - received[k][1]
        sigma = PAPER_NOISE_SIGMA[k - 1]
        assert torch.allclose(noise, noise[:, :1].expand_as(noise), atol=1e-5)
        one = noise[:, 0, 3:-3, 3:-3]  # layer 3 gets it with a reflected rim
        assert one.std().item() == pytest.approx(sigma, rel=0.05)
        assert abs(one.mean().item()) <= 0.05 * sigma


def diversity_over_draws(trained):
    rng = np.random.default_rng(0)
    outputs = rng.integers(0, 256, (5, 3, 8, 8, 3), dtype=np.uint8)  # draws, faces
    masks = rng.random((3, 8, 8)) < 0.4
    per_face = []
    for n in range(3):
        mu = np.array([rgb2lab(outputs[k, n])[masks[n]].mean(0) for k in range(5)])
        per_face.append(np.sqrt(sum(((mu[:, c] - mu[:, c].mean()) ** 2).mean() for c in range(3))))
    assert noise_diversity(outputs, masks) == pytest.approx(np.mean(per_face))


CHECKS = {
    r"05: r = \frac{\frac{1}{|R|} \sum_{p \in R} (1 - A_{10,p})}"
    r"{\frac{1}{|\bar R|} \sum_{p \notin R} (1 - A_{10,p})} .": attention_ratio,
    r"07: \mathcal L = \sum_k \lambda_k \mathcal L_k, \qquad "
    r"\text{share}_k = \frac{\lambda_k \mathcal L_k}{\mathcal L} .": total_is_the_weighted_sum,
    r"08: \mathcal L_{NMC} = \frac{1}{3 \sum_p M_p} \sum_p M_p \,\lVert G_{AB}(a)_p - a_p \rVert_1, \qquad "
    r"\mathcal L = \mathcal L_{\text{AttentionGAN}} + \lambda_{NMC}\,\mathcal L_{NMC} .": nmc_and_what_it_adds,
    r"08: \lambda_{\text{image}} = \frac{\lambda_{\text{region}}}{s}, \qquad "
    r"\lambda_{\text{sum}} = \frac{\lambda_{\text{region}}}{3\,s\,S^2} = "
    r"\frac{\lambda_{\text{image}}}{3\,S^2}": equally_strong_weights,
    r"09: h_k \leftarrow h_k + \sigma_k z, \qquad z \sim \mathcal N(0, 1), \qquad "
    r"\sigma = (0, 1, 0.2) .": noise_at_a_layers_input,
    r"09: \text{diversity} = \frac1N \sum_{n=1}^N "
    r"\sqrt{\sum_{c \in \{L, a, b\}} \operatorname{Var}_k\, \mu_{n,k,c}} .": diversity_over_draws,
}


def displayed_equations():
    found = []
    for path in list_notebooks():
        if "05" <= path.stem[:2] <= "09":
            cells = nbformat.read(path, as_version=4).cells
            prose = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
            assert prose.count("$$") % 2 == 0, f"{path.name}: an equation is not closed"
            found += [f"{path.stem[:2]}: {' '.join(e.split())}" for e in re.findall(r"\$\$(.+?)\$\$", prose, re.S)]
    return found


def test_every_displayed_equation_has_a_check():
    assert sorted(displayed_equations()) == sorted(CHECKS)


@pytest.mark.parametrize("equation", CHECKS, ids=[check.__name__ for check in CHECKS.values()])
def test_the_code_computes_the_equation(equation, trained):
    CHECKS[equation](trained)
