"""Sprites stand where their boxes say, and a bank is kept whole."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from argus_ros.tools.main import main
from argus_ros.training import scenes
from argus_ros.training.lesson import Lesson
from argus_ros.training.plan import Plan
from argus_ros.training.scenes import composition, painting, sprites
from argus_ros.training.scenes.drawings import KINDS
from argus_ros.training.scenes.palette import COLOURS
from argus_ros.training.scenes.sprites import Bank, Sprite
from argus_ros.training.sources import SceneSource, scene_vocabulary

SIZES = ((20, 30), (33, 12), (16, 16))


def pattern(label: str, colour: str, size: tuple[int, int]) -> Sprite:
    """Opaque, in its colour."""
    width, height = size
    pixels = np.empty((height, width, 4), np.uint8)
    pixels[:] = (*COLOURS[colour], 255)
    return Sprite.of(label, colour, "pattern", pixels)


@cache
def bank(split: str = "train", share: float = 1.0) -> Bank:
    made = [
        pattern(label, colour, SIZES[(i + j) % 3])
        for i, label in enumerate(KINDS)
        for j, colour in enumerate(COLOURS)
    ]
    return Bank(made, split, share)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenes of nothing but objects: no background, scribbles, shadows or noise."""
    monkeypatch.setattr(
        composition, "background", lambda rng, w, h, heldout: np.full((h, w, 3), 97, np.uint8)
    )
    monkeypatch.setattr(composition, "scatter_distractors", lambda image, rng: None)
    monkeypatch.setattr(composition, "degrade", lambda image, rng: image)
    monkeypatch.setattr(painting, "draw_shadow", lambda *arguments: None)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("split", scenes.SPLITS)
def test_a_box_is_where_the_pixels_changed(split: str) -> None:
    clipped = 0
    for seed in range(60):
        scene = scenes.render(seed, split, (160, 120), (1, 1), bank=bank())
        (item,) = scene.objects
        rows, columns = np.where((scene.image != 97).any(-1))
        assert item.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        x0, y0, x1, y1 = item.box
        inside = x0 > 0 and y0 > 0 and x1 < 160 and y1 < 120
        clipped += not inside
        if inside:
            assert any((x1 - x0) / (y1 - y0) == pytest.approx(w / h, rel=0.15) for w, h in SIZES)
    assert clipped


@pytest.mark.usefixtures("plain")
def test_an_object_has_the_colour_it_is_labelled_with() -> None:
    for seed in range(40):
        scene = scenes.render(seed, "val", (160, 120), (1, 1), bank=bank())
        (item,) = scene.objects
        x0, y0, x1, y1 = (int(v) for v in item.box)
        shown = scene.image[(y0 + y1) // 2, (x0 + x1) // 2].astype(float)
        told = np.array(COLOURS[item.colour], float)
        gain = shown[told < 250].sum() / told[told < 250].sum()
        np.testing.assert_allclose(shown, np.minimum(told * gain, 255), atol=25)


@pytest.mark.slow
def test_the_share_says_how_many_things_are_sprites(monkeypatch: pytest.MonkeyPatch) -> None:
    placed: list[str] = []
    place = painting.place

    def count(image: np.ndarray, rng: np.random.Generator, sprite: Sprite, *rest: object) -> object:
        placed.append(sprite.label)
        return place(image, rng, sprite, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(composition, "place", count)
    objects = sum(len(scenes.render(s, size=(80, 60), bank=bank(share=0.3)).objects) for s in range(100))
    assert 0.2 < len(placed) / objects < 0.4
    assert set(placed) == set(KINDS)


def test_a_seed_and_a_bank_are_a_scene() -> None:
    first, again = (scenes.render(5, bank=bank(share=0.5)) for _ in range(2))
    assert first.objects == again.objects
    assert np.array_equal(first.image, again.image)


def test_edges_are_blended_and_cut_off_at_the_border() -> None:
    image = np.full((10, 10, 3), 100, np.uint8)
    pixels = np.zeros((4, 6, 4), np.uint8)
    pixels[..., 3] = 128  # half black
    assert sprites.paste(image, pixels, (-2, 8)) == (0, 8, 4, 10)
    assert (image[8:, :4] == 50).all()
    image[8:, :4] = 100
    assert (image == 100).all()


def test_a_shadow_darkens_what_is_at_the_foot_alone() -> None:
    image = np.full((60, 60, 3), 100, np.uint8)
    painting.draw_shadow(image, (30, 40), 10, 0.5)
    assert image[39, 30, 0] < 60
    assert image.max() == 100
    rows, columns = np.where(image[..., 0] < 100)
    assert rows.min() > 30
    assert 15 < columns.min() < columns.max() < 45
    painting.draw_shadow(image, (200, 300), 10, 0.5)  # out of the picture


def test_a_bank_is_kept_whole(tmp_path: Path) -> None:
    made = bank("heldout")
    made.save(tmp_path / "sub" / "bank.npz")
    read = sprites.load(tmp_path / "sub" / "bank.npz", 0.25)
    assert (read.split, read.share) == ("heldout", 0.25)
    assert [(s.label, s.colour, s.model, s.size) for s in read.sprites] == [
        (s.label, s.colour, s.model, s.size) for s in made.sprites
    ]
    for one, other in zip(made.sprites, read.sprites, strict=True):
        assert np.array_equal(one.pixels(), other.pixels())


def test_sprites_keep_every_pixel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 4)).astype(np.uint8)
    pixels[..., :3] = np.minimum(pixels[..., :3], pixels[..., 3:])
    pixels[:, 12:] = 0
    assert np.array_equal(Sprite.of("ball", "red", "", pixels).pixels(), pixels)


def test_what_is_no_bank_is_named(tmp_path: Path) -> None:
    file = tmp_path / "nothing.npz"
    for content in (None, b"", b"words", b"PK\x03\x04"):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ValueError, match=r"nothing\.npz is no bank"):
            sprites.load(file)
    with pytest.raises(ValueError, match="no sprite of person"):
        Bank([pattern("ball", "red", (4, 4))], "train")
    with pytest.raises(ValueError, match="sprites in pink"):
        Bank([*bank().sprites, Sprite("ball", "pink", "", (4, 4), np.empty(0, np.uint8))], "train")


def test_training_and_measuring_take_the_banks_made_for_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bank("train").save(tmp_path / "train.npz")
    bank("heldout").save(tmp_path / "heldout.npz")
    lesson = Lesson(Plan(tmp_path, lit=tmp_path / "train.npz"))
    assert lesson.vocabulary.classes == scenes.CLASSES
    with pytest.raises(ValueError, match="is for measuring"):
        Lesson(Plan(tmp_path, lit=tmp_path / "heldout.npz"))
    assert main(["evaluate", "--lit", str(tmp_path / "train.npz")]) == 2
    assert "is for training" in capsys.readouterr().err


def test_samples_show_the_bank() -> None:
    def source(of: Bank | None) -> SceneSource:
        return SceneSource(None, scene_vocabulary(), 0, 64, novice=False, bank=of)  # type: ignore[arg-type]

    without, with_it = source(None).scene(3), source(bank()).scene(3)
    assert not np.array_equal(without.image, with_it.image)
