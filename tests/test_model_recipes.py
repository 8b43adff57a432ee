"""Recipes: what is not scored is not watched, what is frozen does not move, and what was killed goes on as if it had
not been."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from cvkit.core import DataError, ParameterError
from cvkit.data.ingest import ingest_folder
from cvkit.data.pixel_cache import cached_pixels
from cvkit.model import training_loop
from cvkit.model.augment import augment, in_position, positions
from cvkit.model.backbones import load_backbone, make_network, state_digest
from cvkit.model.cross_validation import cross_fit, small_images, validation_rows
from cvkit.model.partial_finetuning import cached_activations, split_backbone
from cvkit.model.plan import Plan, PlanOptions, stored_plan
from cvkit.model.probe import fit_head, fit_probe
from cvkit.model.recipe import Full, Tail, parse_recipe
from cvkit.model.soft_labels import class_weights, draw_order, soft_labels_of, training_labels
from cvkit.model.training_loop import Training, TrainingData, fit_network, load_state
from cvkit.stats import softmax

PLAN = PlanOptions(device="cpu", layout="channels_last", precision="float32", threads=1, batch=8)
quick = Full(epochs=2, patience=0, rate=1e-3)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    "A cache, and a folder of forty-eight small stripes: across or along."
    top, before = tmp_path_factory.mktemp("recipes"), os.environ.get("CVKIT_CACHE")
    os.environ["CVKIT_CACHE"] = str(top / "cache")
    random = np.random.default_rng(0)
    for i in range(48):
        stripes = np.sin(np.arange(32) * random.uniform(0.5, 1.5) + random.uniform(0, 6))[:, None].repeat(
            32, 1
        ) * 60 + random.normal(128, 25, (32, 32))
        path = top / "images" / ("across", "along")[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(stripes.T if i % 2 else stripes, 0, 255).astype(np.uint8)).save(path)
    yield top
    os.environ.pop("CVKIT_CACHE") if before is None else os.environ.update(CVKIT_CACHE=before)


@pytest.fixture(scope="module")
def stripes(home):
    return ingest_folder(home / "images")


@pytest.fixture(scope="module")
def backbone():
    return load_backbone_seeded()


def load_backbone_seeded():
    return load_backbone("test_resnet", weights=None, size=32)


@pytest.fixture(scope="module")
def folds():  # a quarter takes no part
    return np.arange(48) // 2 % 4 - 1


# recipes and plans

bad_recipes = [
    ("fast", "expected a recipe \\(probe, tail, full, detector\\), got 'fast'"),
    ("full:epoch=3", "expected an option of Full, got 'epoch'; did you mean epochs"),
    ("full:epochs=0", "expected epochs of Full to be at least 1, got 0"),
    ("full:epochs=many", "expected epochs of Full to be a whole number, got 'many'"),
    ("full:turns=1", "expected turns of Full to be True or False, got 1"),
    ("full:balance=both", "to be none, weights or sampling, got 'both'"),
    ("full:validation=.9", "expected validation of Full to be above 0 and below 0.5, got 0.9"),
    ("full:smoothing=1", "expected smoothing of Full to be at least 0 and below 1, got 1"),
    ("full:rate=nan", "expected rate of Full to be a number, got 'nan'"),
    ("tail:crop=16", "expected an option of Tail, got 'crop'"),
    ("detector:mixup=.2", "expected an option of Detector, got 'mixup'"),
    ("probe:hidden=-1", "expected hidden of Probe to be at least 0, got -1"),
    ("full:rate", "expected options as name=value, got 'rate'"),
]


@pytest.mark.parametrize("text, words", bad_recipes)
def test_recipes_refused(text, words):
    with pytest.raises(ParameterError, match=words):
        parse_recipe(text)


def test_text_and_record_are_one_recipe():
    assert parse_recipe("full: rate = 1e-3, turns=True,balance=sampling ") == Full(
        rate=0.001, turns=True, balance="sampling"
    )


def test_a_plan_is_kept_and_another_is_refused(tmp_path):
    path = tmp_path / "plan.json"
    first = stored_plan(path, lambda: pytest.fail("tried although all is given"), PLAN)
    assert (
        stored_plan(path, lambda: pytest.fail("probed again"))
        == first
        == Plan(**PLAN.chosen, allocator=first.allocator)
    )
    with pytest.raises(
        ParameterError, match="expected the plan that this training began with \\(threads 1\\), got threads 2"
    ):
        stored_plan(path, None, PlanOptions(threads=2))


def test_soft_labels_and_weights():
    shares = soft_labels_of([0, 0.33, 1], ("bad", "good"), "bad")
    assert np.allclose(shares, [[0, 1], [0.33, 0.67], [1, 0]])
    hard = training_labels(np.array([0] * 9 + [1]), 2)
    assert np.allclose(class_weights(hard), [10 / 18, 5])
    rare = np.mean([
        hard[np.concatenate(draw_order(hard, 2, "sampling", np.random.default_rng(e)))][:, 1].mean() for e in range(400)
    ])
    assert abs(rare - 0.5) < 0.05
    with pytest.raises(DataError, match="from 0 to 1 for each image, got nan in row 1"):
        soft_labels_of([0, np.nan], ("a", "b"), "a")
    with pytest.raises(DataError, match="expected two classes"):
        soft_labels_of([0], ("a", "b", "c"), "a")


def test_a_probe_learns_from_shares_as_from_weighted_copies():
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(0)
    x, p = random.normal(size=(60, 3)).astype(np.float32), random.choice([0, 0.33, 0.67, 1], 60)
    shares = soft_labels_of(p, ("no", "yes"), "yes")
    weight, bias = fit_head(x, (p > 0.5).astype(int), 1.0, shares)
    z = (x - x.mean(0)) / np.maximum(x.std(0), np.median(x.std(0)))
    expected = (
        LogisticRegression(C=1.0, tol=1e-9)
        .fit(np.concatenate([z, z]), np.repeat([0, 1], 60), np.concatenate([1 - p, p]))
        .predict_proba(z)
    )
    assert np.abs(softmax(x @ weight.T + bias) - expected).max() < 1e-3
    hard = fit_probe(x, (p > 0.5).astype(int), np.arange(60) % 3, ("no", "yes"))
    soft = fit_probe(x, (p > 0.5).astype(int), np.arange(60) % 3, ("no", "yes"), soft_labels=shares)
    assert not np.allclose(hard.oof_logits, soft.oof_logits, atol=1e-3)


# positions


def test_positions_are_a_group_and_draws_stay_in_it():
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    all_eight = {in_position(picture, p).tobytes() for p in range(8)}
    for turned in (in_position(in_position(picture, a), b).tobytes() for a in range(8) for b in range(8)):
        assert turned in all_eight
    for options in (dict(mirror=False), dict(flip=True), dict(turns=True)):
        recipe = Full(**options)
        allowed = {in_position(picture, p).tobytes() for p in positions(recipe)}
        drawn = {one.tobytes() for one in augment(picture[None].repeat(200, 0), recipe, np.random.default_rng(0))}
        assert drawn == allowed


# the cut


@pytest.mark.parametrize(
    "name, size, stages",
    [
        ("test_efficientnet", 64, 1),
        ("test_resnet", 32, 2),
        ("test_vit", 160, 1),
        ("test_byobnet", 64, 1),
        pytest.param("swin_tiny_patch4_window7_224", 224, 1, marks=pytest.mark.slow),
    ],
)
def test_below_and_above_are_the_whole(name, size, stages):
    backbone = load_backbone(name, weights=None, size=size).module
    lower, above, _ = split_backbone(backbone, size, stages)
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        assert torch.allclose(
            torch.nn.Sequential(*above)(lower.forward_features(images)),
            backbone.forward_features(images),
            rtol=1e-3,
            atol=1e-4,
        )
    assert (
        0 < sum(p.numel() for part in above for p in part.parameters()) < sum(p.numel() for p in backbone.parameters())
    )


def test_activations_come_from_torch_and_are_not_computed_twice(stripes, backbone, monkeypatch):
    found = cached_activations(stripes, backbone, orientations=(0, 4))
    pixels, lower = cached_pixels(stripes, backbone.preprocess)[:], split_backbone(backbone.module, 32)[0]
    for position in (0, 4):
        with torch.no_grad():
            expected = lower.forward_features(
                torch.from_numpy(backbone.preprocess.tensor(in_position(pixels, position)))
            ).numpy()
        assert np.abs(found.rows[position][:] - expected).max() < 1e-3 * np.abs(expected).max()
    drawn = found.draw(np.arange(48), np.random.default_rng(0))
    mirrored = [(row == other).all() for row, other in zip(drawn, found.rows[4][:])]
    assert 0 < sum(mirrored) < 48
    monkeypatch.setattr(
        "cvkit.model.partial_finetuning.single_thread_session", lambda graph: pytest.fail("a session was made")
    )
    assert (cached_activations(stripes.take([7, 3]), backbone).draw([0, 1], None) == found.rows[0][[7, 3]]).all()


# one training


@pytest.fixture(scope="module")
def lessons(stripes, backbone):
    pixels = cached_pixels(stripes, backbone.preprocess)[:]
    return TrainingData(
        lambda rows, random: backbone.preprocess.tensor(pixels[rows]),
        training_labels(stripes.targets, 2),
        stripes.targets,
        stripes.table["image"].to_numpy(str),
    )


def fresh(seed=0):
    backbone = load_backbone_seeded()
    network = make_network(backbone, np.zeros((2, backbone.width)), np.zeros(2)).requires_grad_(True)
    return network, network.backbone


rows = np.arange(40)
usual = dict(recipe=quick, plan=Plan(**PLAN.chosen), learn=rows, validation=np.zeros(0, int))


def test_a_bad_number_stops_at_the_first_and_keeps_the_batch(lessons, tmp_path):
    def draw(some, random):
        found = lessons.draw(some, random)
        found[np.isin(some, [5])] = np.nan
        return found

    with pytest.raises(
        DataError, match="expected a loss that is a number, got nan in training, epoch 1, step"
    ) as caught:
        fit_network(*fresh(), dataclasses.replace(lessons, draw=draw), folder=tmp_path / "t", **usual)
    kept = np.load(tmp_path / "t" / "stopped.npz")
    assert (
        lessons.keys[5] in kept["images"]
        and np.isnan(kept["input"]).any()
        and str(tmp_path / "t" / "stopped.npz") in str(caught.value)
    )


def test_want_of_memory_halves_the_batch_with_a_line_and_stops_in_the_end(lessons, tmp_path, monkeypatch):
    real, plans = training_loop.place_batch, []

    def small_machine(most):
        def place(array, plan):
            if len(array) > most:
                raise RuntimeError(
                    "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to "
                    "allocate 1 bytes"
                )
            return real(array, plan)

        return place

    monkeypatch.setattr(training_loop, "place_batch", small_machine(4))
    with pytest.warns(UserWarning, match="not enough memory for a batch of 8: going on with 4"):
        result = fit_network(*fresh(), lessons, folder=tmp_path / "a", keep_plan=plans.append, **usual)
    assert [p.batch for p in plans] == [4] and result["epochs"] == 2 and "batch halved from 8" in plans[0].because
    monkeypatch.setattr(training_loop, "place_batch", small_machine(0))
    with pytest.warns(UserWarning), pytest.raises(DataError, match="expected memory for a batch of 2 images"):
        fit_network(*fresh(), lessons, folder=tmp_path / "b", **usual)


def test_another_error_is_not_taken_for_want_of_memory(lessons, tmp_path):
    def broken(some, random):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        fit_network(*fresh(), dataclasses.replace(lessons, draw=broken), folder=tmp_path / "t", **usual)


def test_layers_learn_at_their_own_rate_on_a_cosine():
    network, backbone = fresh()
    run = Training(network, backbone, Full(epochs=4, rate=1.0, layer_decay=0.5, warmup=1.0), Plan(**PLAN.chosen))

    def rate(part):
        return next(g["lr"] for g in run.optimizer.param_groups if any(p is part for p in g["params"]))

    run.scheduler.step(1000)
    assert (
        rate(network.head.weight) == pytest.approx(1.0)
        and rate(backbone.conv1[0].weight if isinstance(backbone.conv1, torch.nn.Sequential) else backbone.conv1.weight)
        < 0.1
    )
    run.scheduler.step(1000 + 1500)
    assert rate(network.head.weight) == pytest.approx(0.5, abs=0.01)
    run.scheduler.step(500)
    assert rate(network.head.weight) == pytest.approx(0.505, abs=0.01)
    assert {g["weight_decay"] for g in run.optimizer.param_groups if any(p.ndim == 1 for p in g["params"])} == {0}


@pytest.mark.parametrize(
    "options",
    [dict(mixup=0.4, cutmix=1.0, smoothing=0.1), dict(balance="weights"), dict(balance="sampling", average=0.0)],
)
def test_every_option_trains_and_repeats_itself(lessons, tmp_path, options):
    digests = []
    for i in range(2):
        network, backbone = fresh()
        np.random.seed(i)  # what others draw is nobody's business
        fit_network(
            network,
            backbone,
            lessons,
            folder=tmp_path / str(i),
            **usual | dict(recipe=dataclasses.replace(quick, epochs=1, **options)),
        )
        digests.append(state_digest(network.state_dict()))
    assert digests[0] == digests[1] != state_digest(fresh()[0].state_dict())


def test_early_stopping_ships_the_best_epoch(lessons, tmp_path, monkeypatch):
    losses = iter([0.5, 0.4, 0.6, 0.7, 0.1])
    monkeypatch.setattr(training_loop, "log_loss", lambda *a: next(losses))
    seen = []
    network, backbone = fresh()
    result = fit_network(
        network,
        backbone,
        lessons,
        folder=tmp_path / "t",
        report=lambda step, values: seen.append(values["validation_loss"]),
        **usual | dict(validation=np.arange(40, 48), recipe=dataclasses.replace(quick, epochs=9, patience=2)),
    )
    assert (result["epoch"], result["epochs"], seen) == (2, 4, [0.5, 0.4, 0.6, 0.7])
    assert state_digest(network.state_dict()) == state_digest(load_state(tmp_path / "t" / "best.safetensors")[0])


# cross-validation


def test_validation_images_are_of_the_training_folds_and_no_unit_is_cut(stripes):
    units = np.arange(48) // 4
    learn, validation = validation_rows(
        np.arange(8, 48), stripes.targets, units, 0.2, random=np.random.default_rng(0), classes=stripes.classes
    )
    assert (
        not set(units[learn]) & set(units[validation])
        and sorted([*learn, *validation]) == list(range(8, 48))
        and set(stripes.targets[validation]) == {0, 1}
    )


@pytest.mark.parametrize("kind", [Tail, Full])
def test_no_image_is_judged_by_a_network_that_has_seen_it(stripes, backbone, folds, tmp_path, kind):
    recipe = kind(epochs=1, patience=1, validation=0.3, rate=1e-3)
    first = cross_fit(stripes, backbone, recipe, folds=folds, folder=tmp_path / "a", plan=PLAN)
    other = dataclasses.replace(stripes, table=stripes.table.copy())
    other.table["label"] = np.where(folds == 1, np.where(stripes.labels == "along", "across", "along"), stripes.labels)
    second = cross_fit(other, backbone, recipe, folds=folds, folder=tmp_path / "b", plan=PLAN)
    assert np.array_equal(first.oof_logits[folds == 1], second.oof_logits[folds == 1])
    assert not np.allclose(first.oof_logits[folds == 2], second.oof_logits[folds == 2], atol=1e-4)
    assert np.isnan(first.oof_logits[folds < 0]).all() and np.isfinite(first.oof_probabilities[folds >= 0]).all()
    assert [t["learned_from"] + t["validation"] for t in first.trainings] == [24, 24, 24, 36] and first.trainings[-1][
        "validation"
    ] == 0


def test_what_is_below_the_cut_does_not_move_and_full_moves_everything(stripes, backbone, folds, tmp_path):
    before = backbone.module.state_dict()
    moved = {}
    for kind in (Tail, Full):
        name = kind.name
        recipe = kind(epochs=1, patience=0, rate=1e-3)
        after = cross_fit(
            stripes, backbone, recipe, folds=folds, folder=tmp_path / name, plan=PLAN
        ).network.backbone.state_dict()
        moved[name] = {k for k in before if k.endswith("weight") and not torch.equal(before[k], after[k])}
    assert moved["tail"] and all(k.startswith("layer4") for k in moved["tail"])
    assert moved["full"] == {k for k in before if k.endswith("weight")}
    assert state_digest(before) == backbone.weights_digest


def test_refusals(stripes, backbone, folds, tmp_path):
    with pytest.raises(DataError, match="every class outside fold 0, but 'across' is not"):
        cross_fit(stripes, backbone, quick, folds=np.where(stripes.targets == 0, 0, 1), folder=tmp_path, plan=PLAN)
    with pytest.raises(DataError, match="expected a crop of at most 32 pixels, the side of the images, got 64"):
        cross_fit(stripes, backbone, dataclasses.replace(quick, crop=64), folds=folds, folder=tmp_path, plan=PLAN)
    with pytest.raises(DataError, match="at least two groups of class 'across'"):
        cross_fit(stripes, backbone, Full(epochs=1), folds=folds, folder=tmp_path, units=stripes.targets, plan=PLAN)
    assert small_images(stripes, 33) == stripes.table["uri"].tolist() and small_images(stripes, 32) == []


CHILD = """
import os, signal, sys
import numpy as np, torch
from cvkit.data.ingest import ingest_folder
from cvkit.model import cross_validation
from cvkit.model.backbones import load_backbone, state_digest
from cvkit.model.plan import parse_plan_options
from cvkit.model.recipe import parse_recipe

