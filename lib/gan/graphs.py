"""CUDA graphs: the kernels of a step are recorded once and from then on started in one go.

At batch 1 a step is some thousand small kernels, and starting them one by one from Python takes longer than computing
them. A recorded step computes the very same: the same kernels on the same numbers, noise drawn by the same generator.

A recording is tied to its tensors' addresses, so inputs are copied into the recorded ones and outputs are overwritten
by the next call. What decides anything on the CPU (order, pools, seeds) stays outside.
"""

from collections.abc import Callable, Mapping

import torch

from .networks import NoiseSource, draw_noise

EAGER_CALLS = 3  # before recording: kernels are chosen, optimisers make their state; PyTorch's own recipe takes as many


class Draws:
    """A stream of noise whose values were drawn beforehand, or that keeps what it draws (`NoiseStream`)."""

    def __init__(self, source: NoiseSource | None = None, drawn: list[torch.Tensor] | None = None) -> None:
        self.source, self.drawn = source, drawn or []
        self._at = 0

    def draw(self, shape: tuple[int, ...]) -> torch.Tensor:
        """The next one; with a source it is drawn there. Raises ValueError where another shape was drawn."""
        if self.source is not None:
            like = self.source.device if isinstance(self.source, torch.Generator) else None
            self.drawn.append(draw_noise(shape, self.source, torch.empty(0, device=like)))
        value = self.drawn[self._at]
        self._at += 1
        if tuple(value.shape) != tuple(shape):
            raise ValueError(f"noise was drawn in the shape {tuple(value.shape)}, asked for {tuple(shape)}")
        return value


class Recorded:
    """A function of tensors whose work on a CUDA device is recorded at its fourth call and replayed from then on.

    function(tensors, noise) → dict of tensors; tensors: dict, the same names and shapes at every call; noise: a stream
    whose draws have the same shapes at every call. Whatever else it does to the device (optimisers, gradients) is
    repeated by a replay, whatever it does on the CPU is not.

    pool: of `torch.cuda.graph_pool_handle`, shared by recordings that are replayed in the order of their recording.
    record: instead of a CUDA graph's recording, (run, pool) → what replays it; for tests.
    """

    def __init__(self, function: Callable, pool: object = None, record: Callable | None = None) -> None:
        self.function, self.pool, self._record = function, pool, record or _record
        self.calls = 0
        self._replay: Callable[[], None] | None = None
        self._inputs: dict[str, torch.Tensor] = {}
        self._noise: list[torch.Tensor] = []
        self._outputs: dict[str, torch.Tensor] = {}

    def __call__(self, tensors: Mapping[str, torch.Tensor], noise: NoiseSource) -> dict[str, torch.Tensor]:
        """The function's outputs; they hold until the next call."""
        self.calls += 1
        if self.calls <= EAGER_CALLS:
            stream = Draws(noise)
            on_gpu = next(iter(tensors.values())).is_cuda
            outputs = (_aside if on_gpu else _here)(lambda: self.function(tensors, stream))
            self._noise = stream.drawn
            return outputs
        if self._replay is None:
            self._inputs = {name: value.clone() for name, value in tensors.items()}
            self._noise = [value.clone() for value in self._noise]
            self._replay = self._record(self._run, self.pool)
        for name, value in tensors.items():
            self._inputs[name].copy_(value)
        stream = Draws(noise)
        for value in self._noise:
            value.copy_(stream.draw(tuple(value.shape)))
        self._replay()
        return dict(self._outputs)

    def _run(self) -> None:
        self._outputs = self.function(self._inputs, Draws(drawn=self._noise))


def _here(call: Callable):
    return call()


def _aside(call: Callable):
    """Call on a stream of its own, as what is recorded later must have been before."""
    current, aside = torch.cuda.current_stream(), torch.cuda.Stream()
    aside.wait_stream(current)
    with torch.cuda.stream(aside):
        result = call()
    current.wait_stream(aside)
    return result


def _record(run: Callable[[], None], pool: object) -> Callable[[], None]:
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, pool=pool):
        run()
    return graph.replay
