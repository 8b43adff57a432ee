"Maps are what their equations say, the network is left as it was, and a map that is wrong is called so."

import numba
import numpy as np
import pytest
import timm
import torch
from captum.attr import LayerGradCam, LayerIntegratedGradients
from scipy.stats import spearmanr

from cvkit.core import CvkitError, DataError, ParameterError
from cvkit.data.preprocess import Preprocess
from cvkit.evidence.explain import COSTLY, METHODS, Explanation, count_hooks, explain_images, hook_guard, overlay
from cvkit.evidence.faithfulness import (
    BASELINES,
    Faithfulness,
    baseline_maps,
    deletion_insertion,
    explanation_report,
    measure_faithfulness,
    randomisation_correlation,
    score_maps,
)
from cvkit.model.backbones import Backbone, make_network
from cvkit.stats import Estimate

pytestmark = pytest.mark.filterwarnings("ignore:The set_:PendingDeprecationWarning")  # of matplotlib, to shap
spec = Preprocess(size=64)
no_network = torch.nn.Identity()  # for methods that only ask for answers
photos = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), np.uint8)
targets = np.array([0, 1, 2, 0, 1, 2])


def network_of(backbone, width, classes=3):
    "A network of cvkit's around a backbone, with a head that is drawn."
    backbone.eval().requires_grad_(False)
    draw = np.random.default_rng(1)
    return make_network(
        Backbone("test", backbone, width, spec, "", "", ""),
        draw.normal(size=(classes, width)),
        draw.normal(size=classes),
    )


def answers(network):
    "Logits for pixels."

    def predict(pixels):
        with torch.no_grad():
            return network(torch.from_numpy(spec.tensor(pixels)))[0].numpy()

    return predict


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return network_of(timm.create_model("resnet18", num_classes=0), 512)


class Logits(torch.nn.Module):
    "The first output alone, for Captum."

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images)[0]


class Linear(torch.nn.Module):
    "Logits that are weighted sums of the tensor."

    def __init__(self, size=64):
        super().__init__()
        self.weight = torch.nn.Parameter(
            torch.randn(3, 3 * size * size, generator=torch.Generator().manual_seed(0)) / 100
        )

    def forward(self, images):
        return images.flatten(1) @ self.weight.T, None, None


# ---- hooks

kinds = [
    lambda m: m.register_forward_hook(print),
    lambda m: m.register_forward_pre_hook(print),
    lambda m: m.register_full_backward_hook(print),
    lambda m: m.register_full_backward_pre_hook(print),
]


@pytest.mark.parametrize("hang", kinds)
def test_a_hook_that_is_left_is_noticed(hang):
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    hang(net[1])
    with hook_guard(net):
        hang(net[0]).remove()
    with pytest.raises(CvkitError, match="found 1 more than before; load the network again"), hook_guard(net):
        hang(net[0])
    assert count_hooks(net) == 2


def test_the_network_is_left_as_it_was(resnet):
    before = {k: v.clone() for k, v in resnet.state_dict().items()}
    own = resnet.backbone.layer3.register_forward_hook(lambda *_: None)
    pixels = photos[:2].copy()
    explain_images(
        resnet, spec, pixels, targets[:2], answers(resnet), methods=[m for m in METHODS if m != "shap partition"]
    )
    assert (
        count_hooks(resnet) == 1
        and (pixels == photos[:2]).all()
        and all((v == before[k]).all() for k, v in resnet.state_dict().items())
    )
    assert not any(p.requires_grad or p.grad is not None for p in resnet.parameters()) and not resnet.training
    own.remove()


# ---- methods against their equations


def test_integrated_gradients_of_a_linear_model():
    "Weight times distance from black (Sundararajan et al. 2017, sec. 2)."
    linear = Linear()
    found = explain_images(linear, spec, photos, targets, answers(linear), methods=["integrated gradients"], most=6)
    x, black, w = (
        spec.tensor(photos),
        spec.tensor(np.zeros_like(photos)),
        linear.weight.detach().numpy().reshape(3, 3, 64, 64),
    )
    expected = (w[targets] * (x - black)).sum(1)
    assert (
        np.abs(found.maps["integrated gradients"] - expected).max() < 1e-5
        and found.completeness["integrated gradients"].max() < 1e-3
    )


