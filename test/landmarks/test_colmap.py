from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from vggt3_ros.errors import InputError
from vggt3_ros.landmarks.colmap import read_colmap, write_colmap
from vggt3_ros.landmarks.landmarks import Landmarks

from .synthetic import NOISE_PX, SIZE_WH, synthetic_landmarks

NAMES = ["a b.png", "c.jpg", "sub/0001.png", "0002.png", "ä.png"]
SIZES = [SIZE_WH] * 5
TEXT_CAMERA = "1 PINHOLE 640 480 500 510 319 241.75\n"
TEXT_IMAGE = "7 1 0 0 0 0.5 0 -2 1 my image.png\n"


@pytest.fixture
def landmarks() -> Landmarks:
    return synthetic_landmarks()


def text_model(folder: Path, cameras: str = TEXT_CAMERA, images: str = TEXT_IMAGE + "\n") -> Path:
    (folder / "cameras.txt").write_text("# a comment\n" + cameras)
    (folder / "images.txt").write_text("# a comment\n" + images)
    return folder


def test_written_model_is_what_pycolmap_reads(landmarks: Landmarks, tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    colors = np.arange(180).reshape(60, 3).astype(np.uint8)
    write_colmap(landmarks, NAMES, SIZES, tmp_path, colors)
    model = pycolmap.Reconstruction(tmp_path)
    assert model.num_cameras() == 2 and model.num_reg_images() == 5 and model.num_points3D() == 60
    first = np.searchsorted(landmarks.observed_from, np.arange(5))
    for keyframe in range(5):
        image = model.image(keyframe + 1)
        assert image.name == NAMES[keyframe]
        pose = image.cam_from_world().inverse().matrix()
        assert np.allclose(pose, landmarks.world_from_cam[keyframe, :3], atol=1e-12)
        assert np.allclose(
            image.camera.calibration_matrix()[:2, :2], landmarks.intrinsics[keyframe][:2, :2]
        )
        seen = landmarks.observed_from == keyframe
        pixels = np.array([point.xy for point in image.points2D])
        assert np.allclose(pixels, landmarks.pixels[seen] + 0.5, atol=1e-4)
        assert [point.point3D_id for point in image.points2D] == (
            landmarks.observed[seen] + 1
        ).tolist()
    for landmark in range(60):
        point = model.point3D(landmark + 1)
        assert np.allclose(point.xyz, landmarks.positions[landmark])
        assert point.color.tolist() == colors[landmark].tolist()
        for element in point.track.elements:
            row = first[element.image_id - 1] + element.point2D_idx
            assert (
                landmarks.observed_from[row] == element.image_id - 1
                and landmarks.observed[row] == landmark
            )
    ours = model.compute_mean_reprojection_error()
    # by pycolmap's own projection, half a pixel's convention and all
    model.update_point_3d_errors()
    assert model.compute_mean_reprojection_error() == pytest.approx(ours, rel=1e-4)
    assert ours == pytest.approx(NOISE_PX * np.sqrt(np.pi / 2), rel=0.15)


def test_written_model_is_read_back(landmarks: Landmarks, tmp_path: Path) -> None:
    write_colmap(landmarks, NAMES, SIZES, tmp_path)
    model = read_colmap(tmp_path)
    order = [NAMES.index(name) for name in model.names]
    assert list(model.names) == sorted(NAMES) and model.sizes_wh == tuple(SIZES)
    assert np.allclose(model.world_from_cam, landmarks.world_from_cam[order], atol=1e-12)
    assert np.allclose(model.intrinsics, landmarks.intrinsics[order], atol=1e-12)
    assert model.distortions == (None,) * 5


def test_models_that_pycolmap_writes_are_read(landmarks: Landmarks, tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    write_colmap(landmarks, [name.replace(" ", "_") for name in NAMES], SIZES, tmp_path)
    for kind in ("text", "binary"):
        folder = tmp_path / kind
        folder.mkdir()
        getattr(pycolmap.Reconstruction(tmp_path), f"write_{kind}")(folder)
        ours, theirs = read_colmap(tmp_path), read_colmap(folder)
        assert theirs.names == ours.names
        assert np.allclose(theirs.world_from_cam, ours.world_from_cam, atol=1e-12)
        assert np.allclose(theirs.intrinsics, ours.intrinsics, atol=1e-9)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("SIMPLE_PINHOLE", [500, 321, 239]),
        ("PINHOLE", [500, 510, 321, 239]),
        ("SIMPLE_RADIAL", [500, 321, 239, 0.1]),
        ("RADIAL", [500, 321, 239, 0.1, -0.05]),
        ("OPENCV", [500, 510, 321, 239, 0.1, -0.05, 0.002, -0.003]),
        ("FULL_OPENCV", [500, 510, 321, 239, 0.1, -0.05, 0.002, -0.003, 0.01, 0.02, 0.03, -0.01]),
        ("SIMPLE_RADIAL_FISHEYE", [500, 321, 239, 0.1]),
        ("RADIAL_FISHEYE", [500, 321, 239, 0.1, -0.05]),
        ("OPENCV_FISHEYE", [500, 510, 321, 239, 0.1, -0.05, 0.02, -0.01]),
        ("OPENCV_FISHEYE", [500, 510, 321, 239, 0, 0, 0, 0]),
    ],
)
@pytest.mark.parametrize("suffix", ["text", "binary"])
def test_camera_models_project_as_colmaps_do(
    model: str, parameters: list[float], suffix: str, tmp_path: Path
) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    camera = pycolmap.Camera(camera_id=1, model=model, width=640, height=480, params=parameters)
    reconstruction = pycolmap.Reconstruction()
    reconstruction.add_camera_with_trivial_rig(camera)
    image = pycolmap.Image(name="a.png", camera_id=1, image_id=1)
    reconstruction.add_image_with_trivial_frame(image, pycolmap.Rigid3d())
    getattr(reconstruction, f"write_{suffix}")(tmp_path)
    ours = read_colmap(tmp_path)
    distortion = ours.distortions[0]
    points = np.array([[0.3, -0.2, 1.0], [-0.4, 0.35, 1.2]])
    project = (
        cv2.fisheye.projectPoints
        if distortion and distortion.model == "equidistant"
        else cv2.projectPoints
    )
    coefficients = np.array(distortion.coefficients if distortion else [0.0] * 4)
    zero = np.zeros(3)
    if project is cv2.projectPoints:
        pixels = project(points, zero, zero, ours.intrinsics[0], coefficients)[0]
    else:
        pixels = project(points[:, None], zero, zero, ours.intrinsics[0], coefficients)[0]
    assert np.allclose(pixels.reshape(-1, 2) + 0.5, camera.img_from_cam(points), atol=1e-6)


