// Python's view of the core: NumPy arrays in, NumPy arrays out, the GIL released in between.
#include "bindings.hpp"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "bindings_sequence.hpp"
#include "dictionary.hpp"
#include "forest.hpp"
#include "kernels.hpp"
#include "sampler.hpp"
#include "screen.hpp"

namespace synthkern {

void bind_counts(py::module_& m);
void bind_map(py::module_& m);
void bind_pursuit(py::module_& m);
void bind_encode(py::module_& m);
void bind_select(py::module_& m);
void bind_noise(py::module_& m);

namespace {

// A forest with arrays of its own: what is checked here must not change later.
class BoundForest {
  public:
    BoundForest(int64_t num_features, const Array<int32_t>& nodes, const Array<int32_t>& parent) {
        constexpr int64_t most = std::numeric_limits<int32_t>::max();
        check_within(num_features, 0, most, "num_features");
        const int64_t count = parent.size();
        check_within(count, 0, most, "nodes");
        const int32_t* from = check(parent, "parent", {count});
        parent_.assign(from, from + count);
        nodes_.resize(size_t(count));
        const void* packed = check(nodes, "nodes", {count, sizeof(Node) / sizeof(int32_t)});
        if (count > 0) std::memcpy(nodes_.data(), packed, size_t(count) * sizeof(Node));
        view_.num_nodes = count;
        view_.num_features = num_features;
        view_.node = nodes_.data();
        view_.parent = parent_.data();
        for (int64_t k = 0; k < count; ++k) check_node(k);
        node_of_.assign(size_t(num_features), -1);
        for (int64_t k = 0; k < count; ++k) {
            check_children(k);
            add_node(k);
        }
        view_.node_of = node_of_.data();
    }
    BoundForest(const BoundForest&) = delete;

    const Forest& view() const { return view_; }

  private:
    // What follows indexes with these numbers and relies on parents coming first.
    void check_node(int64_t k) const {
        const Node& node = nodes_[size_t(k)];
        const auto within = [](int64_t x, int64_t low, int64_t high) {
            return x >= low && x <= high;
        };
        if (!within(node.feature, 0, view_.num_features - 1) ||
            !within(view_.parent[k], -1, k - 1) || !within(node.child_begin, 0, view_.num_nodes) ||
            !within(node.num_children, 0, view_.num_nodes - node.child_begin) ||
            !within(node.group(), -1, view_.num_nodes - 1))
            throw std::invalid_argument("forest has an index out of range at node " +
                                        std::to_string(k));
    }

    // So that no node is below two others, nor below itself.
    void check_children(int64_t k) const {
        const Node& node = nodes_[size_t(k)];
        for (int32_t c = node.child_begin; c < node.child_end(); ++c)
            if (view_.parent[c] != k)
                throw std::invalid_argument("forest must have parent " + std::to_string(k) +
                                            " at its child " + std::to_string(c) + ", got " +
                                            std::to_string(view_.parent[c]));
    }

    void add_node(int64_t k) {
        const int32_t feature = nodes_[size_t(k)].feature;
        int32_t& node = node_of_[size_t(feature)];
        if (node >= 0)
            throw std::invalid_argument("forest must have a feature in one node, got " +
                                        std::to_string(feature) + " in nodes " +
                                        std::to_string(node) + " and " + std::to_string(k));
        node = int32_t(k);
        if (view_.parent[k] >= 0) return;
        if (view_.num_roots != k)
            throw std::invalid_argument("forest must have its roots first, got one at " +
                                        std::to_string(k) + " behind others");
        ++view_.num_roots;
        view_.roots_grouped = view_.roots_grouped || nodes_[size_t(k)].group() >= 0;
    }

    std::vector<Node> nodes_;
    std::vector<int32_t> parent_, node_of_;
    Forest view_;
};

class BoundPlan {
  public:
    // Far beyond any use, and small enough for a sample's factors to be drawn at once.
    static constexpr int64_t kMostRank = 1 << 24;