@pytest.mark.parametrize("part", [None, "layer2.1", "layer4.1"])
def test_the_tail_gives_the_numbers_of_the_whole(resnet, part):
    layer = dict(resnet.backbone.named_modules())[part or "layer4.0"]
    found = explain_images(
        resnet,
        spec,
        photos,
        targets,
        answers(resnet),
        methods=["layer integrated gradients"],
        layer=None if part is None else layer,
    )
    images, black = torch.from_numpy(spec.tensor(photos)), torch.from_numpy(spec.tensor(np.zeros_like(photos)))
    theirs = (
        LayerIntegratedGradients(Logits(resnet), layer)
        .attribute(images, black, target=torch.tensor(targets), n_steps=32, internal_batch_size=8)
        .sum(1, keepdim=True)
    )
    whole = (
        torch.nn.functional
        .interpolate(theirs, size=(64, 64), mode="bilinear", align_corners=False)[:, 0]
        .detach()
        .numpy()
    )
    assert np.abs(found.maps["layer integrated gradients"] - whole).max() < 1e-3 * np.abs(whole).max()
    promised = (answers(resnet)(photos) - answers(resnet)(np.zeros_like(photos)))[np.arange(6), targets]
    assert found.completeness["layer integrated gradients"] == pytest.approx(
        np.abs(theirs.flatten(1).sum(1).detach().numpy() - promised) / np.abs(promised), abs=1e-3
    )
    assert found.calls["layer integrated gradients"] == 6 + 3


def test_grad_cam_is_captums(resnet):
    found = explain_images(resnet, spec, photos, targets, answers(resnet), methods=["grad-cam"])
    theirs = LayerGradCam(Logits(resnet), resnet.backbone.layer4[1]).attribute(
        torch.from_numpy(spec.tensor(photos)).requires_grad_(True), target=torch.tensor(targets)
    )
    whole = (
        torch.nn.functional
        .interpolate(theirs, size=(64, 64), mode="bilinear", align_corners=False)[:, 0]
        .detach()
        .numpy()
    )
    assert (
        np.abs(found.maps["grad-cam"] - whole).max() < 1e-3 * np.abs(whole).max()
        and np.isnan(found.completeness["grad-cam"]).all()
    )


@pytest.mark.parametrize("size", [64, 80])
def test_occlusion_of_an_additive_model(size):
    "A square's value is what the square contributed beyond gray; at 80 pixels the last squares are narrower."
    weight = np.random.default_rng(2).normal(size=(size, size))
    pixels = np.random.default_rng(3).integers(0, 256, (5, size, size, 3), np.uint8)

    def predict(p):
        return np.stack([np.zeros(len(p)), (p.mean(-1) * weight).sum((1, 2))], 1)

    found = explain_images(no_network, Preprocess(size=size), pixels, [1] * 5, predict, methods=["occlusion"]).maps[
        "occlusion"
    ]
    for y in range(0, size, 32):
        for x in range(0, size, 32):
            part = np.s_[:, y : y + 32, x : x + 32]
            expected = ((pixels[part].mean(-1) - 128) * weight[part[1:]]).sum((1, 2))
            assert np.abs(found[part] - expected[:, None, None]).max() < 1e-2


def test_shap_sums_to_what_the_picture_has_over_gray():
    def predict(p):
        b = p.mean(-1) / 255
        return np.stack(
            [0 * b[:, 0, 0], np.tanh(b[:, :20, :30].mean((1, 2)) * b[:, 30:].mean((1, 2)) * 5) + b.var((1, 2))], 1
        )

    pixels = np.random.default_rng(4).integers(0, 256, (3, 56, 72, 3), np.uint8)  # not a multiple of 16 either way
    found = explain_images(no_network, spec, pixels, [1, 1, 1], predict, methods=["shap partition"])
    over = (predict(pixels) - predict(np.full_like(pixels, 128)))[:, 1]
    assert (
        found.maps["shap partition"].sum((1, 2)) == pytest.approx(over, rel=1e-4)
        and found.completeness["shap partition"].max() < 1e-6
    )


