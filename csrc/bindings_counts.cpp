#include "bindings.hpp"
#include "counts.hpp"

namespace synthkern {
namespace {

void bound_count_fires(const Array<int64_t>& latent_offsets, const Array<int32_t>& latent_indices,
                       const Array<int64_t>& feature_offsets, const Array<int32_t>& feature_indices,
                       const Array<int32_t>& matched, Array<int64_t>& fires, Array<int64_t>& hits,
                       Array<int64_t>& feature_fires, int threads) {
    const int64_t num_latents = matched.size(), num_features = feature_fires.size();
    check_entries(latent_offsets, latent_indices, num_latents);
    check_entries(feature_offsets, feature_indices, num_features);
    const int32_t* of = check(matched, "matched", {num_latents});
    const auto outside = [=](int32_t j) { return j < 0 || j >= num_features; };
    if (std::any_of(of, of + num_latents, outside))
        throw std::invalid_argument("matched must be in [0, " + std::to_string(num_features) + ")");
    check(feature_offsets, "feature_offsets", {latent_offsets.size()});
    check(fires, "fires", {num_latents});
    check(hits, "hits", {num_latents});
    check(feature_fires, "feature_fires", {num_features});
    const CsrPlaces latents{latent_offsets.data(), latent_indices.data(), num_latents};
    const CsrPlaces features{feature_offsets.data(), feature_indices.data(), num_features};
    const FiringCounts counts{fires.mutable_data(), hits.mutable_data(),
                              feature_fires.mutable_data()};
    const int64_t batch = latent_offsets.size() - 1;
    const ReleasedGil no_gil;
    count_fires(latents, features, batch, of, counts, threads, kInterrupt);
}

}  // namespace

void bind_counts(py::module_& m) {
    using namespace py::literals;
    m.def("count_fires", &bound_count_fires, "latent_offsets"_a.noconvert(),
          "latent_indices"_a.noconvert(), "feature_offsets"_a.noconvert(),
          "feature_indices"_a.noconvert(), "matched"_a.noconvert(), "fires"_a.noconvert(),
          "hits"_a.noconvert(), "feature_fires"_a.noconvert(), "threads"_a);
}

}  // namespace synthkern
