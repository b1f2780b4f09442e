"""Array types of the whole package, and arrays that nobody changes by accident."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
StrArray = NDArray[np.str_]


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return `array` itself, made read-only.

    Parameters
    ----------
    array : ndarray
        Must not be used for writing elsewhere: it is not copied.

    Returns
    -------
    ndarray
    """
    array.flags.writeable = False
    return array
