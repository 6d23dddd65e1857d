// Firing magnitudes other than independent normals: part of kernels.cpp.

// -log(1 - Phi(z)) of standard normals, |z| < 9.
static inline F32 exponentials_of(F32 z) {
    const I32 segment = __builtin_convertvector(z * splat(16.0f) + splat(144.0f), I32);
    const F32 at = z - (__builtin_convertvector(segment, F32) * splat(0.0625f) - splat(9.0f));
    U32 c[4];
    load_rows(kExponentialTable, (U32)segment, c);
    return (((F32)c[3] * at + (F32)c[2]) * at + (F32)c[1]) * at + (F32)c[0];
}

// 2 to the power k, -126 <= k <= 127.
static inline F32 power_of_2(I32 k) { return (F32)((k + 127) << 23); }

// exp(x); what is not above -110 is taken for that, and what is above 90 for that.
static inline F32 exponential(F32 x) {
    x = x > splat(-110.0f) ? x : splat(-110.0f);
    x = x > splat(90.0f) ? splat(90.0f) : x;
    // Adding and subtracting 1.5 * 2**23 rounds to the nearest integer.
    const F32 shift = splat(12582912.0f);
    const F32 whole = (x * splat(kLog2E) + shift) - shift;
    const F32 r = (x - whole * splat(kLn2High)) - whole * splat(kLn2Low);
    F32 p = splat(kExp[4]);
    for (int k = 3; k >= 0; --k) p = p * r + splat(kExp[k]);
    const F32 y = (p * (r * r) + r) + splat(1.0f);
    const I32 power = __builtin_convertvector(whole, I32);
    const I32 half = power >> 1;
    return (y * power_of_2(half)) * power_of_2(power - half);
}

// Magnitudes of features. z: normals of their own words; shared: their samples' normals times the
// share that all features have in common.
[[gnu::noinline]] static F32 magnitudes_of(const Magnitudes& law, U32 feature, F32 z, F32 shared) {
    if (law.has(kSharedNormal)) z = shared + splat(law.own) * z;
    if (law.has(kExponentialLaw)) z = exponentials_of(z);
    float location[kVector], scale[kVector];
    for (int lane = 0; lane < kVector; ++lane) {
        location[lane] = law.parameter[feature[lane]][0];
        scale[lane] = law.parameter[feature[lane]][1];
    }
    const F32 x = load<F32>(location) + load<F32>(scale) * z;
    return law.has(kLogarithmicLaw) ? exponential(x) : x;
}
