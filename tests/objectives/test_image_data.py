"""Folders of images: what is listed, what is read and how, what is left out, and what is refused."""

from __future__ import annotations

import io
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hpo.errors import DataError
from objectives.image_classification import OBJECTIVE, index
from objectives.image_classification.broken import FAULTS
from objectives.image_classification.data import load, split
from objectives.image_classification.listing import list_images
from objectives.image_classification.pictures import Verdict, judge, read, square


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPO_CACHE", str(tmp_path_factory.mktemp("cache")))


def noise(seed: int, size: tuple[int, int] = (16, 16)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of forty different images each."""
    for name in ("cat", "dog"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(40):
            noise(1000 * ord(name[0]) + i).save(tmp_path / "set" / name / f"{i:02d}.png")
    return tmp_path / "set"


def data(folder: Path, **more: object) -> dict[str, object]:
    return {"path": str(folder), **more}


# Listing


def test_files_are_listed_in_one_order_and_hidden_ones_are_no_part_of_it(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.JPG", "a/deep/er/3.webp", ".git/4.png", "a/.5.png", "a/notes.txt", "6.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = list_images(tmp_path)
    assert [file.path for file in found.files] == ["a/deep/er/3.webp", "b/1.JPG", "b/2.png"]
    assert [file.label for file in found.files] == ["a", "b", "b"]
    assert found.classes == ("a", "b")
    assert found.others == 2  # the notes, and the image in no class folder


def test_links_are_followed_and_never_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "set" / "a").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.png").touch()
    (tmp_path / "set" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "a" / "up").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "a" / "itself").symlink_to(tmp_path / "set" / "a")
    (tmp_path / "set" / "a" / "loop.png").symlink_to(tmp_path / "set" / "a" / "loop.png")
    (tmp_path / "set" / "a" / "gone.png").symlink_to(tmp_path / "nothing.png")
    found = list_images(tmp_path / "set")
    assert [file.path for file in found.files] == ["a/gone.png", "a/loop.png", "b/1.png"]
    assert [judge(tmp_path / "set" / file.path).kind for file in found.files[:2]] == ["cannot be opened"] * 2


def test_names_in_any_script_are_read(folder: Path) -> None:
    (folder / "猫").mkdir()
    for i in range(3):
        noise(i).save(folder / "猫" / f"第{i}张 图片.png")
    _, images = load(data(folder))
    assert images.classes == ("cat", "dog", "猫")
    assert "猫/第0张 图片.png" in images.paths


def test_a_folder_that_cannot_be_read_is_one_clear_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"set/dog must be a folder that can be read; Permission denied"):
        load(data(folder))


# Reading


def written(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_every_colour_mode_becomes_the_rgb_that_one_sees(tmp_path: Path) -> None:
    half = Image.new("RGBA", (12, 12), (255, 0, 0, 0))
    half.paste((0, 0, 255, 255), (0, 0, 12, 6))  # upper half blue, lower half invisible red
    palette = Image.new("P", (12, 12), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    grey16 = Image.fromarray(np.full((12, 12), 129 * 257, np.uint16))
    cases = {
        "grey": (Image.new("L", (12, 12), 77), "png", {}, (77, 77, 77)),
        "bits": (Image.new("1", (12, 12), 1), "png", {}, (255, 255, 255)),
        "palette": (palette, "png", {}, (10, 200, 30)),
        "palette-gif": (palette, "gif", {}, (10, 200, 30)),
        "grey16": (grey16, "png", {}, (129, 129, 129)),
        "grey16-tiff": (grey16, "tiff", {}, (129, 129, 129)),
        "float": (Image.fromarray(np.full((12, 12), 0.2, np.float32)), "tiff", {}, (51, 51, 51)),
        "cmyk": (Image.new("CMYK", (12, 12), (0, 255, 255, 0)), "tiff", {}, (255, 0, 0)),
        "see-through": (Image.new("RGBA", (12, 12), (255, 0, 0, 0)), "png", {}, (255, 255, 255)),
        "half": (Image.new("LA", (12, 12), (0, 51)), "png", {}, (204, 204, 204)),  # a fifth of black on white
        "one-colour-clear": (palette, "png", {"transparency": 1}, (255, 255, 255)),
        "bmp": (Image.new("RGB", (12, 12), (1, 2, 3)), "bmp", {}, (1, 2, 3)),
        "webp": (Image.new("RGB", (12, 12), (9, 9, 9)), "webp", {"lossless": True}, (9, 9, 9)),
    }
    for name, (image, kind, options, colour) in cases.items():
        path = written(image, tmp_path / f"{name}.{kind}", format=kind, **options)
        assert not judge(path).fault, name
        assert square(read(path), 12)[:, 11, 5].tolist() == list(colour), name
    seen = square(read(written(half, tmp_path / "rgba.png")), 12)
    assert seen[:, 0, 0].tolist() == [0, 0, 255] and seen[:, 11, 0].tolist() == [255, 255, 255]


def test_a_cmyk_jpeg_is_read(tmp_path: Path) -> None:
    path = written(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), tmp_path / "print.jpg", quality=95)
    red, green, blue = square(read(path), 16)[:, 8, 8].astype(int)
    assert red > 240 and green < 15 and blue < 15


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
def test_of_an_animation_the_first_frame_counts(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), (200, 0, 0)), Image.new("RGB", (16, 16), (0, 0, 200))]
    path = tmp_path / f"moving.{kind}"
    frames[0].save(path, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "webp" else {}))
    assert square(read(path), 16)[:, 3, 3].tolist() == [200, 0, 0]


def test_a_photograph_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    image = Image.new("RGB", (32, 16), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 16, 16))  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees: the left comes to the top
    path = written(image, tmp_path / "turned.png", exif=exif)
    seen = read(path)
    assert seen.size == (16, 32)
    assert seen.getpixel((8, 2)) == (255, 255, 255) and seen.getpixel((8, 30)) == (0, 0, 0)


def test_the_middle_square_is_cut_out_and_channels_come_first() -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = (1, 2, 3)
    assert (square(Image.fromarray(pixels), 10) == np.array([1, 2, 3])[:, None, None]).all()


def test_a_large_photograph_is_decoded_smaller_and_looks_the_same(tmp_path: Path) -> None:
    smooth = noise(3, (8, 8)).resize((512, 512), Image.Resampling.BICUBIC)
    path = written(smooth, tmp_path / "large.jpg", quality=95)
    assert read(path, about=64).size == (64, 64)
    apart = np.abs(square(read(path, about=64), 64).astype(int) - square(read(path), 64))
    assert apart.mean() < 2


# What is left out


@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_file_gets_a_verdict_and_never_raises(name: str, tmp_path: Path) -> None:
    make, kind = FAULTS[name]
    path = tmp_path / "broken.png"
    path.write_bytes(make(noise(1)))
    verdict = judge(path)
    assert verdict.kind == kind and verdict.fault.startswith(kind) and not verdict.digest


def test_a_file_that_would_start_another_program_is_no_image(tmp_path: Path) -> None:
    path = tmp_path / "program.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n(%pipe%touch x) (w) file\n")
    assert judge(path).kind == "not an image"
    assert not list_images(_with(tmp_path, "a/b.eps")).files


def _with(folder: Path, name: str) -> Path:
    (folder / name).parent.mkdir(parents=True)
    (folder / name).touch()
    return folder


def test_a_file_without_permission_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(noise(1), tmp_path / "locked.png")

    def refused(*args: object, **kwargs: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refused)
    assert judge(path).fault == "cannot be opened: Permission denied"


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about what it makes of such files
def test_random_bytes_and_cut_files_of_every_format_never_raise(tmp_path: Path) -> None:
    generator = np.random.default_rng(7)
    whole = {}
    for kind in ("png", "jpeg", "gif", "webp", "tiff", "bmp", "ppm", "ico", "tga", "pcx", "avif"):
        buffer = io.BytesIO()
        noise(5, (24, 24)).save(buffer, kind)
        whole[kind] = buffer.getvalue()
    bad = 0
    for content in whole.values():
        for _ in range(12):
            broken = bytearray(content[: generator.integers(1, len(content))])
            for at in generator.integers(0, len(broken), 8):
                broken[at] = generator.integers(0, 256)
            path = tmp_path / "broken.png"
            path.write_bytes(broken)
            bad += bool(judge(path).fault)
    assert bad > 100  # of 132; what is left is still a picture to its decoder


def test_broken_files_are_counted_named_and_in_no_part(folder: Path) -> None:
    for name, (make, _) in FAULTS.items():
        (folder / "cat" / f"bad-{name}.png").write_bytes(make(noise(2)))
    facts = OBJECTIVE().check_data(data(folder, max_bad_share=0.1))
    assert facts.counts["images"] == 80 and facts.counts["left_out"] == 6
    assert facts.left_out["cat/bad-tiny.png"] == "too small: 4x4, below 10 px on a side"
    assert len(facts.notes) == 1 and "6 broken images are left out (6.98%): 2 damaged" in facts.notes[0]
    parts = OBJECTIVE().split_ids(data(folder, max_bad_share=0.1), 1)
    assert not [path for paths in parts.values() for path in paths if "bad" in path]


def test_too_many_broken_files_are_refused_with_counts_and_names(folder: Path) -> None:
    (folder / "cat" / "a.png").touch()
    assert load(data(folder, max_bad_share=1 / 81))[1].counts["left_out"] == 1
    with pytest.raises(DataError, match=r"1 of 81 images .*\(1\.23%\), above max_bad_share \(0\.01\): 1 empty"):
        load(data(folder))


def test_what_is_left_out_does_not_change_the_fingerprint_and_an_image_does(folder: Path) -> None:
    before = OBJECTIVE().check_data(data(folder)).fingerprint
    (folder / "cat" / "bad.png").touch()
    assert OBJECTIVE().check_data(data(folder, max_bad_share=0.1)).fingerprint == before
    noise(99).save(folder / "cat" / "00.png")
    assert OBJECTIVE().check_data(data(folder, max_bad_share=0.1)).fingerprint != before


@pytest.mark.parametrize("change", [{"model": "vit-mini"}, {"image_size": 16}, {"flip": True}, {"normalise": "half"}])
def test_what_the_model_is_and_sees_is_part_of_the_fingerprint(folder: Path, change: dict[str, object]) -> None:
    assert (
        OBJECTIVE().check_data(data(folder)).fingerprint != OBJECTIVE().check_data(data(folder, **change)).fingerprint
    )


# The index


def test_a_file_is_decoded_once_until_it_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(data(folder))[1]
    decoded: list[str] = []

    def watched(path: Path) -> object:
        decoded.append(Path(path).name)
        return judge(path)

    monkeypatch.setattr(index, "judge", watched)
    from objectives.image_classification.data import _usable

    _usable.cache_clear()  # as in another process
    assert load(data(folder))[1].fingerprint == first.fingerprint
    assert decoded == []
    noise(5, (20, 20)).save(folder / "dog" / "07.png")
    (folder / "dog" / "08.png").unlink()
    assert len(load(data(folder))[1]) == 79
    assert decoded == ["07.png"]


def test_a_file_that_could_not_be_opened_is_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = list_images(folder).files
    with monkeypatch.context() as without_permission:
        without_permission.setattr(index, "judge", lambda path: Verdict("cannot be opened: ...", "cannot be opened"))
        assert all(verdict.fault for verdict in index.verdicts(folder, files))
    assert not any(verdict.fault for verdict in index.verdicts(folder, files))


def test_many_files_are_decoded_in_other_processes_with_the_same_verdicts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "cat" / "bad.png").touch()
    files = list_images(folder).files
    alone = [judge(folder / file.path) for file in files]
    monkeypatch.setattr(index, "FEW", 10)
    monkeypatch.setattr(index, "CHUNK", 30)
    assert index.verdicts(folder, files) == alone


def test_an_index_of_no_use_is_made_again(folder: Path) -> None:
    files = list_images(folder).files
    first = index.verdicts(folder, files)
    index.index_file(folder).write_bytes(b"no parquet")
    assert index.verdicts(folder, files) == first
    assert index.index_file(folder).stat().st_size > 100


def test_a_cache_that_cannot_be_written_is_told_and_does_no_harm(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HPO_CACHE", str(folder / "cat" / "00.png"))  # a file, where a folder should be
    assert len(load(data(folder))[1]) == 80
    assert "is not remembered" in capsys.readouterr().err


# The split


def test_parts_are_alike_in_classes_and_of_the_right_size(folder: Path) -> None:
    _, images = load(data(folder))
    parts = split(images, 3)
    sizes = [np.bincount(images.labels[rows]).tolist() for rows in (parts.train, parts.validation, parts.test)]
    assert sizes == [[32, 32], [4, 4], [4, 4]]


def test_copies_never_stand_in_two_parts(folder: Path) -> None:
    for i in range(10):
        with Image.open(folder / "cat" / f"{i:02d}.png") as image:
            image.save(folder / "cat" / f"copy-{i}.bmp")  # the same pixels in another format
    _, images = load(data(folder))
    assert images.counts["copies"] == 10
    for seed in range(5):
        parts = vars(split(images, seed)).values()
        digests = [set(images.digests[rows]) for rows in parts]
        assert not digests[0] & digests[1] and not digests[0] & digests[2] and not digests[1] & digests[2]


def test_the_same_picture_in_two_classes_is_told(folder: Path) -> None:
    (folder / "dog" / "really-a-cat.png").write_bytes((folder / "cat" / "11.png").read_bytes())
    facts = OBJECTIVE().check_data(data(folder))
    assert facts.counts["contradicting"] == 2
    assert "cat/11.png, dog/really-a-cat.png" in facts.notes[0]


# What is refused


def test_a_folder_of_one_class_or_none_is_refused(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> None:
    with pytest.raises(DataError, match="two or more classes.*it has none"):
        load(data(tmp_path_factory.mktemp("empty")))
    with pytest.raises(DataError, match="it has the folder 'set' alone"):
        load(data(folder.parent))


def test_names_that_are_no_text_are_refused_and_counted(folder: Path) -> None:
    noise(3).save(folder / "cat" / "a.png")
    for name in (b"Stra\xdfe.png", b"V\xf6gel.png"):
        (folder / "cat" / os.fsdecode(name)).write_bytes((folder / "cat" / "a.png").read_bytes())
    with pytest.raises(DataError, match=r"cat: names must be UTF-8; 2 of 43 are not: Stra\\xdfe.png, V\\xf6gel.png"):
        load(data(folder))


def test_a_class_with_too_few_different_images_is_refused_by_name(folder: Path) -> None:
    (folder / "bird").mkdir()
    (folder / "fish").mkdir()
    for i in range(3):
        noise(1).save(folder / "fish" / f"{i}.png")  # three times the same
    with pytest.raises(DataError, match=r"3 different images or more; 2 of 4 have fewer: bird \(0\), fish \(1\)"):
        load(data(folder))


def test_a_file_instead_of_a_folder_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"00\.png must be a folder"):
        load(data(folder / "cat" / "00.png"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"max_bad_share": 2}, r"max_bad_share must be in \[0, 1\); got 2"),
        ({"max_bad_share": True}, "max_bad_share"),
        ({"image_size": 8}, "image_size must be a whole number from 10 to 4096 px; got 8"),
        ({"image_size": "32"}, "image_size"),
        ({"flip": 1}, "flip must be true or false; got 1"),
        ({"normalise": "none"}, "normalise must be one of data, imagenet, clip, half; got 'none'"),
        ({"cache_mb": -1}, "cache_mb"),
        ({"path": None}, "path must name a folder"),
        ({"model": "vit-mino"}, "vit-mini"),
        ({"model": "timm:"}, "needs the package timm"),
        ({"model": "eva02-base"}, r"pip install 'hpo\[timm\]'"),
        ({"model": "google/vit-base-patch16-224"}, "image_size must be given"),
        ({"weights": "pretrained"}, "has none"),
        ({"weights": "nothing.safetensors"}, "No such file"),
        ({"weights": "weights.zip"}, r"ends in \.safetensors"),
    ],
)
def test_a_field_that_is_wrong_is_refused_with_its_value(folder: Path, change: dict[str, object], told: str) -> None:
    if "timm" in told and find_spec("timm"):
        pytest.skip("timm is installed")
    with pytest.raises(DataError, match=told):
        load(data(folder, **change))
