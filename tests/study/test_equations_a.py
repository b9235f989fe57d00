"""Every display equation of notebooks 00 to 04 is computed a second time, in plain NumPy, and held against lib.

An equation is known by its number (\\tag{…}) and its text: one that is new, changed or without a number fails here
until somebody writes down what checks it.
"""

import json
import re

import numpy as np
import pytest
import torch

from lib.gan import Generator, Model, TrainConfig, losses
from lib.gan.step import Batch, generator_losses
from lib.study.driver import list_notebooks
from lib.warp import geometry, template

_DISPLAY = re.compile(r"\$\$(.*?)\$\$", re.DOTALL)
_TAG = re.compile(r"\\tag\{([^}]*)\}")
CHECKS = {}  # number → (equation, what checks it)


def checks(number, equation):
    """Register a function as the check of an equation, given without its number; blanks do not count."""

    def register(function):
        CHECKS[number] = (_squeezed(equation), function)
        return function

    return register


def _squeezed(text):
    return re.sub(r"\s+", "", text)


def displayed():
    """Number → text of the display equations of the notebooks, and those that have no number of their own."""
    found, unnumbered = {}, []
    for path in list_notebooks():
        if path.stem[:2] > "04":
            continue
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        for equation in _DISPLAY.findall(prose):
            numbers = _TAG.findall(equation)
            if len(numbers) == 1 and numbers[0] not in found and numbers[0].startswith(f"{int(path.stem[:2])}."):
                found[numbers[0]] = _squeezed(_TAG.sub("", equation))
            else:
                unnumbered.append(f"{path.stem}: {equation.strip()}")
    return found, unnumbered


def unit_size(points):
    """The similarity that brings points to mean 0 and mean distance √2, as a matrix."""
    x, y = points.mean(0)
    scale = np.sqrt(2) / np.sqrt(((points - [x, y]) ** 2).sum(1)).mean()
    return scale * np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1 / scale]])


def twelve_pairs(seed=0):
    """Twelve points of a template and twelve of a face that no homography meets."""
    source = template("surgical_blue").points.astype(float)
    rng = np.random.default_rng(seed)
    turned = source @ np.array([[0.2, 0.03], [-0.02, 0.21]]) + [31, 52]
    return source, turned + rng.normal(0, 1.5, turned.shape)


def l1(a, b):
    return np.abs(a - b).sum() / a.size


@checks(
    "2.1",
    r"\min_{\lVert H\rVert = 1} \; \sum_{i=1}^{12} s_i^2 \, \lVert \pi(H \tilde p_i) - q_i \rVert^2,"
    r"\qquad s_i = (H \tilde p_i)_3 .",
)
def check_homography():
    source, goal = twelve_pairs()
    a, b = unit_size(source), unit_size(goal)
    p = np.c_[source, np.ones(12)] @ a.T
    q = (np.c_[goal, np.ones(12)] @ b.T)[:, :2]

    def objective(matrix):
        matrix = matrix / np.sqrt((matrix**2).sum())
        mapped = p @ matrix.T
        s = mapped[:, 2:]
        return (s**2 * (mapped[:, :2] / s - q) ** 2).sum()

    fitted = b @ geometry.fit_homography(source, goal) @ np.linalg.inv(a)
    least = objective(fitted)
    assert least > 1e-4  # twelve pairs are too many for eight numbers
    rng = np.random.default_rng(1)
    for size in (1e-3, 1e-2, 1e-1):
        step = size * np.abs(fitted).max()
        around = [objective(fitted + step * rng.normal(size=(3, 3))) for _ in range(300)]
        assert min(around) > least


