import numpy as np
import pytest
import torch

from lib.gan import make_batch
from lib.gan.graphs import EAGER_CALLS, Draws, Recorded
from lib.gan.networks import NoiseConfig
from lib.gan.step import LOSSES, Model, record_step, train_step


def record(run, pool):
    """As a CUDA graph does it: the outputs' tensors stay the same ones, and nothing but the tensors is touched."""
    kept = []

    def replay() -> None:
        recorded = run.__self__
        run()
        kept.append(recorded._outputs)
        for name, value in recorded._outputs.items():
            kept[0][name].copy_(value)
        recorded._outputs = kept[0]

    return replay


def test_replayed_calls_do_what_the_function_does():
    """Recorded once, fed with new inputs and new noise at every call."""
    recordings = []

    def counted(run, pool):
        recordings.append(pool)
        return record(run, pool)

    def function(tensors, noise):
        return {"sum": tensors["x"] + noise.draw((2, 3)) + 10 * noise.draw((2, 3)), "twice": 2 * tensors["x"]}

    recorded = Recorded(function, pool="pool", record=counted)
    for k in range(8):
        x = torch.full((2, 3), float(k))
        expected = function({"x": x}, Draws(torch.Generator().manual_seed(k)))
        got = recorded({"x": x}, torch.Generator().manual_seed(k))
        assert {name: value.tolist() for name, value in got.items()} == {n: v.tolist() for n, v in expected.items()}
        got.clear()  # a caller's to do with as it likes
        assert x.eq(k).all()  # a caller's tensor is read, never written
    assert recordings == ["pool"]


def test_noise_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"drawn in the shape \(2, 3\), asked for \(3, 2\)"):
        Draws(drawn=[torch.zeros(2, 3)]).draw((3, 2))


def test_a_step_by_recordings_is_the_step(tiny, toy_data):
    """On a CPU "replay" computes: everything about a recording is tested but the device's part of it."""
    cfg = tiny()
    plain, recorded = Model(cfg), Model(cfg)

    recorded.recorded = tuple(Recorded(r.function, None, record) for r in record_step(recorded, cfg, pool=None))
    for step in range(EAGER_CALLS + 4):
        batch = make_batch(cfg, toy_data, step)
        assert torch.equal(train_step(recorded, batch, cfg, step), train_step(plain, batch, cfg, step))
    for name, net in plain.networks.items():
        for a, b in zip(net.parameters(), recorded.networks[name].parameters()):
            assert torch.equal(a, b)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    "changes", [{}, {"precision": "bf16"}, {"noise": NoiseConfig(), "lambda_nmc": 0.0, "average": 0.9}]
)
def test_cuda_graphs_train_like_single_kernels(tiny, toy_data, changes):
    device = torch.device("cuda")

    def run(graphs: bool) -> tuple[np.ndarray, np.ndarray]:
        cfg = tiny(graphs=graphs, ngf=8, ndf=8, **changes)
        model = Model(cfg, device)
        assert (model.recorded is not None) == graphs
        values = [train_step(model, make_batch(cfg, toy_data, k, device), cfg, k) for k in range(20)]
        weights = torch.cat([p.detach().flatten() for net in model.networks.values() for p in net.parameters()])
        return torch.stack(values).cpu().numpy(), weights.cpu().numpy()

    (values, weights), (expected, expected_weights) = run(True), run(False)
    # Sums on a GPU are rounded in no fixed order, and 20 steps of a GAN make much of it: the first are held tightly.
    first = slice(0, EAGER_CALLS + 2)
    np.testing.assert_allclose(values[first], expected[first], rtol=0.05, atol=0.02)
    np.testing.assert_allclose(values, expected, rtol=0.5, atol=0.2)
    cycle = LOSSES.index("loss_cycle_A")  # goes up and down with the pictures: stale ones would not
    assert np.corrcoef(values[:, cycle], expected[:, cycle])[0, 1] > 0.8
    # Adam moves a weight by up to 2e-4 a step, whatever the gradient's size: rounding alone decides some signs.
    assert np.abs(weights - expected_weights).mean() < 1e-3
