"""Keys by which pre-activations are chosen: integers in the order of the floats."""

from __future__ import annotations

import triton
import triton.language as tl

#: Below the key of every float, minus infinity's among them: of latents that are not there.
LEAST = tl.constexpr(-(2**31))


@triton.jit
def load_keys(pre, scale, row, latent, width):
    """The pre-activations of rows at ``latent``, and the keys of ``pre * scale``, int32.

    Keys are ordered as the numbers are, 0 and -0 are both 0, and NaN is infinity; past ``width``
    they are LEAST. ``row`` is int64, of a shape that broadcasts with latent's; scale may be None.
    """
    inside = latent < width
    x = tl.load(pre + (row * width + latent), mask=inside, other=0.0)
    number = x
    if scale is not None:
        number = x * tl.load(scale + latent, mask=inside, other=0.0)
    bits = number.to(tl.int32, bitcast=True)
    key = tl.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    key = tl.where(number != number, 0x7F800000, key)
    return x, tl.where(inside, key, LEAST)
