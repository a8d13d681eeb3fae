"""What one of several processes says that map together. It is one start for all claims of
test_ranks.py, since starting takes longer than mapping; the last process leaves before the others
are done.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from vggt3_ros.errors import Vggt3Error
from vggt3_ros.ranks import Ranks

FRAMES = 5
MIXTURE = "softmax,anchored,ttt+anchored,frame"
ANCHORS = 3
CONFTEST = Path(__file__).parents[1] / "conftest.py"


def images() -> torch.Tensor:
    return torch.rand(FRAMES, 3, 56, 70, generator=torch.Generator().manual_seed(8))


def main(folder: Path) -> None:
    spec = importlib.util.spec_from_file_location("conftest", CONFTEST)
    conftest = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conftest)
    network = conftest.make_network(seed=4)
    mixture = conftest.make_network(MIXTURE, seed=4)
    with Ranks(torch.device("cpu")) as ranks:
        prediction, memory = network.map(images(), steps=2, chunk=2, ranks=ranks)
        share = ranks.share(FRAMES)
        whole = prediction.collected(ranks, FRAMES)
        said = {
            "share": torch.tensor([share.start, share.stop]),
            "poses": whole.pose_encoding,
            "depth": whole.depth,
            "points": whole.pointmap,
            **memory.tensors(),
        }
        of_mixture, known = mixture.map(images(), chunk=2, ranks=ranks, anchors=ANCHORS)
        said["mixture.depth"] = of_mixture.collected(ranks, FRAMES).depth
        said |= {f"mixture.{name}": tensor for name, tensor in known.tensors().items()}
        save_file(said, folder / f"{ranks.rank}.safetensors")
        if ranks.rank == ranks.world - 1:
            return
        try:
            network.map(images(), ranks=ranks)
        except Vggt3Error as error:
            (folder / f"{ranks.rank}.txt").write_text(str(error))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
