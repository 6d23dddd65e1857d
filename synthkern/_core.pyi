"""Types of the C++ core."""

from typing import Any

class Forest:
    """A forest over num_features features."""

    def __init__(self, num_features: int, nodes: Any, parent: Any) -> None: ...

class Sequence:
    """How long words are held along sequences."""

    def __init__(
        self,
        length: int,
        laws: Any,
        threshold: Any,
        persistence: Any,
        law_of: Any,
        factor_law: int,
    ) -> None: ...

class Plan:
    """A compiled world."""

    def __init__(
        self,
        columns: Any,
        factor: Any,
        rank: int,
        triangular: bool,
        mean: Any,
        forests: list[Forest],
        manifolds: tuple[Any, ...] | None = None,
        law: int = 0,
        parameters: Any = None,
        shared: float = 0.0,
        own: float = 1.0,
        sequence: Sequence | None = None,
    ) -> None: ...

def sample(
    plan: Plan,
    seed: int,
    start: int,
    count: int,
    threads: int,
    want_features: bool,
    vectors: Any,
    bias: Any,
    noise_std: Any = None,
    noise_factor: Any = None,
) -> tuple[Any, Any, Any, Any]: ...
def add_noise(hidden: Any, std: Any, factor: Any, seed: int, start: int, threads: int) -> None: ...
def apply_dense(
    forest: Forest, activations: Any, mean: Any, seed: int, start: int, ordinal: int, threads: int
) -> Any: ...
def apply_sparse(
    forest: Forest,
    offsets: Any,
    indices: Any,
    values: Any,
    mean: Any,
    seed: int,
    start: int,
    ordinal: int,
    threads: int,
) -> Any: ...
def compress(activations: Any, threads: int) -> tuple[Any, Any, Any]: ...
def gather(
    offsets: Any, indices: Any, values: Any, vectors: Any, bias: Any, threads: int
) -> Any: ...
def gather_grad_vectors(
    offsets: Any, indices: Any, values: Any, num_features: int, grad: Any, threads: int
) -> Any: ...
def gather_grad_values(
    offsets: Any, indices: Any, values: Any, vectors: Any, grad: Any, threads: int
) -> Any: ...
def apply_map(
    offsets: Any,
    indices: Any,
    values: Any,
    edge_offsets: Any,
    edge_outputs: Any,
    weights: Any,
    thresholds: Any,
    threads: int,
) -> tuple[Any, Any, Any]: ...
def count_fires(
    latent_offsets: Any,
    latent_indices: Any,
    feature_offsets: Any,
    feature_indices: Any,
    matched: Any,
    fires: Any,
    hits: Any,
    feature_fires: Any,
    threads: int,
) -> None: ...
def select_topk(
    pre: Any, scale: Any, k: int, positive: bool, magnitude: bool, threads: int
) -> tuple[Any, Any, Any]: ...
def select_batch_topk(
    pre: Any, scale: Any, count: int, positive: bool, threads: int
) -> tuple[Any, Any, Any]: ...
def select_above(pre: Any, bounds: Any, threads: int) -> tuple[Any, Any, Any]: ...
def has_codes() -> bool: ...
def encode_topk(
    inputs: Any,
    vectors: Any,
    bias: Any,
    scale: Any,
    k: int,
    positive: bool,
    magnitude: bool,
    most: float,
    threads: int,
) -> tuple[Any, Any, Any] | None: ...
def encode_batch_topk(
    inputs: Any,
    vectors: Any,
    bias: Any,
    scale: Any,
    count: int,
    positive: bool,
    most: float,
    threads: int,
) -> tuple[Any, Any, Any] | None: ...
def encode_above(
    inputs: Any, vectors: Any, bias: Any, bounds: Any, most: float, threads: int
) -> tuple[Any, Any, Any] | None: ...
def pursue(
    input: Any,
    vectors: Any,
    gram: Any,
    correlations: Any,
    residual_threshold: float,
    iterations: int,
    stop_on_repeat: bool,
    threads: int,
) -> tuple[Any, Any, Any]: ...
def pursue_grad(
    input: Any, vectors: Any, offsets: Any, indices: Any, values: Any, grad: Any, threads: int
) -> tuple[Any, Any]: ...
def normal_table() -> Any: ...
def exponential_table() -> Any: ...
def philox4x32(counter: list[int], key: list[int]) -> list[int]: ...
def instruction_sets() -> list[str]: ...
def instruction_set() -> str: ...
def choose_instruction_set(name: str) -> None: ...
