"""AttentionGAN-v2's generator with noise inputs, and the PatchGAN discriminator (paper §4, Figures 2 and 3).

Tensors are float32 [B, 3, H, W], RGB, range [−1, 1]. Instance normalisation has no affine parameters and no running
statistics, so every sample of a batch is treated alone: passing two batches joined equals passing them apart.

Where the published AttentionGAN-v2 and the paper's words differ we follow the published form: the paper says three
transposed convolutions per pipeline; the third is a plain convolution (7×7 for contents, 1×1 for attention).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

NoiseSource = torch.Generator | Sequence[torch.Generator]


@dataclass(frozen=True)
class NoiseConfig:
    """Zero-mean Gaussian noise into the three content layers (paper §4.2, Figure 2).

    sigma: standard deviations at content layers 1, 2, 3. Paper §4.2: (0, 1, 0.2) in the last stage, (0, 0, 0) before.
    shape: "pixel" one value per pixel, the same for all channels; "channel" one value per channel, the same for all
        pixels; "full" one value each. Not given in the paper; "pixel" chosen because StyleGAN, which §4.2 names as the
        model, draws one value per pixel and because §4.2 sees "random noise pixels" in Figure 3.
    place: "input" adds to what the layer receives; "pre_norm" to what its convolution gives; "post_norm" after the
        instance norm and before the activation. Layer 3 has no norm: both mean before its tanh. Not given in the
        paper; "input" chosen because §4.2 speaks of "noise input to the … layer".
    """

    sigma: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shape: str = "pixel"
    place: str = "input"

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigma", tuple(float(s) for s in self.sigma))
        if len(self.sigma) != 3 or any(not 0 <= s < float("inf") for s in self.sigma):
            raise ValueError(
                f"noise sigma: expected three finite numbers ≥ 0 (content layers 1, 2, 3), got {self.sigma}"
            )
        if self.shape not in ("pixel", "channel", "full"):
            raise ValueError(f"noise shape: expected 'pixel', 'channel' or 'full', got {self.shape!r}")
        if self.place not in ("input", "pre_norm", "post_norm"):
            raise ValueError(f"noise place: expected 'input', 'pre_norm' or 'post_norm', got {self.place!r}")

    @property
    def active(self) -> bool:
        """True where any content layer receives noise."""
        return any(s > 0 for s in self.sigma)


class Parts(NamedTuple):
    """What a generator made its output of: output = Σ contents[:, i]·attention[:, i] + input·attention[:, −1]."""

    output: torch.Tensor  # [B, 3, H, W] in [−1, 1]
    contents: torch.Tensor  # [B, n_content, 3, H, W] in [−1, 1]
    attention: torch.Tensor  # [B, n_content + 1, H, W], sums to 1 over dim 1; the last map keeps the input


def instance_norm(x: torch.Tensor) -> torch.Tensor:
    """Zero mean, unit variance per sample and channel (eps 1e-5), [B, C, H, W] → same shape."""
    return F.instance_norm(x, eps=1e-5)


def reflect(x: torch.Tensor, pad_px: int) -> torch.Tensor:
    """Reflection padding by pad_px on all four sides."""
    return F.pad(x, (pad_px,) * 4, mode="reflect")


def draw_noise(shape: tuple[int, ...], source: NoiseSource, like: torch.Tensor) -> torch.Tensor:
    """Unit Gaussian noise [B, …] in like's dtype on like's device.

    One generator draws the whole batch in one go: reproducible for the same batch, but a sample's noise then depends
    on its place in it. A sequence of generators (one per sample) gives each sample a stream of its own, whatever else
    is in the batch. Values are drawn in float32 on the generator's device, so CPU generators give the same noise for
    every device the network runs on.
    """
    if isinstance(source, torch.Generator):
        values = torch.randn(shape, generator=source, device=source.device)
    else:
        if len(source) != shape[0]:
            raise ValueError(f"expected one noise generator per sample, {shape[0]}, got {len(source)}")
        values = torch.stack([torch.randn(shape[1:], generator=g, device=g.device) for g in source])
    return values.to(like)


class ResidualBlock(nn.Module):
    """x + IN(conv2(ReLU(IN(conv1(x))))), 3×3 convolutions on reflection-padded input; shape unchanged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3)
        self.conv2 = nn.Conv2d(channels, channels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(instance_norm(self.conv1(reflect(x, 1))), inplace=True)
        return x + instance_norm(self.conv2(reflect(h, 1)))


class Generator(nn.Module):
    """AttentionGAN-v2: n_content RGB contents and the input, blended by n_content + 1 attentions (paper §4, Fig. 2).

    ngf 64, n_blocks 9, n_content 9: paper §4 and AttentionGAN's defaults. `noise` is a plain attribute: it holds no
    weights and may be replaced at any time (a stage with noise starts from weights trained without it).
    Parameter names are those of the published network, so that its state dicts map one to one.
    """

    def __init__(self, ngf: int = 64, n_blocks: int = 9, n_content: int = 9, noise: NoiseConfig | None = None) -> None:
        super().__init__()
        self.ngf, self.n_blocks, self.n_content = ngf, n_blocks, n_content
        self.noise = noise or NoiseConfig()
        self.conv1 = nn.Conv2d(3, ngf, 7)
        self.conv2 = nn.Conv2d(ngf, 2 * ngf, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(2 * ngf, 4 * ngf, 3, stride=2, padding=1)
        self.resnet_blocks = nn.ModuleList(ResidualBlock(4 * ngf) for _ in range(n_blocks))
        up = {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1}
        self.deconv1_content = nn.ConvTranspose2d(4 * ngf, 2 * ngf, **up)
        self.deconv2_content = nn.ConvTranspose2d(2 * ngf, ngf, **up)
        self.deconv3_content = nn.Conv2d(ngf, 3 * n_content, 7)
        self.deconv1_attention = nn.ConvTranspose2d(4 * ngf, 2 * ngf, **up)
        self.deconv2_attention = nn.ConvTranspose2d(2 * ngf, ngf, **up)
        self.deconv3_attention = nn.Conv2d(ngf, n_content + 1, 1)

    def config(self) -> dict:
        """The arguments that build this network again, JSON-able."""
        return {"ngf": self.ngf, "n_blocks": self.n_blocks, "n_content": self.n_content, "noise": asdict(self.noise)}

    @classmethod
    def from_config(cls, config: dict) -> "Generator":
        """Inverse of `config` (fresh weights)."""
        return cls(**{**config, "noise": NoiseConfig(**config["noise"])})

    def forward(
        self, x: torch.Tensor, noise: NoiseSource | None = None, return_parts: bool = False
    ) -> torch.Tensor | Parts:
        """Translate [B, 3, H, W] in [−1, 1], H and W divisible by 4 and at least 8, to the same shape and range.

        noise: a generator, or one per sample (see `draw_noise`). Where every sigma is 0 it is not touched and may be
        None; where a sigma is above 0 it must be given (ValueError), so that noise is never unseeded. Draws are made
        in the order of the layers; a layer with sigma 0 draws nothing.
        return_parts: give `Parts` (output, contents, attention) instead of the output alone.
        """
        self._check(x, noise)
        h = self._encode(x)
        contents = self._contents(h, noise).unflatten(1, (self.n_content, 3))
        attention = self._attention(h)
        output = (contents * attention[:, :-1, None]).sum(dim=1) + x * attention[:, -1:]
        return Parts(output, contents, attention) if return_parts else output

    def _check(self, x: torch.Tensor, noise: NoiseSource | None) -> None:
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"the generator expects [B, 3, H, W], got {list(x.shape)}")
        height, width = x.shape[2:]
        if height % 4 or width % 4 or min(height, width) < 8:
            raise ValueError(
                f"the generator expects height and width divisible by 4 and at least 8, got {height}×{width}: "
                "resize the picture first"
            )
        if self.noise.active and noise is None:
            raise ValueError(
                f"this generator takes noise (sigma {self.noise.sigma}) but got no torch.Generator: pass a seeded one, "
                "or one per sample; for a noise-free output set its sigma to (0, 0, 0)"
            )

    def _encode(self, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(instance_norm(self.conv1(reflect(x, 3))), inplace=True)
        h = F.relu(instance_norm(self.conv2(h)), inplace=True)
        h = F.relu(instance_norm(self.conv3(h)), inplace=True)
        for block in self.resnet_blocks:
            h = block(h)
        return h

    def _contents(self, h: torch.Tensor, noise: NoiseSource | None) -> torch.Tensor:
        for index, layer in enumerate((self.deconv1_content, self.deconv2_content)):
            h = layer(self._add_noise(h, index, "input", noise))
            h = instance_norm(self._add_noise(h, index, "pre_norm", noise))
            h = F.relu(self._add_noise(h, index, "post_norm", noise), inplace=True)
        h = self.deconv3_content(reflect(self._add_noise(h, 2, "input", noise), 3))
        if self.noise.place != "input":
            h = self._add_noise(h, 2, self.noise.place, noise)
        return torch.tanh(h)

    def _attention(self, h: torch.Tensor) -> torch.Tensor:
        h = F.relu(instance_norm(self.deconv1_attention(h)), inplace=True)
        h = F.relu(instance_norm(self.deconv2_attention(h)), inplace=True)
        return torch.softmax(self.deconv3_attention(h), dim=1)

    def _add_noise(self, h: torch.Tensor, index: int, place: str, noise: NoiseSource | None) -> torch.Tensor:
        """h + sigma·noise where the configuration puts noise at this place of this layer, else h itself."""
        sigma = self.noise.sigma[index]
        if sigma == 0 or place != self.noise.place:
            return h
        batch, channels, height, width = h.shape
        shapes = {
            "pixel": (batch, 1, height, width),
            "channel": (batch, channels, 1, 1),
            "full": (batch, channels, height, width),
        }
        return h + sigma * draw_noise(shapes[self.noise.shape], noise, like=h)


class Discriminator(nn.Module):
    """Three-layer PatchGAN with 4×4 kernels (paper §4): one score per patch, 1 = real, 0 = fake.

    "Three-layer" counts the stride-2 convolutions; two stride-1 ones follow. The paper says that it judges "each
    4 × 4 patch": 4×4 is the kernel, and each score sees 70×70 pixels. ndf 64: AttentionGAN's default.
    """

    def __init__(self, ndf: int = 64) -> None:
        super().__init__()
        self.ndf = ndf
        layers: list[nn.Module] = [nn.Conv2d(3, ndf, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        for channels, wider, stride in ((ndf, 2 * ndf, 2), (2 * ndf, 4 * ndf, 2), (4 * ndf, 8 * ndf, 1)):
            layers += [
                nn.Conv2d(channels, wider, 4, stride=stride, padding=1),
                nn.InstanceNorm2d(wider),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        layers.append(nn.Conv2d(8 * ndf, 1, 4, stride=1, padding=1))
        self.model = nn.Sequential(*layers)

    def config(self) -> dict:
        """The arguments that build this network again, JSON-able."""
        return {"ndf": self.ndf}

    @classmethod
    def from_config(cls, config: dict) -> "Discriminator":
        """Inverse of `config` (fresh weights)."""
        return cls(**config)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] in [−1, 1], H and W at least 24 → scores [B, 1, H/8 − 2, W/8 − 2] (256 → 30)."""
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < 24:
            raise ValueError(f"the discriminator expects [B, 3, H, W] with H and W at least 24, got {list(x.shape)}")
        return self.model(x)


def init_weights(net: nn.Module, generator: torch.Generator | None = None) -> nn.Module:
    """Draw every weight from N(0, 0.02) (paper §4: "Gaussian"; 0.02 is AttentionGAN's default), set biases to 0."""
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            else:
                # Drawn on the CPU so that one seed gives the same weights for every device.
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return net
