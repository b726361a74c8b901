import pytest
import torch

from thruway.data import Shapeset
from thruway.data.shapeset_sheet import COLUMNS, GAP, TITLE, ZOOM, first_of_each, write_sheet


def test_the_rows_contain_the_first_images_of_each_class():
    shapes = Shapeset()
    rows = first_of_each(shapes, 3)
    images, labels = shapes.images(0, 1000)
    for label, row in enumerate(rows):
        assert torch.equal(row, images[labels == label][:3, 0])


def test_the_sheet_shows_the_pixels(tmp_path):
    image = pytest.importorskip("PIL.Image")
    shapes = Shapeset(classes=("T", "EE"), size=16)
    write_sheet(shapes, tmp_path / "sheet.png")
    with image.open(tmp_path / "sheet.png") as page:
        pitch = 16 * ZOOM + GAP
        assert page.size == (TITLE + COLUMNS * pitch, 2 * pitch + GAP)
        rows = first_of_each(shapes, COLUMNS)
        for row, column, y, x in ((0, 0, 0, 0), (1, 13, 8, 8), (1, 5, 7, 9), (0, 6, 15, 15)):
            level = page.getpixel((TITLE + column * pitch + x * ZOOM, GAP + row * pitch + y * ZOOM))
            assert level / 127.5 - 1 == pytest.approx(rows[row, column, y, x].item(), abs=1e-6)  # float32
