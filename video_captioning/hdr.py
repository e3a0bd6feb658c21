"""Pictures in high dynamic range → sRGB, as on an ordinary screen beside ordinary video."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]

PQ, HLG = 16, 18
"""FFmpeg's AVColorTransferCharacteristic: SMPTE ST 2084, and ARIB STD-B67."""
WIDE = 9
"""AVColorPrimaries of BT.2020."""
_WHITE = 203.0  # cd/m² of a white page (ITU-R BT.2408-7, 2.1)
_PEAK = 1000.0  # cd/m² of the screen that HLG is shown on (ITU-R BT.2100-2, table 5)
_FULL = 65280  # swscale's white in 16 bit: that of 8 bit, times 256
_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)
_TO_709 = np.array(  # ITU-R BT.2087-0
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)


def to_sdr(picture: npt.NDArray[np.uint16], transfer: int, primaries: int) -> npt.NDArray[np.uint8]:
    """R'G'B' of full range `[..., 3]` → sRGB of the same shape; what is brighter than white is white.

    Args:
        transfer: PQ or HLG.
        primaries: WIDE, or those of sRGB.
    """
    signal = np.minimum(picture.astype(np.float32) / _FULL, 1)
    light = (_pq(signal) if transfer == PQ else _hlg(signal)) / _WHITE
    if primaries == WIDE:
        light = light @ _TO_709.T
    light = np.clip(light, 0, 1)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)  # IEC 61966-2-1
    made: npt.NDArray[np.uint8] = np.round(255 * encoded).astype(np.uint8)
    return made


def _pq(signal: Array) -> Array:
    """cd/m², by the EOTF of SMPTE ST 2084 (ITU-R BT.2100-2, table 4)."""
    root = signal ** (1 / 78.84375)
    light: Array = 10000 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
    return light


def _hlg(signal: Array) -> Array:
    """cd/m², by the inverse OETF and the OOTF (ITU-R BT.2100-2, table 5)."""
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    light: Array = _PEAK * (scene @ _LUMINANCE)[..., None] ** 0.2 * scene
    return light
