"""The published conversion: a softmax network's global attention, and nothing else, becomes a
fast-weight one's.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.model.checkpoint import load_network, save_weights, stored_state
from vggt3_ros.model.config import ModelConfig
from vggt3_ros.model.network import Vggt3
from vggt3_ros.training.config import TrainConfig
from vggt3_ros.training.distil import train_global_attention_alone
from vggt3_ros.training.initialise import convert
from vggt3_ros.training.optimizers import schedule
from vggt3_ros.training.pool import ScenePool
from vggt3_ros.training.recompute import compute_twice
from vggt3_ros.training.step_shape import step_shape
from vggt3_ros.training.trainer import Trainer

from ..conftest import make_network, small_config
from .conftest import CPU, RECIPES, ignore

pytestmark = pytest.mark.usefixtures("quickly_painted")
PUBLISHED = TrainConfig.read(RECIPES / "convert_vggt1b.yaml")
MINIATURE = replace(
    PUBLISHED,
    model=small_config("softmax"),
    height=70,
    width=70,
    views=4,
    scenes=1,
    ttt_steps=4,
    warmup=0.1,
    pool_groups=1,
    group_rooms=2,
    validations=1,
    validation_rooms=1,
    abort_after=0,
)
TRAINED = re.compile(
    r"aggregator\.global_blocks\.\d+\.attn\.(qkv|proj|lr_fc|short_conv_qkv\.2\.conv)\.(weight|bias)"
)


@pytest.fixture
def parent(tmp_path: Path) -> Vggt3:
    network = make_network("softmax")
    save_weights(network, tmp_path / "parent.safetensors")
    return network


@pytest.fixture(scope="module")
def whole(quickly_painted, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """A conversion that nothing cut."""
    folder = tmp_path_factory.mktemp("whole")
    save_weights(make_network("softmax"), folder / "parent.safetensors")
    return converted(folder, MINIATURE)


def converted(tmp_path: Path, config: TrainConfig) -> Trainer:
    trainer = Trainer(
        config, tmp_path / "run", CPU, start=str(tmp_path / "parent.safetensors"), bf16=False
    )
    trainer.run(ignore)
    return trainer


def test_the_configuration_is_that_of_the_published_models_and_trains_what_they_did() -> None:
    assert PUBLISHED.model == ModelConfig.full("softmax")
    assert PUBLISHED.converted_model == ModelConfig.full("ttt")
    with torch.device("meta"):  # shapes without memory
        network = Vggt3(PUBLISHED.converted_model)
    train_global_attention_alone(network)
    sizes = {name: p.numel() for name, p in network.named_parameters() if p.requires_grad}
    assert all(TRAINED.fullmatch(name) for name in sizes)
    assert sum(sizes.values()) == 24 * (3_148_800 + 1_049_600 + 49_200 + 9_216)


@pytest.mark.parametrize(
    "path", sorted((RECIPES.parent / "parents").glob("tiny_softmax*")), ids=lambda path: path.stem
)
def test_a_stored_parent_is_a_softmax_network_of_the_recipe_s_sizes(path) -> None:
    assert load_network(path).config == TrainConfig.read(RECIPES / "train_tiny.yaml").model


def test_exactly_the_intended_weights_change(parent, whole) -> None:
    torch.manual_seed(PUBLISHED.seed + 1)  # as the trainer seeds the new weights
    start = stored_state(convert(parent, MINIATURE.converted_model))
    assert (whole.phase, whole.step) == ("ttt", 4)
    for state in (stored_state(whole.network), stored_state(whole.averaged())):
        changed = {name for name, tensor in state.items() if not torch.equal(tensor, start[name])}
        assert changed == {name for name in state if TRAINED.fullmatch(name)}
    inherited = {
        name for name in parent.state_dict() if name in start and not TRAINED.fullmatch(name)
    }
    assert all(
        torch.equal(whole.network.state_dict()[name], parent.state_dict()[name])
        for name in inherited
    )
    written = load_network(whole.folder / "network.safetensors")
    assert written.config == MINIATURE.converted_model


def test_a_conversion_that_was_cut_ends_with_the_same_weights(tmp_path, parent, whole) -> None:
    start = str(tmp_path / "parent.safetensors")
    cut = Trainer(MINIATURE, tmp_path / "cut", CPU, start=start, bf16=False)
    cut.run(ignore, stop=lambda: cut.step == 2)
    again = Trainer(MINIATURE, tmp_path / "cut", CPU, bf16=False)
    again.run(ignore)
    expected = stored_state(whole.averaged())
    assert all(
        torch.equal(tensor, expected[name])
        for name, tensor in stored_state(again.averaged()).items()
    )


def test_another_parent_than_the_configured_one_is_refused(tmp_path) -> None:
    save_weights(make_network("softmax"), tmp_path / "parent.safetensors")
    with pytest.raises(
        InputError, match=r"parent\.safetensors has other sizes than the training config"
    ):
        converted(
            tmp_path, replace(MINIATURE, model=replace(MINIATURE.model, camera_trunk_depth=1))
        )


@pytest.mark.parametrize("attn", ["softmax", "ttt", "anchored,ttt+anchored,frame,ttt"])
def test_computing_twice_changes_neither_outputs_nor_gradients(attn) -> None:
    images = torch.rand(1, 5, 3, 42, 70)

    def run(twice: bool) -> tuple[list[Tensor], dict[str, Tensor]]:
        network = make_network(attn).requires_grad_(True)
        if twice:
            compute_twice(network)
        output = network(images, 4, 2)
        outputs = [output.pose_encodings, output.depth, output.depth_confidence, output.pointmap]
        sum(part.square().sum() for part in outputs).backward()
        return outputs, {
            name: p.grad for name, p in network.named_parameters() if p.grad is not None
        }

    (plain, gradients), (twice, again) = run(False), run(True)
    for a, b in zip(plain, twice, strict=True):
        torch.testing.assert_close(b, a)
    assert gradients.keys() == again.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            again[name], gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()), msg=name
        )


def test_shapes_of_steps_are_drawn_as_published() -> None:
    shapes = [step_shape(PUBLISHED, step) for step in range(400)]
    assert {shape.views for shape in shapes} == set(range(2, 25))
    assert all(24 < shape.scenes * shape.views <= 48 for shape in shapes)
    assert all(max(shape.height, shape.width) == 518 for shape in shapes)
    assert all(shape.height % 14 == 0 and shape.width % 14 == 0 for shape in shapes)
    aspects = [shape.width / shape.height for shape in shapes]
    assert 0.49 < min(aspects) < 0.55 and 1.9 < max(aspects) < 2.01
    assert step_shape(PUBLISHED, 7) == shapes[7]
    batch, shape = ScenePool(MINIATURE, CPU).batch(3, 0.0), step_shape(MINIATURE, 3)
    assert batch.images.shape == (shape.scenes, shape.views, 3, shape.height, shape.width)


def test_the_published_schedule_rises_while_a_cosine_falls() -> None:
    factors = [schedule(step / 100_000, PUBLISHED) for step in (0, 1_000, 49_500, 99_000, 99_999)]
    assert factors == pytest.approx([0.1, 1.0, 0.5, 0.01, 0.01], abs=0.01)


def test_a_point_loss_needs_a_point_head() -> None:
    with pytest.raises(
        InputError, match=r"weights.points is 1.0, expected 0: the model has no point head"
    ):
        replace(PUBLISHED, model=replace(PUBLISHED.model, point_head=False))


def test_a_converted_network_comes_closer_to_its_parent(tmp_path, parent) -> None:
    """The initial fast weights stay random, and nothing but what is published to be trained
    helps.
    """
    config = replace(
        MINIATURE,
        distil_steps=25,
        ttt_steps=0,
        distil_matrix_lr=0.003,
        distil_other_lr=0.003,
        views=2,
        warmup=0.2,
        ema=0.9,
        crop=1.0,
        aspects=None,
    )
    images = ScenePool(config, CPU).batch(0, 0.0).images
    trainer = Trainer(
        config, tmp_path / "run", CPU, start=str(tmp_path / "parent.safetensors"), bf16=False
    )
    torch.manual_seed(config.seed + 1)

    def missed(network: Vggt3) -> float:
        with torch.no_grad():
            theirs, ours = parent(images).tapped[-1], network(images).tapped[-1]
        return float((ours - theirs).square().mean() / theirs.var())

    before = missed(convert(parent, config.converted_model))
    trainer.run(ignore)
    after = missed(trainer.averaged())
    assert after < 0.5 * before