def test_text_model_may_have_spaces_in_names_and_images_without_pixels(tmp_path: Path) -> None:
    second = "8 0 0 0 2 0 0 0 1 second.png\n10 20 -1 30 40 -1\n"
    model = read_colmap(text_model(tmp_path, images=TEXT_IMAGE + "\n" + second))
    assert model.names == ("my image.png", "second.png")
    assert model.world_from_cam[0, :3, 3].tolist() == [-0.5, 0, 2]
    # a quaternion of length 2, w first
    assert np.allclose(model.world_from_cam[1].diagonal(), [-1, -1, 1, 1])
    assert model.intrinsics[0].tolist() == [[500, 0, 318.5], [0, 510, 241.25], [0, 0, 1]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    "second_lines",
    [
        ["", "", ""],
        [None, None, None],
        ["10 20 -1 30.5 40 7", None, ""],
        [None, "1 2 3", None],
        ["1, 2, -1", "", None],
    ],
)
def test_no_pose_is_lost_with_the_lines_of_pixels(
    second_lines: list[str | None], encoding: str, tmp_path: Path
) -> None:
    lines = [
        "# Image list with two lines of data per image:",
        "# Number of images: 3, mean observations per image: 0",
    ]
    for number, pixels in enumerate(second_lines):
        lines += [
            f"{number} 1 0 0 0 {number} 0 0 1 cam {number}/{number}.png",
            *([] if pixels is None else [pixels]),
        ]
    text_model(tmp_path)
    (tmp_path / "images.txt").write_bytes("\r\n".join(lines).encode(encoding))
    (tmp_path / "cameras.txt").write_bytes(TEXT_CAMERA.encode(encoding))
    model = read_colmap(tmp_path)
    assert model.names == ("cam 0/0.png", "cam 1/1.png", "cam 2/2.png")
    assert model.world_from_cam[:, 0, 3].tolist() == [0, -1, -2]


