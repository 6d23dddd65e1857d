"""The stream, version 1: how a sample follows from (plan, seed, sample index).

This docstring defines it; :mod:`synthkern.engine.reference` follows it step by step in plain
PyTorch, and every other backend gives the same bits. A change of anything below is a new
:data:`STREAM_VERSION`.

**Arithmetic.** float32 throughout, each operation rounded on its own to nearest even (IEEE 754)
in the order written, no contraction; ``fma`` is one fused multiply-add with a single rounding.
Integers are unsigned and wrap.

**Words.** ``block(purpose, element, index)`` is Philox4x32-10 (Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3", SC 2011) with key ``(seed mod 2**32, seed div 2**32)`` and counter
``(element, purpose, index mod 2**32, index div 2**32)``: four 32-bit words w0 ... w3. ``index``
is the sample's index in [0, 2**64).

**Normals.** ``normal(u)`` turns a 32-bit word into a standard normal that grows with u::

    m = u if u < 2**31 else 2**32 - 1 - u         # distance from the nearer end
    f = float32(m) + 0.5                          # in [0.5, 2**31]
    i = (bits(f) - bits(0.5)) >> 19               # 16 segments an octave, 513 in all
    z = float((bits(f) & 0x7ffff) | bits(1)) - 1  # place within the segment, [0, 1/16)
    x = ((c3[i] * z + c2[i]) * z + c1[i]) * z + c0[i]
    normal = -x if u < 2**31 else x

with the table ``csrc/normal_table.inc`` (:func:`normal_table`), cubics that interpolate
``-Phi^-1(f / 2**32)``. Against Phi^-1((u + 1/2) / 2**32) the error is below 4.8e-7 for every u
(half a unit in the last place at 6 sigma is 2.4e-7); the tails end at +-6.33796, the inverse of
probability 2**-33. Where two cubics meet, 14 words in all are above their successor, by 2.4e-7
at most.

**Factors** (copula only). Factor k of a sample is ``normal(w[k mod 4])`` of
``block(FACTOR, k div 4, index)``.

**A feature's words.** Feature j has a byte, ``(w[(j mod 16) div 4] >> (8 * (j mod 4))) mod 256``
of ``block(COARSE, j div 16, index)``, so that one block serves a first look at sixteen features,
and four words of its own, ``block(FEATURE, j, index)``.

**Firing.** Independent: feature j fires where ``(byte << 32) + w0`` is below
``floor(p * 2**40 + 1/2)``. Copula: it fires where ``s + noise * normal((byte << 24) + (w0 >> 8))``
exceeds ``Phi^-1(1 - p)``, with ``noise`` the square root of the feature's unique variance and
``s`` the product of its loadings with the factors: eight partial sums, sum l over the factors
l, l + 8, l + 16, ... in ascending order, each ``sum = sum + loading * factor`` from zero, then
``((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7))``. A full correlation matrix is its Cholesky
factor with noise 0 and as many factors as features.

**Magnitude.** ``max(0, mean + std * normal(w1))``.

**Hierarchy.** From the top down: a feature whose gate (nearest ancestor with a feature) is not
above zero becomes 0; a scaled one is ``value * (gate value / gate mean)``; of the members of an
exclusive group that are above zero the one with the largest priority stays, a tie going to
the lowest node, and the others become 0. The priority of feature j in the first forest of a
plan is the 64-bit number ``(w2 << 32) + w3`` of its own words; in forest number m > 0, and
wherever a forest is applied to given activations, ``(w0 << 32) + w1`` of
``block(EXCLUSION + m, j, index)``.

**Hidden activations.** Component d is ``h = bias[d]``, then ``h = fma(value_j, vector[j, d], h)``
over the features j with a value other than 0, ascending.

**Views.** A further view's hidden activations are made of the same features by its own vectors and
bias. Output k of a map is ``s - theta_k`` where that is above 0, with ``s = 0``, then
``s = fma(W[j, k], value_j, s)`` over the features j with a value other than 0 that have an edge to
k, ascending; the hidden activations of outputs are made as those of features.
"""

from synthkern.stream.philox import philox4x32
from synthkern.stream.words import (
    COARSE,
    EXCLUSION,
    FACTOR,
    FEATURE,
    coarse_bytes,
    feature_words,
    fresh_seed,
    normal,
    normal_table,
    priority_words,
    share_of_words,
    stream_position,
)

#: Version of the definition above; outputs that outlive a process record it.
STREAM_VERSION = 1

__all__ = [
    "COARSE",
    "EXCLUSION",
    "FACTOR",
    "FEATURE",
    "STREAM_VERSION",
    "coarse_bytes",
    "feature_words",
    "fresh_seed",
    "normal",
    "normal_table",
    "philox4x32",
    "priority_words",
    "share_of_words",
    "stream_position",
]
