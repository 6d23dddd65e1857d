"""Write normal_table.inc: the cubics of the stream's transform from 32 bits to a normal.

The table is part of the stream's definition (see synthkern/stream/__init__.py), so it is kept in
the repository; a test recomputes it. Segment i covers f in 2**(i // 16 - 1) * [1 + (i % 16) / 16,
1 + (i % 16 + 1) / 16); its cubic in z = f / 2**(i // 16 - 1) - 1 - (i % 16) / 16 interpolates
minus the inverse normal distribution function of f / 2**32 at the four Chebyshev nodes. The last
segment is the single point f = 2**31, the median.

Usage: python generate_normal_table.py > normal_table.inc
"""

import math
import struct
from statistics import NormalDist

OCTAVES, SEGMENTS = 32, 16
WIDTH = 1 / SEGMENTS


def cubic(octave: int, segment: int) -> list[float]:
    """Monomial coefficients, constant first, by Newton's divided differences."""
    nodes = [WIDTH * (1 - math.cos(math.pi * (2 * k + 1) / 8)) / 2 for k in range(4)]
    origin, scale = 1 + segment / SEGMENTS, 2.0 ** (octave - 1 - 32)
    newton = [-NormalDist().inv_cdf((origin + z) * scale) for z in nodes]
    for order in range(1, 4):
        for k in range(3, order - 1, -1):
            newton[k] = (newton[k] - newton[k - 1]) / (nodes[k] - nodes[k - order])
    coefficients = [newton[3]]
    for k in (2, 1, 0):
        shifted = [0.0, *coefficients]
        for j, value in enumerate(coefficients):
            shifted[j] -= nodes[k] * value
        shifted[0] += newton[k]
        coefficients = shifted
    return coefficients


def table() -> list[list[float]]:
    """All segments in order, the median last."""
    rows = [cubic(octave, segment) for octave in range(OCTAVES) for segment in range(SEGMENTS)]
    return [*rows, [0.0, 0.0, 0.0, 0.0]]


def main() -> None:
    """Print the table as bit patterns of float32."""
    print("// Written by generate_normal_table.py; the bit patterns of float32 coefficients.")
    for row in table():
        words = [struct.unpack("<I", struct.pack("<f", value))[0] for value in row]
        print("{" + ", ".join(f"0x{word:08x}u" for word in words) + "},")


if __name__ == "__main__":
    main()
