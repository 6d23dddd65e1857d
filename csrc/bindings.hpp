// What every binding needs: arrays and their checks, the GIL let go of, Ctrl-C.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "blocks.hpp"
#include "dictionary.hpp"
#include "noise.hpp"
#include "parallel.hpp"

namespace synthkern {

namespace py = pybind11;

template <class T>
using Array = py::array_t<T, py::array::c_style>;

template <class T>
const T* check(const Array<T>& array, const char* name, std::vector<int64_t> shape) {
    bool same = array.ndim() == int(shape.size());
    for (size_t k = 0; same && k < shape.size(); ++k) same = array.shape(int(k)) == shape[k];
    if (same && (array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) == 0)
        throw std::invalid_argument(std::string(name) + " must be aligned in memory");
    if (same) return array.data();
    const auto text = [](const auto& sizes, size_t count) {
        std::string list = "[";
        for (size_t k = 0; k < count; ++k)
            list += (k ? ", " : "") + std::to_string(int64_t(sizes[k]));
        return list + "]";
    };
    throw std::invalid_argument(std::string(name) + " must have shape " +
                                text(shape, shape.size()) + ", got " +
                                text(array.shape(), size_t(array.ndim())));
}

template <class T>
int64_t rows_of(const Array<T>& matrix, const char* name) {
    if (matrix.ndim() == 2) return matrix.shape(0);
    throw std::invalid_argument(std::string(name) + " must have two dimensions, got " +
                                std::to_string(matrix.ndim()));
}

inline void check_within(int64_t number, int64_t low, int64_t high, const char* name) {
    if (number < low || number > high)
        throw std::invalid_argument(std::string(name) + " must be in [" + std::to_string(low) +
                                    ", " + std::to_string(high) + "], got " +
                                    std::to_string(number));
}

inline void check_at_least_0(int64_t number, const char* name) {
    if (number < 0)
        throw std::invalid_argument(std::string(name) + " must be at least 0, got " +
                                    std::to_string(number));
}

// The GIL let go of. Unlike pybind11's own, this lets Python end a daemon thread that wants the GIL
// back while the interpreter shuts down: that unwinds through here.
class ReleasedGil {
  public:
    ReleasedGil() : state_(PyEval_SaveThread()) {}
    ~ReleasedGil() noexcept(false) { PyEval_RestoreThread(state_); }
    ReleasedGil(const ReleasedGil&) = delete;

  private:
    PyThreadState* state_;
};

// Ctrl-C ends a long call. Python handles signals on its main thread, and others must not wait for
// the GIL only to find nothing.
inline void raise_if_interrupted() {
    if (getpid() != syscall(SYS_gettid)) return;
    const py::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

inline const Interrupt kInterrupt = raise_if_interrupted;

// Which entries B samples of num_features features have, without their values.
inline void check_entries(const Array<int64_t>& offsets, const Array<int32_t>& indices,
                          int64_t num_features) {
    const int64_t nnz = indices.size(), batch = offsets.size() - 1;
    const int64_t* begin = check(offsets, "offsets", {batch + 1});
    const int32_t* first = check(indices, "indices", {nnz});
    if (batch < 0 || begin[0] != 0 || begin[batch] != nnz ||
        !std::is_sorted(begin, begin + batch + 1))
        throw std::invalid_argument("offsets must ascend from 0 to " + std::to_string(nnz));
    const auto outside = [=](int32_t j) { return j < 0 || j >= num_features; };
    const int32_t* bad = std::find_if(first, first + nnz, outside);
    if (bad != first + nnz)
        throw std::invalid_argument("indices must be in [0, " + std::to_string(num_features) +
                                    "), got " + std::to_string(*bad) + " at [" +
                                    std::to_string(bad - first) + "]");
}

// A new array, its numbers not set.
template <class T>
Array<T> new_array(std::vector<py::ssize_t> shape) {
    size_t bytes = sizeof(T);
    for (const py::ssize_t size : shape) bytes *= size_t(size);
    if (bytes < kKeptFrom) return Array<T>(shape);
    struct Owned {
        void* data;
        size_t bytes;
    };
    auto* owned = new Owned{take_block(bytes), bytes};
    const py::capsule owner(owned, [](void* pointer) {
        const auto* block = static_cast<Owned*>(pointer);
        give_block(block->data, block->bytes);
        delete block;
    });
    return Array<T>(shape, static_cast<T*>(owned->data), owner);
}

template <class X>
Array<X> array_of(const std::vector<X>& from) {
    return Array<X>(py::ssize_t(from.size()), from.data());
}

template <class T>
Csr<T> csr_of(const Array<int64_t>& offsets, const Array<int32_t>& indices, const Array<T>& values,
              int64_t num_features) {
    check_entries(offsets, indices, num_features);
    return {offsets.data(), indices.data(), check(values, "values", {indices.size()}),
            offsets.size() - 1, num_features};
}

inline Noise noise_of(const Array<float>& std, const Array<float>& factor) {
    const int64_t dim = std.size(), rank = rows_of(factor, "noise factor");
    return {check(std, "noise std", {dim}), check(factor, "noise factor", {rank, dim}), rank, dim};
}

// All parts as one; they are emptied, so that no more than one copy and a part are held.
template <class T>
std::tuple<Array<int64_t>, Array<int32_t>, Array<T>> joined(std::vector<CsrPart<T>>& parts,
                                                            int64_t batch) {
    int64_t nnz = 0;
    for (const CsrPart<T>& part : parts) nnz += int64_t(part.indices.size());
    Array<int64_t> offsets(batch + 1);
    Array<int32_t> indices(nnz);
    Array<T> values(nnz);
    int64_t *next = offsets.mutable_data(), at = 0;
    *next = 0;
    for (CsrPart<T>& part : parts) {
        for (const int64_t size : part.counts) {
            next[1] = next[0] + size;
            ++next;
        }
        std::copy(part.indices.begin(), part.indices.end(), indices.mutable_data() + at);
        std::copy(part.values.begin(), part.values.end(), values.mutable_data() + at);
        at += int64_t(part.indices.size());
        part = CsrPart<T>();
    }
    return {offsets, indices, values};
}

}  // namespace synthkern
