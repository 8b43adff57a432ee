"""Detectors: boxes turn with their pictures, what does not count pushes nothing, and the graph that ships finds what
torch finds."""

import dataclasses
import os

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cvkit.core import DataError, ParameterError, write_json
from cvkit.data.boxes import paste_digits, place_detections, true_boxes
from cvkit.data.formats.coco import read_coco
from cvkit.data.ingest import ingest_table
from cvkit.data.manifest import Dataset
from cvkit.data.preprocess import letterbox_geometry
from cvkit.model.augment import boxes_in_position, in_position
from cvkit.model.backbones import load_backbone, state_digest
from cvkit.model.detector_network import (
    NMS,
    OPSET,
    anchor_of,
    box_score,
    detector_loss,
    detector_parity,
    detector_state,
    export_detector,
    letterboxed,
    load_detector,
    make_detector,
    select_boxes,
)
from cvkit.model.detector_training import (
    cross_fit_detector,
    detector_training_data,
    pack_detections,
    predict_detections,
    unpack_detections,
)
from cvkit.model.plan import Plan, PlanOptions
from cvkit.model.recipe import Detector, Tail, parse_recipe
from cvkit.model.training_loop import fit_network
from cvkit.tasks.detection import Detection

PLAN = PlanOptions(device="cpu", layout="channels_last", precision="float32", threads=1, batch=4)
quick = Detector(epochs=2)
none = np.zeros(0, int)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    "Sixteen pictures of 64 x 48 with digits; number 7 is empty."
    top, before = tmp_path_factory.mktemp("detect"), os.environ.get("CVKIT_CACHE")
    os.environ["CVKIT_CACHE"] = str(top / "cache")
    yield ingest_table(
        *read_coco(paste_digits(top / "digits", images=16, size=64))[:2], Dataset("digits", pii_status="none")
    )
    os.environ.pop("CVKIT_CACHE") if before is None else os.environ.update(CVKIT_CACHE=before)


@pytest.fixture(scope="module")
def backbone():
    return letterboxed(load_backbone("test_resnet", weights=None, size=64))


@pytest.fixture(scope="module")
def lessons(digits, backbone):
    return detector_training_data(digits, backbone, quick)


def talkative(backbone, seed=0):
    "An untrained detector that says much."
    network = make_detector(backbone, 3, seed=seed)
    with torch.no_grad():
        for part, bias in (
            (network.head.classification_head.cls_logits, 0.5),
            (network.head.regression_head.bbox_reg, 3.0),
        ):
            part.weight.normal_(0, 0.05, generator=torch.Generator().manual_seed(seed))
            part.bias.fill_(bias)
    return network


# boxes


@given(st.lists(st.integers(0, 32), min_size=4, max_size=4), st.integers(0, 7))
@settings(deadline=None, max_examples=60)
def test_boxes_turn_with_their_pixels(corners, position):
    x1, x2, y1, y2 = *sorted(corners[:2]), *sorted(corners[2:])
    if x1 == x2 or y1 == y2:
        return
    field = np.zeros((32, 32, 1), bool)
    field[y1:y2, x1:x2] = True
    ys, xs = np.nonzero(in_position(field, position)[..., 0])
    assert boxes_in_position([[x1, y1, x2, y2]], position, 32)[0].tolist() == [
        xs.min(),
        ys.min(),
        xs.max() + 1,
        ys.max() + 1,
    ]


def test_drawn_pictures_and_boxes_turn_together(digits, backbone):
    recipe = dataclasses.replace(quick, turns=True)
    draw, (plain, marks) = (
        detector_training_data(digits, backbone, recipe).draw,
        detector_training_data(digits, backbone, recipe).draw(np.arange(16), None),
    )
    images, turned = draw(np.arange(16), np.random.default_rng(0))
    found = [
        [p for p in range(8) if np.array_equal(in_position(a.transpose(1, 2, 0), p), b.transpose(1, 2, 0))]
        for a, b in zip(plain, images)
    ]
    assert all(len(p) == 1 for p in found) and len({p[0] for p in found}) > 4
    for (p,), a, b in zip(found, marks, turned):
        assert np.array_equal(boxes_in_position(a["boxes"], p, 64), b["boxes"]) and np.array_equal(
            a["labels"], b["labels"]
        )