@checks(
    "2.2",
    r"f(p) = a + Bp + \sum_{i=1}^{12} w_i\, U(\lVert p - p_i\rVert), \qquad U(r) = r^2 \log r^2,"
    r"\qquad \sum_i w_i = 0, \quad \sum_i w_i\, p_i^\top = 0 .",
)
def check_thin_plate_spline():
    source, goal = twelve_pairs()
    anywhere = np.random.default_rng(2).uniform(source.min(0) - 20, source.max(0) + 20, (40, 2))

    def kernel(r):
        return np.array([[0.0 if x == 0 else x**2 * np.log(x**2) for x in row] for row in r])

    def distances(points):
        return np.array([[np.hypot(*(p - c)) for c in source] for p in points])

    # Unknown: twelve weights, a and B. Equations: f meets the twelve points, and the weights' three conditions.
    polynomial = np.c_[np.ones(12), source]
    system = np.block([[kernel(distances(source)), polynomial], [polynomial.T, np.zeros((3, 3))]])
    solution = np.linalg.solve(system, np.concatenate([goal, np.zeros((3, 2))]))
    by_hand = kernel(distances(anywhere)) @ solution[:12] + np.c_[np.ones(40), anywhere] @ solution[12:]
    spline = geometry.fit_tps(source, goal)
    np.testing.assert_allclose(spline(source), goal, atol=1e-6)
    np.testing.assert_allclose(spline(anywhere), by_hand, atol=1e-5)
    np.testing.assert_allclose(spline.weights.sum(0), 0, atol=1e-8)
    np.testing.assert_allclose(spline.weights.T @ spline.centres, 0, atol=1e-8)