def test_shap_of_two_cells_is_shapleys_value():
    "With two players: the mean of what each adds alone and what it adds last."
    picture = np.full((1, 16, 32, 3), 128, np.uint8)
    picture[:, :, :16], picture[:, :, 16:] = 250, 20

    def worth(left, right):
        return left * 2 + right * 3 + 10 * left * right

    def predict(p):
        return np.array([[0, worth(*(float((q != 128).all()) for q in np.split(x, 2, 1)))] for x in p])

    found = explain_images(no_network, spec, picture, [1], predict, methods=["shap partition"]).maps["shap partition"][
        0
    ]
    assert found[:, :16].sum() == pytest.approx(2 + 5, rel=1e-5) and found[:, 16:].sum() == pytest.approx(
        3 + 5, rel=1e-5
    )


def test_shap_leaves_the_compiler_on():
    explain_images(no_network, spec, photos[:1, :32, :32], [0], lambda p: p.mean((1, 2)), methods=["shap partition"])
    assert not numba.config.DISABLE_JIT and hasattr(numba.njit(lambda x: x + 1), "py_func")


def test_a_map_does_not_depend_on_its_neighbours(resnet):
    methods = ("layer integrated gradients", "grad-cam", "occlusion")
    many = explain_images(
        resnet, spec, np.tile(photos, (3, 1, 1, 1)), np.tile(targets, 3), answers(resnet), methods=methods
    )  # more than go through together
    for i in (0, 5, 17):
        alone = explain_images(
            resnet, spec, photos[i % 6][None], targets[i % 6][None], answers(resnet), methods=methods
        )
        for m in methods:
            assert np.abs(many.maps[m][i] - alone.maps[m][0]).max() < 1e-3 * np.abs(alone.maps[m]).max(), (m, i)


def test_costly_methods_explain_the_first_images_only(resnet):
    found = explain_images(resnet, spec, photos, targets, answers(resnet), most=2)
    for m in METHODS:
        known = np.isfinite(found.maps[m]).all((1, 2))
        assert (
            known.tolist() == ([True] * 2 + [False] * 4 if m in COSTLY else [True] * 6)
            and found.maps[m].shape == photos.shape[:3]
            and found.maps[m].dtype == np.float32
        )
    assert (
        found.calls["occlusion"] == 6 * (1 + 4)
        and found.calls["grad-cam"] == 6 + 1
        and set(found.seconds) == set(METHODS)
    )
    assert found.label("integrated gradients", 5) == "" and "6 images" in repr(found)


def test_an_explanation_shows_itself():
    found = Explanation(
        {"grad-cam": np.ones((2, 8, 8)), "shap partition": np.stack([np.ones((8, 8)), np.full((8, 8), np.nan)])},
        {"grad-cam": np.full(2, np.nan), "shap partition": np.array([0.02, np.nan])},
        {},
        {"grad-cam": 3},
    )
    assert found.to_dict() == {
        "grad-cam": {"images": 2, "seconds": None, "images_evaluated": 3, "completeness_error": None},
        "shap partition": {"images": 1, "seconds": None, "images_evaluated": None, "completeness_error": 0.02},
    }
    html = found._repr_html_()
    assert html.count("<img") == 3 and "promises none" in html and "2.0%" in html


def test_the_label_names_the_miss():
    found = Explanation({"m": np.zeros((3, 2, 2))}, {"m": np.array([0.05, 0.051, np.nan])})
    assert [found.label("m", i) for i in range(3)] == ["", "unreliable: misses its sum by 5%", ""]


