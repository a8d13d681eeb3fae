"""Two processes train one network on scenes of their own: equal weights, agreed ends, one
writer.
"""

from __future__ import annotations

import json
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from vggt3_ros.training.config import TrainConfig
from vggt3_ros.training.pool import ScenePool
from vggt3_ros.training.run_state import load_state

from ..patience import PATIENCE_S
from ..start_ranks import start_ranks
from .conftest import CPU, MINIATURE

ROOT = Path(__file__).parents[2]
TWO = replace(
    MINIATURE, views=2, fewest_views=2, query_views=0, scenes=1, pool_groups=1, save_every_s=1000.0
)

# In each process: scenes of noise instead of rooms, which take seconds to make, then what the
# arguments ask for.
PREPARED = """
import sys
from pathlib import Path
import torch
from vggt3_ros.training import pool, trainer, validations
from vggt3_ros.training.scenes import Views, normalised

cpu = torch.device("cpu")

def batch(self, step, done):
    generator = torch.Generator().manual_seed(2 * step + self.rank)
    views = Views(
        torch.rand(2, 3, 48, 64, generator=generator),
        1 + torch.rand(2, 48, 64, generator=generator),
        torch.eye(4).repeat(2, 1, 1)
        + 0.1 * torch.eye(4)[3] * torch.rand(2, 1, 1, generator=generator).mT,
        torch.tensor([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]), synthetic=True,
    )
    return normalised(views.images[None], [views], 2)

pool.ScenePool.batch = batch
validations.validation_rooms = lambda config, device: []
figures = {"pair_rotation_deg": 2.0, "still_pair_rotation_deg": 1.0}
validations.validate = lambda network, rooms: dict(figures)
"""

# One start of two processes for all that needs no command, since starting takes longer than the
# steps.
LIBRARY = (
    PREPARED
    + """
import json
from dataclasses import replace
from vggt3_ros.errors import Vggt3Error
from vggt3_ros.training.config import TrainConfig
from vggt3_ros.training.parallel import TrainingRanks

folder, said = Path(sys.argv[1]), {}
config = TrainConfig.read(folder / "run.yaml")

def run(name, stop_at=-1, poisoned=-1, **changes):
    one = trainer.Trainer(replace(config, **changes), folder / name, cpu, bf16=False, ranks=ranks)
    if poisoned == ranks.rank:
        one.network.aggregator.camera_token.data.fill_(float("nan"))
    try:
        one.run(lambda report: None, stop=lambda: ranks.rank == 1 and one.step == stop_at)
    except Vggt3Error as error:
        return str(error)
    bits = sum(t.view(torch.int32).long().sum().item() for t in one.network.state_dict().values())
    return [one.step, one.phase, bits, one.pool.batch(0, 0.0).images.sum().item()]

with TrainingRanks(cpu) as ranks:
    said["whole"] = run("whole")
    said["cut"] = [run("cut", stop_at=4), run("cut")]
    said["poisoned"] = run("poisoned", poisoned=1)
    said["aborted"] = run("aborted", abort_after=0.28)
    a, b, unused = (torch.nn.Parameter(torch.zeros(shape)) for shape in ((2, 3), (4,), (5,)))
    a.grad, b.grad = torch.full((2, 3), 1.0 + ranks.rank), torch.arange(4.0) * ranks.rank
    loss = float(ranks.average([a, unused, b], torch.tensor(3.0 + ranks.rank)))
    said["averages"] = [loss, a.grad.tolist(), b.grad.tolist(), unused.grad]
    said["any"] = [ranks.any(ranks.rank == 1), ranks.any(False)]
threads = Path("/proc/self/task").glob("*/comm")
said["threads"] = sorted(name.read_text().strip() for name in threads)
(folder / f"{ranks.rank}.json").write_text(json.dumps(said))
"""
)
COMMAND = (
    PREPARED
    + """
from vggt3_ros.cli.main import main
sys.exit(main(["train", *sys.argv[1:]]))
"""
)


def written(folder: Path, config: TrainConfig = TWO) -> Path:
    folder.mkdir()
    (folder / "run.yaml").write_text(yaml.safe_dump(config.to_dict()))
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """The folder of all runs, and what the first and the second process say of them."""
    folder = written(tmp_path_factory.mktemp("parallel") / "two")
    processes = start_ranks(["-c", LIBRARY, str(folder)])
    errors = [process.communicate(timeout=2 * PATIENCE_S)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    first, second = (json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1))
    return folder, first, second


def test_both_hold_the_same_weights_after_all_phases_and_see_scenes_of_their_own(pair) -> None:
    _, first, second = pair
    assert first["whole"][:2] == [sum(TWO.phases.values()), "ttt"]
    assert first["whole"][:3] == second["whole"][:3]
    assert first["whole"][3] != second["whole"][3]


def test_a_stop_that_one_wanted_ends_both_and_they_go_on_exactly(pair) -> None:
    folder, first, second = pair
    assert first["cut"][0][:2] == [4, "distil"]
    assert first["cut"][0][:3] == second["cut"][0][:3]
    assert first["cut"][1] == first["whole"] and second["cut"][1] == second["whole"]
    a, b = (load_file(folder / name / "network.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_what_diverges_in_one_process_stops_both(pair) -> None:
    folder, *said = pair
    assert all("training diverged at step 0" in each["poisoned"] for each in said)
    assert not (folder / "poisoned" / "state.safetensors").exists()


def test_a_run_that_does_not_learn_is_aborted_in_both(pair) -> None:
    folder, first, second = pair
    assert first["aborted"].startswith(
        "after 2 steps rotations between views are off by 2.0 degrees, and by 1.0 where"
    )
    assert second["aborted"] == "after 2 steps the first process stopped the run (abort_after)"
    state = load_state(folder / "aborted")
    assert state is not None and state.info["step"] == 2


def test_gradients_and_losses_are_averaged(pair) -> None:
    for said in pair[1:]:
        assert said["averages"] == [3.5, [[1.5] * 3] * 2, [0, 0.5, 1, 1.5], None]
        assert said["any"] == [True, False]


def test_the_connection_has_no_threads_once_it_is_left(pair) -> None:
    for said in pair[1:]:
        assert not [name for name in said["threads"] if "gloo" in name or "tcpstore" in name]


def test_the_command_ends_in_all_processes_when_one_gets_sigterm(tmp_path) -> None:
    folder = written(tmp_path / "two", replace(TWO, softmax_steps=100_000, save_every_s=0.0))
    settings = ["--config", str(folder / "run.yaml"), "--run", str(folder / "run")]
    processes = start_ranks(["-c", COMMAND, *settings, "--device", "cpu", "--precision", "fp32"])
    deadline = time.monotonic() + 2 * PATIENCE_S
    while not (folder / "run" / "state.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    processes[1].send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=2 * PATIENCE_S) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert "of 100004 (softmax), weights in" in said[0][0] and said[1][0] == ""
    state = load_state(folder / "run")
    assert state is not None and state.info["step"] >= 1


def test_every_rank_has_rooms_of_its_own_and_steps_of_one_shape() -> None:
    config = replace(TWO, fewest_views=2, views=3)
    batches = [ScenePool(config, CPU, rank=rank, world=2).batch(1, 0.0).images for rank in (0, 1)]
    assert batches[0].shape == batches[1].shape
    assert not torch.equal(*batches)
