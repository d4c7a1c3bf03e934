"""Writes small images of unusual kinds. Made with Pillow 13.0.0.

cmyk.jpg     8x8 CMYK, everywhere the colour that Pillow shows as RGB (255, 0, 0)
rotated.jpg  4 rows x 8 columns, grey, EXIF orientation 6 (to be shown as 8 x 4)
deep.png     2x2, 16-bit grey: 0, 257 * 100, 257 * 200, 65535
palette.png  2x1, palette: (255, 0, 0), (0, 0, 255)
alpha.png    1x1 RGBA (10, 20, 30, 0)
animated.png 1x1, two frames: (1, 2, 3), then (200, 200, 200)
Run: python make.py
"""
import os

import numpy as np
from PIL import Image

here = os.path.dirname(os.path.abspath(__file__))


def path(name):
    return os.path.join(here, name)


Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(path("cmyk.jpg"), quality=95)
print("cmyk as RGB:", Image.open(path("cmyk.jpg")).convert("RGB").getpixel((3, 3)))
exif = Image.Exif()
exif[0x0112] = 6
Image.new("L", (8, 4), 77).save(path("rotated.jpg"), exif=exif, quality=95)
deep = np.array([[0, 257 * 100], [257 * 200, 65535]], dtype=np.uint16)
Image.fromarray(deep).save(path("deep.png"))
pal = Image.new("P", (2, 1))
pal.putpalette([255, 0, 0, 0, 0, 255])
pal.putpixel((1, 0), 1)
pal.save(path("palette.png"))
Image.new("RGBA", (1, 1), (10, 20, 30, 0)).save(path("alpha.png"))
Image.new("RGB", (1, 1), (1, 2, 3)).save(
    path("animated.png"), save_all=True, append_images=[Image.new("RGB", (1, 1), (200, 200, 200))]
)