@given(st.integers(1, 900), st.integers(1, 900), st.lists(st.floats(0.01, 0.99), min_size=4, max_size=4, unique=True))
@settings(deadline=None, max_examples=60)
def test_what_is_placed_in_the_square_comes_back(width, height, shares):
    (x1, x2), (y1, y2) = sorted(shares[:2]), sorted(shares[2:])
    place, box = letterbox_geometry(width, height, 320), np.array([x1 * width, y1 * height, x2 * width, y2 * height])
    placed = place_detections(
        place.place(box)[None], np.array([[[0.5]]]), np.zeros((1, 3), int), [place], [(width, height)]
    )[0]
    keep_rows = (box[2:].astype(np.float32) > box[:2].astype(np.float32)).all()
    assert len(placed["boxes"]) == keep_rows and (
        not keep_rows or np.allclose(placed["boxes"][0], box, atol=1e-3 * max(width, height))
    )


def test_most_sorts_over_classes_and_dtypes_hold():
    scores = np.array([[[0.2, 0.9, 0.4], [0.8, 0.1, 0.4]]])
    placed = place_detections(
        np.tile([1.0, 1, 9, 9], (1, 3, 1)),
        scores,
        np.array([[0, c, a] for c in (0, 1) for a in (0, 1, 2)]),
        [letterbox_geometry(10, 10, 10)],
        [(10, 10)],
        most=4,
    )[0]
    assert placed["scores"].tolist() == np.float32([0.9, 0.8, 0.4, 0.4]).tolist() and placed["labels"].tolist() == [
        0,
        1,
        0,
        1,
    ]
    assert {k: v.dtype.name for k, v in placed.items()} == {"boxes": "float32", "labels": "int64", "scores": "float32"}
    nothing = place_detections(
        np.zeros((1, 3, 4)), scores, np.zeros((0, 3), int), [letterbox_geometry(10, 10, 10)], [(10, 10)]
    )[0]
    assert [nothing[k].shape for k in ("boxes", "labels", "scores")] == [(0, 4), (0,), (0,)]


def test_flat_arrays_are_the_detections():
    random = np.random.default_rng(0)
    few = [
        {
            "boxes": random.random((k, 4), np.float32),
            "labels": random.integers(0, 3, k),
            "scores": random.random(k, np.float32),
        }
        for k in (0, 3, 0, 1)
    ]
    for a, b in zip(few, unpack_detections(pack_detections(few)), strict=True):
        assert all(np.array_equal(a[k], b[k]) for k in a)


# the network


def test_loss_is_torchvisions(backbone, lessons):
    "Without boxes to be ignored, what FCOS itself computes from the same answer."
    from torchvision.models.detection.fcos import FCOS, FCOSHead

    network, (images, truths) = make_detector(backbone, 3).train(), lessons.draw(np.arange(4), None)
    with torch.no_grad():
        found = network.raw_outputs(torch.from_numpy(images))[0]
        network.head.__class__, ours = FCOSHead, network.head.__class__
        targets = [
            {"boxes": torch.tensor(t["boxes"], dtype=torch.float32).reshape(-1, 4), "labels": torch.tensor(t["labels"])}
            for t in truths
        ]
        expected = sum(FCOS.compute_loss(network, targets, found, [network.anchors] * 4, [64, 16, 4]).values())
        network.head.__class__ = ours
        assert detector_loss(network, (images, truths), Plan(**PLAN.chosen)).item() == pytest.approx(
            expected.item(), rel=1e-5
        )


def test_a_box_to_be_ignored_changes_nothing_but_silence(backbone):
    network, image = talkative(backbone).train(), np.zeros((1, 3, 64, 64), np.float32)

    def loss(boxes, labels, ignore):
        return detector_loss(
            network,
            (
                image,
                [
                    {
                        "boxes": np.array(boxes, float).reshape(-1, 4),
                        "labels": np.array(labels, int),
                        "ignore": np.array(ignore, bool),
                    }
                ],
            ),
            Plan(**PLAN.chosen),
        ).item()

    real = [8, 8, 30, 30]
    alone, empty = loss([real], [1], [0]), loss([], [], [])
    assert loss([real, [0, 0, 64, 64]], [1, 0], [0, 1]) < alone  # background is silent, the real box still counts
    assert loss([[0, 0, 64, 64]], [0], [1]) == pytest.approx(0, abs=1e-6) and empty > 1
    assert loss([real, [40, 40, 41, 41]], [1, 0], [0, 1]) == pytest.approx(
        alone, rel=1e-6
    )  # no cell has its centre there


