"""What the other methods are made of: their networks.

Everything works on float32 [B, 3, H, W] in [−1, 1], H and W divisible by 4. No network here mixes the samples of a
batch, so that sets may be passed joined.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from .networks import Generator, NoiseConfig, Parts, full, instance_norm, reflect


class PlainGenerator(Generator):
    """CycleGAN's generator (Zhu et al. 2017, appendix; after Johnson et al. 2016): the whole picture is drawn anew.

    Two stride-2 convolutions, n_blocks residual blocks, two upsampling layers, 7×7 and tanh: AttentionGAN-v2 with one
    content and no attention, which is how it is built here. Noise goes into the same three layers. As `Parts` its
    output is one content with attention 1; the map that keeps the input is 0 everywhere.
    """

    def __init__(
        self, ngf: int = 64, n_blocks: int = 9, noise: NoiseConfig | None = None, upsampling: str = "transposed"
    ) -> None:
        super().__init__(ngf, n_blocks, 1, noise, upsampling)
        del self.deconv1_attention, self.deconv2_attention, self.deconv3_attention

    def config(self) -> dict:
        """The arguments that build this network again, JSON-able."""
        return {name: value for name, value in super().config().items() if name != "n_content"}

    def levels(self, x: torch.Tensor) -> list[torch.Tensor]:
        """What CUT compares (Park et al. 2020, appendix): the picture itself, both strided convolutions, the first and
        the middle residual block (of nine: the first and the fifth). Channels: `level_channels`."""
        found = [x]
        h = F.relu(instance_norm(self.conv1(reflect(x, 3))), inplace=True)
        for layer in (self.conv2, self.conv3):
            h = F.relu(instance_norm(layer(h)), inplace=True)
            found.append(h)
        for index, block in enumerate(self.resnet_blocks[: self._middle + 1]):
            h = block(h)
            if index in (0, self._middle):
                found.append(h)
        return found

    @property
    def level_channels(self) -> list[int]:
        """Channels of each of `levels`."""
        blocks = len({0, self._middle})
        return [3, 2 * self.ngf, *[4 * self.ngf] * (1 + blocks)]

    @property
    def _middle(self) -> int:
        return self.n_blocks // 2

    def _encode(self, x: torch.Tensor) -> torch.Tensor:
        h = self.levels(x)[-1]
        for block in self.resnet_blocks[self._middle + 1 :]:
            h = block(h)
        return h

    def _translate(
        self, x: torch.Tensor, noise_1: torch.Tensor | None, noise_2: torch.Tensor | None, noise_3: torch.Tensor | None
    ) -> Parts:
        output = self._contents(self._encode(x), (noise_1, noise_2, noise_3))
        drawn = torch.ones_like(output[:, 0])
        return Parts(output, output[:, None], torch.stack([drawn, torch.zeros_like(drawn)], dim=1))


class PatchProjection(nn.Module):
    """CUT's H_l: for each level a perceptron of two layers, 256 wide, on the vectors of some places; unit vectors
    (Park et al. 2020, §3)."""

    def __init__(self, channels: list[int], width: int = 256) -> None:
        super().__init__()
        self.channels, self.width = list(channels), width
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(count, width), nn.ReLU(), nn.Linear(width, width)) for count in channels
        )

    def config(self) -> dict:
        """The arguments that build this network again, JSON-able."""
        return {"channels": self.channels, "width": self.width}

    @classmethod
    def from_config(cls, config: dict) -> "PatchProjection":
        """Inverse of `config` (fresh weights)."""
        return cls(**config)

    def forward(self, levels: list[torch.Tensor], places: list[torch.Tensor]) -> list[torch.Tensor]:
        """Maps [B, C_l, h, w] and indices [S_l] into h·w → unit vectors [B, S_l, width], for each level."""
        picked = [level.flatten(2)[:, :, at].transpose(1, 2) for level, at in zip(levels, places)]
        return [F.normalize(full(layer(vectors)), dim=-1) for layer, vectors in zip(self.layers, picked)]


def _norm(x: torch.Tensor) -> torch.Tensor:
    """Zero mean, unit variance per sample over everything: colours, by which people differ, stay apart."""
    return F.group_norm(x, 1)


class RegionNet(nn.Module):
    """Where a picture shows a mask: a small U of two halvings, widened by dilation to see most of a face.

    width: of the first layer. Not given in the paper (nor known of IAMGAN's); chosen small beside the generators.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.width = width
        self.down1 = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.down2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.wide = nn.ModuleList(nn.Conv2d(2 * width, 2 * width, 3, padding=d, dilation=d) for d in (2, 4))
        self.up = nn.Conv2d(3 * width, width, 3, padding=1)
        self.score = nn.Conv2d(width, 1, 3, padding=1)

    def config(self) -> dict:
        """The arguments that build this network again, JSON-able."""
        return {"width": self.width}

    @classmethod
    def from_config(cls, config: dict) -> "RegionNet":
        """Inverse of `config` (fresh weights)."""
        return cls(**config)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] in [−1, 1] → logits [B, 1, H, W]; above 0: mask."""
        fine = F.leaky_relu(_norm(self.down1(x)), 0.2)
        h = F.leaky_relu(_norm(self.down2(fine)), 0.2)
        for layer in self.wide:
            h = h + F.leaky_relu(_norm(layer(h)), 0.2)
        h = torch.cat([F.interpolate(h, scale_factor=2, mode="nearest"), fine], dim=1)
        h = self.score(F.leaky_relu(_norm(self.up(h)), 0.2))
        return F.interpolate(full(h), scale_factor=2, mode="bilinear", align_corners=False)


class IdentityNet(nn.Module):
    """Who is it: four strided convolutions and a unit vector. width, and 64 numbers: chosen as for `RegionNet`."""

    def __init__(self, width: int = 64, size: int = 64) -> None:
        super().__init__()
        self.width, self.size = width, size
        channels = (3, width, 2 * width, 4 * width, 4 * width)
        self.blocks = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in pairwise(channels)
        )
        self.embed = nn.Linear(4 * width, size)

    def config(self) -> dict:
        """The arguments that build this network again, JSON-able."""
        return {"width": self.width, "size": self.size}

    @classmethod
    def from_config(cls, config: dict) -> "IdentityNet":
        """Inverse of `config` (fresh weights)."""
        return cls(**config)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """[B, 3, H, W] in [−1, 1] → its maps [B, C, H/2, W/2] … [B, C, H/16, W/16], and the unit vector [B, size]."""
        found = []
        for block in self.blocks:
            x = F.leaky_relu(_norm(block(x)), 0.2)
            found.append(full(x))
        return [*found, F.normalize(full(self.embed(x.mean((2, 3)))), dim=1)]
