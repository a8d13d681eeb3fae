from __future__ import annotations

import json
import os
import re
import resource
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vggt3_ros.errors import InputError, SceneError
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.scene.scene import Parent, Scene, Sibling
from vggt3_ros.scene.storage import check_target, load_scene, save_scene
from vggt3_ros.scene.verification import MapCalibration, MapVerdict

from ..landmarks.synthetic import synthetic_landmarks
from .signing import resign, signed

MakeScene = Callable[..., Scene]
VERDICT = MapVerdict(True, "landmarks tie 3 of 3 keyframes", "held as given")
CALIBRATION = MapCalibration(
    ((640, 480), (640, 480), (480, 640)),
    focal_factor=1.0625,
    depth_scale=2.5,
    colour_difference=0.125,
)


def same(a: Scene, b: Scene) -> bool:
    assert a.metric_from_scene is not None and b.metric_from_scene is not None
    tensors = [
        (a.keyframes.cam_from_world, b.keyframes.cam_from_world),
        (a.keyframes.intrinsics, b.keyframes.intrinsics),
        (a.points.points, b.points.points),
        (a.points.colors, b.points.colors),
        (a.points.confidence, b.points.confidence),
        (a.metric_from_scene.matrix(), b.metric_from_scene.matrix()),
        *((a.memory[name], b.memory[name]) for name in a.memory | b.memory),
        *((a.landmarks[name], b.landmarks[name]) for name in a.landmarks | b.landmarks),
    ]
    names = (
        "bounds model_id model_fingerprint input_size ttt_steps metric_source metric_residual_m"
        " map_frame made_by"
    )
    names += " parents siblings origins loops scene_id created up_source verdict"
    names += " calibration report"
    names += " has_refined_points"
    return (
        all(x.dtype == y.dtype and torch.equal(x, y) for x, y in tensors)
        and all(getattr(a, name) == getattr(b, name) for name in names.split())
        and (a.keyframes.names, a.keyframes.stamps_ns) == (b.keyframes.names, b.keyframes.stamps_ns)
    )


def test_a_loaded_scene_is_the_saved_one_to_the_last_bit(
    tmp_path: Path, make_scene: MakeScene
) -> None:
    scene = make_scene(1 / 3)
    where = save_scene(scene, tmp_path / "new" / "map")
    assert same(load_scene(where), scene)
    assert sorted(os.listdir(where)) == [
        "keyframes.json",
        "memory.safetensors",
        "points.ply",
        "scene.json",
    ]


def test_a_scene_without_memory_and_scale_is_stored_too(
    tmp_path: Path, make_scene: MakeScene
) -> None:
    full = make_scene(2.0)
    bare = Scene({}, full.keyframes, full.points, full.bounds, "softmax", "f", (56, 70), 0)
    loaded = load_scene(save_scene(bare, tmp_path / "map"))
    assert loaded.memory == {} and not loaded.is_metric and loaded.metric_residual_m is None


def with_landmarks(scene: Scene) -> Scene:
    landmarks = synthetic_landmarks(3).tensors()
    report = {"residual_px": 0.5, "agreement": {"keyframes": 3}}
    return replace(
        scene,
        landmarks=landmarks,
        verdict=VERDICT,
        calibration=CALIBRATION,
        report=report,
        up_source="floor",
    )


def test_landmarks_and_verdict_survive(tmp_path: Path, make_scene: MakeScene) -> None:
    scene = with_landmarks(make_scene(2.0))
    loaded = load_scene(save_scene(scene, tmp_path / "map"))
    assert same(loaded, scene) and loaded.is_verified
    landmarks = Landmarks.from_tensors(loaded.landmarks)
    assert len(landmarks) == 60 and torch.equal(
        loaded.map_from_keyframes, torch.from_numpy(landmarks.world_from_cam)
    )
    save_scene(make_scene(2.0), tmp_path / "map")
    assert (
        not load_scene(tmp_path / "map").is_verified
        and not (tmp_path / "map" / "landmarks.safetensors").exists()
    )