def test_a_picture_without_boxes_teaches_background(backbone):
    network = talkative(backbone).train()
    drawn = (
        np.zeros((2, 3, 64, 64), np.float32),
        [{"boxes": np.zeros((0, 4)), "labels": np.zeros(0, int), "ignore": np.zeros(0, bool)}] * 2,
    )
    loss = detector_loss(network, drawn, Plan(**PLAN.chosen))
    loss.backward()
    assert (
        np.isfinite(loss.item())
        and network.head.classification_head.cls_logits.bias.grad.min() > 0
        and network.head.regression_head.bbox_reg.weight.grad.abs().max() == 0
    )


def test_what_is_below_and_all_statistics_stay(backbone, lessons, tmp_path):
    network = make_detector(backbone, 3, stages=2)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    fit_network(
        network,
        network.backbone.body,
        lessons,
        recipe=dataclasses.replace(quick, epochs=1),
        plan=Plan(**PLAN.chosen),
        learn=np.arange(16),
        validation=none,
        folder=tmp_path / "t",
    )
    moved = {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
    in_backbone = {k for k in moved if k.startswith("backbone.body.")}
    assert (
        in_backbone
        and all("layer3" in k or "layer4" in k for k in in_backbone)
        and not any("running" in k for k in moved)
    )
    assert {"head.classification_head.cls_logits.weight", "backbone.neck.inner_blocks.0.0.weight"} <= moved
    assert state_digest(backbone.module.state_dict()) == backbone.weights_digest


def test_state_and_folder_build_it_again(backbone, tmp_path):
    from safetensors.torch import save_file

    network = talkative(backbone)
    state, about = detector_state(network, backbone)
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "weights.safetensors")
    write_json(tmp_path / "architecture.json", about)
    with torch.no_grad():
        for a, b in zip(network(torch.ones(1, 3, 64, 64)), load_detector(tmp_path)(torch.ones(1, 3, 64, 64))):
            assert torch.equal(a, b)


# the graph


@pytest.fixture(scope="module")
def graph(backbone):
    return export_detector(talkative(backbone), 64)


@pytest.mark.parametrize("n", [1, 3])
def test_graph_finds_what_torch_finds(backbone, graph, lessons, n):
    network, images = talkative(backbone), lessons.draw(np.arange(n), None)[0]
    found = detector_parity(network, graph, images)
    assert found["n"] == n and found["max_abs_box"] < 1e-3 and found["max_abs_score"] < 1e-5
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    boxes, scores, selected, embedding = session.run(["boxes", "scores", "selected", "embedding"], {"images": images})
    assert (
        boxes.shape == (n, 84, 4)
        and scores.shape == (n, 3, 84)
        and embedding.shape == (n, network(torch.from_numpy(images))[2].shape[1])
        and boxes.min() >= 0
        and boxes.max() <= 64
    )
    ours = select_boxes(torch.from_numpy(boxes), torch.from_numpy(scores))
    assert n < len(ours) < (scores > NMS["score"]).sum() / 2 and set(map(tuple, ours.tolist())) == set(
        map(tuple, selected.tolist())
    )


def test_graph_is_bytes_of_the_network_alone(backbone, graph):
    model = onnx.load_from_string(graph)
    assert graph == export_detector(talkative(backbone), 64)
    assert [o.version for o in model.opset_import if not o.domain] == [OPSET] and [
        o.name for o in model.graph.output
    ] == ["boxes", "scores", "embedding", "selected"]
    assert (
        b"/tmp" not in graph and b"site-packages" not in graph and model.graph.node[-1].op_type == "NonMaxSuppression"
    )


def test_nms_of_the_graph_is_what_was_asked(backbone, lessons):
    model = export_detector(talkative(backbone), 64, {"iou": 0.3, "score": 0.6, "most": 2})
    images = lessons.draw(np.arange(2), None)[0]
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    scores, selected = session.run(["scores", "selected"], {"images": images})
    selected_scores = scores[tuple(selected.T)]
    assert (
        np.unique(selected[:, :2], axis=0, return_counts=True)[1].max() == 2
        and selected_scores.min() > 0.6
        and (scores > 0.6).sum() > len(selected_scores)
    )


def test_the_cell_of_a_box_and_its_gradient(backbone, lessons):
    network, images = talkative(backbone), torch.from_numpy(lessons.draw(np.arange(2), None)[0])
    boxes, scores, _ = network(images)
    _, label, anchor = select_boxes(boxes, scores)[0]
    assert anchor_of(network, images[:1], boxes[0, anchor].detach().numpy(), label) == anchor
    pixels = images.clone().requires_grad_(True)
    found = box_score(network, pixels, int(anchor), int(label))
    assert torch.allclose(found, network.raw_outputs(images)[0]["cls_logits"][:, anchor, label])
    found[0].backward()
    assert pixels.grad[0].abs().max() > 0 and pixels.grad[1].abs().max() == 0