def test_overlay_is_orange_for_and_blue_against():
    heat = np.zeros((10, 10))
    heat[0], heat[9] = 1, -1
    found = overlay(np.full((10, 10, 3), 100, np.uint8), heat).astype(int)
    assert (
        (found[0, 0, 0] > found[0, 0, 2] + 90) and (found[9, 0, 2] > found[9, 0, 0] + 90) and np.ptp(found[5, 0]) == 0
    )
    assert (overlay(np.full((4, 4, 3), 100, np.uint8), np.zeros((4, 4))) == 125).all(), (
        "a map of nothing colours nothing"
    )


class Skipping(torch.nn.Module):
    "A backbone that does something between its parts."

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = (
            torch.nn.Sequential(torch.nn.Sequential(torch.nn.Conv2d(c, 4, 3, 2))) for c in (3, 4, 4)
        )

    def forward_features(self, x):
        return self.three(torch.relu(self.two(self.one(x))) * 3)


bad = [
    (
        photos[:1],
        [0],
        dict(methods=["gradcam"]),
        ParameterError,
        "expected methods among layer integrated gradients, .*; got gradcam",
    ),
    (photos[:1], [0], dict(methods=[]), ParameterError, "got none"),
    (photos[:2], [0], {}, DataError, "and 1 classes"),
    (photos[0], [0], {}, DataError, r"got \(64, 64, 3\) uint8"),
    (photos[:1].astype(float), [0], {}, DataError, "float64"),
    (photos[:0], [], {}, DataError, r"got \(0, 64, 64, 3\)"),
    (photos[:1], [-1], {}, DataError, "whole number from 0, got -1"),
    (photos[:1], [0.5], {}, DataError, "float64"),
    (
        photos[:1],
        [0],
        dict(methods=["layer integrated gradients"], layer=torch.nn.ReLU()),
        ParameterError,
        "expected layer to be one of the [0-9]+ parts .* got ReLU",
    ),
]


@pytest.mark.parametrize("pixels, targets, options, error, words", bad)
def test_refusals_of_explaining(resnet, pixels, targets, options, error, words):
    with pytest.raises(error, match=words):
        explain_images(resnet, spec, pixels, targets, answers(resnet), **options)


def test_a_backbone_that_is_no_chain_is_refused():
    torch.manual_seed(0)
    net = network_of(Skipping(), 4)
    with pytest.raises(ParameterError, match="whose parts follow one another.*methods="):
        explain_images(net, spec, photos[:1], [0], answers(net), methods=["layer integrated gradients"])
    assert count_hooks(net) == 0


# ---- faithfulness

squares = np.random.default_rng(5).normal(size=9)  # weights of nine squares


def additive(pixels):
    "A probability that is a weighted sum of the brightness of nine squares."
    bright = pixels.reshape(len(pixels), 3, 32, 3, 32, 3).mean((2, 4, 5)).reshape(-1, 9) / 255
    p = 0.5 + bright @ squares / 20
    return np.stack([1 - p, p], 1)


def test_deletion_and_insertion_of_an_additive_model():
    "The curve is worked out square by square: what is covered has the mean colour."
    pixels, maps = (
        np.random.default_rng(6).integers(0, 256, (11, 96, 96, 3), np.uint8),
        np.random.default_rng(7).normal(size=(11, 96, 96)),
    )
    found = deletion_insertion(additive, pixels, maps, [1] * 11, steps=4)
    bright = pixels.reshape(11, 3, 32, 3, 32, 3).mean((2, 4, 5)).reshape(11, 9) / 255
    gray = pixels.mean((1, 2)).round().mean(-1) / 255
    for i in range(11):
        order = np.argsort(-maps[i].reshape(3, 32, 3, 32).mean((1, 3)).ravel())
        curves = [
            [
                0.5 + np.where(np.isin(np.arange(9), order[:k]) == covered, gray[i], bright[i]) @ squares / 20
                for k in (0, 2, 4, 5, 7, 9)
            ]
            for covered in (True, False)
        ]
        for score, curve in zip(found, curves):
            assert score[i] == pytest.approx(np.trapezoid(curve, np.array([0, 2, 4, 5, 7, 9]) / 9), abs=1e-6)