images, out, die_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
calls, real = [0], cross_validation.augment
def augment(*given):
    calls[0] += 1
    if calls[0] == die_at: os.kill(os.getpid(), signal.SIGKILL)
    return real(*given)
cross_validation.augment = augment
manifest, backbone = ingest_folder(images), load_backbone("test_resnet", weights=None, size=32)
recipe = parse_recipe("full:epochs=3,patience=0,mixup=.2,rate=1e-3")
plan = parse_plan_options("device=cpu,layout=channels_last,precision=float32,threads=1,batch=8")
folds = np.arange(len(manifest)) // 2 % 3 - 1
fit = cross_validation.cross_fit(manifest, backbone, recipe, folds=folds, folder=out, plan=plan)
logits = fit.oof_logits[np.isfinite(fit.oof_logits)]
print(state_digest(fit.network.state_dict()), repr(logits.tobytes().hex()), calls[0])
"""


def test_a_killed_training_goes_on_and_ends_with_the_same_digest(home, tmp_path):
    def child(out, die_at):
        return subprocess.run(
            [sys.executable, "-c", CHILD, str(home / "images"), str(tmp_path / out), str(die_at)],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    whole = child("whole", 0)
    assert whole.returncode == 0, whole.stderr
    killed = child("killed", 9)  # 16 images a fold: two steps an epoch, read a few ahead; so in the second training
    assert killed.returncode == -9
    checkpoint = sorted((tmp_path / "killed").glob("*/*/last.safetensors")) + sorted(
        (tmp_path / "killed").glob("*/*/done.safetensors")
    )
    assert checkpoint and oct((tmp_path / "killed").stat().st_mode)[-3:] == "700"
    resumed = child("killed", 0)
    assert resumed.returncode == 0, resumed.stderr
    *same, steps = resumed.stdout.split()
    *expected, all_steps = whole.stdout.split()
    assert (
        same == expected and int(steps) <= int(all_steps) - 9 + 1 + 2 + 4
    )  # what was lost: the epoch that it died in, two steps, and what had been read ahead


def test_a_plan_keeps_to_the_threads_that_somebody_has_set(monkeypatch):
    from cvkit.model import plan

    tried = []
    monkeypatch.setattr(plan, "_step_seconds", lambda network, images, one: tried.append(one.threads) or 1.0)
    monkeypatch.setattr(plan.os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    for variable, most in (("3", 3), ("9", 4), ("0", 4), ("1,2", 4), ("", 4), ("1", 1)):
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
        tried.clear()
        plan.propose_plan(torch.nn.Conv2d(3, 3, 1), 8)
        assert max(tried) == most and min(tried) == 1


def test_a_plan_is_not_misled_by_a_busy_moment(monkeypatch):
    from cvkit.model import plan

    turns = {}

    def seconds(network, images, one):
        turns[one] = turns.get(one, 0) + 1
        true = {
            ("channels_last", "bfloat16"): 1.0,
            ("contiguous", "bfloat16"): 1.2,
            ("channels_last", "float32"): 2.0,
            ("contiguous", "float32"): 4.0,
        }[one.layout, one.precision] * (1.0 if one.threads > 1 else 1.4)
        return true * (1.9 if (turns[one] == 2 and one.layout == "channels_last") or turns[one] == 1 else 1)

    monkeypatch.setattr(plan, "_step_seconds", seconds)
    monkeypatch.setattr(plan, "_half_precision_helps", lambda: True)
    monkeypatch.setattr(plan, "_cores", lambda: 2)
    found = plan.propose_plan(torch.nn.Conv2d(3, 3, 1), 8)
    assert (found.layout, found.precision, found.threads) == (
        "channels_last",
        "bfloat16",
        2,
    ) and "4.0 images a second in a trial, 4.0 times contiguous float32" in found.because
    assert (
        turns[Plan("cpu", "contiguous", "float32", 2, 32, found.allocator)] == 2
        and turns[Plan("cpu", "channels_last", "bfloat16", 2, 32, found.allocator)] == 3
    )


KEEPING = """
import resource, sys
import numpy as np
from cvkit.model.plan import Plan, as_planned
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4 // 1024
with as_planned(Plan(allocator=sys.argv[1])):
    np.ones(2**24, np.float32)
    before = faults()
    for _ in range(5): np.ones(2**24, np.float32)
    print(faults() - before, held())
print(held())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc keeps memory, other C libraries are left alone")
def test_memory_is_kept_between_steps_and_given_back():
    def run(allocator):
        return [
            int(word)
            for word in subprocess.run(
                [sys.executable, "-c", KEEPING, allocator], capture_output=True, text=True, check=True
            ).stdout.split()
        ]

    (usual, *_), (kept, during, after) = run("default"), run("keeping")
    assert usual > 1000 and kept < usual / 10, (
        "blocks of 64 MiB are zeroed by the system again and again, unless they are kept"
    )
    assert during - after > 50, "given back at the end"
