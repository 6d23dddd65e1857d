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

**Magnitude.** ``max(0, mean + std * normal(w1))``. With another distribution, or a correlation
c > 0 of magnitudes, ``G(location + scale * H(z))``, clipped at 0, where ``z = normal(w1)``, or with
c > 0 ``z = shared * normal(w0 of block(MAGNITUDE, 0, index)) + own * normal(w1)``, with float32's
``shared = sqrt(c)`` and ``own = sqrt(1 - c)``. H is z itself for the normal and the lognormal
distribution, and ``exponential_of(z)`` for the exponential and Pareto's; G is the number itself for
the normal and the exponential, and ``exponential`` for the two others. Location and scale (see
:mod:`synthkern.world.magnitude_distribution`) are computed in float64 and rounded to float32.

``exponential_of(z)`` is an exponential variable, -log(1 - Phi(z))::

    i = int(z * 16 + 144)                         # 16 segments a unit from -9 on, 288 in all
    f = z - (float32(i) / 16 - 9)
    exponential_of = ((c3[i] * f + c2[i]) * f + c1[i]) * f + c0[i]

with the cubics of ``csrc/exponential_table.inc``. Against the exact value the error is below
1.5 units in the last place for z >= -2, and below 3.9e-5 of the value for all z, where values are
below 0.023. ``exponential(x)`` is exp, within 1 unit in the last place::

    x = min(max(x, -110), 90)
    k = (x * log2e + 1.5 * 2**23) - 1.5 * 2**23   # the nearest integer
    r = (x - k * ln2_high) - k * ln2_low
    p = (((e4 * r + e3) * r + e2) * r + e1) * r + e0
    y = (p * (r * r) + r) + 1
    exponential = (y * 2**floor(k / 2)) * 2**(k - floor(k / 2))

with the constants of :mod:`synthkern.stream.magnitudes`.

**Hierarchy.** From the top down: a feature whose gate (nearest ancestor with a feature) is not
above zero becomes 0; a scaled one is ``value * (gate value / gate mean)``; of the members of an
exclusive group that are above zero the one with the largest priority stays, a tie going to
the lowest node, and the others become 0. The priority of feature j in the first forest of a
plan is the 64-bit number ``(w2 << 32) + w3`` of its own words; in forest number m > 0, and
wherever a forest is applied to given activations, ``(w0 << 32) + w1`` of
``block(EXCLUSION + m, j, index)``.

**Manifolds.** A manifold of k circles is 2k successive features j ... j + 2k - 1, of which j alone
fires. After all forests, where feature j has a value m above 0, features j + 2c and j + 2c + 1
have ``n * x`` and ``n * y``, with ``n = m`` for k = 1 and ``n = m * float32(1 / sqrt(k))`` for
more, and (x, y) a point of the unit circle by the word u, ``w[c mod 4]`` of
``block(PHASE, j + c div 4, index)`` (with sequences, at feature j's held index): ``point(u)``, or,
where float32(1 + r) and float32(1 - r) differ for a concentration r, its image under the Moebius
map ``z -> (z + r) / (1 + r z)``, which half angles make without cancellation::

    point(u): q = (u + 2**29) >> 30               # the nearest quarter turn
        x = float32(u - (q << 30)) * 0x1.921fb6p-30     # radians in [-pi/4, pi/4)
        t = x * x
        s = x + x * t * ((S2 * t + S1) * t + S0)
        c = 1 - t * (0.5 - t * ((C2 * t + C1) * t + C0))
        (c, s), (-s, c), (-c, -s) or (s, -c) as q mod 4 is 0, 1, 2 or 3

    under a concentration: c, s = point(u >> 1)
        a = c * float32(1 + r);  b = s * float32(1 - r)
        x = (a * a - b * b) / (a * a + b * b);  y = (a * b + a * b) / (a * a + b * b)

with S and C of :mod:`synthkern.stream.circle`. ``point`` is within 1.3e-7 of cosine and sine. The
phase with a concentration is wrapped Cauchy: E[cos(n phi)] = r**n.

**Sequences.** With sequences of length T, sample i is position t = i mod T of sequence
s = i div T. Feature j has the words w[2 (j mod 2)] and w[2 (j mod 2) + 1] of
``block(SCHEDULE, j div 2, s)``, factor k likewise those of ``block(SCHEDULE, 2**31 + k div 2,
s)``. With the element's persistence rho they become its age A at position 0 and its residual
life B: the number of n in 1 ... T for which the word is below ``floor(rho**n * 2**32 + 1/2)``,
rho**n being a product of float64 from the left. Its *held index* is
``i - min(t, (t + A) mod (A + B + 1))``, and all of a feature's words (its byte and its own four)
and a factor's normal are those of the blocks at the held index in place of the sample's index.
What forests after the first draw stays at the sample's own.

*Why*: A and B are geometric, P(A >= n) = rho**n, and independent, so that given their sum A is
uniform on 0 ... A + B: renewals come A + B + 1 positions apart and begin at a uniform phase, which
is a stationary renewal process. Its intervals are of length l with probability
l rho**(l - 1) (1 - rho)**2 (as seen from a position, hence l times as likely), and no renewal
falls into k positions with probability sum over l > k of (1 - k / l) of these, which is rho**k.
The renewals do not depend on what is drawn at them, so that nothing that is drawn at one position
is distributed otherwise than without sequences, position 0 is the sample without sequences of its
index, and so is everything with rho = 0; with rho = 1 nothing is ever renewed within a sequence.
A and B beyond T would give the same held indices as T.

**Hidden activations.** Component d is ``h = bias[d]``, then ``h = fma(value_j, vector[j, d], h)``
over the features j with a value other than 0, ascending.

**Noise** in hidden activations, of a factor U [r, D] and deviations std [D]: component d goes on
as ``h = fma(U[k, d], z_k, h)`` over the noise factors k, ascending, with ``z_k = normal(w[k mod
4])`` of ``block(NOISE_FACTOR, k div 4, index)``, then ``h = fma(std[d], normal(w[d mod 4]), h)`` of
``block(NOISE, d div 4, index)``. Noise has covariance U^T U + diag(std^2). Where hidden activations
are of float64, so is the fma, of the same float32 numbers; where they are of float16 or bfloat16,
they are rounded to that last.

**Views.** A further view's hidden activations are made of the same features by its own vectors and
bias. Output k of a map is ``s - theta_k`` where that is above 0, with ``s = 0``, then
``s = fma(W[j, k], value_j, s)`` over the features j with a value other than 0 that have an edge to
k, ascending; the hidden activations of outputs are made as those of features.
"""

from synthkern.stream.magnitudes import exponential, exponential_of, exponential_table
from synthkern.stream.philox import philox4x32
from synthkern.stream.words import (
    COARSE,
    EXCLUSION,
    FACTOR,
    FEATURE,
    MAGNITUDE,
    NOISE,
    NOISE_FACTOR,
    PHASE,
    SCHEDULE,
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
    "MAGNITUDE",
    "NOISE",
    "NOISE_FACTOR",
    "PHASE",
    "SCHEDULE",
    "STREAM_VERSION",
    "coarse_bytes",
    "exponential",
    "exponential_of",
    "exponential_table",
    "feature_words",
    "fresh_seed",
    "normal",
    "normal_table",
    "philox4x32",
    "priority_words",
    "share_of_words",
    "stream_position",
]