def test_squares_at_the_edge_are_ranked_by_their_mean():
    "Of 40 pixels the last 8 are a narrow square; where the map is highest there, it goes first."
    pixels = np.full((1, 32, 40, 3), 10, np.uint8)
    pixels[:, :, 32:] = 200
    maps = np.where(np.arange(40) < 32, 0.5, 0.9)[None, None].repeat(32, 1)
    requested = []

    def predict(p):
        requested.append(p.copy())
        return np.full((len(p), 1), 0.5)

    deletion_insertion(predict, pixels, maps, [0], steps=1)
    assert (requested[-1][0, :, :32] == 10).all() and (requested[-1][0, :, 32:] == pixels.mean().round()).all()


def test_what_maps_share_is_asked_once():
    requested = []

    def predict(p):
        requested.append(len(p))
        return additive(p)

    pixels = np.random.default_rng(8).integers(0, 256, (3, 96, 96, 3), np.uint8)
    maps = {
        "a": np.random.default_rng(9).normal(size=(3, 96, 96)),
        "b": np.stack([np.zeros((96, 96)), np.full((96, 96), np.nan), np.ones((96, 96))]),
    }
    found = score_maps(predict, pixels, maps, [1, 0, 1])
    assert sum(requested) == 2 * 3 + (3 + 2) * 2 * 7
    assert np.isnan(found["b"]).tolist() == [[False, True, False]] * 2
    assert np.array(deletion_insertion(additive, pixels, maps["a"], [1, 0, 1])) == pytest.approx(found["a"])


def test_baselines_know_nothing_of_the_model():
    pixels = np.random.default_rng(10).integers(0, 256, (12, 96, 96, 3), np.uint8)
    known = baseline_maps(pixels, seed=3)
    for predict in (additive, lambda p: 1 - additive(p)):
        judged = measure_faithfulness(predict, pixels, {"any": known["edges"] * 0}, [1] * 12, seed=3)
        for name in BASELINES:
            assert np.array([judged.deletion[name], judged.insertion[name]]) == pytest.approx(
                np.array(deletion_insertion(predict, pixels, known[name], [1] * 12))
            )
    assert (
        (known["random"] != baseline_maps(pixels, seed=4)["random"]).any()
        and (known["random"][0] != known["random"][1]).any()
        and (known["random"] == baseline_maps(pixels[::-1], seed=3)["random"]).all()
    )
    assert (
        np.unravel_index(known["centre"][0, :48, :48].argmax(), (48, 48)) == (47, 47) and known["centre"].min() >= -1e-6
    )
    step = np.zeros((1, 96, 96, 3), np.uint8)
    step[:, :, 48:] = 255
    edges = baseline_maps(step)["edges"][0]
    assert (edges[:, 47:49] > 0).all() and edges.sum() == edges[:, 47:49].sum()


def spots(n=24):
    """Pictures with one bright square each, a model that sees how bright the brightest square is, and maps that know
    where it is."""
    draw = np.random.default_rng(11)
    pixels, maps = draw.integers(0, 90, (n, 160, 160, 3), np.uint8), np.zeros((n, 160, 160))
    for i, (y, x) in enumerate(draw.integers(0, 5, (n, 2)) * 32):
        pixels[i, y : y + 32, x : x + 32], maps[i, y : y + 32, x : x + 32] = 255, 1

    def predict(p):
        bright = p.reshape(len(p), 5, 32, 5, 32, 3).mean((2, 4, 5)).max((1, 2)) / 255
        return np.stack([1 - bright, bright], 1)

    return predict, pixels, maps