def test_the_scenes_that_one_was_made_from_survive(tmp_path: Path, make_scene: MakeScene) -> None:
    monday, tuesday = make_scene(1.0), make_scene(2.0)
    parents = (Parent(monday.scene_id, "monday", True), Parent(tuesday.scene_id, "tuesday"))
    scene = replace(make_scene(3.0), parents=parents)
    read = load_scene(save_scene(scene, tmp_path / "map"))
    assert read.parents == parents
    assert read.continues(monday.scene_id) and not read.continues(tuesday.scene_id)
    save_scene(monday, tmp_path / "map")
    assert "parents" not in json.loads((tmp_path / "map" / "scene.json").read_text())


def test_no_scene_is_its_own_parent(make_scene: MakeScene) -> None:
    scene = make_scene(1.0)
    with pytest.raises(InputError, match="a parent twice, or itself among its parents"):
        replace(scene, parents=(Parent(scene.scene_id, "self"),))


def test_the_other_parts_of_a_drive_survive(tmp_path: Path, make_scene: MakeScene) -> None:
    other = Sibling("0" * 32, "map-part2", ("frame 7", "frame 8"))
    scene = replace(with_landmarks(make_scene(2.0)), siblings=(other,))
    assert same(load_scene(save_scene(scene, tmp_path / "map")), scene)
    save_scene(make_scene(2.0), tmp_path / "map")
    assert "siblings" not in json.loads((tmp_path / "map" / "scene.json").read_text())


def test_a_scene_says_which_of_its_frames_are_in_which_part(make_scene: MakeScene) -> None:
    names = ("a", "b", "c", "d")
    scene = with_landmarks(make_scene(2.0))
    landmarks = {**scene.landmarks, "observed_from": torch.zeros(4, dtype=torch.int32)}
    keyframes = replace(make_scene(2.0, 4).keyframes, names=names)
    calibration = replace(CALIBRATION, image_sizes_wh=((640, 480),) * 4)
    parts = replace(
        scene,
        keyframes=keyframes,
        landmarks=landmarks,
        calibration=calibration,
        siblings=(Sibling("0" * 32, "map-part2", ("b", "c", "e")),),
    )
    assert parts.own_frames == ("a",) and parts.frames_in_no_part == ("d",)
    assert make_scene(2.0).frames_in_no_part == (), "without landmarks there are no parts"


def test_no_scene_is_its_own_sibling(make_scene: MakeScene) -> None:
    scene = make_scene(1.0)
    with pytest.raises(InputError, match="a sibling twice, or itself among its siblings"):
        replace(scene, siblings=(Sibling(scene.scene_id, "self", ("a",)),))


DAMAGES = ["is missing", "bytes instead of", "has another checksum", "Error while deserializing"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_landmarks_are_refused(tmp_path: Path, make_scene: MakeScene, damage: str) -> None:
    folder = save_scene(with_landmarks(make_scene(2.0)), tmp_path / "map")
    file = folder / "landmarks.safetensors"
    data = bytearray(file.read_bytes())
    if damage == "is missing":
        file.unlink()
    elif damage == "bytes instead of":
        file.write_bytes(data[:-9])
    else:
        data[0 if damage.startswith("Error") else -1] ^= 0xFF
        file.write_bytes(data)
    if damage.startswith("Error"):  # by somebody who corrects the checksum
        resign(folder)
    with pytest.raises(SceneError, match=f"{re.escape(str(folder))} is damaged: .*{damage}"):
        load_scene(folder)


def test_saving_again_replaces_the_scene_and_keeps_plain_files_beside_it(
    tmp_path: Path, make_scene: MakeScene
) -> None:
    folder = save_scene(make_scene(1.0), tmp_path / "map")
    (folder / "notes.txt").write_text("the corridor on Monday")
    save_scene(make_scene(2.0), folder)
    assert load_scene(folder).memory["camera_tokens"].eq(2.0).all()
    assert (folder / "notes.txt").read_text() == "the corridor on Monday"
    assert os.listdir(tmp_path) == ["map"]


def test_a_link_to_a_scene_stays_a_link(tmp_path: Path, make_scene: MakeScene) -> None:
    save_scene(make_scene(1.0), tmp_path / "map")
    (tmp_path / "newest").symlink_to("map")
    save_scene(make_scene(2.0), tmp_path / "newest")
    assert (tmp_path / "newest").is_symlink()
    assert load_scene(tmp_path / "map").memory["camera_tokens"].eq(2.0).all()


def test_folders_that_are_no_scene_are_never_replaced(
    tmp_path: Path, make_scene: MakeScene
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(
        SceneError, match=r"exists and is not a scene \(it has no scene.json\); nothing was"
    ):
        save_scene(make_scene(1.0), photos)
    (photos / "scene.json").write_text('{"format": "blender"}')
    with pytest.raises(
        SceneError, match="is not a scene .* lacks the entry format = 'vggt3_scene'"
    ):
        save_scene(make_scene(1.0), photos)
    assert (photos / "holiday.jpg").read_bytes() == b"precious"

    scene = save_scene(make_scene(1.0), tmp_path / "map")
    (scene / "originals").mkdir()
    with pytest.raises(
        SceneError, match="holds 'originals', which is no file of a scene; nothing was"
    ):
        save_scene(make_scene(2.0), scene)
    assert load_scene(scene).memory["camera_tokens"].eq(1.0).all()


def test_an_empty_folder_may_become_a_scene(tmp_path: Path, make_scene: MakeScene) -> None:
    (tmp_path / "map").mkdir()
    assert len(load_scene(save_scene(make_scene(1.0), tmp_path / "map")).keyframes) == 3


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("/proc/map", "No such file|not writable|not permitted"),
        ("/sys/map", "not writable|not permitted|Read-only|denied"),
        ("{tmp}/file", "it is a file; give the name of a folder"),
        ("{tmp}/file/map", "file is a file; choose another path"),
    ],
)
def test_an_impossible_place_is_refused_with_the_reason(
    tmp_path: Path, make_scene: MakeScene, where: str, why: str
) -> None:
    (tmp_path / "file").write_text("content")
    folder = where.format(tmp=tmp_path)
    with pytest.raises(SceneError, match=f"cannot save the scene to {folder}: .*({why})"):
        save_scene(make_scene(1.0), folder)
    assert (tmp_path / "file").read_text() == "content"


