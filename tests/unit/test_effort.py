"""Work per image: what is counted, grouped, correlated and shown."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from headgate.device.agent.absent import NotMeasured
from headgate.device.program import Execution
from headgate.errors import BundleError
from headgate.networks import find_network
from headgate.profiling.data import read_page
from headgate.profiling.dynamics import Dynamics, LayerDynamics, MacPercentiles, dynamics_of
from headgate.profiling.effort import Effort, Hardness, measure_effort, measure_efforts
from headgate.profiling.gallery import LARGEST, data_uri, pictures_of
from headgate.profiling.report import Page, build_report, render_html
from headgate.profiling.report_csv import csv_tables
from headgate.profiling.source import Source
from headgate.profiling.statistics import distribution, rank_correlation
from headgate.train.checkpoints import describe
from headgate.train.data import Preprocess
from tests import fake_bundle
from tests.fake_program import ScriptedProgram
from tests.page_structure import page_faults

COUNT = 40
IMAGES = fake_bundle.images(COUNT)
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 3)).astype(np.uint8)


class Picky(ScriptedProgram):
    """Opens as many of its four channels as it is told for each image."""

    def __init__(self, active: np.ndarray, **manifest: Any) -> None:
        super().__init__(lambda run: 1.0, **manifest)
        self.chosen = active

    def _execute(self, *arguments: Any) -> Execution:
        execution = super()._execute(*arguments)
        execution.counts[:, 0] = self.chosen
        return execution


def active_counts() -> np.ndarray:
    """1 for the first images, 4 for the last."""
    return np.repeat([1, 2, 3, 4], COUNT // 4)


def effort(**options: Any) -> Effort:
    program = options.pop("program", None) or Picky(active_counts())
    return measure_effort("picky", program, IMAGES, **options)


def test_macs_per_image_and_their_histogram() -> None:
    one = effort()
    # 24 MACs a channel and 16 of the gate
    assert (one.macs.minimum, one.macs.maximum) == (16 + 24, 16 + 96)
    assert one.macs.mean == 16 + 60
    assert one.dense_macs == 96
    assert sum(one.counts) == COUNT
    assert (one.edges[0], one.edges[-1]) == (40, 112)
    assert len(one.edges) == len(one.counts) + 1


def test_layers_and_their_shares_by_cost() -> None:
    (layer,) = effort().layers
    assert (layer.name, layer.gate, layer.channels) == ('block."conv"', "block", 4)
    assert (layer.active.minimum, layer.active.mean, layer.active.maximum) == (1, 2.5, 4)
    assert layer.shares_by_cost[0] == 0.25
    assert layer.shares_by_cost[-1] == 1.0
    assert layer.shares_by_cost == sorted(layer.shares_by_cost)


def test_channels_come_from_the_gate() -> None:
    """A gate that decides on pixels counts more than the layer has channels."""
    gates = [{"name": "block", "channels": 24, "count_offset": 64, "list_offset": None}]
    program = Picky(np.full(COUNT, 6), gates=gates)
    (layer,) = effort(program=program).layers
    assert layer.channels == 24
    assert layer.active.mean == 6


def test_hard_images_that_cost_more_correlate() -> None:
    labels = np.zeros(COUNT, np.int64)
    certainty = np.linspace(5.0, 1.0, COUNT)  # of class 0, which is right
    reference = np.stack([certainty, np.zeros(COUNT)], axis=1)
    hardness = effort(labels=labels, reference=reference).hardness
    assert isinstance(hardness, Hardness)
    assert hardness.measure == "loss"
    assert hardness.loss_correlation == pytest.approx(0.968, abs=0.01)
    assert hardness.confidence_correlation == pytest.approx(-0.968, abs=0.01)
    assert hardness.macs_by_hardness == sorted(hardness.macs_by_hardness)


def test_without_labels_confidence_says_what_is_hard() -> None:
    reference = np.stack([np.linspace(1, 5, COUNT), np.zeros(COUNT)], axis=1)
    hardness = effort(reference=reference).hardness
    assert isinstance(hardness, Hardness)
    assert hardness.measure == "lack of confidence"
    assert isinstance(hardness.loss_correlation, NotMeasured)
    assert hardness.macs_by_hardness[0] > hardness.macs_by_hardness[-1]


def test_constant_cost_has_no_groups_and_no_correlation() -> None:
    one = effort(program=Picky(np.full(COUNT, 2)), reference=np.ones((COUNT, 2)), pixels=PIXELS)
    assert one.hardness == NotMeasured("every image costs the same")
    assert one.counts == [COUNT]
    assert one.layers[0].shares_by_cost == []
    assert one.cheapest == one.dearest == []


def test_right_and_wrong_images_apart() -> None:
    predicted = fake_bundle.expected(IMAGES).argmax(axis=1)
    labels = predicted.copy()
    labels[:10] = (predicted[:10] + 1) % 4  # the ten cheapest are wrong
    one = effort(labels=labels)
    assert one.accuracy == 0.75
    assert one.macs_if_wrong == 40
    assert one.macs_if_right == 16 + 72
    assert isinstance(effort(labels=predicted).macs_if_wrong, NotMeasured)
    assert isinstance(effort().accuracy, NotMeasured)


def test_examples_are_the_ends_of_the_order() -> None:
    predicted = fake_bundle.expected(IMAGES).argmax(axis=1)
    one = effort(pixels=PIXELS, labels=predicted, classes=["a", "b", "c", "d"])
    assert [example.index for example in one.cheapest] == list(range(8))
    assert [example.macs for example in one.dearest] == [112] * 8
    assert one.cheapest[0].label == one.cheapest[0].predicted == "abcd"[predicted[0]]
    picture = base64.b64decode(one.cheapest[0].picture.partition(",")[2])
    assert (np.asarray(Image.open(io.BytesIO(picture))) == PIXELS[0]).all()


@given(arrays(np.int64, 12, elements=st.integers(0, 5)), st.data())
def test_rank_correlation_is_pearsons_of_ranks(first: np.ndarray, data: st.DataObject) -> None:
    second = data.draw(arrays(np.int64, 12, elements=st.integers(0, 5)))
    found = rank_correlation(first, second)
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert found is None
        return

    def ranks(values: np.ndarray) -> list[float]:
        return [float((values < v).sum() + (values == v).sum() / 2) for v in values]

    assert found == pytest.approx(np.corrcoef(ranks(first), ranks(second))[0, 1], abs=1e-9)


def test_distribution() -> None:
    found = distribution(np.arange(101))
    assert (found.minimum, found.mean, found.p95, found.maximum) == (0, 50, 95, 100)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]), st.integers(0, 2**32 - 1))
def test_png_holds_the_pixels(height: int, width: int, channels: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    decoded = np.asarray(picture(data_uri(pixels)))
    assert (decoded.reshape(pixels.shape) == pixels).all()


def picture(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_large_pictures_are_thinned() -> None:
    image = picture(data_uri(np.zeros((500, 300, 3), np.uint8)))
    assert max(image.size) <= LARGEST


def test_pictures_come_back_from_preprocessed_images() -> None:
    preprocess = Preprocess([0.49, 0.48, 0.45], [0.25, 0.24, 0.26])
    images = preprocess(PIXELS)
    found = pictures_of(images, {"mean": preprocess.mean, "std": preprocess.std})
    assert found is not None
    assert (found == PIXELS).all()
    assert pictures_of(images, None) is None
    assert pictures_of(IMAGES, {"mean": [0.5] * 4, "std": [0.5] * 4}) is None


def report() -> Page:
    labels = np.zeros(COUNT, np.int64)
    reference = np.stack([np.linspace(5.0, 1.0, COUNT), np.zeros(COUNT)], axis=1)
    varying = effort(labels=labels, reference=reference, pixels=PIXELS)
    constant = effort(program=Picky(np.full(COUNT, 2)), labels=labels, reference=reference)
    return build_report("Work", efforts=[varying, constant])


def test_page_shows_work_per_image() -> None:
    page = render_html(report())
    assert page_faults(page) == []
    assert "Work per image" in page
    assert "hardest costs" in page
    assert "Every image costs 64" in page
    assert page.count('<img src="data:image/png;base64,') == 16
    assert "Density, layer by layer" in page
    assert "where cheap and dear images differ" in page
    assert "every image costs the same" in page


def test_every_picture_and_drawing_has_a_text_alternative() -> None:
    page = render_html(report())
    assert page.count("<img ") == page.count(' alt="image ')
    plots = page.count('<svg class="plot"')
    assert plots == page.count(' role="img" aria-label="') == 4  # two columns, two heat maps


def test_numbers_of_the_drawings_are_tables_too() -> None:
    tables = csv_tables(report())
    assert set(tables) == {"", "-layers", "-macs", "-density"}
    macs = tables["-macs"].splitlines()
    assert macs[0] == "network,from_macs,to_macs,images"
    assert sum(int(line.rpartition(",")[2]) for line in macs[1:]) == 2 * COUNT
    density = tables["-density"].splitlines()
    assert density[0].startswith("network,layer,gate,channels,min,mean,p95,max,tenth_1,")
    assert len(density) == 3
    assert density[2].endswith(",,,,,,,,,,")  # all images cost the same: no tenths


def test_sections_are_empty_without_dynamic_networks() -> None:
    page = render_html(build_report("None"))
    for section in ("Work per image", "Density", "cheap and dear images", "Cheap and dear images"):
        assert section not in page


def test_the_first_dense_network_says_what_is_hard() -> None:
    conv = {**fake_bundle.manifest()["layers"][1], "out_gate": None}
    dense = ScriptedProgram(lambda run: 1.0, gates=[], layers=[conv])
    sources = {
        "picky": Source("picky", "aa", Picky(active_counts())),
        "dense": Source("dense", "bb", dense),
    }
    found = measure_efforts(sources, IMAGES)
    assert list(found) == ["picky", "dense"]
    assert isinstance(found["picky"].hardness, Hardness)
    alone = measure_efforts({"picky": sources["picky"]}, IMAGES)["picky"]
    assert isinstance(alone.hardness, NotMeasured)


# What the checkpoint was measured to be

LAYER = {"channels": 4, "dynamic": 3, "masks": 17, "information": 0.0625}
MEASURED = {
    "images": 1000,
    "channels": 4,
    "dynamic": 3,
    "information": 0.0625,
    "layers": {"stage1.0.conv1": LAYER},
    "test_accuracy": 0.9014,
    "executed_macs": {"p5": 100, "p50": 200, "p95": 300},
    "frozen_test_accuracy": 0.8876,
}


def test_the_page_says_how_much_gates_depend_on_the_image() -> None:
    program = Picky(active_counts(), dynamics=MEASURED)
    one = effort(program=program)
    assert one.dynamics == Dynamics(
        **MEASURED  # type: ignore[arg-type]
        | {
            "layers": {"stage1.0.conv1": LayerDynamics(**LAYER)},
            "executed_macs": MacPercentiles(100, 200, 300),
        }
    )
    page = render_html(build_report("Gated", efforts=[one]))
    assert page_faults(page) == []
    for text in ("Gates that follow the image", "stage1.0.conv1", ">17<", "0.0625", "88.76%"):
        assert text in page
    assert "Gates that follow the image" not in render_html(
        build_report("Random weights", efforts=[effort()])
    )


def test_dynamics_come_back_from_a_page_and_pixel_gates_have_no_frozen_accuracy(
    tmp_path: Path,
) -> None:
    pixels = {k: v for k, v in MEASURED.items() if k != "frozen_test_accuracy"}
    one = effort(program=Picky(active_counts(), dynamics=pixels))
    page = build_report("Gated", efforts=[one])
    (tmp_path / "page.json").write_text(json.dumps(page.to_json()))
    again = read_page(tmp_path / "page.json")
    assert isinstance(again, Page) and again.efforts[0].dynamics == one.dynamics
    assert "90.14%" in render_html(again) and "88.76%" not in render_html(again)


def test_a_bundle_with_damaged_dynamics_is_refused() -> None:
    with pytest.raises(BundleError, match=r"dynamics\.images"):
        effort(program=Picky(active_counts(), dynamics=MEASURED | {"images": "many"}))


@pytest.mark.parametrize("name", ["resnet8-fbs-0.5", "resnet8-cgnet-1.9x"])
def test_shipped_checkpoints_carry_what_the_page_reads(name: str) -> None:
    found = dynamics_of({"dynamics": find_network(name).dynamics})
    described = describe(name)
    assert isinstance(found, Dynamics)
    assert found.test_accuracy == described["test_accuracy"]
    assert found.dynamic == described["dynamics"]["dynamic"]
    assert (found.frozen_test_accuracy is None) == ("cgnet" in name)
    assert found.executed_macs.p50 == described["macs"]["executed_p50"]
    assert find_network("resnet8-fbs-0.5", density=0.7).dynamics is None
    assert find_network("resnet8").dynamics is None