def test_a_right_map_beats_chance_and_a_shuffled_one_does_not():
    predict, pixels, maps = spots()
    judged = measure_faithfulness(
        predict, pixels, {"right": maps, "shuffled": np.roll(maps, 5, 0), "reversed": -maps}, [1] * 24
    )
    assert (
        judged.answer("right") == "reliable"
        and judged.gain["right"].low > 0.1
        and judged.best == "right"
        and judged.verdict == "reliable"
    )
    assert (
        judged.answer("shuffled") != "reliable"
        and judged.answer("reversed") == "unreliable"
        and judged.gain["random"].value == 0
    )
    assert judged.sentence().startswith(f"Of the 3 methods tried, right points best: {judged.gain['right'].value:+.3f}")
    record = judged.to_dict()
    assert (
        record["verdict"] == "reliable"
        and record["methods"]["reversed"]["answer"] == "unreliable"
        and record["methods"]["right"]["deletion"] == judged.deletion["right"].mean()
    )


def test_a_faithfulness_prints_its_verdict_first():
    lines = repr(judged_as(good=(0.3, 0.1, 0.5), poor=(-0.2, -0.3, -0.1), random=(0, 0, 0))).splitlines()
    assert lines[0].startswith("reliable: Of the 2 methods tried, good points best: +0.300 [+0.100, +0.500]")
    assert [line.split() for line in lines[1:]] == [
        ["good", "+0.300", "[+0.100,", "+0.500]", "reliable"],
        ["poor", "-0.200", "[-0.300,", "-0.100]", "unreliable"],
    ]


def judged_as(lead=None, **gain):
    def estimate(interval):
        return Estimate(*interval, 20, "bootstrap")

    return Faithfulness(
        gain={m: estimate(e) for m, e in gain.items()},
        deletion={m: np.zeros(1) for m in gain},
        insertion={m: np.zeros(1) for m in gain},
        lead={m: {b: estimate(e) for b, e in (lead or {}).items()} for m in gain},
    )


@pytest.mark.parametrize(
    "gain, lead, best, verdict, words",
    [
        (
            dict(a=(0.2, 0.1, 0.3), b=(0.25, -0.1, 0.5)),
            dict(edges=(0.1, 0.05, 0.2), centre=(0.1, 0.01, 0.2)),
            "a",
            "reliable",
            "over chance, +0.100 [+0.050, +0.200] over edges, +0.100 [+0.010, +0.200] over centre",
        ),
        (
            dict(a=(0.2, 0.1, 0.3)),
            dict(edges=(0.02, -0.05, 0.1), centre=(0.1, 0.01, 0.2)),
            "a",
            "insufficient",
            "+0.020 [-0.050, +0.100] over edges",
        ),
        (
            dict(a=(0.2, 0.1, 0.3)),
            dict(edges=(0.1, 0.05, 0.2), centre=(-0.1, -0.2, 0.0)),
            "a",
            "unreliable",
            "-0.100 [-0.200, +0.000] over centre",
        ),
        (dict(a=(0.1, 0.0, 0.3)), {}, "a", "insufficient", "a was tried: +0.100"),
        (dict(a=(-0.1, -0.3, 0.0)), {}, "a", "unreliable", "-0.100"),
        (dict(a=(None, None, None), edges=(0.4, 0.3, 0.5)), {}, "", "insufficient", "so few images"),
    ],
)
def test_the_verdict_follows_the_interval(gain, lead, best, verdict, words):
    found = judged_as(lead, **gain)
    assert (found.best, found.verdict) == (best, verdict) and words in found.sentence()
    assert "&lt;" not in found._repr_html_() and ("undefined here" in found._repr_html_()) == (best == "")


def test_rank_correlation_is_scipys():
    a, b = np.random.default_rng(12).normal(size=(2, 3, 64, 64)).round(1)
    b += a
    expected = [abs(spearmanr(x[::8, ::8].ravel(), y[::8, ::8].ravel()).statistic) for x, y in zip(a, b)]
    assert randomisation_correlation(a, b) == pytest.approx(expected) and randomisation_correlation(
        a, -3 * a + 7
    ) == pytest.approx(np.ones(3))
    flat = np.zeros_like(a)
    assert randomisation_correlation(flat, flat).tolist() == [1, 1, 1] and randomisation_correlation(
        a, flat
    ).tolist() == [0, 0, 0]


