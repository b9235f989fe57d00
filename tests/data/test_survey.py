"""Data sets are known by their layout and counted beside what is published."""

from lib.data import mafa, survey
from lib.data.check import check


def counts(report):
    return {row["what"]: (row["found"], row["verdict"]) for row in report.counts}


def test_each_data_set_is_known_by_its_layout(sets):
    found = survey.recognise(sets)
    assert dict(found) == {
        "mafa": sets / "MAFA", "cmfd": sets / "MaskedFace-Net", "imfd": sets / "MaskedFace-Net", "ffhq": sets / "FFHQ",
        "fddb": sets / "FDDB", "wider": sets / "WIDER", "rmfd": sets / "RMFD", "mfr2": sets / "MFR2",
        "lfw": sets / "LFW", "mlfw": sets / "MLFW",
    }  # fmt: skip
    assert len(found) == 10
    for kind, folder in found:
        assert (kind, folder) in survey.recognise(folder)
    assert survey.recognise(sets / "photos") == [("folder", sets / "photos")]
    assert survey.recognise(sets / "MaskedFace-Net" / "CMFD") == [("cmfd", sets / "MaskedFace-Net" / "CMFD")]


def test_lfw_is_known_by_its_people_too(sets, touch_picture):
    lfw = sets / "LFW" / "lfw"
    assert survey.recognise(lfw) == [("lfw", lfw)]  # the folder as the archive unpacks
    touch_picture("faces/Ann_Lee/Ann_Lee_0001.jpg")
    folder = sets / "faces"
    assert survey.recognise(folder) == [("folder", folder)]
    (folder / "pairs.txt").write_text("1\n")
    assert survey.recognise(folder) == [("lfw", folder)]
    assert ("lfw", sets / "MFR2" / "mfr2") not in survey.recognise(sets / "MFR2" / "mfr2")


def test_a_folder_without_labels_is_no_labelled_set(tmp_path, touch_picture):
    touch_picture("1.jpg")
    report = check([tmp_path], "yolo")[0]
    assert "no YOLO labels, only pictures" in report.problems[0]


def test_mafas_counts_are_those_of_the_label_file(sets, monkeypatch):
    monkeypatch.setitem(mafa.PUBLISHED, "train", {"images": 2, "faces": 2, "under_60px": 0})
    monkeypatch.setattr(survey, "PAPER_COUNTS", {"stage1": 2, "stage2": 3})
    report = check([sets / "MAFA"], "mafa")[0]
    verdicts = {what: verdict for what, (_, verdict) in counts(report).items()}
    assert verdicts["paper's stage1"] == "OK"  # though one of the pictures is missing
    assert verdicts["paper's stage2"] == "differs by -1"


def test_labelled_scenes_are_counted_by_class(tmp_path, touch_picture):
    for name in ("y/images/a.png", "v/images/a.png", "c/images/a.png"):
        touch_picture(name, (40, 30))
    for name, text in {
        "y/labels/a.txt": "0 .5 .5 .2 .2\n0 .5 .5 .2 .2\n1 .5 .5 .2 .2", "y/data.yaml": "names: [face, face_mask]",
        "v/Annotations/a.xml": "<annotation", "c/annotations/instances_a.json": '{"images": [], "annotations": []}',
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert survey.recognise(tmp_path) == [("coco", tmp_path / "c"), ("voc", tmp_path / "v"), ("yolo", tmp_path / "y")]
    coco, voc, yolo = check([tmp_path])
    assert counts(yolo)["boxes, face"] == (2, "")
    assert counts(yolo)["boxes, face_mask"] == (1, "")
    assert counts(coco)["boxes"] == (0, "")
    assert "1 label files are damaged" in voc.problems[0]


def test_reasons_that_differ_in_names_are_counted_together(tmp_path, touch_picture, capsys):
    for k in range(3):
        touch_picture(f"CMFD/a/0000{k}_Mask.jpg")
        touch_picture(f"CMFD/b/0000{k}_Mask.jpg")
    report = check([tmp_path], "cmfd")[0]
    assert report.reasons == [{"reason": "second picture named …", "count": 3, "first": "CMFD/b/00000_Mask.jpg"}]