# training


def test_killed_and_started_again_it_ends_the_same(digits, backbone, tmp_path):
    options = dict(folds=np.arange(16) % 2, seed=3, plan=PLAN)
    whole = cross_fit_detector(digits, backbone, quick, folder=tmp_path / "a", **options)
    killed = []

    def stop(step, values):
        if len(killed) < 4:
            killed.append(step)
            raise KeyboardInterrupt

    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            cross_fit_detector(digits, backbone, quick, folder=tmp_path / "b", report=stop, **options)
    again = cross_fit_detector(digits, backbone, quick, folder=tmp_path / "b", report=stop, **options)
    assert killed == ["fold 0, epoch 1", "fold 0, epoch 2", "fold 1, epoch 1", "fold 1, epoch 2"]
    assert state_digest(again.network.state_dict()) == state_digest(whole.network.state_dict()) and np.array_equal(
        again.embedding, whole.embedding
    )
    for a, b in zip(whole.detections, again.detections, strict=True):
        assert all(np.array_equal(a[k], b[k]) for k in a)
    found = cross_fit_detector(
        digits, backbone, quick, folder=tmp_path / "b", report=lambda *a: pytest.fail("trained again"), **options
    )
    assert (
        found.to_dict() == again.to_dict()
        and "2 folds, 2 epochs" in repr(found)
        and not list((tmp_path / "b").rglob("last.safetensors"))
    )


def test_no_picture_is_judged_by_a_detector_that_has_seen_it(digits, backbone, tmp_path):
    folds = np.arange(16) % 4 - 1
    low = NMS | {"score": 0.01}
    first = cross_fit_detector(digits, backbone, quick, folds=folds, folder=tmp_path / "a", plan=PLAN, nms=low)
    other = dataclasses.replace(digits, table=digits.table.copy())
    other.table["boxes"] = [
        [{**box, "x2": box["x1"] + 5} for box in row] if f == 1 else row for row, f in zip(digits.table["boxes"], folds)
    ]
    second = cross_fit_detector(other, backbone, quick, folds=folds, folder=tmp_path / "b", plan=PLAN, nms=low)
    same = [all(np.array_equal(a[k], b[k]) for k in a) for a, b in zip(first.detections, second.detections)]
    assert (
        all(same[i] for i in np.flatnonzero(folds == 1))
        and not any(same[i] for i in np.flatnonzero(folds == 2))
        and all(len(first.detections[i]["boxes"]) for i in np.flatnonzero(folds >= 0))
    )
    assert all(len(first.detections[i]["boxes"]) == 0 for i in np.flatnonzero(folds < 0)) and len(first.embedding) == 16
    assert [t["learned_from"] for t in first.trainings] == [8, 8, 8, 12]


def test_a_bad_number_keeps_the_pictures(backbone, lessons, tmp_path):
    def draw(rows, random):
        images, marks = lessons.draw(rows, random)
        return np.where((rows == 5)[:, None, None, None], np.nan, images).astype(np.float32), marks

    network = make_detector(backbone, 3)
    with pytest.raises(DataError, match="expected a loss that is a number, got nan in training, epoch 1"):
        fit_network(
            network,
            network.backbone.body,
            dataclasses.replace(lessons, draw=draw),
            recipe=quick,
            plan=Plan(**PLAN.chosen),
            learn=np.arange(16),
            validation=none,
            folder=tmp_path / "t",
        )
    keep_rows = np.load(tmp_path / "t" / "stopped.npz")
    assert (
        lessons.keys[5] in keep_rows["images"]
        and np.isnan(keep_rows["input"]).any()
        and keep_rows["input"].shape == (4, 3, 64, 64)
    )


@pytest.mark.slow
def test_eight_pictures_are_learned_by_heart(tmp_path, digits):
    manifest = ingest_table(
        *read_coco(paste_digits(tmp_path / "few", images=8, size=96))[:2], Dataset("few", pii_status="none")
    )
    backbone = letterboxed(load_backbone(size=96))
    lessons, network = (
        detector_training_data(manifest, backbone, Detector(mirror=False)),
        make_detector(backbone, 3),
    )
    fit_network(
        network,
        network.backbone.body,
        lessons,
        recipe=Detector(epochs=120, mirror=False, average=0.0),
        plan=Plan(**PLAN.chosen | dict(batch=8)),
        learn=np.arange(8),
        validation=none,
        folder=tmp_path / "t",
    )
    found = predict_detections(network, manifest, lessons, np.arange(8), Plan(**PLAN.chosen))[0]
    for placed, truth in zip(found, true_boxes(manifest)):
        best = {k: v[: len(truth["labels"])] for k, v in placed.items()}
        assert (
            sorted(best["labels"]) == sorted(truth["labels"]) and (placed["scores"][len(truth["labels"]) :] < 0.5).all()
        )
        for box, label in zip(truth["boxes"], truth["labels"]):
            assert np.abs(best["boxes"][best["labels"] == label] - box).max(1).min() < 4