    BoundPlan(Array<int32_t> columns, Array<float> factor, int64_t rank, bool triangular,
              Array<float> mean, const py::list& forests, const py::object& manifolds, int law,
              const std::optional<Array<float>>& parameters, float shared, float own,
              const py::object& sequence)
        : kept_{columns, factor, mean} {
        const int64_t n = mean.size();
        // Of a full correlation matrix the rows are read up to the diagonal.
        check_within(rank, triangular ? n : 0, triangular ? n : kMostRank, "rank");
        plan_.num_features = n;
        plan_.rank = rank;
        plan_.padded_rank = (rank + kLanes - 1) / kLanes * kLanes;
        plan_.triangular = triangular;
        plan_.row = reinterpret_cast<const uint32_t (*)[4]>(check(columns, "columns", {n, 4}));
        plan_.factor = check(factor, "factor", {n, plan_.padded_rank});
        plan_.mean = check(mean, "mean", {n});
        if (law != 0) bind_magnitudes(law, parameters, shared, own);
        for (const py::handle item : forests) {
            if (!py::isinstance<BoundForest>(item))
                throw py::type_error("forests must be a list of Forest, got " +
                                     std::string(py::str(py::type::of(item))));
            // The list may change later.
            kept_.push_back(py::reinterpret_borrow<py::object>(item));
            const Forest& forest = item.cast<const BoundForest&>().view();
            if (forest.num_features != n)
                throw std::invalid_argument("forests must be over " + std::to_string(n) +
                                            " features, got " +
                                            std::to_string(forest.num_features));
            later_.push_back(forest);
        }
        if (!later_.empty()) {
            plan_.forest = later_.front();
            later_.erase(later_.begin());
        }
        plan_.later = later_.data();
        plan_.num_later = int(later_.size());
        if (!manifolds.is_none()) bind_manifolds(manifolds.cast<py::tuple>());
        if (!sequence.is_none()) {
            if (!py::isinstance<BoundSequence>(sequence))
                throw py::type_error("sequence must be a Sequence or None, got " +
                                     std::string(py::str(py::type::of(sequence))));
            kept_.push_back(sequence);
            plan_.sequence = sequence.cast<const BoundSequence&>().view(n);
        }
        build_screen(plan_, tables_);
    }
    BoundPlan(const BoundPlan&) = delete;

    const Plan& view() const { return plan_; }

  private:
    // (leaders [M] int32 ascending, circles of each, what a circle gets of a magnitude, 1 + r and
    // 1 - r of the phases' concentration r).
    void bind_manifolds(const py::tuple& parts) {
        const int64_t n = plan_.num_features;
        const auto leaders = parts[0].cast<Array<int32_t>>();
        const int32_t* leader = check(leaders, "leaders", {leaders.size()});
        Manifolds& manifolds = plan_.manifolds;
        manifolds.dimension = parts[1].cast<int>();
        check_within(manifolds.dimension, 1, n / 2, "dimension");
        manifolds.part = parts[2].cast<float>();
        manifolds.high = parts[3].cast<float>();
        manifolds.low = parts[4].cast<float>();
        manifolds.uniform = manifolds.high == manifolds.low;
        is_leader_.assign(size_t(n), 0);
        const int64_t width = int64_t{2} * manifolds.dimension;
        int64_t next = 0;
        for (int64_t i = 0; i < leaders.size(); ++i) {
            check_within(leader[i], next, n - width, "leaders");
            next = leader[i] + width;
            is_leader_[size_t(leader[i])] = 1;
        }
        manifolds.is_leader = is_leader_.data();
    }

    void bind_magnitudes(int law, const std::optional<Array<float>>& parameters, float shared,
                         float own) {
        check_within(law, kOtherLaw, 2 * kSharedNormal - 1, "law");
        if (!parameters) throw std::invalid_argument("parameters must be given with a law");
        // So that no sum of two normals leaves the table.
        if (!(shared >= 0 && own >= 0 && shared * shared + own * own < 1.001f))
            throw std::invalid_argument("shared and own must have squares that add up to 1, got " +
                                        std::to_string(shared) + " and " + std::to_string(own));
        const float* from = check(*parameters, "parameters", {plan_.num_features, 2});
        plan_.magnitudes = {law, reinterpret_cast<const float (*)[2]>(from), shared, own};
        kept_.push_back(*parameters);
    }

