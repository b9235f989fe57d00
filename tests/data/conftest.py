"""Small pictures made on the spot; no test of this room reads anything from outside."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat


@pytest.fixture
def noise():
    """noise(h, w, seed): uint8 [h, w, 3], a different value in nearly every pixel."""
    return lambda h=24, w=32, seed=0: np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


@pytest.fixture
def touch_picture(tmp_path):
    """touch_picture("a/b.jpg", size=(w, h)): a small valid picture under tmp_path, format by suffix."""

    def write(name: str, size: tuple[int, int] = (8, 6), value: int = 128) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (value, value, value)).save(path)
        return path

    return write


@pytest.fixture
def mafa_labels():
    """mafa_labels(root, names): MAFA's label file of the training part, one face in each picture."""

    def write(root: Path, names: list[str]) -> None:
        row = [1, 2, 70, 70, 3, 3, 5, 3, 1, 1, 9, 9, 1, 3, 1, 1, 4, -1, -1, -1, -1]
        array = np.empty((1, len(names)), [("orgImgName", object), ("imgName", object), ("label", object)])
        for k, name in enumerate(names):
            array[0, k] = ("o.jpg", name, np.array([row], np.int16))
        (root / "MAFA-Label-Train").mkdir(parents=True, exist_ok=True)
        savemat(root / "MAFA-Label-Train" / "LabelTrainAll.mat", {"label_train": array})

    return write


@pytest.fixture
def sets(tmp_path, touch_picture, mafa_labels):
    """A folder of all data sets, one picture or two of each."""
    mafa_labels(tmp_path / "MAFA", ["train_00000001.jpg", "train_00000002.jpg"])
    touch_picture("MAFA/train-images/images/train_00000001.jpg", (100, 100))
    for k in (1, 2):
        touch_picture(f"MaskedFace-Net/CMFD/00000/0000{k}_Mask.jpg")
    touch_picture("MaskedFace-Net/IMFD/00000/00003_Mask_Chin.jpg")
    touch_picture("FFHQ/images1024x1024/00000/00001.png")
    touch_picture("FDDB/2002/1.jpg", (50, 50))
    (tmp_path / "FDDB" / "FDDB-folds").mkdir()
    (tmp_path / "FDDB" / "FDDB-folds" / "FDDB-fold-01-ellipseList.txt").write_text("2002/1\n1\n9 8 0 20 20 1\n")
    touch_picture("WIDER/WIDER_train/images/0--Parade/a.jpg", (50, 50))
    (tmp_path / "WIDER" / "wider_face_split").mkdir()
    (tmp_path / "WIDER" / "wider_face_split" / "wider_face_train_bbx_gt.txt").write_text(
        "0--Parade/a.jpg\n1\n1 1 9 9 0 0 0 0 0 0\n"
    )
    touch_picture("RMFD/self-built-masked-face-recognition-dataset/AFDB_masked_face_dataset/ann/1.jpg")
    touch_picture("RMFD/RWMFD_part_1/0000/0001.jpg")
    touch_picture("MFR2/mfr2/Ann/Ann_0001.png")
    (tmp_path / "MFR2" / "mfr2" / "mfr2_labels.txt").write_text("Ann, 1, cloth\n")
    (tmp_path / "MFR2" / "mfr2" / "pairs.txt").write_text("Ann 1 2\n")
    touch_picture("LFW/lfw/Bo/Bo_0001.jpg")
    touch_picture("MLFW/aligned/Bo_0001_0000.jpg")
    (tmp_path / "MLFW" / "pairs.txt").write_text("Bo_0001_0000.jpg Bo_0001_0000.jpg 1\n")
    touch_picture("photos/1.jpg")
    return tmp_path
