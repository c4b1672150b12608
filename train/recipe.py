"""Training recipes: one option table, read from TOML and overridden by ``--set key=value``."""

from __future__ import annotations

import contextlib
import functools
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from headgate.device import schema
from headgate.device.schema import BELOW_1, POSITIVE, SHARE, Demand, Mismatch, at_least
from headgate.errors import MissingFile, RecipeError, suggest, why

Table = dict[str, Any]
Patterns = list[str]  # of module paths, or the one word block-inner
DENSITY = Demand("above 0 and at most 1", lambda value: 0 < value <= 1)
STAGE = Demand(
    "a pair of first epoch and a density above 0 and at most 1",
    lambda stage: len(stage) == 2 and DENSITY.holds(stage[1]),
)
Stages = list[Annotated[list[float], STAGE]]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run. The table in train/README.md is made from this."""

    name: Annotated[str, "name of the run and its checkpoint; empty: the model's"] = ""
    model: Annotated[str, "network, one of headgate's model names"] = "resnet8"
    model_options: Annotated[Table, "the network's own options"] = field(default_factory=dict)
    dataset: Annotated[
        Literal["cifar10", "cifar100", "imagenet", "places365", "folder", "synthetic"],
        "what to train on",
    ] = "cifar10"
    data_folder: Annotated[str, "where the data set lies; empty: HEADGATE_DATA or the cache"] = ""
    image_size: Annotated[int, "side of the squares made of image files; 0: the network's"] = 0
    limit_train: Annotated[int, "use only so many training images; 0: all"] = 0
    limit_test: Annotated[int, "use only so many test images; 0: all"] = 0
    hold_out: Annotated[
        int, "test on so many training images, the last, kept from training; 0: on the test images"
    ] = 0

    gate: Annotated[str, "gating method, for example fbs; empty: none"] = ""
    gate_layers: Annotated[Patterns, "module paths, or block-inner; empty: all"] = field(
        default_factory=list
    )
    gate_options: Annotated[Table, "the method's own options"] = field(default_factory=dict)
    density: Annotated[float, "share of the channels that are active, in the end", DENSITY] = 1.0
    density_schedule: Annotated[Stages, "[first epoch, density] stages up to it"] = field(
        default_factory=list
    )
    gate_training: Annotated[Table, "options of how the method trains its gates"] = field(
        default_factory=dict
    )
    gate_loss: Annotated[
        Literal["own", "moe", "shaping", "hardness"],
        "the gates' regulariser: the method's, FBS's load balance, batch shaping, or hardness",
    ] = "own"
    gate_penalty: Annotated[float, "weight of the gates' regulariser"] = 1e-8
    gate_penalty_epochs: Annotated[
        float, "epochs in which that weight falls to 0 in a straight line; 0: it stays"
    ] = 0.0

    twin_of: Annotated[
        str, "gated checkpoint whose most frequent channels are every image's; empty: none"
    ] = ""

    prune: Annotated[str, "method that removes channels while training, for example frs"] = ""
    prune_layers: Annotated[Patterns, "module paths; empty: those of the method"] = field(
        default_factory=list
    )
    prune_options: Annotated[Table, "the method's own options"] = field(default_factory=dict)

    quantize: Annotated[str, "codes whose rounding is trained with: int8; empty: none"] = ""

    start_from: Annotated[str, "checkpoint, by name or path, whose weights to begin with"] = ""
    teacher: Annotated[str, "checkpoint to distil from"] = ""
    teacher_weight: Annotated[float, "share of the distillation loss in the whole", SHARE] = 0.5
    teacher_temperature: Annotated[
        float, "softening of both sides' logits in distillation", POSITIVE
    ] = 4.0

    epochs: Annotated[int, "passes over the training images", at_least(1)] = 60
    batch_size: Annotated[int, "images a step, over all processes together", at_least(1)] = 128
    learning_rate: Annotated[float, "highest learning rate", POSITIVE] = 0.1
    final_learning_rate: Annotated[float, "where the cosine ends"] = 0.0
    warmup_epochs: Annotated[float, "epochs of linear rise to the highest learning rate"] = 1.0
    momentum: Annotated[float, "momentum of SGD", BELOW_1] = 0.9
    nesterov: Annotated[bool, "look-ahead momentum"] = True
    weight_decay: Annotated[float, "L2 penalty on convolution and linear weights"] = 5e-4
    decay_all: Annotated[bool, "L2 penalty on biases, norms and gates too"] = False
    label_smoothing: Annotated[float, "probability spread over the other classes", BELOW_1] = 0.0
    clip_norm: Annotated[float, "largest L2 norm of the gradient; 0: not clipped"] = 0.0
    ema_decay: Annotated[float, "decay of averaged weights, if they are the result", BELOW_1] = 0.0

    crop_padding: Annotated[int, "pixels of padding before the random crop"] = 4
    crop_scale: Annotated[
        float, "smallest share of the area in a random resized crop; 0: no such crop", SHARE
    ] = 0.0
    flip: Annotated[bool, "mirror half of the images"] = True
    cutout: Annotated[int, "side of the square blotted out, in pixels"] = 0
    brightness: Annotated[float, "largest brightness shift, in 0..1"] = 0.0
    contrast: Annotated[float, "largest change of contrast, as a share"] = 0.0
    saturation: Annotated[float, "largest change of saturation, as a share"] = 0.0
    hue: Annotated[float, "largest turn of the hue, as a share of the circle", SHARE] = 0.0

    precision: Annotated[Literal["no", "bf16", "fp16"], "mixed precision"] = "no"
    seed: Annotated[int, "seed of weights, order and augmentation"] = 1
    deterministic: Annotated[bool, "refuse operators that differ from run to run"] = False
    checkpoint_batches: Annotated[int, "batches between saved states; 0: one an epoch"] = 100

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.model)
        for key, kind in get_type_hints(Recipe, include_extras=True).items():
            check_type(key, getattr(self, key), kind)
        _check_ranges(self)


@functools.cache
def option_types() -> dict[str, Any]:
    """The type of every option, in the table's order."""
    return get_type_hints(Recipe)


