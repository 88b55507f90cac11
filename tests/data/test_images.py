"""Pictures in every mode people have, and files that are none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from realisdance_jax.data.images import (
    LABEL_HEIGHT,
    contact_sheet,
    hstack_panels,
    read_image,
    save_png,
)
from realisdance_jax.utils.errors import UserError
from tests.refusals import refusal

PICTURE = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)


def test_png_round_trip_is_exact(tmp_path):
    save_png(tmp_path / "new" / "a.png", PICTURE)
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "a.png"), PICTURE)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


def test_alpha_is_white_or_dropped(tmp_path):
    opacity = np.full((9, 14, 1), 255, np.uint8)
    opacity[:3], opacity[3:6] = 0, 128
    Image.fromarray(np.concatenate([PICTURE, opacity], axis=2)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", "drop"), PICTURE)
    white = read_image(tmp_path / "a.png")
    assert (white[:3] == 255).all()
    wanted = np.round((PICTURE[3:6] * 128.0 + 255.0 * 127) / 255)
    np.testing.assert_array_equal(white[3:6], wanted)
    np.testing.assert_array_equal(white[6:], PICTURE[6:])


def test_grey_palette_and_transparent_palette(tmp_path):
    grey = PICTURE[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert (read_image(tmp_path / "grey.png") == grey[..., None]).all()
    Image.fromarray(np.stack([grey, grey // 2], axis=-1), "LA").save(tmp_path / "la.png")
    assert (read_image(tmp_path / "la.png", "drop") == grey[..., None]).all()
    Image.fromarray(grey > 100).save(tmp_path / "bits.png")
    assert set(np.unique(read_image(tmp_path / "bits.png"))) == {0, 255}
    palette = Image.new("P", (4, 2))
    palette.putpalette([10, 20, 30, 200, 100, 0])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "p.png", transparency=0)
    assert read_image(tmp_path / "p.png", "drop")[0, :2].tolist() == [[10, 20, 30], [200, 100, 0]]
    assert read_image(tmp_path / "p.png")[0, :2].tolist() == [[255] * 3, [200, 100, 0]]


def test_sixteen_bits_keep_the_high_byte(tmp_path):
    deep = (PICTURE[..., 0].astype(np.uint16) << 8) + 77
    Image.fromarray(deep).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == PICTURE[..., :1]).all()


def test_exif_orientation_turns_the_picture_upright(tmp_path):
    block = np.zeros((16, 32, 3), np.uint8)
    block[:8, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: turn clockwise to view
    Image.fromarray(block).save(tmp_path / "a.jpg", quality=100, exif=exif)
    upright = read_image(tmp_path / "a.jpg")
    assert upright.shape == (32, 16, 3)
    assert upright[:8, 8:].min() > 200
    assert upright[:8, :8].max() < 50


def test_cmyk_jpeg(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).convert("CMYK").save(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").max() < 10


def test_refusals_name_the_file(tmp_path, monkeypatch):
    def refused(name: str) -> str:
        line = refusal(read_image, tmp_path / name)
        assert name in line
        return line

    assert "no such file" in refused("none.png")
    (tmp_path / "folder.png").mkdir()
    assert "folder" in refused("folder.png")
    (tmp_path / "text.png").write_text("hello")
    assert "unreadable" in refused("text.png")
    (tmp_path / "empty.png").touch()
    assert "unreadable" in refused("empty.png")
    (tmp_path / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    assert "unreadable" in refused("script.eps")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tiff")
    assert "mode F" in refused("float.tiff")
    save_png(tmp_path / "big.png", PICTURE)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    assert "at most 100 pixels" in refused("big.png")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow comments on damaged TIFF tags
@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    suffix=st.sampled_from(["png", "jpg", "webp", "tiff"]),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    keep=st.floats(0, 1),
)
def test_damaged_files_raise_only_user_errors(suffix, edits, keep, tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / f"a.{suffix}"
    Image.fromarray(PICTURE).save(path)
    data = bytearray(path.read_bytes())
    for place, byte in edits:
        data[int(place * len(data))] = byte
    path.write_bytes(data if edits else data[: int(keep * len(data))])
    message = ""
    try:
        assert read_image(path).shape[2] == 3
    except UserError as error:
        message = str(error)
    assert "\n" not in message


def test_saving_where_one_cannot(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError):
        save_png(tmp_path / "file" / "a.png", PICTURE)


def test_panels_and_sheets():
    black, white = np.zeros((8, 6, 3), np.uint8), np.full((8, 10, 3), 255, np.uint8)
    row = hstack_panels([black, white])
    assert row.shape == (8, 16, 3)
    assert not row[:, :6].any()
    assert (row[:, 6:] == 255).all()
    named = hstack_panels([np.zeros((8, 96, 3), np.uint8)] * 2, labels=["DWPose", "HaMeR"])
    assert named.shape == (8 + LABEL_HEIGHT, 192, 3)
    assert named[:LABEL_HEIGHT, :96].any()
    assert named[:LABEL_HEIGHT, 96:].any()
    sheet = contact_sheet([[white, white], [white]])
    assert sheet.shape == (16, 20, 3)
    assert (sheet[:8] == 255).all()
    assert not sheet[8:, 10:].any()
    assert contact_sheet([[white]], labels=["a"]).shape == (8 + LABEL_HEIGHT, 10, 3)
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        hstack_panels([black, black], labels=["one"])
