"""What white is in images of more than 8 bits: cameras put 10, 12 or 14 bits into 16 and say
nowhere how many.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vggt3_ros.errors import InputError

AUTOMATIC = 0
_DEPTHS = (8, 10, 12, 14, 16)  # that cameras have


class BitDepth:
    """How many bits the pixels of a sequence of images have in their 16.

    As given, or else told by the highest bit seen so far, and so by the brightest pixel of all
    images before: the depth never falls again, and the brightness of the sequence jumps at most a
    few times, at its beginning.
    """

    def __init__(self, bits: int = AUTOMATIC) -> None:
        """bits: 8 to 16, or 0 to find out. Raises InputError for other numbers."""
        if bits != AUTOMATIC and not _DEPTHS[0] <= bits <= _DEPTHS[-1]:
            raise InputError(
                f"bit_depth is {bits}; expected 8 to 16, or 0 to tell it by the brightest pixel"
                " seen"
            )
        self._given = bits
        self._seen = 0  # every bit that was set in any pixel

    @property
    def bits(self) -> int:
        """As given or seen so far; 0 while it is not given and no pixel has been seen."""
        return self._given or (least_depth(self._seen) if self._seen else AUTOMATIC)

    @property
    def white(self) -> int:
        """The greatest value that a pixel can have.

        Where low bits have always been zero they count as unused, so that left-aligned pixels reach
        white as well.
        """
        bits = self.bits or _DEPTHS[0]
        if self._given or not self._seen:
            return (1 << bits) - 1
        lowest = self._seen & -self._seen
        return (1 << bits) - min(lowest, 1 << (bits - _DEPTHS[0]))

    def see(self, pixels: npt.NDArray[Any]) -> None:
        """Take note of uint16 pixels of any shape. Raises InputError when they do not fit the depth
        that was given.
        """
        if not self._given:
            self._seen |= int(np.bitwise_or.reduce(pixels, axis=None))
            return
        brightest = int(pixels.max(initial=0))
        if brightest > self.white:
            raise InputError(
                f"the image has pixels up to {brightest}, but bit_depth is {self._given}, which"
                f" ends at {self.white}; give bit_depth {least_depth(brightest)}, or 0 to find"
                " it out"
            )

    def eight_bits(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """The same pixels (any shape, uint16) with 8 bits: white becomes 255; rounded. Raises like
        `see`.
        """
        self.see(pixels)
        table = (np.arange(self.white + 1, dtype=np.uint32) * 255 + self.white // 2) // self.white
        eight: npt.NDArray[np.uint8] = table.astype(np.uint8)[pixels]
        return eight


def least_depth(value: int) -> int:
    """The least depth that cameras have (8, 10, 12, 14, 16 bits) in which a pixel of this value (to
    65535) fits.
    """
    return next(depth for depth in _DEPTHS if value < 1 << depth)
