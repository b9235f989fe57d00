"""How near a set of pictures comes to a target set, and one picture to another.

    feature_fd, feature_kid   in the features of the network trained here (`lib.study.feature_net`)
    fid, kid                  in Inception's, where the user has its weights
    lpips                     with AlexNet's, where torch's cache holds its weights

Nothing is downloaded. `available` says what can be had, and where to get and put what is missing. Weights files are
read only if their SHA-256 is the published one, and then by torch's unpickler for tensors alone.

Fréchet distances grow as pictures get fewer, by an amount that depends on the set: compare values of equal counts only.
The kernel distance (Bińkowski et al. 2018) has no such bias; it is below 0 by chance where two sets are alike.
"""

from __future__ import annotations

import hashlib
import io
import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from lib.data.images import to_tensor
from lib.study.config import StudyError
from lib.study.feature_net import FeatureNet
from lib.study.metrics import frechet_distance


class Weights(NamedTuple):
    """A published file. names: as it may be called in torch's cache; variable: of the environment, naming its path."""

    names: tuple[str, ...]
    sha256: str
    url: str
    variable: str = ""


# One file under two names: torch-fidelity and pytorch-fid publish the same conversion of TensorFlow's Inception.
INCEPTION = Weights(
    ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth"),
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    "INCEPTION_WEIGHTS",
)
ALEXNET = Weights(
    ("alexnet-owt-7be5be79.pth",),
    "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
)
INCEPTION_SIZE = 299  # px
_BATCH = 32


def available(inception: Path | str | None = None) -> dict[str, str]:
    """Each measure of this module: "" where it can be had, else why not and what to do. inception: its weights file,
    instead of the one that INCEPTION_WEIGHTS or torch's cache has."""
    without, without_alexnet = _path(INCEPTION, inception)[1], _path(ALEXNET)[1]
    always = dict.fromkeys(("feature_fd", "feature_kid", "perceptual"), "")
    return always | {"fid": without, "kid": without, "lpips": without_alexnet}


def distances(
    images: np.ndarray, target: np.ndarray, net: FeatureNet, inception: Path | str | None = None
) -> dict[str, float]:
    """Distances of two sets of pictures, uint8 [N, H, W, 3] and [M, H, W, 3]: feature_fd and feature_kid; fid and kid
    where Inception's weights are had (`available`). Sizes may differ: both sides are resized alike.

    They are distances to the target with all that it shows, kinds and colours of masks included: true masks of all
    kinds may lie farther from a set B of light surgical ones than blue rule-based masks do.

    Raises ValueError for fewer than two pictures in a set.
    """
    a, b = net.features(images), net.features(target)
    found = {"feature_fd": frechet_distance(a, b), "feature_kid": kernel_distance(a, b)}
    path, without = _path(INCEPTION, inception)
    if not without:
        a, b = (_inception_features(x, path) for x in (images, target))
        found |= {"fid": frechet_distance(a, b), "kid": kernel_distance(a, b)}
    return found


def kernel_distance(features: np.ndarray, others: np.ndarray) -> float:
    """Squared maximum mean discrepancy of features [N, D] and [M, D] under the kernel (x·y / D + 1)³, unbiased: the
    KID over whole sets (Bińkowski et al. 2018). torchmetrics has it for random subsets of equal size only.

    Raises ValueError for fewer than two pictures in a set.
    """
    n, m, d = len(features), len(others), features.shape[1]
    if min(n, m) < 2:
        raise ValueError(f"kernel_distance: expected two pictures or more, got {n} and {m}")
    aa, bb, ab = ((x @ y.T / d + 1) ** 3 for x, y in ((features, features), (others, others), (features, others)))
    within = (aa.sum() - np.trace(aa)) / (n * (n - 1)) + (bb.sum() - np.trace(bb)) / (m * (m - 1))
    return float(within - 2 * ab.mean())


