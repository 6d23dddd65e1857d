"""Write the tables of the stream's transforms, cubics over short segments.

The tables are part of the stream's definition (see synthkern/stream/__init__.py), so they are
kept in the repository; tests recompute them. A cubic interpolates its function at the four
Chebyshev nodes of the segment, in the distance from the segment's beginning.

``normal`` turns 32 bits into a normal. Segment i covers f in 2**(i // 16 - 1) * [1 + (i % 16) / 16,
1 + (i % 16 + 1) / 16); its cubic in z = f / 2**(i // 16 - 1) - 1 - (i % 16) / 16 is of minus the
inverse normal distribution function of f / 2**32. The last segment is the single point f = 2**31,
the median.

``exponential`` turns a normal into an exponential variable. Segment i covers z in
-9 + [i, i + 1) / 16; its cubic in z + 9 - i / 16 is of -log(1 - Phi(z)).

Usage: python generate_tables.py normal > normal_table.inc
       python generate_tables.py exponential > exponential_table.inc
"""

import math
import struct
import sys
from collections.abc import Callable
from statistics import NormalDist

OCTAVES, SEGMENTS = 32, 16
WIDTH = 1 / SEGMENTS
#: Beyond it no normal of the stream reaches, nor a sum of two: sqrt(2) * 6.338 = 8.963.
END = 9


def cubic(function: Callable[[float], float]) -> list[float]:
    """Monomial coefficients on [0, WIDTH], constant first, by Newton's divided differences."""
    nodes = [WIDTH * (1 - math.cos(math.pi * (2 * k + 1) / 8)) / 2 for k in range(4)]
    newton = [function(z) for z in nodes]
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


def normal_cubic(octave: int, segment: int) -> list[float]:
    """One segment of the transform to normals."""
    origin, scale = 1 + segment / SEGMENTS, 2.0 ** (octave - 1 - 32)
    return cubic(lambda z: -NormalDist().inv_cdf((origin + z) * scale))


def exponential_of(z: float) -> float:
    """-log(1 - Phi(z)), to a float64's last digits on either side."""
    tail = math.erfc(abs(z) / math.sqrt(2)) / 2
    return -math.log1p(-tail) if z < 0 else -math.log(tail)


def exponential_cubic(segment: int) -> list[float]:
    """One segment of the transform to exponential variables."""
    return cubic(lambda z: exponential_of(segment / SEGMENTS - END + z))


def normal_table() -> list[list[float]]:
    """All segments in order, the median last."""
    rows = [normal_cubic(i, segment) for i in range(OCTAVES) for segment in range(SEGMENTS)]
    return [*rows, [0.0, 0.0, 0.0, 0.0]]


def exponential_table() -> list[list[float]]:
    """All segments in order."""
    return [exponential_cubic(segment) for segment in range(2 * END * SEGMENTS)]


TABLES = {"normal": normal_table, "exponential": exponential_table}


def main(name: str) -> None:
    """Print a table as bit patterns of float32."""
    print("// Written by generate_tables.py; the bit patterns of float32 coefficients.")
    for row in TABLES[name]():
        words = [struct.unpack("<I", struct.pack("<f", value))[0] for value in row]
        print("{" + ", ".join(f"0x{word:08x}u" for word in words) + "},")


if __name__ == "__main__":
    main(sys.argv[1])