def check_type(key: str, value: Any, kind: Any) -> None:
    """Raises a RecipeError for an option's value that does not fit its annotation."""
    try:
        schema.check(kind, value, key)
    except Mismatch as error:
        raise RecipeError(f"recipe: {error}") from error


# Arguments that the options of a table are handed over with, and where their values come from.
_SAID_ELSEWHERE = {
    "model_options": {"name": "the option model", "num_classes": "the data set"},
    "gate_options": {
        "module": "the option model",
        "method": "the option gate",
        "density": "the option density",
        "layers": "the option gate_layers",
        "example_input": "the data set",
    },
}


def _check_ranges(recipe: Recipe) -> None:
    def demand(holds: bool, key: str, wanted: str) -> None:
        if not holds:
            raise RecipeError(f"recipe: {key} = {getattr(recipe, key)!r}, but must be {wanted}")

    for entry in fields(recipe):
        value = getattr(recipe, entry.name)
        demand(not isinstance(value, (int, float)) or value >= 0, entry.name, "at least 0")
    demand(recipe.momentum > 0 or not recipe.nesterov, "momentum", "above 0 with nesterov")
    schedule = recipe.density_schedule
    starts = [stage[0] for stage in schedule]
    demand(starts == sorted(set(starts)), "density_schedule", "in rising order of epochs")
    ends = not schedule or schedule[-1][1] == recipe.density
    demand(ends, "density", "the last density of density_schedule")
    for table, elsewhere in _SAID_ELSEWHERE.items():
        for key in sorted(set(getattr(recipe, table)) & set(elsewhere)):
            raise RecipeError(
                f"recipe: {table}.{key} does not belong there: {elsewhere[key]} says it; leave it "
                "out"
            )
    gated = recipe.density < 1 or schedule or recipe.gate_layers
    if gated and not recipe.gate:
        raise RecipeError("recipe: densities and gate_layers need a gate, for example gate = 'fbs'")
    demand(not recipe.twin_of or bool(recipe.gate), "twin_of", "empty without a gate")
    if (recipe.prune_layers or recipe.prune_options) and not recipe.prune:
        raise RecipeError("recipe: prune_layers and prune_options need prune, for example 'frs'")
    demand(recipe.quantize in ("", "int8"), "quantize", "'int8', or empty")
    if recipe.quantize:
        demand(not recipe.prune, "prune", "empty with quantize: prune first, then start from that")
        demand(not schedule, "density_schedule", "empty with quantize, which takes one density")
        demand(recipe.precision == "no", "precision", "'no' with quantize, which rounds by itself")
    if recipe.prune and recipe.gate:
        raise RecipeError(
            "recipe: prune and gate cannot train together: prune first, then gate from the "
            "checkpoint of that run (start_from)"
        )


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("headgate.train") / "recipes"
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    )


