"""The training loop: softmax, distillation, test-time training; resumable, validated as it goes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vggt3_ros.errors import InputError, Vggt3Error
from vggt3_ros.model.checkpoint import load_network, load_stored_state, save_weights, stored_state
from vggt3_ros.model.network import Vggt3
from vggt3_ros.training.checkpointing import compute_twice
from vggt3_ros.training.config import TrainConfig
from vggt3_ros.training.distil import distillation_loss, learn_initial_fast_weights, train_global_attention_alone
from vggt3_ros.training.initialise import convert, follow, initialise
from vggt3_ros.training.logs import Logs
from vggt3_ros.training.losses import PatchHead, total_loss
from vggt3_ros.training.optimizers import MovingAverage, Optimizers, schedule
from vggt3_ros.training.parallel import Ranks
from vggt3_ros.training.pool import ScenePool
from vggt3_ros.training.recordings import Recording
from vggt3_ros.training.run_state import RunState, load_state, save_state
from vggt3_ros.training.scenes import SceneBatch
from vggt3_ros.training.validate import ValidationRoom, no_progress, validate, validation_rooms

_LOG_EVERY = 20
_PARENT, _BEFORE = "softmax.safetensors", "start.safetensors"


@dataclass(frozen=True)
class StepReport:
    """What the loop tells after every step."""

    step: int
    total: int  # steps of the run, estimated where it has to fit into some minutes
    phase: str
    done: float  # share of the run
    losses: dict[str, float] | None
    validation: dict[str, float] | None


class Trainer:
    """One run in one folder: state.safetensors to go on from, network.safetensors (fp16) to use, and logs.

    Phases: 'softmax'; 'distil', in which the converted network's global attention learns to answer as its parent's;
    'ttt', in which it is trained on its own errors. A run goes on where its folder's state ends, to the bit if its
    settings are the same. `start` gives a new run the weights of an earlier network: a softmax one enters the first
    phase, a ttt one skips to the last. With `config.student`, converted from that softmax network earlier, the second
    phase begins with it instead of anew. `recordings`: where `config.real` of the scenes come from; `ranks`: the
    processes that share the work. `within` minutes of training the run is to end: phases then take shares of the time
    instead of their steps, and a resumed run has to be given it again, which then goes on, but not to the bit: how many
    steps fit depends on the pace. On GPUs a network of fixed shapes is compiled; on CPUs that gained little.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        device: torch.device,
        start: str | None = None,
        bf16: bool = True,
        recordings: Sequence[Recording] = (),
        ranks: Ranks | None = None,
        within: float | None = None,
    ) -> None:
        self.within = within
        self.config, self.folder, self.device, self.bf16 = config, folder, device, bf16
        self.ranks = ranks if ranks is not None else Ranks(device)
        folder.mkdir(parents=True, exist_ok=True)
        self.pool = ScenePool(config, device, recordings, self.ranks.rank, self.ranks.world)
        self.step, self.seconds, self.validations = 0, 0.0, list[dict[str, Any]]()
        self.first = 0  # number of the run's first step
        self.began = (0, 0.0)  # step and seconds of the run at which the phase began
        self.average: MovingAverage
        state = load_state(folder)
        if state is not None:
            if start is not None:
                raise InputError(f"{folder} holds a run already, which goes on by itself; leave --from out")
            self._restore(state)
        else:
            self._begin(start)
        self.logs = Logs(folder, self.ranks.first)

    def run(
        self, report: Callable[[StepReport], None], minutes: float | None = None, stop: Callable[[], bool] = bool
    ) -> None:
        """Train to the end, for `minutes`, or until `stop()` says so between two steps; then save the state.

        Whatever goes wrong within a step, the state last saved stays as it was. Raises Vggt3Error when training
        diverged, and, with the state saved, when `abort_after` steps did not beat an estimate of no motion.
        """
        config = self.config
        began = saved = tick = time.monotonic()
        while not self._at_end():
            if self.ranks.any(stop() or (minutes is not None and time.monotonic() - began > 60 * minutes)):
                break
            while self._phase_ended() and not self._at_end():
                self._enter_next_phase()
            losses = self._train_step()
            now = time.monotonic()
            self.seconds, tick = self.ranks.greatest(self.seconds + now - tick), now
            due = self.step % config.validate_every == 0 or self.step == config.abort_after or self._at_end()
            validation = self._validate() if due and self.ranks.first else None
            report(self._report(losses, validation))
            if self.step == config.abort_after:
                self._abort_unless_better(validation)
            if tick - saved > config.save_every_s:
                self._save()
                saved = tick
        self._save()
        self.ranks.any(False)  # nobody leaves before it is written

    def averaged(self) -> Vggt3:
        """A network with the moving average of the weights: the one to keep."""
        network = Vggt3(self.network.config).to(self.device).eval().requires_grad_(False)
        load_stored_state(network, self.average.of(self.network))
        return network

    def _train_step(self) -> dict[str, float] | None:
        config = self.config
        loss, terms = self._losses(self.pool.batch(self.step))
        loss.backward()
        loss = self.ranks.average(self.optimizers.parameters.values(), loss)
        if not math.isfinite(float(loss)):
            parts = {name: float(term.detach()) for name, term in terms.items()}
            raise Vggt3Error(f"training diverged at step {self.step} ({parts}); lower the rates of this phase")
        done = self.step - self.began[0]
        norm = self.optimizers.step(schedule(done, self._phase_steps(), config))
        self.step += 1
        self.average.update(self.network, done)
        if self.step % _LOG_EVERY:
            return None
        losses = {name: float(value.detach()) for name, value in {"loss": loss, **terms, "gradient_norm": norm}.items()}
        self.logs.losses(self.phase, self.step, self.seconds, losses)
        return losses

    def _losses(self, batch: SceneBatch) -> tuple[Tensor, dict[str, Tensor]]:
        config = self.config
        map_views = batch.images.shape[1] - config.query_views
        with torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext():
            if self.parent is not None:
                return distillation_loss(self.network, self.parent, batch.images, map_views, config.fit_steps)
            output = self.forward(batch.images, map_views, config.fit_steps, config.dense_stride)
        return total_loss(self.network, self.aid, output, batch, config)

    @cached_property
    def _rooms(self) -> list[ValidationRoom]:
        """Rendered when the first validation is due, and by the process that validates: they take a while."""
        return validation_rooms(self.config, self.device)

    def _validate(self) -> dict[str, float]:
        result = validate(self.averaged(), self._rooms)
        entry = {"step": self.step, "phase": self.phase, "seconds": round(self.seconds, 1), **result}
        self.validations.append(entry)
        self.logs.validations(self.validations)
        return result

    def _abort_unless_better(self, validation: dict[str, float] | None) -> None:
        """The first process has the figures, and all have to know."""
        reason = None if validation is None else no_progress(validation)
        if self.ranks.any(reason is not None):
            self._save()
            self.ranks.any(False)
            raise Vggt3Error(f"after {self.step} steps {reason or 'the first process stopped the run'} (abort_after)")

    @property
    def _lengths(self) -> dict[str, float]:
        """Of every phase its steps, or its share of the time where the run has to end within some minutes."""
        return self.config.time_shares if self.within is not None else {**self.config.phases}

    def _later(self) -> float:
        """How long all phases after the current one are together."""
        phases = list(self._lengths)
        return sum(self._lengths[phase] for phase in phases[phases.index(self.phase) + 1 :])

    def _phase_steps(self) -> int:
        """Steps of the current phase: as configured, or by its pace so far as many as its share of the time allows."""
        if self.within is None:
            return self.config.phases[self.phase]
        share, (first, since) = self._lengths[self.phase], self.began
        budget, spent = 60 * self.within - since, self.seconds - since
        budget *= share / max(1e-9, share + self._later())
        if spent >= budget:
            return self.step - first
        at_this_pace = round((self.step - first) * budget / max(spent, 1e-9))
        return max(self.step - first + 1, at_this_pace, 2 * self.config.warmup)

    def _phase_ended(self) -> bool:
        return self.step - self.began[0] >= self._phase_steps()

    def _at_end(self) -> bool:
        return self._phase_ended() and self._later() == 0

    def _report(self, losses: dict[str, float] | None, validation: dict[str, float] | None) -> StepReport:
        if self.within is None:
            total = self.began[0] + self._phase_steps() + int(self._later())
            done = self.step / max(1, total)
        else:
            done = min(1.0, self.seconds / (60 * self.within))
            total = self.first + round((self.step - self.first) / max(1e-9, done))
        return StepReport(self.step, total, self.phase, done, losses, validation)

    def _begin(self, start: str | None) -> None:
        config = self.config
        torch.manual_seed(config.seed)
        if start is not None:
            network = load_network(start)
            expected = config.model if network.config.attn == "softmax" else config.ttt_model
            if network.config != expected:
                raise InputError(f"{start} has other sizes than the training config; make `model` and `ttt` its own")
        else:
            network = Vggt3(config.model)
            initialise(network)
        if config.student is not None:
            self._remember(start, network)
        phase = network.config.attn
        if phase == "ttt":  # scenes at once as wide as they would be then
            self.step = self.first = config.softmax_steps + config.distil_steps
        self._adopt(phase, network, PatchHead(2 * config.model.embed_dim))

    def _enter_next_phase(self) -> None:
        """Go on with the averaged network, which is converted after the first phase; optimizers start anew."""
        network = self.averaged()
        if self.phase == "distil":
            self._adopt("ttt", network, self.aid)
            return
        if self.ranks.first:
            save_weights(network, self.folder / _PARENT)
        self.ranks.any(False)  # it is written, and can be read
        torch.manual_seed(self.config.seed + 1)
        phase = "distil" if self._lengths["distil"] > 0 else "ttt"
        self._adopt(phase, self._converted(network), self.aid)

    def _converted(self, parent: Vggt3) -> Vggt3:
        if self.config.student is None:
            return convert(parent, self.config.ttt_model)
        student, before = (load_network(name, self.device) for name in (self.config.student, self.folder / _BEFORE))
        return follow(student, before, parent)

    def _remember(self, start: str | None, network: Vggt3) -> None:
        """Keep what the student's parent was before it is trained further."""
        student = str(self.config.student)
        fits = start is not None and network.config.attn == "softmax"
        if not fits or load_network(student).config != self.config.ttt_model:
            raise InputError(
                f"training config: student is {student!r}, expected a ttt network of these sizes, converted from the "
                f"softmax network that the run starts with ({start or 'none'}); leave it null otherwise"
            )
        if self.ranks.first:
            save_weights(network, self.folder / _BEFORE)

    def _adopt(self, phase: str, network: Vggt3, aid: PatchHead) -> None:
        config, self.phase = self.config, phase
        self.began = (self.step, self.seconds)
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
        compiled = self.device.type == "cuda" and config.fixed_shape
        self.forward = torch.compile(self.network) if compiled else self.network
        distil = (config.distil_matrix_lr, config.distil_other_lr)
        rates = distil if phase == "distil" else (config.matrix_lr, config.other_lr)
        self.optimizers = Optimizers({"network": self.network, "aid": self.aid}, config, rates)
        self.average = MovingAverage(self.network, config.ema)

    def _save(self) -> None:
        if not self.ranks.first:
            return
        parts = {
            "network": stored_state(self.network),
            "aid": self.aid.state_dict(),
            "average": self.average.state,
            "optimizers": self.optimizers.state(),
        }
        info = {
            "sizes": self._sizes(),
            "step": self.step,
            "phase": self.phase,
            "seconds": self.seconds,
            "first": self.first,
            "began": self.began,
            "validations": self.validations,
        }
        save_state(self.folder, RunState(parts, info))
        save_weights(self.averaged(), self.folder / "network.safetensors", torch.float16)

    def _sizes(self) -> dict[str, Any]:
        """What has to stay for a run to go on; rates, weights, data and steps may be changed on the way."""
        return {name: self.config.to_dict()[name] for name in ("model", "ttt")}

    def _restore(self, state: RunState) -> None:
        config = self.config
        if state.info["sizes"] != self._sizes():
            raise InputError(f"{self.folder} holds a run of another network; make `model` and `ttt` its own")
        if not {"first", "began"} <= state.info.keys():
            raise InputError(
                f"{self.folder} holds a run of an earlier version, which this one cannot go on with; begin another "
                f"--from {self.folder / 'network.safetensors'}"
            )
        known = ("step", "first", "seconds", "validations")
        self.step, self.first, self.seconds, self.validations = (state.info[name] for name in known)
        phase = state.info["phase"]
        if phase == "softmax" and config.student is not None and not (self.folder / _BEFORE).exists():
            raise InputError(
                f"training config: student is {config.student!r}, but the run in {self.folder} began without it; leave "
                "it null, or begin another run"
            )
        network = Vggt3(config.model if phase == "softmax" else config.ttt_model)
        load_stored_state(network, state.parts["network"])
        aid = PatchHead(2 * config.model.embed_dim)
        aid.load_state_dict(state.parts["aid"])
        self._adopt(phase, network, aid)
        self.began = (int(state.info["began"][0]), float(state.info["began"][1]))
        self.optimizers.load_state(state.parts["optimizers"])
        self.average.state = {n: t.to(self.device) for n, t in state.parts["average"].items()}
