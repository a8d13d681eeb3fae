"""The training loop: softmax, distillation, test-time training; resumable, validated as it goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vggt3_ros.errors import InputError, Vggt3Error
from vggt3_ros.model.checkpoint import load_network, load_stored_state, save_weights, stored_state
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.precision import autocast_to
from vggt3_ros.training.compiling import compile_regions
from vggt3_ros.training.config import TrainConfig
from vggt3_ros.training.distil import (
    distillation_loss,
    learn_initial_fast_weights,
    train_global_attention_alone,
)
from vggt3_ros.training.divergence import DivergenceWatch
from vggt3_ros.training.handover import leave, take
from vggt3_ros.training.initialise import convert, follow, initialise
from vggt3_ros.training.logs import Logs
from vggt3_ros.training.losses import PatchHead, total_loss
from vggt3_ros.training.optimizers import MovingAverage, Optimizers, schedule
from vggt3_ros.training.parallel import TrainingRanks
from vggt3_ros.training.pool import ScenePool
from vggt3_ros.training.recompute import compute_twice
from vggt3_ros.training.recordings import Recording
from vggt3_ros.training.run_state import RunState, load_state, save_state
from vggt3_ros.training.scenes import SceneBatch
from vggt3_ros.training.timetable import Timetable
from vggt3_ros.training.validate import no_progress
from vggt3_ros.training.validations import Validations

_LOG_EVERY = 20
_PARENT = "softmax.safetensors"
_BEFORE = "start.safetensors"


@dataclass(frozen=True)
class StepReport:
    """What the loop reports after every step."""

    step: int
    total: int  # steps of the run, estimated where it has to fit into some minutes
    phase: str
    done: float  # fraction of the run
    seconds: float  # of the run so far
    losses: dict[str, float] | None
    validation: dict[str, float] | None


class Trainer:
    """One run in one folder: state.safetensors to go on from, network.safetensors (fp16) to use,
    and logs.

    Phases: 'softmax', or 'whole' for a network that is not converted; 'distil', in which the
    converted network's global attention learns to answer as its parent's; 'ttt', in which it is
    trained on its own errors. A run goes on where its folder's state ends, to the bit if its
    settings are the same. `start` gives a new run the weights of an earlier network: one of
    config.model enters the first phase, a converted one skips to the last. With `config.student`,
    converted from that softmax network earlier, the second phase begins with it instead of anew.
    `recordings`: where `config.real` of the scenes come from; `ranks`: the processes that share the
    work.

    `within` minutes of training the run is to end: phases then take fractions of the time instead
    of their steps, and a resumed run has to be given it again, which then goes on, but not to the
    bit: how many steps fit depends on the pace. Validation takes at most a tenth of the minutes,
    but for the last one. `handover`: a folder for what another machine needs to go on, written at
    every save; `resume_from`: such a folder, which a new run goes on from where the other was, with
    optimizers that start anew. On GPUs a network of fixed shapes is compiled by regions, unless
    `eager`; on CPUs that gained little.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        device: torch.device,
        start: str | None = None,
        bf16: bool = True,
        recordings: Sequence[Recording] = (),
        ranks: TrainingRanks | None = None,
        within: float | None = None,
        resume_from: Path | None = None,
        handover: Path | None = None,
        eager: bool = False,
    ) -> None:
        self.config = config
        self.folder = folder
        self.device = device
        self.bf16 = bf16
        self.handover = handover
        self.compiled = device.type == "cuda" and config.fixed_shape and not eager
        if self.compiled:
            # what cannot be compiled runs as it is, with a warning
            torch._dynamo.config.suppress_errors = True
        self.ranks = ranks if ranks is not None else TrainingRanks(device)
        folder.mkdir(parents=True, exist_ok=True)
        self.pool = ScenePool(config, device, recordings, self.ranks.rank, self.ranks.world)
        self.table = Timetable(config, within)
        self.validations = Validations(config, device, self.ranks)
        self.average: MovingAverage
        self.saving_s = 0.0  # what it took last
        state = load_state(folder)
        if state is not None:
            if start is not None or resume_from is not None:
                raise InputError(
                    f"{folder} holds a run already, which goes on by itself; leave --from and"
                    " --resume-from out"
                )
            self._restore(state)
        elif resume_from is not None:
            self._resume(resume_from)
        else:
            self._begin(start)
        self.logs = Logs(folder, self.ranks.first)

    @property
    def step(self) -> int:
        """How many steps have been made, those before a restart included."""
        return self.table.step

    @property
    def phase(self) -> str:
        """What is being trained: 'softmax', 'distil' or 'ttt'."""
        return self.table.phase

    def run(
        self,
        report: Callable[[StepReport], None],
        minutes: float | None = None,
        stop: Callable[[], bool] = bool,
    ) -> None:
        """Train to the end, for `minutes`, or until `stop()` says so between two steps; then save
        the state.

        Whatever goes wrong within a step, the state last saved stays as it was. Raises Vggt3Error
        when training diverged, which is noticed when losses are next read, and, with the state
        saved, when a fraction `abort_after` of the run did not beat an estimate of no motion.
        """
        table = self.table
        began = saved = tick = time.monotonic()
        while not table.over:
            if self.ranks.any(
                stop() or (minutes is not None and time.monotonic() - began > 60 * minutes)
            ):
                break
            before = table.done
            losses = self.advance()
            now = time.monotonic()
            table.stepped(self.ranks.greatest(table.seconds + now - tick))
            tick = now
            aborting = before < self.config.abort_after <= table.done
            validation = self._validate() if self.validations.due(table, before, aborting) else None
            report(
                StepReport(
                    table.step,
                    table.total,
                    table.phase,
                    table.elapsed,
                    table.seconds,
                    losses,
                    validation,
                )
            )
            if aborting:
                self._abort_unless_better(validation)
            if self.ranks.any(tick - saved > self.config.save_every_s):
                self._save()
                saved = tick
        self._save()
        self.ranks.any(False)  # nobody leaves before it is written

    def averaged(self) -> Vggt3:
        """A network with the moving average of the weights: the one to keep."""
        network = Vggt3(self.network.config).to(self.device).eval().requires_grad_(False)
        load_stored_state(network, self.average.of(self.network))
        return network

    def advance(self) -> dict[str, float] | None:
        """Make one step, in the next phase where the current one is over; returns losses where a
        log line is due.

        The host does not wait for the device. Validating, saving and the clock are the business of
        `run`.
        """
        table = self.table
        while table.phase_done >= 1 and not table.over:
            self._enter_next_phase()
        loss, terms = self._losses(self.pool.batch(table.step, table.done))
        loss.backward()
        loss = self.ranks.average(self.optimizers.parameters.values(), loss)
        self.watch.see(table.step, loss, terms)
        norm = self.optimizers.step(schedule(table.phase_done, self.config))
        self.average.update(self.network, table.step - table.began[0])
        if (table.step + 1) % _LOG_EVERY:
            return None
        self.watch.check()
        values = {"loss": loss, **terms, "gradient_norm": norm}
        read = torch.stack([value.detach().float() for value in values.values()]).tolist()
        losses = dict(zip(values, read, strict=True))
        rendering = {"rendering_s": self.pool.rendering.seconds()}
        self.logs.losses(self.phase, table.step + 1, table.seconds, losses | rendering)
        return losses

    def _losses(self, batch: SceneBatch) -> tuple[Tensor, dict[str, Tensor]]:
        config = self.config
        map_views = batch.images.shape[1] - config.query_views
        with autocast_to("bf16" if self.bf16 else "fp32", self.device):
            if self.parent is not None:
                return distillation_loss(
                    self.network, self.parent, batch.images, map_views, config.fit_steps
                )
            output = self.network(batch.images, map_views, config.fit_steps, config.dense_stride)
        return total_loss(self.network, self.aid, output, batch, config)

    def _validate(self) -> dict[str, float] | None:
        self.watch.check()
        if self.table.over:  # whatever becomes of the last one
            self._save()
        return self.validations.make(self.averaged(), self.table, self.logs, 2 * self.saving_s)

    def _abort_unless_better(self, validation: dict[str, float] | None) -> None:
        """The first process has the figures, and all have to know."""
        reason = None if validation is None else no_progress(validation)
        if self.ranks.any(reason is not None):
            self._save()
            self.ranks.any(False)
            raise Vggt3Error(
                f"after {self.step} steps {reason or 'the first process stopped the run'}"
                " (abort_after)"
            )

    def _begin(self, start: str | None) -> None:
        config = self.config
        torch.manual_seed(config.seed)
        if start is not None:
            network = load_network(start)
            if network.config not in (config.model, config.converted_model):
                raise InputError(
                    f"{start} has other sizes than the training config; make `model`, `ttt` and"
                    " `convert_to` its own"
                )
        else:
            network = Vggt3(config.model)
            initialise(network)
        if config.student is not None:
            self._remember(start, network)
        phase = config.first_phase if network.config == config.model else "ttt"
        if phase == "ttt":  # scenes at once as wide as they would be then
            self.table.step = self.table.first = config.softmax_steps + config.distil_steps
        self._adopt(phase, network, PatchHead(2 * config.model.embed_dim))

    def _enter_next_phase(self) -> None:
        """Go on with the averaged network, which is converted after the first phase; optimizers
        start anew.
        """
        self.watch.check()
        network = self.averaged()
        if self.phase == "distil":
            self._adopt("ttt", network, self.aid)
            return
        if self.ranks.first:
            save_weights(network, self.folder / _PARENT)
        self.ranks.any(False)  # it is written, and can be read
        torch.manual_seed(self.config.seed + 1)
        phase = "distil" if self.table.lengths["distil"] > 0 else "ttt"
        self._adopt(phase, self._converted(network), self.aid)

    def _converted(self, parent: Vggt3) -> Vggt3:
        if self.config.student is None:
            return convert(parent, self.config.converted_model)
        student, before = (
            load_network(name, self.device) for name in (self.config.student, self.folder / _BEFORE)
        )
        return follow(student, before, parent)

    def _remember(self, start: str | None, network: Vggt3) -> None:
        """Keep what the student's parent was before it is trained further."""
        student = str(self.config.student)
        fits = start is not None and network.config.attn == "softmax"
        if not fits or load_network(student).config != self.config.converted_model:
            raise InputError(
                f"training config: student is {student!r}, expected a ttt network of these sizes,"
                f" converted from the softmax network that the run starts with ({start or 'none'});"
                " leave it null otherwise"
            )
        if self.ranks.first:
            save_weights(network, self.folder / _BEFORE)

    def _adopt(self, phase: str, network: Vggt3, aid: PatchHead) -> None:
        config = self.config
        self.table.enter(phase)
        if phase != "softmax" and config.train == "all":
            learn_initial_fast_weights(network)
        self.network = network.to(self.device).train().requires_grad_(True)
        self.aid = aid.to(self.device).requires_grad_(config.weights.patches > 0)
        self.parent: Vggt3 | None = None
        if phase == "distil" or (phase == "ttt" and config.train == "global_attention"):
            train_global_attention_alone(self.network)
        if phase == "distil":
            self.parent = load_network(self.folder / _PARENT, self.device)
        if config.checkpointing:
            compute_twice(self.network)
        elif self.compiled:
            compile_regions(self.network)
        distil = (config.distil_matrix_lr, config.distil_other_lr)
        rates = distil if phase == "distil" else (config.matrix_lr, config.other_lr)
        self.optimizers = Optimizers({"network": self.network, "aid": self.aid}, config, rates)
        self.average = MovingAverage(self.network, config.ema)
        self.watch = DivergenceWatch(self.device)

    def _save(self) -> None:
        self.watch.check()
        if not self.ranks.first:
            return
        began = time.monotonic()
        parts = {
            "network": stored_state(self.network),
            "aid": self.aid.state_dict(),
            "average": self.average.state,
            "optimizers": self.optimizers.state(),
        }
        info = {
            "sizes": self._sizes(),
            **self.table.state(),
            "validations": self.validations.entries,
        }
        save_state(self.folder, RunState(parts, info))
        averaged = self.averaged()
        save_weights(averaged, self.folder / "network.safetensors", torch.float16)
        if self.handover is not None:
            leave(self.handover, averaged, parts["aid"], info, self.parent)
        self.saving_s = time.monotonic() - began

    def _sizes(self) -> dict[str, Any]:
        """What has to stay for a run to go on; rates, weights, data and steps may be changed on the
        way.
        """
        return {name: self.config.to_dict()[name] for name in ("model", "ttt", "convert_to")}

    def _restore(self, state: RunState) -> None:
        config = self.config
        info = state.info
        self._check_sizes(info, self.folder)
        if not {"first", "began"} <= info.keys():
            raise InputError(
                f"{self.folder} holds a run of an earlier version, which this one cannot go on"
                f" with; begin another --from {self.folder / 'network.safetensors'}"
            )
        phase = info["phase"]
        if (
            phase == "softmax"
            and config.student is not None
            and not (self.folder / _BEFORE).exists()
        ):
            raise InputError(
                f"training config: student is {config.student!r}, but the run in {self.folder}"
                " began without it; leave it null, or begin another run"
            )
        self._go_on(info, state.parts["network"], state.parts["aid"])
        self.optimizers.load_state(state.parts["optimizers"])
        self.average.state = {n: t.to(self.device) for n, t in state.parts["average"].items()}

    def _resume(self, folder: Path) -> None:
        """Go on from what a run on another machine left."""
        config = self.config
        given = take(folder)
        self._check_sizes(given.info, folder)
        if config.student is not None:
            raise InputError(
                f"training config: student is {config.student!r}, which --resume-from cannot take"
                f" up; leave it null, or begin another run --from {folder}"
            )
        torch.manual_seed(config.seed)
        if given.info["phase"] == "distil" and self.ranks.first:
            parent = Vggt3(config.model)
            names = stored_state(parent).keys()
            theirs = {**given.network, **given.parent}
            load_stored_state(
                parent, {name: tensor for name, tensor in theirs.items() if name in names}
            )
            save_weights(parent, self.folder / _PARENT)
        self.ranks.any(False)  # it is written, and can be read
        self._go_on(given.info, given.network, given.aid)

    def _check_sizes(self, info: dict[str, Any], where: Path) -> None:
        if info["sizes"] != self._sizes():
            raise InputError(
                f"{where} holds a run of another network; make `model`, `ttt` and `convert_to` its"
                " own"
            )

    def _go_on(
        self, info: dict[str, Any], weights: dict[str, Tensor], aid_weights: dict[str, Tensor]
    ) -> None:
        """Take up a phase that was begun earlier."""
        config = self.config
        first = info["phase"] == config.first_phase
        network = Vggt3(config.model if first else config.converted_model)
        load_stored_state(network, weights)
        aid = PatchHead(2 * config.model.embed_dim)
        aid.load_state_dict(aid_weights)
        self._adopt(info["phase"], network, aid)
        self.table.load_state(info)
        self.validations.load(info["validations"], self.table)