@checks("3.1", r"G(x) \;=\; \sum_{i=1}^{9} C_i \odot A_i \;+\; x \odot A_{10} .")
def check_blend():
    torch.manual_seed(0)
    x = torch.rand(2, 3, 16, 12) * 2 - 1
    with torch.no_grad():
        parts = Generator(ngf=4, n_blocks=1)(x, return_parts=True)
    contents, attention, expected = parts.contents.numpy(), parts.attention.numpy(), 0
    assert contents.shape[1] == 9
    assert attention.shape[1] == 10
    for i in range(9):
        expected = expected + contents[:, i] * attention[:, i][:, None]
    expected = expected + x.numpy() * attention[:, 9][:, None]
    np.testing.assert_allclose(parts.output.numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(attention.sum(1), 1, atol=1e-6)


@checks(
    "3.2",
    r"\mathcal L_{G} = \mathbb E\big[(D(G(x)) - 1)^2\big], \qquad"
    r"\mathcal L_{D} = \tfrac12\,\mathbb E\big[(D(y) - 1)^2\big] + \tfrac12\,\mathbb E\big[D(G(x))^2\big].",
)
def check_least_squares():
    rng = np.random.default_rng(3)
    real, fake = rng.normal(0.7, 1, (2, 1, 6, 6)), rng.normal(0.2, 1, (2, 1, 6, 6))
    loss_G = sum((s - 1) ** 2 for s in fake.ravel()) / fake.size
    loss_D = 0.5 * sum((s - 1) ** 2 for s in real.ravel()) / real.size + 0.5 * sum(fake.ravel() ** 2) / fake.size
    assert losses.adversarial_g(torch.tensor(fake)).item() == pytest.approx(loss_G, rel=1e-9)
    assert losses.adversarial_d(torch.tensor(real), torch.tensor(fake)).item() == pytest.approx(loss_D, rel=1e-9)


@checks("3.4", r"\mathcal L_{NMC} = \frac{\sum M \odot \lvert G_{AB}(a) - a \rvert}{3 \sum M}.")
def check_non_mask_change():
    rng = np.random.default_rng(4)
    a, fake, mask = rng.uniform(-1, 1, (2, 3, 5, 4)), rng.uniform(-1, 1, (2, 3, 5, 4)), rng.random((2, 1, 5, 4)) < 0.6
    above = sum(abs(fake[n, c, y, x] - a[n, c, y, x]) for n, _, y, x in zip(*np.nonzero(mask)) for c in range(3))
    got = losses.non_mask_change(torch.tensor(a), torch.tensor(fake), torch.tensor(mask))
    assert got.item() == pytest.approx(above / (3 * mask.sum()), rel=1e-9)


def small_step():
    """A small model's losses for one batch of stage 4, and its four networks as functions of NumPy arrays."""
    cfg = TrainConfig(stage="stage4", size=32, ngf=4, ndf=4, n_blocks=1, lambda_A=8.0, lambda_B=8.0, lambda_nmc=10.0)
    torch.manual_seed(5)
    model = Model(cfg)
    a, b = torch.rand(2, 3, 32, 32) * 2 - 1, torch.rand(2, 3, 32, 32) * 2 - 1
    mask = torch.rand(2, 1, 32, 32) < 0.7
    with torch.no_grad():
        terms, _, _ = generator_losses(model, Batch(a, b, mask), cfg)

    def function(net):
        def call(x):
            with torch.no_grad():
                return net(torch.tensor(x)).numpy()

        return call

    nets = {name: function(net) for name, net in model.networks.items()}
    return {k: v.item() for k, v in terms.items()}, nets, a.numpy(), b.numpy(), mask.numpy(), cfg


@checks(
    "3.3",
    r"\mathcal L_{cyc}^A = \tfrac1N \lVert G_{BA}(G_{AB}(a)) - a \rVert_1, \qquad"
    r"\mathcal L_{idt}^A = \tfrac1N \lVert G_{BA}(a) - a \rVert_1 \quad (\text{and likewise for } b).",
)
def check_cycle_and_identity():
    terms, nets, a, b, _, _ = small_step()
    G_AB, G_BA = nets["net_G_AB"], nets["net_G_BA"]
    by_hand = {
        "loss_cycle_A": l1(G_BA(G_AB(a)), a),
        "loss_cycle_B": l1(G_AB(G_BA(b)), b),
        "loss_idt_A": l1(G_BA(a), a),
        "loss_idt_B": l1(G_AB(b), b),
    }
    assert {k: terms[k] for k in by_hand} == pytest.approx(by_hand, rel=1e-4)


@checks(
    "3.5",
    r"\mathcal L = \mathcal L_{G_{AB}} + \mathcal L_{G_{BA}} + \lambda\,(\mathcal L_{cyc}^A + \mathcal L_{cyc}^B)"
    r"+ \tfrac{\lambda}{2}\,(\mathcal L_{idt}^A + \mathcal L_{idt}^B) + \lambda_{NMC}\,\mathcal L_{NMC}.",
)
def check_total():
    terms, nets, a, b, mask, cfg = small_step()
    G_AB, G_BA, D_A, D_B = (nets[k] for k in ("net_G_AB", "net_G_BA", "net_D_A", "net_D_B"))
    fake_B, fake_A = G_AB(a), G_BA(b)
    realness = ((D_B(fake_B) - 1) ** 2).mean() + ((D_A(fake_A) - 1) ** 2).mean()
    cycle = l1(G_BA(fake_B), a) + l1(G_AB(fake_A), b)
    identity = l1(G_BA(a), a) + l1(G_AB(b), b)
    nmc = (mask * np.abs(fake_B - a)).sum() / (3 * mask.sum())
    assert cfg.lambda_A == cfg.lambda_B
    expected = realness + cfg.lambda_A * cycle + cfg.lambda_A / 2 * identity + cfg.lambda_nmc * nmc
    assert terms["loss_G"] == pytest.approx(expected, rel=1e-4)


def test_every_display_equation_has_a_number_and_a_check_of_its_text():
    found, unnumbered = displayed()
    assert not unnumbered, "give these a \\tag{…} that no other has, NOTEBOOK.NUMBER, and a check below"
    assert found == {number: equation for number, (equation, _) in CHECKS.items()}


@pytest.mark.parametrize("number", sorted(CHECKS))
def test_the_equation_holds_in_plain_numpy(number):
    CHECKS[number][1]()