    std::vector<py::object> kept_;
    std::vector<Forest> later_;
    std::vector<uint8_t> is_leader_;
    ScreenTables tables_;
    Plan plan_;
};

py::tuple bound_sample(const BoundPlan& bound, uint64_t seed, uint64_t start, int64_t count,
                       int threads, bool want_features, const std::optional<Array<float>>& vectors,
                       const std::optional<Array<float>>& bias,
                       const std::optional<Array<float>>& noise_std,
                       const std::optional<Array<float>>& noise_factor) {
    const Plan& plan = bound.view();
    check_at_least_0(count, "count");
    if (vectors.has_value() != bias.has_value())
        throw std::invalid_argument("vectors and bias must be given together");
    if (noise_std.has_value() != noise_factor.has_value() || (noise_std && !vectors))
        throw std::invalid_argument("noise must be given whole, with vectors");
    Hidden hidden{};
    Noise noise{};
    py::object out = py::none();
    if (vectors) {
        hidden.dim = bias->size();
        hidden.vectors = check(*vectors, "vectors", {plan.num_features, hidden.dim});
        hidden.bias = check(*bias, "bias", {hidden.dim});
        if (noise_std) {
            check(*noise_std, "noise std", {hidden.dim});
            noise = noise_of(*noise_std, *noise_factor);
            hidden.noise = &noise;
        }
        auto array = new_array<float>({count, hidden.dim});
        hidden.out = array.mutable_data();
        out = array;
    }
    std::vector<CsrChunk> chunks;
    if (want_features || hidden.dim > 0) {
        const ReleasedGil no_gil;
        chunks = sample(plan, seed, start, count, threads, want_features,
                        vectors ? &hidden : nullptr, kInterrupt);
    }
    if (!want_features) return py::make_tuple(py::none(), py::none(), py::none(), out);
    const auto [offsets, indices, values] = joined(chunks, count);
    return py::make_tuple(offsets, indices, values, out);
}

const float* means_of(const std::optional<Array<float>>& mean, const Forest& forest) {
    if (mean) return check(*mean, "mean", {forest.num_features});
    if (std::any_of(forest.node, forest.node + forest.num_nodes,
                    [](const Node& node) { return node.scaled(); }))
        throw std::invalid_argument("mean must be given where the forest scales");
    return nullptr;
}

template <class T>
Array<T> bound_apply_dense(const BoundForest& bound, const Array<T>& activations,
                           const std::optional<Array<float>>& mean, uint64_t seed, uint64_t start,
                           uint32_t ordinal, int threads) {
    const int64_t batch = rows_of(activations, "activations"), n = bound.view().num_features;
    const T* in = check(activations, "activations", {batch, n});
    const float* means = means_of(mean, bound.view());
    auto out = new_array<T>({batch, n});
    T* to = out.mutable_data();
    const ReleasedGil no_gil;
    apply_dense(bound.view(), in, to, batch, n, means, seed, start, ordinal, threads, kInterrupt);
    return out;
}

template <class T>
Array<T> bound_apply_sparse(const BoundForest& bound, const Array<int64_t>& offsets,
                            const Array<int32_t>& indices, const Array<T>& values,
                            const std::optional<Array<float>>& mean, uint64_t seed, uint64_t start,
                            uint32_t ordinal, int threads) {
    const int64_t n = bound.view().num_features;
    const Csr<T> csr = csr_of(offsets, indices, values, n);
    const float* means = means_of(mean, bound.view());
    Array<T> out(values.size());
    T* to = out.mutable_data();
    const ReleasedGil no_gil;
    std::copy(csr.values, csr.values + values.size(), to);
    apply_sparse(bound.view(), csr.offsets, csr.indices, to, csr.batch, means, seed, start, ordinal,
                 threads, kInterrupt);
    return out;
}

template <class T>
py::tuple bound_compress(const Array<T>& activations, int threads) {
    const int64_t batch = rows_of(activations, "activations"), n = activations.shape(1);
    std::vector<CsrPart<T>> parts;
    {
        const T* from = check(activations, "activations", {batch, n});
        const ReleasedGil no_gil;
        parts = compress(from, batch, n, threads, kInterrupt);
    }
    const auto [offsets, indices, values] = joined(parts, batch);
    return py::make_tuple(offsets, indices, values);
}

template <class T>
Array<T> bound_gather(const Array<int64_t>& offsets, const Array<int32_t>& indices,
                      const Array<T>& values, const Array<T>& vectors, const Array<T>& bias,
                      int threads) {
    const int64_t dim = bias.size(), n = rows_of(vectors, "vectors");
    const Csr<T> csr = csr_of(offsets, indices, values, n);
    const T* rows = check(vectors, "vectors", {n, dim});
    auto out = new_array<T>({csr.batch, dim});
    T* to = out.mutable_data();
    const T* from = check(bias, "bias", {dim});
    const ReleasedGil no_gil;
    gather(csr, rows, dim, from, to, threads, kInterrupt);
    return out;
}

template <class T>
Array<T> bound_grad_vectors(const Array<int64_t>& offsets, const Array<int32_t>& indices,
                            const Array<T>& values, int64_t num_features, const Array<T>& grad,
                            int threads) {
    check_within(num_features, 0, std::numeric_limits<int32_t>::max(), "num_features");
    const Csr<T> csr = csr_of(offsets, indices, values, num_features);
    rows_of(grad, "grad");
    const int64_t dim = grad.shape(1);
    const T* from = check(grad, "grad", {csr.batch, dim});
    auto out = new_array<T>({num_features, dim});
    T* to = out.mutable_data();
    const ReleasedGil no_gil;
    gather_grad_vectors(csr, from, dim, to, threads, kInterrupt);
    return out;
}

template <class T>
Array<T> bound_grad_values(const Array<int64_t>& offsets, const Array<int32_t>& indices,
                           const Array<T>& values, const Array<T>& vectors, const Array<T>& grad,
                           int threads) {
    const int64_t n = rows_of(vectors, "vectors"), dim = vectors.shape(1);
    const Csr<T> csr = csr_of(offsets, indices, values, n);
    const T* rows = check(vectors, "vectors", {n, dim});
    const T* from = check(grad, "grad", {csr.batch, dim});
    Array<T> out(values.size());
    T* to = out.mutable_data();
    const ReleasedGil no_gil;
    gather_grad_values(csr, rows, from, dim, to, threads, kInterrupt);
    return out;
}

// The coefficients of cubics, of which the core has the bits.
template <int segments>
Array<float> table_of(const uint32_t (&bits)[segments][4]) {
    Array<float> table(std::vector<py::ssize_t>{segments, 4});
    std::memcpy(table.mutable_data(), bits, sizeof(bits));
    return table;
}

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
    for (const Kernels* variant : available_kernels()) names.emplace_back(variant->name);
    return names;
}

template <class T>
void bind_typed(py::module_& m) {
    using namespace py::literals;
    m.def("apply_dense", &bound_apply_dense<T>, "forest"_a, "activations"_a.noconvert(),
          "mean"_a.none(true), "seed"_a, "start"_a, "ordinal"_a, "threads"_a);
    m.def("apply_sparse", &bound_apply_sparse<T>, "forest"_a, "offsets"_a, "indices"_a,
          "values"_a.noconvert(), "mean"_a.none(true), "seed"_a, "start"_a, "ordinal"_a,
          "threads"_a);
    m.def("compress", &bound_compress<T>, "activations"_a.noconvert(), "threads"_a);
    m.def("gather", &bound_gather<T>, "offsets"_a, "indices"_a, "values"_a.noconvert(),
          "vectors"_a.noconvert(), "bias"_a.noconvert(), "threads"_a);
    m.def("gather_grad_vectors", &bound_grad_vectors<T>, "offsets"_a, "indices"_a,
          "values"_a.noconvert(), "num_features"_a, "grad"_a.noconvert(), "threads"_a);
    m.def("gather_grad_values", &bound_grad_values<T>, "offsets"_a, "indices"_a,
          "values"_a.noconvert(), "vectors"_a.noconvert(), "grad"_a.noconvert(), "threads"_a);
}

}  // namespace

