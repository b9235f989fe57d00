"""A history of generated images for the discriminator (Shrivastava et al. 2017; AttentionGAN's default, 50 images)."""

import numpy as np
import torch


class ImagePool:
    """Holds up to `size` fakes. A discriminator sees half new ones and half out of the last few dozen steps.

    Until the pool is full, images are stored and handed back. From then on each image is, with probability ½, handed
    back as it is, and otherwise takes the place of a random stored one, which is handed back instead. size 0 turns
    the pool off. Decisions come only from the random generator passed in, so that the images are the whole state.
    """

    def __init__(self, size: int = 50) -> None:
        self.size = size
        self.images: list[torch.Tensor] = []  # each [3, H, W], detached

    def query(self, fakes: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """[B, 3, H, W] new fakes → [B, 3, H, W] for the discriminator, detached, on the same device."""
        if self.size == 0:
            return fakes.detach()
        # Two numbers per image in every case: the decisions for one image do not hang on those for another.
        swaps, slots = rng.random(len(fakes)) < 0.5, rng.integers(self.size, size=len(fakes))
        chosen = []
        for fake, swap, slot in zip(fakes.detach(), swaps, slots):
            if len(self.images) < self.size:
                self.images.append(fake.clone())
                chosen.append(fake)
            elif swap:
                chosen.append(self.images[slot])
                self.images[slot] = fake.clone()
            else:
                chosen.append(fake)
        return torch.stack(chosen)

    def state(self) -> torch.Tensor | None:
        """The stored images [n, 3, H, W] in storage order (exact float32), or None while the pool is empty."""
        return torch.stack(self.images) if self.images else None

    def load(self, images: torch.Tensor | None) -> None:
        """Inverse of `state`. ValueError where there are more images than the pool holds."""
        count = 0 if images is None else len(images)
        if count > self.size:
            raise ValueError(f"image pool: holds {self.size} images, got {count}")
        self.images = [] if images is None else [image.clone() for image in images]
