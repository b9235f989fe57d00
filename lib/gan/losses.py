"""The losses of step two as pure functions: tensors in, one scalar tensor out, unweighted.

Images are float [B, 3, H, W] in [−1, 1], so an L1 of 1 is half of the range. Weights (λ) are applied by the trainer.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

NMC_NORMS = ("region", "image", "sum")
NMC_PROFILES = ("flat", "linear", "exponential")
ATTENTION_LOSSES = ("l1", "bce")
DISTANCES = ("halves", "pairs")


def adversarial_g(score_fake: torch.Tensor) -> torch.Tensor:
    """Least-squares GAN loss of a generator, mean (D(fake) − 1)² (AttentionGAN's default; Mao et al. 2017)."""
    return (score_fake - 1).square().mean()


def adversarial_d(score_real: torch.Tensor, score_fake: torch.Tensor) -> torch.Tensor:
    """Least-squares GAN loss of a discriminator, ½·[mean (D(real) − 1)² + mean D(fake)²] (AttentionGAN's default)."""
    return 0.5 * ((score_real - 1).square().mean() + score_fake.square().mean())


def l1(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference: the cycle loss with (rec_A, real_A), the identity loss with (idt_A, real_A)."""
    return (output - target).abs().mean()


def non_mask_change(
    real_A: torch.Tensor,
    fake_B: torch.Tensor,
    non_mask: torch.Tensor,
    norm: str = "region",
    mean_over_ranks: Callable[[torch.Tensor], torch.Tensor] = lambda count: count,
) -> torch.Tensor:
    """Non-mask change loss: L1 between rule-based input and output over all pixels outside the mask (paper §4.1).

    real_A, fake_B: [B, 3, H, W]. non_mask: bool or 0/1 [B, 1, H, W], True where nothing may change; or the weights of
        `distance_weights`, by which the differences are multiplied and pixels counted.
    norm: what the sum of absolute differences is divided by. Not given in the paper.
        "region": the non-mask values of the batch (pixels · channels). Chosen as the default because its meaning, the
            mean change of a pixel that should not have changed, depends on neither the image size nor the mask's;
            0 where the batch has no non-mask pixel.
        "image": all values of the batch: small masks weigh a little more, and one λ still serves every size.
        "sum": the batch size alone: the literal sum over an image; λ must then be scaled with the image size.
    mean_over_ranks: where several processes share a batch, the mean of their pixel counts ("region" divides by the
        whole batch's count, so that the mean of the shares' losses is the loss of the batch).
    Raises ValueError for an unknown norm or a non_mask of another shape.
    """
    batch, _, height, width = real_A.shape
    if tuple(non_mask.shape) != (batch, 1, height, width):
        raise ValueError(f"non_mask: expected {[batch, 1, height, width]}, got {list(non_mask.shape)}")
    weight = non_mask.to(fake_B.dtype)
    total = ((fake_B - real_A).abs() * weight).sum()
    if norm == "region":
        return total / (mean_over_ranks(weight.sum()) * real_A.shape[1]).clamp(min=1)
    if norm == "image":
        return total / real_A.numel()
    if norm == "sum":
        return total / batch
    raise ValueError(f"nmc_norm: expected one of {NMC_NORMS}, got {norm!r}")


def mask_distance(non_mask: torch.Tensor) -> torch.Tensor:
    """Euclidean distance of each pixel to the nearest mask pixel: [B, 1, H, W] → float32 [B, 1, H, W], in pixels.

    0 on the mask itself, and everywhere in a picture without one. Exact: squared distances are least sums down the
    columns, then along the rows, in whole numbers. Written in torch so that it runs on the batch's device with no wait
    for it; the largest intermediate holds B·H·W·max(H, W) floats (67 MB for one picture at 256²).
    """
    height, width = non_mask.shape[2:]
    far = float(height**2 + width**2)  # more than any distance within the picture
    down, along = (_squared_differences(side, non_mask.device) for side in (height, width))
    squared = (non_mask.bool() * far).unsqueeze(2)
    squared = (squared + down[:, :, None]).amin(dim=3)
    squared = (squared.unsqueeze(3) + along).amin(dim=4)
    return squared.masked_fill(squared >= far, 0).sqrt()


def _squared_differences(side: int, device: torch.device) -> torch.Tensor:
    places = torch.arange(side, device=device, dtype=torch.float32)
    return (places[:, None] - places).square()


def distance_weights(
    non_mask: torch.Tensor, profile: str, growth: float, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """What a change of each pixel outside the mask weighs: [B, 1, H, W] → dtype [B, 1, H, W], 0 on the mask.

    The paper's future work: a change shall cost the more, the farther from the mask it is. With d the distance to the
    mask in units of the longer side, the weight goes as
        "flat"         1: all alike, what the paper has
        "linear"       1 + growth·d
        "exponential"  exp(growth·d)
    and has mean 1 over the non-mask pixels of each picture, so that λ keeps its meaning and no picture counts more than
    with "flat". Neither profile nor growth is given in the paper. Raises ValueError for an unknown profile.
    """
    outside = non_mask.to(dtype)
    if profile == "flat":
        return outside
    distance = mask_distance(non_mask).to(dtype) / max(non_mask.shape[2:])
    if profile == "linear":
        weight = outside * (1 + growth * distance)
    elif profile == "exponential":
        # The farthest pixel's weight is 1 before the mean is settled: no growth can overflow.
        weight = outside * (growth * (distance - distance.amax((2, 3), keepdim=True))).exp()
    else:
        raise ValueError(f"nmc_profile: expected one of {NMC_PROFILES}, got {profile!r}")
    count, total = (values.sum((2, 3), keepdim=True) for values in (outside, weight))
    return weight * (count / total.clamp(min=torch.finfo(dtype).tiny))


def attention_error(attention: torch.Tensor, non_mask: torch.Tensor, kind: str = "l1") -> torch.Tensor:
    """How far the attention is from the mask region: what is drawn anew shall be the mask, all of it and no more.

    The paper's future work, after the mask loss of MaskGAN (Phan et al. 2023). attention: [B, n + 1, H, W], sums to 1
    over dim 1, the last map keeps the input. non_mask: bool [B, 1, H, W], True outside the mask. Of every pixel, the
    share p of attention that is right (kept outside, drawn inside) is compared with 1; mean over pixels of
        "l1"   1 − p
        "bce"  −ln p, the binary cross-entropy
    Raises ValueError for an unknown kind.
    """
    kept, drawn = attention[:, -1:], attention[:, :-1].sum(dim=1, keepdim=True)  # 1 − kept would round small ones off
    right = torch.where(non_mask, kept, drawn)
    if kind == "l1":
        return (1 - right).mean()
    if kind == "bce":
        return -right.clamp(min=torch.finfo(right.dtype).tiny).log().mean()
    raise ValueError(f"attention_loss: expected one of {ATTENTION_LOSSES}, got {kind!r}")


class Spread(NamedTuple):
    """Mean and standard deviation of the distances within a training set."""

    mean: float
    std: float


def distances(
    images: torch.Tensor,
    kind: str = "halves",
    gather: Callable[[torch.Tensor], torch.Tensor] = lambda images: images,
    mine: slice = slice(None),
) -> torch.Tensor:
    """Distances that a translation shall keep, as mean absolute differences: [B, 3, H, W] → one dimension or two.

    "halves": of the left half of each picture to its right one, [B] (W even); the only kind for a batch of one picture.
    "pairs": of each picture to every other one, [B − 1, B]. Where several processes share a batch, gather joins their
    shares (it need not pass gradients) and mine is this one's place in it.
    Source: Benaim & Wolf 2017, the self-distance and the distance constraint. Raises ValueError for an unknown kind.
    """
    if kind == "halves":
        left, right = images.chunk(2, dim=-1)
        return _mean_difference(left, right)
    if kind == "pairs":
        others = gather(images.detach())
        apart = [_mean_difference(images, others.roll(-by, dims=0)[mine]) for by in range(1, len(others))]
        apart = torch.stack(apart)
        # Every pair comes twice, each picture held still once: only both halves of its gradient are that of a pair.
        return 2 * apart - apart.detach()
    raise ValueError(f"distance_of: expected one of {DISTANCES}, got {kind!r}")


def _mean_difference(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    return (one - two).abs().mean(dim=(1, 2, 3))


def distance_change(before: torch.Tensor, after: torch.Tensor, of_before: Spread, of_after: Spread) -> torch.Tensor:
    """Mean |(before − μ)/σ − (after − μ')/σ'|: `distances` before and after a translation, each in its set's measure.

    Source: Benaim & Wolf 2017. of_before: of the training set translated from; of_after: of the one translated into.
    """
    scaled_before, scaled_after = ((apart - of.mean) / of.std for apart, of in ((before, of_before), (after, of_after)))
    return (scaled_before - scaled_after).abs().mean()