# ---- the page


@pytest.fixture(scope="module")
def shown():
    predict, pixels, maps = spots(12)
    name = "<b onclick=x>right"
    known = maps[:2].copy()
    known[1] = np.nan
    explanation = Explanation(
        {name: maps[:2], "half": known}, {name: np.array([0.01, 0.4]), "half": np.full(2, np.nan)}
    )
    return (
        pixels[:2],
        explanation,
        score_maps(predict, pixels[:2], {**explanation.maps, **baseline_maps(pixels[:2])}, [1, 1]),
        measure_faithfulness(predict, pixels, {name: maps}, [1] * 12),
    )


def test_the_page_escapes_and_labels(shown, tmp_path):
    pixels, explanation, scores, judged = shown
    path = explanation_report(
        tmp_path / "deep" / "report.html",
        pixels,
        ["<script>a</script>", "b"],
        explanation,
        scores,
        faithfulness=judged,
        randomisation={"<b onclick=x>right": 0.25},
        title="<script>t</script>",
        footer="<script>f</script>",
    )
    page = path.read_text()
    assert (
        "<script" not in page
        and "<b onclick" not in page
        and page.count("&lt;script&gt;") >= 3
        and "&lt;b onclick=x&gt;right 0.25" in page
    )
    assert page.count("misses its sum by 40%") == 1 and page.count("<img") == 2 * (1 + 5) - 1, (
        "the map that was not made is not shown"
    )
    i, name = 0, "<b onclick=x>right"
    over = (scores[name][1] - scores[name][0] - scores["random"][1] + scores["random"][0])[i]
    assert f"{over:+.2f} over chance" in page and judged.sentence().split(":")[1] in page


def test_refusals_of_the_page(shown, tmp_path):
    pixels, explanation, scores, judged = shown
    with pytest.raises(DataError, match="got 1 titles and no scores of none"):
        explanation_report(tmp_path / "r.html", pixels, ["a"], explanation, scores, faithfulness=judged)
    with pytest.raises(DataError, match="no scores of half, edges; make them with score_maps"):
        explanation_report(
            tmp_path / "r.html",
            pixels,
            ["a", "b"],
            explanation,
            {m: s for m, s in scores.items() if m not in ("half", "edges")},
            faithfulness=judged,
        )
    assert not list(tmp_path.iterdir())


wide, flat = np.zeros((2, 64, 64, 3), np.uint8), np.zeros((2, 64, 64))


def grey(p):
    return np.full((len(p), 2), 0.5)


refused = [
    (
        lambda: deletion_insertion(grey, wide, flat[:1], [0, 0]),
        DataError,
        r"expected maps \(2, 64, 64\) of finite numbers, got \(1, 64, 64\);",
    ),
    (lambda: deletion_insertion(grey, wide, flat * np.nan, [0, 0]), DataError, "with others; leave out methods"),
    (lambda: deletion_insertion(grey, wide, flat, [0]), DataError, "and 1 classes"),
    (lambda: deletion_insertion(grey, wide.astype(float), flat, [0, 0]), DataError, "float64"),
    (lambda: deletion_insertion(grey, wide[:0], flat[:0], []), DataError, r"got \(0, 64, 64, 3\)"),
    (
        lambda: deletion_insertion(grey, wide, flat, [0, 0], square=64),
        ParameterError,
        "two squares of 64 pixels, got 64 x 64",
    ),
    (
        lambda: measure_faithfulness(grey, wide, {"random": flat}, [0, 0]),
        ParameterError,
        "other names than random, edges, centre, got random",
    ),
    (lambda: measure_faithfulness(grey, wide, {}, [0, 0]), ParameterError, "got none"),
    (lambda: measure_faithfulness(grey, wide, {"a": flat * np.nan}, [0, 0]), DataError, "with others"),
]


@pytest.mark.parametrize("call, error, words", refused)
def test_refusals_of_judging(call, error, words):
    with pytest.raises(error, match=words):
        call()