# refusals


def test_refusals(digits, backbone, lessons, tmp_path):
    folds = np.arange(16) % 2
    with pytest.raises(ParameterError, match="expected an option of Detector, got 'smoothing'"):
        parse_recipe("detector:smoothing=0.05,patience=3")
    with pytest.raises(ParameterError, match="expected an option of Detector, got 'balance'"):
        parse_recipe("detector:balance=sampling")
    with pytest.raises(ParameterError, match="expected the recipe detector, which learns boxes, got tail"):
        Detection().check_recipe(Tail())
    with pytest.raises(ParameterError, match="resize letterbox"):
        cross_fit_detector(
            digits, load_backbone("test_resnet", weights=None, size=64), quick, folds=folds, folder=tmp_path, plan=PLAN
        )
    with pytest.raises(DataError, match="expected a fold for each of 16 images, two folds or more, got 1"):
        cross_fit_detector(digits, backbone, quick, folds=np.zeros(16, int), folder=tmp_path, plan=PLAN)
    alone = np.array([any(box["label"] == "two" for box in row) for row in digits.table["boxes"]])
    with pytest.raises(DataError, match="boxes of every class outside fold 1, but 'two' has none there"):
        cross_fit_detector(digits, backbone, quick, folds=alone.astype(int), folder=tmp_path, plan=PLAN)
    plain = dataclasses.replace(digits, table=digits.table.drop(columns="boxes").assign(label="a"))
    with pytest.raises(DataError, match="expected a manifest with boxes, got one for classification"):
        cross_fit_detector(plain, backbone, quick, folds=folds, folder=tmp_path)
    with pytest.raises(DataError, match="expected a manifest with boxes, got one for classification"):
        true_boxes(plain)
    upside = dataclasses.replace(digits, table=digits.table.copy())
    upside.table["boxes"] = [
        [{**box, "y1": box["y2"], "y2": box["y1"]} for box in row] for row in digits.table["boxes"]
    ]
    with pytest.raises(DataError, match="wide and high, got one that is not in .* and 14 more images"):
        cross_fit_detector(upside, backbone, quick, folds=folds, folder=tmp_path, plan=PLAN)
    flat = dataclasses.replace(digits, table=digits.table.copy())
    flat.table["boxes"] = [[{**box, "y2": box["y1"]} for box in row] for row in digits.table["boxes"]]
    with pytest.raises(DataError, match="expected boxes of every class outside fold 0, but '"):
        cross_fit_detector(flat, backbone, quick, folds=folds, folder=tmp_path, plan=PLAN)
    with pytest.raises(ParameterError, match="expected a size that 32 divides, got 50; take 64"):
        letterboxed(load_backbone("test_resnet", weights=None, size=50))
    with pytest.raises(ParameterError, match="a width that 32 divides .* got 3, 40 and 2"):
        make_detector(backbone, 3, width=40)
    with pytest.raises(ParameterError, match="expected iou, score, most of the suppression, got iou"):
        export_detector(talkative(backbone), 64, {"iou": 0.5})
    write_json(tmp_path / "architecture.json", {"backbone": "resnet18", "classes": 2})
    with pytest.raises(DataError, match="got a network of resnet18; use load_network"):
        load_detector(tmp_path)


def test_a_box_without_area_teaches_nothing(digits):
    manifest = dataclasses.replace(digits, table=digits.table.copy())
    keep_rows = true_boxes(manifest)
    flat = {**manifest.table["boxes"].iloc[1][0]}
    for axis in "xy":
        manifest.table.at[manifest.table.index[1], "boxes"] = [
            {**flat, f"{axis}2": flat[f"{axis}1"]},
            *manifest.table["boxes"].iloc[1],
        ]
    found = true_boxes(manifest)
    assert len(manifest.table["boxes"].iloc[1]) == len(keep_rows[1]["boxes"]) + 2
    assert all(np.array_equal(a[k], b[k]) for a, b in zip(keep_rows, found) for k in a)
