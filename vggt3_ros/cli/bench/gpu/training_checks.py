"""Rows that say whether training and rendering are right on a device."""

from __future__ import annotations

from dataclasses import replace

import torch

from vggt3_ros.cli.bench.gpu.bench import Bench
from vggt3_ros.cli.bench.gpu.comparing import CPU, Mode, Outputs, compare, verdict
from vggt3_ros.cli.bench.gpu.training import read_config
from vggt3_ros.model.network import Vggt3
from vggt3_ros.training.initialise import convert, initialise
from vggt3_ros.training.losses import PatchHead, total_loss
from vggt3_ros.training.pool import ScenePool
from vggt3_ros.worlds.render import render
from vggt3_ros.worlds.room import make_rooms
from vggt3_ros.worlds.viewpoints import random_intrinsics, training_views

# fraction of pixels at the edges of things, where rounding decides what is seen
_MISSED_PIXELS = 2e-3


def check_gradients(bench: Bench) -> None:
    """Of the losses of one training step, softmax and converted, by all weights together."""
    config = read_config(bench, "gradients")
    if config is None:
        return
    config = replace(config.hundredth(), scenes=1, pool_groups=1, group_rooms=1)
    batch = ScenePool(config, CPU).batch(0, 0.0)
    for kind in ("softmax", "ttt"):

        def outputs(device: torch.device, mode: Mode, kind: str = kind) -> Outputs:
            torch.manual_seed(2)
            network = Vggt3(config.model)
            initialise(network)
            if kind == "ttt":
                network = convert(network, config.converted_model)
            network = network.to(device)
            aid = PatchHead(2 * config.model.embed_dim).to(device)
            there = replace(
                batch, **{name: value.to(device) for name, value in vars(batch).items()}
            )
            with torch.autocast(device.type, torch.bfloat16, enabled=mode == "bf16"):
                output = network(
                    there.images,
                    config.views - config.query_views,
                    config.fit_steps,
                    config.dense_stride,
                )
            loss, _ = total_loss(network, aid, output, there, config)
            loss.backward()
            parts = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
            return {"loss": loss.detach(), "gradient": torch.cat(parts)}

        compare(bench, f"gradients {kind}", outputs)


def check_rendering(bench: Bench) -> None:
    """Depth and images of the same views; at the edges of things rounding decides, so those pixels
    are counted.
    """

    def views(device: torch.device) -> Outputs:
        generator = torch.Generator().manual_seed(3)
        rooms = make_rooms(range(4), CPU)
        poses = training_views(rooms, 4, generator, 1.0)
        rendered = render(
            make_rooms(range(4), device), poses, random_intrinsics(4, 96, 128, generator), 96, 128
        )
        return {"depth": rendered.depth.cpu(), "images": rendered.images.cpu()}

    there = views(bench.device)
    here = views(CPU)
    far = ((there["depth"] - here["depth"]).abs() > 1e-3 * here["depth"]).float().mean()
    unlike = ((there["images"] - here["images"]).abs().amax(2) > 0.02).float().mean()
    missed = max(float(far), float(unlike))
    okay = missed <= _MISSED_PIXELS
    text = (
        f"{verdict(okay)}: {100 * float(far):.3f} % of depths and {100 * float(unlike):.3f} % of"
        " pixels differ"
    )
    bench.record(
        "rendering",
        text,
        ok=okay,
        depth_share=float(far),
        image_share=float(unlike),
        limit=_MISSED_PIXELS,
    )
