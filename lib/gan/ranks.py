"""Several processes that train one model together (PyTorch DDP, started by torchrun).

Every rank holds the whole state (networks, optimisers, pools) and computes its share of each global batch: batch_size
in the configuration is the global one, whatever the number of processes, and so is the rate that belongs to it. Order,
flips, noise and pools are those of the joined batch, so any number of processes trains the same model up to rounding.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Ranks:
    """This process's place among `world` equal ones. Alone (the default), every method gives its input back."""

    rank: int = 0
    world: int = 1

    @classmethod
    def current(cls) -> "Ranks":
        """As torch.distributed was initialised; alone where it was not."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """This rank's share of a global batch. Raises ValueError where it cannot be shared equally."""
        if count % self.world:
            raise ValueError(f"batch_size {count} cannot be shared by {self.world} processes: choose a multiple of it")
        share = count // self.world
        return slice(self.rank * share, (self.rank + 1) * share)

    def gather(self, share: torch.Tensor) -> torch.Tensor:
        """All shares [B/world, …] joined in the order of the ranks: [B, …], the same on each."""
        if self.world == 1:
            return share
        joined = [torch.empty_like(share) for _ in range(self.world)]
        dist.all_gather(joined, share.contiguous())
        return torch.cat(joined)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Mean over the ranks, the same on each."""
        if self.world == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total / self.world

    def wait(self) -> None:
        """Until every rank has come here."""
        if self.world > 1:
            dist.barrier()

    def share(self, module: nn.Module, device: torch.device) -> nn.Module:
        """The module with gradients averaged over the ranks in every backward pass."""
        if self.world == 1:
            return module
        return DistributedDataParallel(module, device_ids=[device.index] if device.type == "cuda" else None)


@dataclass(frozen=True)
class RankNoise:
    """One stream of noise for the joined batch, of which every rank takes its own samples.

    share: samples of one set on this rank. A batch [A, B] of two sets joins them set by set, here as in one process.
    """

    generator: torch.Generator
    ranks: Ranks
    share: int

    def draw(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Float32 noise [sets · share, …] out of the draw [sets · world · share, …] that one process would make."""
        sets = shape[0] // self.share
        whole = torch.randn((sets, self.ranks.world, self.share, *shape[1:]), generator=self.generator,
                            device=self.generator.device)  # fmt: skip
        return whole[:, self.ranks.rank].reshape(shape)
