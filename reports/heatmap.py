"""Small images of 2-D inputs and attributions, as PNG data addresses."""

from __future__ import annotations

import base64
import struct
import zlib

_BELOW, _ZERO, _ABOVE = (33, 102, 172), (247, 247, 247), (178, 24, 43)
_UNKNOWN = (255, 0, 255)


def heatmap(rows: list[list[float | None]], scale: float) -> str:
    """A `data:` address of an image with one pixel for each number: blue below 0, white at 0, red above.

    Args:
        rows: the numbers [height][width]; None, a value that is not finite, becomes magenta.
        scale: the magnitude of full colour.
    """
    scale = scale or 1.0
    # Each row of a PNG starts with the number of its filter, 0 for none.
    pixels = b"".join(b"\0" + bytes(part for value in row for part in _colour(value, scale)) for row in rows)
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 2, 0, 0, 0)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(pixels, 9)) + _chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + chunks).decode("ascii")


def _colour(value: float | None, scale: float) -> tuple[int, int, int]:
    if value is None:
        return _UNKNOWN
    end = _ABOVE if value > 0 else _BELOW
    share = min(1.0, abs(value) / scale)
    red, green, blue = (round(zero + share * (full - zero)) for zero, full in zip(_ZERO, end, strict=True))
    return red, green, blue


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
