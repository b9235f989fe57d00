"""Data: pictures and files, the face table, readers of public data sets, the paper's filters, the face world.

Readers, filters, curation, stacks and the face world are imported by their module's name.
"""

from lib.data.files import read_json, sha256, write_bytes, write_json, write_png, write_table, write_text
from lib.data.images import (
    IMAGE_SUFFIXES,
    ImageError,
    Picture,
    image_size,
    list_images,
    read_image,
    resize,
    to_pixels,
    to_tensor,
)
from lib.data.table import BOX, COLUMNS, make_table, read_table, usable, validate

__all__ = [
    "BOX",
    "COLUMNS",
    "IMAGE_SUFFIXES",
    "ImageError",
    "Picture",
    "image_size",
    "list_images",
    "make_table",
    "read_image",
    "read_json",
    "read_table",
    "resize",
    "sha256",
    "to_pixels",
    "to_tensor",
    "usable",
    "validate",
    "write_bytes",
    "write_json",
    "write_png",
    "write_table",
    "write_text",
]