def test_running_out_of_space_harms_nothing(tmp_path: Path, make_scene: MakeScene) -> None:
    folder = save_scene(make_scene(1.0), tmp_path / "map")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
    try:
        with pytest.raises(
            SceneError, match="cannot save .*: File too large; an earlier scene there is"
        ):
            save_scene(make_scene(2.0, frames=50), folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_scene(folder).memory["camera_tokens"].eq(1.0).all()
    assert os.listdir(tmp_path) == ["map"]


def test_check_target_creates_nothing(tmp_path: Path, make_scene: MakeScene) -> None:
    check_target(tmp_path / "a" / "b" / "map")
    assert os.listdir(tmp_path) == []
    check_target(save_scene(make_scene(1.0), tmp_path / "map"))


@pytest.mark.parametrize(
    "name", ["scene.json", "keyframes.json", "memory.safetensors", "points.ply"]
)
@pytest.mark.parametrize("damage", ["missing", "truncated", "altered"])
def test_damage_to_any_file_is_noticed(
    tmp_path: Path, make_scene: MakeScene, name: str, damage: str
) -> None:
    folder = save_scene(make_scene(1.0), tmp_path / "map")
    data = bytearray((folder / name).read_bytes())
    if damage == "missing":
        (folder / name).unlink()
    elif damage == "truncated":
        (folder / name).write_bytes(data[:-20])
    else:
        data[3] ^= 0xFF
        (folder / name).write_bytes(data)
    if name == "scene.json":
        expected = (
            "is not a scene: it has no scene.json"
            if damage == "missing"
            else "damaged or truncated"
        )
    else:
        expected = {
            "missing": f"{name} is missing",
            "truncated": f"{name} has {len(data) - 20} bytes instead of {len(data)}",
            "altered": f"{name} has another checksum than saved",
        }[damage]
    with pytest.raises(SceneError, match=expected) as refusal:
        load_scene(folder)
    assert str(folder) in str(refusal.value)


@pytest.mark.parametrize(
    ("entry", "value", "why"),
    [
        (
            "version",
            6,
            "has format version 6, this program reads 2, 3, 4 and 5; update vggt3_ros, or map",
        ),
        (
            "version",
            1,
            "has format version 1, this program reads 2, 3, 4 and 5; map the place again",
        ),
        ("version", "one", "'version' must be a whole number from 1"),
        ("format", "other", "is not vggt3_ros's"),
        ("frames", 4, "promises 4 frames, keyframes.json has 3"),
        ("files", {}, "files lacks the entry 'keyframes.json'"),
        ("bounds", [[0, 0], [1, 1]], "'bounds' must be 2 x 3 numbers"),
        ("bounds", [[0, 0, 0], [1, 1, -1]], "bounds must be a finite lowest and highest corner"),
        (
            "map_from_scene",
            {"scale": 0, "rotation": [], "translation": []},
            "scale of map_from_scene must be from 1e-09",
        ),
        ("model_id", ..., "lacks the entry 'model_id'"),
        ("focal_factor", 1.0, "has the unknown entry"),
        ("created", "yesterday", "must be a date and time of ISO 8601 since 1970, got 'yesterday'"),
        (
            "verification",
            {"verified": True, "reason": "", "poses": ""},
            "can be verified, but there are no landmarks",
        ),
        ("points_refined", True, "of refined depth, but has no depth.safetensors"),
        ("points_frame", "scene", "'points_frame' must be 'map', got \"scene\""),
    ],
)
def test_foreign_newer_and_contradictory_descriptions_are_refused(
    tmp_path: Path, make_scene: MakeScene, entry: str, value: object, why: str
) -> None:
    folder = save_scene(make_scene(1.0), tmp_path / "map")
    description = json.loads((folder / "scene.json").read_text())
    description[entry] = value
    if value is ...:
        del description[entry]
    (folder / "scene.json").write_bytes(signed(description))
    with pytest.raises(SceneError, match=why):
        load_scene(folder)


def test_a_scene_of_another_network_is_refused(tmp_path: Path, make_scene: MakeScene) -> None:
    folder = save_scene(make_scene(1.0), tmp_path / "map")
    load_scene(folder, expect_fingerprint="0123456789abcdef")
    why = (
        "made by network 'small' with fingerprint 0123456789abcdef, the network in use has"
        " fedcba9876543210"
    )
    with pytest.raises(SceneError, match=why):
        load_scene(folder, expect_fingerprint="fedcba9876543210")


def test_what_is_not_there_is_not_loaded(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="no scene at .*nowhere: it does not exist; give a folder"):
        load_scene(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(SceneError, match="it is not a folder"):
        load_scene(tmp_path / "file")
    with pytest.raises(SceneError, match="is not a scene: it has no scene.json"):
        load_scene(tmp_path)


def test_a_read_only_folder_can_be_loaded(tmp_path: Path, make_scene: MakeScene) -> None:
    folder = save_scene(make_scene(1.0), tmp_path / "map")
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    tmp_path.chmod(0o555)
    before = [(p.name, p.stat().st_mtime_ns) for p in sorted(tmp_path.rglob("*"))]
    try:
        load_scene(folder)
        assert [(p.name, p.stat().st_mtime_ns) for p in sorted(tmp_path.rglob("*"))] == before
    finally:
        tmp_path.chmod(0o755)
        folder.chmod(0o755)


def test_a_reader_during_saves_always_gets_one_whole_scene(
    tmp_path: Path, make_scene: MakeScene
) -> None:
    folder = save_scene(make_scene(1.0), tmp_path / "map")
    stop = threading.Event()

    def keep_saving() -> None:
        while not stop.is_set():
            save_scene(make_scene(2.0), folder)
            save_scene(make_scene(1.0), folder)

    writers = [threading.Thread(target=keep_saving) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(50):
            scene = load_scene(folder)
            assert (
                scene.points.confidence[0]
                == scene.memory["camera_tokens"][0, 0]
                == scene.bounds[1][0]
            )
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert os.listdir(tmp_path) == ["map"]


def test_a_copied_scene_folder_is_the_same_scene(tmp_path: Path, make_scene: MakeScene) -> None:
    scene = make_scene(1.0)
    shutil.copytree(save_scene(scene, tmp_path / "map"), tmp_path / "copy")
    assert same(load_scene(tmp_path / "copy"), scene)


def test_the_root_of_the_file_system_is_refused() -> None:
    with pytest.raises(SceneError, match="cannot save the scene to /: it is the root"):
        check_target("/")


def test_the_points_that_are_used_are_the_bytes_that_were_checked(
    tmp_path: Path, make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_scene(make_scene(1.0), tmp_path / "map")
    reads: list[str] = []
    read_bytes = Path.read_bytes

    def counted(path: Path) -> bytes:
        reads.append(path.name)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    load_scene(folder)
    assert sorted(reads) == ["keyframes.json", "memory.safetensors", "points.ply", "scene.json"]