@pytest.mark.parametrize(
    ("cameras", "images", "complaint"),
    [
        ("1 FOV 640 480 500 500 320 240 0.1\n", TEXT_IMAGE, "FOV is not supported"),
        ("1 PINHOLE 640 480 500 500 320\n", TEXT_IMAGE, "PINHOLE takes a size and 4 parameters"),
        ("1 PINHOLE 640 480 -500 500 320 240\n", TEXT_IMAGE, "no calibration"),
        (
            "1 PINHOLE wide 480 500 500 320 240\n",
            TEXT_IMAGE,
            "cameras.txt is not as COLMAP writes it",
        ),
        (TEXT_CAMERA, "", "has no images"),
        (TEXT_CAMERA, "7 1 0 0 0 0 0 0 2 a.png\n", "camera 2, which the model lacks"),
        (TEXT_CAMERA, "7 0 0 0 0 0 0 0 1 a.png\n", "pose of a.png"),
        (TEXT_CAMERA, "7 nan 0 0 0 0 0 0 1 a.png\n", "pose of a.png"),
        (TEXT_CAMERA, "7 1 0 0 0 0 0 1 a.png\n", "images.txt is not as COLMAP writes it"),
        (
            TEXT_CAMERA,
            TEXT_IMAGE + "\n1 2 3\n4 5 -1\n",
            "images.txt is not as COLMAP writes it .line 5",
        ),
        (
            TEXT_CAMERA,
            "# Number of images: 2\n" + TEXT_IMAGE,
            "its header promises 2 images, it has 1",
        ),
        (
            TEXT_CAMERA,
            TEXT_IMAGE + "\n" + TEXT_IMAGE.replace("7", "8", 1),
            "two images are called 'my image.png'",
        ),
        (
            "# Number of cameras: 2\n" + TEXT_CAMERA,
            TEXT_IMAGE,
            "its header promises 2 cameras, it has 1",
        ),
        (TEXT_CAMERA + TEXT_CAMERA, TEXT_IMAGE, "camera 1 is there twice"),
        (
            TEXT_CAMERA[:-1] + " 0.1 extra\n",
            TEXT_IMAGE,
            "cameras.txt is not as COLMAP writes it .line 2",
        ),
        (
            TEXT_CAMERA[:-1] + " 0.1 0.2\n",
            TEXT_IMAGE,
            "line 2: PINHOLE takes a size and 4 parameters",
        ),
    ],
)
def test_bad_models_are_refused_with_the_reason(
    cameras: str, images: str, complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=complaint):
        read_colmap(text_model(tmp_path, cameras, images))


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no COLMAP model"):
        read_colmap(tmp_path)


def test_model_without_cameras_is_refused(tmp_path: Path) -> None:
    text_model(tmp_path)
    (tmp_path / "cameras.txt").unlink()
    with pytest.raises(InputError, match=r"cannot read .*cameras.txt"):
        read_colmap(tmp_path)


@pytest.mark.parametrize("file", ["cameras.bin", "images.bin"])
def test_binary_model_cut_anywhere_is_refused(
    file: str, landmarks: Landmarks, tmp_path: Path
) -> None:
    write_colmap(landmarks, NAMES, SIZES, tmp_path)
    whole = (tmp_path / file).read_bytes()
    for kept in (0, 5, 20, len(whole) // 2, len(whole) - 10):
        (tmp_path / file).write_bytes(whole[:kept])
        with pytest.raises(InputError, match=f"{file} is not as COLMAP writes it"):
            read_colmap(tmp_path)


def test_unseen_landmarks_are_left_out(landmarks: Landmarks, tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    seen = landmarks.observed != 3
    parts = ("observed_from", "observed", "pixels")
    write_colmap(
        replace(landmarks, **{name: getattr(landmarks, name)[seen] for name in parts}),
        NAMES,
        SIZES,
        tmp_path,
    )
    model = pycolmap.Reconstruction(tmp_path)
    assert model.num_points3D() == 59 and not model.exists_point3D(4)


def test_what_a_model_cannot_hold_is_refused(landmarks: Landmarks, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'c.jpg' is not the name of one alone"):
        write_colmap(landmarks, ["c.jpg", "c.jpg", "d", "e", "f"], SIZES, tmp_path)
    with pytest.raises(InputError, match="5 keyframes need as many names"):
        write_colmap(landmarks, NAMES[:4], SIZES, tmp_path)
    with pytest.raises(InputError, match="colors must be"):
        write_colmap(landmarks, NAMES, SIZES, tmp_path, np.zeros((3, 3), np.uint8))
