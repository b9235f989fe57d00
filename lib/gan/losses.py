"""The losses of step two as pure functions: tensors in, one scalar tensor out, unweighted.

Images are float [B, 3, H, W] in [−1, 1], so an L1 of 1 is half of the range. Weights (λ) are applied by the trainer.
"""

from collections.abc import Callable

import torch

NMC_NORMS = ("region", "image", "sum")


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

    real_A, fake_B: [B, 3, H, W]. non_mask: bool or 0/1 [B, 1, H, W], True where nothing may change.
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