def lpips(a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    """LPIPS of version 0.1 with AlexNet (Zhang et al. 2018): uint8 [N, H, W, 3] twice, at their own size → float64 [N].
    None where torch's cache has no AlexNet (`available`)."""
    path, without = _path(ALEXNET)
    if without:
        return None
    net, found = _alexnet(path, path.stat().st_mtime_ns), []
    with torch.inference_mode():
        for start in range(0, len(a), _BATCH):
            x, y = (to_tensor(side[start : start + _BATCH]).to(_device()) for side in (a, b))
            found.append(net(x, y).flatten().double().cpu())
    return torch.cat(found).numpy()


# -------------------------------------------------------------------------------------------------------- weights
def _path(weights: Weights, given: Path | str | None = None) -> tuple[Path | None, str]:
    """The file of these weights, and why it cannot be used: "" where it can."""
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    named = given or (weights.variable and os.environ.get(weights.variable))
    path = Path(named) if named else next((cache / n for n in weights.names if (cache / n).is_file()), None)
    other = f", or name it in the environment variable {weights.variable}" if weights.variable else ""
    get = f"get {weights.url} and put it into {cache}{other}"
    if path is None:
        return None, f"its weights are not there: {get}"
    if not path.is_file():
        return None, f"{path}: named, but no file is there; {get}"
    if (digest := _sha256(path, path.stat().st_mtime_ns)) != weights.sha256:
        return None, f"{path}: not the published file (SHA-256 {digest[:8]}…, expected {weights.sha256[:8]}…); {get}"
    return path, ""


@lru_cache(maxsize=8)
def _sha256(path: Path, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path, weights: Weights) -> dict[str, Tensor]:
    """The tensors of a file whose hash is looked at once more in the very bytes that are read."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != weights.sha256:
        raise StudyError(f"{path}: changed while it was read; put the published file there: {weights.url}")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


@lru_cache(maxsize=1)
def _inception(path: Path, changed: int) -> nn.Module:
    """float32 [N, 3, 299, 299] in [−1, 1] → [N, 2048]: Inception to its last pooling, as torch-fidelity builds it."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # slow to import

    # torch-fidelity would unpickle whatever the file holds: it is given back only the tensors that were read out of it.
    buffer = io.BytesIO()
    torch.save(_read(path, INCEPTION), buffer)
    buffer.seek(0)
    whole = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=buffer)
    # Its own forward takes uint8 alone and would round what clean-fid leaves in fractions. The parts stand in the order
    # in which it calls them, up to the classifier at the end.
    return nn.Sequential(*list(whole.children())[:-1], nn.Flatten()).eval().to(_device())


def _inception_features(images: np.ndarray, path: Path) -> np.ndarray:
    """uint8 [N, H, W, 3] → float64 [N, 2048], resized as clean-fid does (`clean_resize`)."""
    net, found = _inception(path, path.stat().st_mtime_ns), []
    # TensorFloat-32 would change the third digit of a feature; the CPU has none.
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
        for start in range(0, len(images), _BATCH):
            x = np.stack([clean_resize(image) for image in images[start : start + _BATCH]])
            x = (torch.from_numpy(x).permute(0, 3, 1, 2) - 128) / 128  # TensorFlow's graph has it so
            found.append(net(x.to(_device())).double().cpu())
    return torch.cat(found).numpy()


def clean_resize(image: np.ndarray, size: int = INCEPTION_SIZE) -> np.ndarray:
    """uint8 [H, W, 3] → float32 [size, size, 3] in [0, 255]: each channel as floats through Pillow's antialiased
    bicubic filter, cut to the range, not rounded (Parmar et al. 2022, clean-fid's mode "clean")."""
    channels = [Image.fromarray(image[..., c].astype(np.float32)) for c in range(3)]
    resized = [np.asarray(channel.resize((size, size), Image.Resampling.BICUBIC)) for channel in channels]
    return np.stack(resized, axis=-1).clip(0, 255)


@lru_cache(maxsize=1)
def _alexnet(path: Path, changed: int) -> nn.Module:
    """LPIPS as torchmetrics builds it, its weights on the channels with it, around the AlexNet that was read."""
    from torchmetrics.functional.image.lpips import _NoTrainLpips  # the public one would fetch AlexNet itself

    net, state = _NoTrainLpips(net="alex", pnet_rand=True), _read(path, ALEXNET)
    names = {key: f"features.{key.split('.', 1)[1]}" for key in net.net.state_dict()}  # slice1.0.weight → features.0.…
    net.net.load_state_dict({key: state[name] for key, name in names.items()})
    return net.to(_device())


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