PYBIND11_MODULE(_core, m) {
    using namespace py::literals;
    py::class_<BoundForest>(m, "Forest")
        .def(py::init<int64_t, Array<int32_t>, Array<int32_t>>(), "num_features"_a,
             "nodes"_a.noconvert(), "parent"_a.noconvert());
    bind_sequence(m);
    py::class_<BoundPlan>(m, "Plan").def(
        py::init<Array<int32_t>, Array<float>, int64_t, bool, Array<float>, py::list, py::object,
                 int, std::optional<Array<float>>, float, float, py::object>(),
        "columns"_a.noconvert(), "factor"_a.noconvert(), "rank"_a, "triangular"_a,
        "mean"_a.noconvert(), "forests"_a, "manifolds"_a = py::none(), "law"_a = 0,
        "parameters"_a.noconvert().none(true) = py::none(), "shared"_a = 0.0f, "own"_a = 1.0f,
        "sequence"_a = py::none());
    m.def("sample", &bound_sample, "plan"_a, "seed"_a, "start"_a, "count"_a, "threads"_a,
          "want_features"_a, "vectors"_a.noconvert().none(true), "bias"_a.noconvert().none(true),
          "noise_std"_a.noconvert().none(true) = py::none(),
          "noise_factor"_a.noconvert().none(true) = py::none());
    bind_typed<float>(m);
    bind_typed<double>(m);
    bind_counts(m);
    bind_map(m);
    bind_pursuit(m);
    bind_encode(m);
    bind_select(m);
    bind_noise(m);
    m.def("normal_table", [] { return table_of(kNormalTable); });
    m.def("exponential_table", [] { return table_of(kExponentialTable); });
    m.def(
        "philox4x32",
        [](std::array<uint32_t, 4> c, std::array<uint32_t, 2> k) {
            const Words out = philox4x32({{c[0], c[1], c[2], c[3]}}, {k[0], k[1]});
            return std::array<uint32_t, 4>{out.w[0], out.w[1], out.w[2], out.w[3]};
        },
        "counter"_a, "key"_a);
    m.def("instruction_sets", &instruction_sets);
    m.def("instruction_set", [] { return std::string(kernels().name); });
    m.def("choose_instruction_set", &choose_kernels, "name"_a);
}

}  // namespace synthkern
