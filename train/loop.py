"""The training loop: Accelerate underneath, any position in it can be saved and resumed."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from headgate.device.files import atomic_write, storage_error
from headgate.errors import RecipeError
from headgate.train import diagnose, network, schedule, state
from headgate.train.average import Average
from headgate.train.batches import Batches
from headgate.train.checkpoints import describe, load_checkpoint, save_checkpoint
from headgate.train.evaluate import count_correct
from headgate.train.history import History
from headgate.train.methods import find_procedures
from headgate.train.objective import gate_penalty, hardness_of, objective
from headgate.train.outcome import describe_result
from headgate.train.problem import load_problem
from headgate.train.procedure import Moment
from headgate.train.progress import Progress, say
from headgate.train.quantization.imitation import imitated, network_of, set_scales
from headgate.train.recipe import Recipe, to_toml
from headgate.train.state import Origin, Position
from headgate.train.twin import frozen_if_twin

RESULT_NAME = "model.safetensors"


def train(recipe: Recipe, folder: str | Path, resume: bool = False) -> Path:
    """Trains as ``recipe`` says and returns the checkpoint's path in ``folder``.

    With ``resume`` the run goes on where its last state was saved, to the same weights bit for
    bit; without a state it starts from the beginning. Under ``accelerate launch`` every process
    calls this, and the first one writes.

    Raises:
        RecipeError: a recipe that contradicts itself or the run to resume.
        DataError: no data set, or another than the run to resume began with.
        TrainingError: loss, gradient or gate that is not finite, naming the layer; the last good
            state stays.
        StorageError: a file that cannot be written.
    """
    with _deterministic(recipe.deterministic):
        return Run(recipe, Path(folder), resume).finish()


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    """If ``wanted``, torch refuses operators that differ from run to run, until the block ends."""
    refused = torch.are_deterministic_algorithms_enabled()
    benchmark = torch.backends.cudnn.benchmark
    if wanted:
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(refused)
        torch.backends.cudnn.benchmark = benchmark


class Run:
    """One training run.

    What is random is seeded anew for each batch, and learning rate and density depend on the time
    alone: weights, the optimiser's buffers and the position are the whole state.
    """

    def __init__(self, recipe: Recipe, folder: Path, resume: bool) -> None:
        self.recipe, self.folder = recipe, folder
        # Accelerate keeps one precision for a whole process; a second run may want another.
        AcceleratorState._reset_state()
        self.accelerator = Accelerator(mixed_precision=recipe.precision)
        self.device = self.accelerator.device
        self.first = self.accelerator.is_main_process
        self.problem = load_problem(recipe, self.device)
        teacher = describe(recipe.teacher)["sha256"] if recipe.teacher else None
        self.origin = Origin(asdict(recipe), self.problem.fingerprint, teacher)
        found = state.load_state(self.folder) if resume else None
        if found is not None:
            self.origin.demand_same(found[2], self.folder)
        self.batches = Batches(
            recipe, self.problem, self.accelerator.process_index, self.accelerator.num_processes
        )

        torch.manual_seed(recipe.seed)
        made = network.make(recipe, len(self.problem.classes))
        made = self._place(frozen_if_twin(made, recipe, self.problem))
        self.module = imitated(made, recipe, self.problem)
        # Evaluation has its own copy: full precision, no wrapper, and averaged weights if wanted.
        self.evaluated = copy.deepcopy(self.module)
        self.teacher = self._place(self._load_teacher()) if recipe.teacher else None
        self.optimizer = network.make_optimizer(recipe, self.module)
        self.average = Average(self.module, recipe.ema_decay) if recipe.ema_decay else None
        self.procedures = find_procedures(recipe)
        self.position = Position()
        self._open_folder(new=found is None)
        if found is not None:
            self._restore(*found[:2])
        self.wrapped, self.stepper = self.accelerator.prepare(self.module, self.optimizer)

    def _place(self, module: nn.Module) -> nn.Module:
        """``module`` on this process's device, convolutions in the layout that is fastest."""
        for parameter in module.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return module.to(self.device)

    def _load_teacher(self) -> nn.Module:
        module, _, preprocess = load_checkpoint(self.recipe.teacher)
        said = f"recipe: teacher = {self.recipe.teacher!r}"
        if vars(preprocess) != vars(self.problem.preprocess):
            raise RecipeError(f"{said} takes images scaled in another way")
        if describe(self.recipe.teacher)["num_classes"] != len(self.problem.classes):
            raise RecipeError(f"{said} knows other classes")
        return module

    def _open_folder(self, new: bool) -> None:
        """Readies the folder, so that one which cannot be written to is found out at once."""
        if not self.first:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if new:
                state.forget(self.folder)
        except OSError as error:
            raise storage_error("create", self.folder, error) from error
        with atomic_write(self.folder / "recipe.toml") as file:
            file.write(to_toml(self.recipe).encode())

    def _restore(self, position: Position, tensors: dict[str, Tensor]) -> None:
        self.position = position
        try:
            self.module.load_state_dict(state.part("model", tensors))
            state.load_optimizer(self.optimizer, state.part("optimizer", tensors))
            if self.average is not None:
                self.average.load(state.part("average", tensors))
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(position.scaler)
        except (RuntimeError, ValueError, KeyError) as error:
            raise state.unusable(self.folder / state.JSON_NAME, error) from error
        say(
            f"resuming {self.recipe.name} at epoch {position.epoch}, batch {position.batch}",
            quiet=not self.first,
        )

    def _save(self) -> None:
        """Keeps the present position, if this process writes and every weight is finite."""
        if not self.first or diagnose.first_bad_parameter(self.module) is not None:
            return
        if self.accelerator.scaler is not None:
            self.position.scaler = self.accelerator.scaler.state_dict()
        parts = {
            "model": self.module.state_dict(),
            "optimizer": state.optimizer_tensors(self.optimizer),
            "average": {} if self.average is None else self.average.tensors,
        }
        state.save_state(self.folder, self.position, parts, self.origin)

    def finish(self) -> Path:
        """Runs the epochs that are left, writes the checkpoint and returns its path."""
        with closing(History(self.folder, self.position.rows, write=self.first)) as history:
            while self.position.epoch < self.recipe.epochs:
                self._epoch()
                self._end_epoch(history)
        return self._write_result()

    def _epoch(self) -> None:
        position, recipe = self.position, self.recipe
        moment = self._moment(self.module)
        for procedure in self.procedures:
            procedure.configure(moment)
            if position.batch == 0:
                procedure.before_epoch(moment)
        if position.batch == 0:
            set_scales(self.module, self.problem)
        self.wrapped.train()
        started_s = time.monotonic() - position.epoch_seconds
        title = f"epoch {position.epoch + 1}/{recipe.epochs}"
        with Progress(title, self.batches.count, "batches", quiet=not self.first) as progress:
            progress.advance(position.batch)
            for images, labels in self.batches.epoch(position.epoch, position.batch):
                self._step(images, labels)
                position.batch += 1
                progress.advance(1, f"loss {position.loss_sum / position.images:.3f}")
                every = recipe.checkpoint_batches
                if every and position.batch % every == 0 and position.batch < self.batches.count:
                    position.epoch_seconds = time.monotonic() - started_s
                    self._save()
        position.epoch_seconds = time.monotonic() - started_s

    def _moment(self, module: nn.Module) -> Moment:
        return Moment(network_of(module), self.recipe, self.problem, self.position.epoch)

    def _step(self, images: Tensor, labels: Tensor) -> None:
        recipe, position = self.recipe, self.position
        time_epochs = position.epoch + position.batch / self.batches.count
        for group in self.optimizer.param_groups:
            group["lr"] = schedule.learning_rate(recipe, time_epochs)

        logits = self.wrapped(images)
        teacher_logits = None
        if self.teacher is not None:
            with torch.no_grad(), self.accelerator.autocast():
                teacher_logits = self.teacher(images)
        rated = logits if teacher_logits is None else teacher_logits
        hardness = hardness_of(rated, labels) if recipe.gate_loss == "hardness" else None
        penalty = gate_penalty(recipe, self.module, time_epochs, hardness)
        loss = objective(recipe, logits, labels, teacher_logits, penalty)
        self.stepper.zero_grad()
        self.accelerator.backward(loss)
        limit = recipe.clip_norm or float("inf")
        norm = float(self.accelerator.clip_grad_norm_(self.module.parameters(), limit))
        value = loss.item()
        # In fp16 the scaler expects infinite gradients now and then, and skips their step.
        bad_gradient = recipe.precision != "fp16" and not np.isfinite(norm)
        if not np.isfinite(value) or bad_gradient:
            when = f"epoch {position.epoch + 1}, batch {position.batch + 1}"
            kept = f"the last good state is in {self.folder}"
            raise diagnose.stop(self.module, images, when, kept)
        self.stepper.step()
        if self.average is not None:
            self.average.update(self.module, position.epoch * self.batches.count + position.batch)
        position.loss_sum += value * len(images)
        position.correct += int((logits.argmax(dim=1) == labels).sum())
        position.images += len(images)
        if recipe.gate:
            position.kept_sum += network.kept_share(self.module) * len(images)

    def _end_epoch(self, history: History) -> None:
        position, recipe = self.position, self.recipe
        moment = self._moment(self.module)
        for procedure in self.procedures:
            procedure.after_epoch(moment)
        self._refresh_evaluated()
        correct = self._count_correct()
        row = {
            "epoch": float(position.epoch + 1),
            "density": schedule.density(recipe, position.epoch),
            "learning_rate": schedule.learning_rate(recipe, position.epoch + 1),
            "train_loss": position.loss_sum / position.images,
            "train_accuracy": position.correct / position.images,
            "test_accuracy": correct / len(self.problem.test_images),
            "kept_channels": position.kept_sum / position.images if recipe.gate else 1.0,
            "seconds": position.epoch_seconds,
        }
        history.append(row)
        self.position = Position(
            epoch=position.epoch + 1,
            total_seconds=position.total_seconds + position.epoch_seconds,
            rows=history.rows,
        )
        self._save()
        say(
            f"{recipe.name} epoch {position.epoch + 1}/{recipe.epochs}: "
            f"loss {row['train_loss']:.3f}, train {row['train_accuracy']:.2%}, "
            f"test {row['test_accuracy']:.2%}, kept {row['kept_channels']:.2f}, "
            f"{row['seconds']:.0f} s",
            quiet=not self.first,
        )

    def _refresh_evaluated(self) -> None:
        weights = self.module.state_dict() if self.average is None else self.average.tensors
        self.evaluated.load_state_dict(weights)
        moment = self._moment(self.evaluated)
        for procedure in self.procedures:
            procedure.configure(moment)

    def _count_correct(self) -> int:
        """Right answers over the whole test set, each process doing its share."""
        mine = count_correct(
            self.evaluated,
            self.problem.test_images,
            self.problem.test_labels,
            self.problem.preprocess,
            self.accelerator.process_index,
            self.accelerator.num_processes,
        )
        total = self.accelerator.reduce(torch.tensor(mine, device=self.device), reduction="sum")
        return int(total)

    def _write_result(self) -> Path:
        path = self.folder / RESULT_NAME
        self._refresh_evaluated()
        result = network_of(self.evaluated)
        for procedure in self.procedures:
            result = procedure.finish(self._moment(result))
        if self.first:
            described = describe_result(
                self.recipe, result, self.position, self.problem, self.accelerator
            )
            save_checkpoint(path, result, described)
            coded = described["quantization"]
            also = f", {coded['test_accuracy']:.2%} in {coded['dtype']}" if coded else ""
            say(f"test accuracy {described['test_accuracy']:.2%}{also}; checkpoint in {path}")
        self.accelerator.wait_for_everyone()
        return path