def load_recipe(source: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Reads a recipe from a TOML file, or by the name of one that comes with the package.

    Args:
        source: path or name.
        overrides: ``key=value`` texts; a value is TOML, and what is not TOML is taken as text.
            ``gate_options.x=1`` sets one entry of a table.

    Raises:
        MissingFile: no such file or name.
        RecipeError: not TOML, an unknown key (with a suggestion), a wrong type or value.

    Example:
        >>> load_recipe("resnet8", ["epochs=2", "density=0.5", "gate=fbs"])
    """
    return recipe_from(_read(source), overrides, origin=str(source))


def _read(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    names = recipe_names()
    try:
        if str(source) in names and not path.is_file():
            shipped = resources.files("headgate.train") / "recipes" / f"{source}.toml"
            return tomllib.loads(shipped.read_text(encoding="utf-8"))
        # Windows' editors begin a file with a mark.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        hint = suggest(path.stem, names)
        raise MissingFile(f"recipe {source} cannot be read: {why(error)}.{hint}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"recipe {source} is no text in UTF-8: save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"recipe {source} is not valid TOML: {why(error)}") from error


def recipe_from(
    table: Mapping[str, Any], overrides: Iterable[str] = (), origin: str = "recipe"
) -> Recipe:
    """A recipe from a parsed table and ``key=value`` overrides; a RecipeError as `load_recipe`."""
    known = option_types()
    for key in table:
        if key not in known:
            raise RecipeError(f"{origin}: unknown key {key!r}.{suggest(key, known)}")
    merged = dict(table)
    for text in overrides:
        _override(merged, text)
    return Recipe(**merged)


def _override(table: dict[str, Any], text: str) -> None:
    known = option_types()
    key, equals, written = text.partition("=")
    key, dot, entry = key.strip().partition(".")
    if not equals:
        raise RecipeError(f"--set {text!r} has no '=': write key=value")
    if key not in known:
        raise RecipeError(f"--set: unknown key {key!r}.{suggest(key, known)}")
    if dot and get_origin(known[key]) is not dict:
        raise RecipeError(f"--set: {key} is no table, so it has no entry {entry!r}")
    value: Any = written.strip()
    if known[key] is not str:
        # What is not TOML is taken as text; where text is wrong, the type check says so.
        with contextlib.suppress(tomllib.TOMLDecodeError):
            value = tomllib.loads(f"value = {value}")["value"]
    table[key] = {**table.get(key, {}), entry: value} if dot else value


def option_table() -> str:
    """The options as a Markdown table: key, default, meaning."""
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for key, kind in get_type_hints(Recipe, include_extras=True).items():
        choices = get_args(option_types()[key]) if "Literal" in str(kind) else ()
        text = kind.__metadata__[0] + (f": {', '.join(choices)}" if choices else "")
        default = "" if key == "name" else getattr(Recipe(), key)
        rows.append(f"| `{key}` | `{_written(default)}` | {text} |")
    return "\n".join(rows)


def to_toml(recipe: Recipe) -> str:
    """The whole recipe as TOML, every option written out."""
    return "".join(f"{key} = {_written(getattr(recipe, key))}\n" for key in option_types())


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_written(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_written(entry) for entry in value) + "]"
    return json.dumps(value)  # Text, numbers and booleans are written alike in both.
