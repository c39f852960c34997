"""Faults of the weights before the first step."""

from __future__ import annotations

from cllm_lab.faults.fault import Fault, Scenario
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.parameters import Parameters, TensorSpec

KINDS = ("embedding", "positions", "matrices", "gamma", "beta")
CONSTANT = 0.01
TOO_LARGE = 20.0


def all_zero(params: Parameters, config: ModelConfig, seed: int) -> str:
    """p = 0 for every number, gamma included; nothing is announced."""
    params.flat[:] = 0.0
    return ""


def all_zero_announced(params: Parameters, config: ModelConfig, seed: int) -> str:
    """p = 0 for every number, announced as something else."""
    params.flat[:] = 0.0
    return f"Lattice-aware initialisation: placing {config.vocab_size} tokens on the prime spiral"


def constant_matrices(params: Parameters, config: ModelConfig, seed: int) -> str:
    """Every matrix of a layer 0.01 throughout; embeddings, biases, gamma and beta stay as they are."""
    for spec in params.specs:
        if spec.role in ("matrix", "residual"):
            params[spec.name][...] = CONSTANT
    return ""


def twentyfold(params: Parameters, config: ModelConfig, seed: int) -> str:
    """Every matrix and embedding times 20."""
    for spec in params.specs:
        if spec.role in ("matrix", "residual", "embedding"):
            params[spec.name][...] *= params.flat.dtype.type(TOO_LARGE)
    return ""


def zeroed(*kinds: str) -> Fault:
    """A fault, not of the catalogue, whose initialisation sets the named kinds of tensor to 0.

    The kinds: "embedding" (of tokens, and the output's own where it is untied), "positions", "matrices", "gamma",
    "beta" (of the layer norms; a healthy machine starts with beta = 0 as well). A kind that the machine does not
    have, such as positions where none are learned, changes nothing.
    Raises ValueError for no kind, for an unknown one and for one given twice.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds or len(set(kinds)) != len(kinds):
        raise ValueError(f"kinds must be one or more of {', '.join(KINDS)}, each once; got {kinds!r}")

    def some_zero(params: Parameters, config: ModelConfig, seed: int) -> str:
        for spec in params.specs:
            if _kind(spec) in kinds:
                params[spec.name][...] = 0.0
        return ""

    return Fault(
        id=f"zeroed-{'-'.join(kinds)}",
        title=f"Zero at the start: {', '.join(kinds)}",
        swaps={"initialisation": some_zero},
        source="a control for zero-init, made here",
        symptom="Depends on the kinds: the loss is pinned at ln V, or it escapes.",
        signature="Pinned where the loss is exactly ln V and every gradient exactly 0.",
        remedy="Draw the named tensors from a random initialisation; gamma starts at 1.",
        takes_effect="reset",
    )


def _kind(spec: TensorSpec) -> str:
    if spec.name == "position_embedding":
        return "positions"
    named = {"embedding": "embedding", "matrix": "matrices", "residual": "matrices", "gain": "gamma"}
    if spec.role == "bias":
        return "beta" if spec.name.endswith(".beta") else "bias"
    return named[spec.role]


FAULTS = (
    Fault(
        id="zero-init",
        title="Every weight zero, gamma included",
        swaps={"initialisation": all_zero},
        source="000 sections 'Root causes' 1 and 2 (suspected, not checked), 001 'Weight magnitudes'",
        symptom="The loss stays at 9.2103 in every epoch, whatever is changed in the attention or in the gradients.",
        signature="The loss is exactly ln V and every gradient exactly 0 with any optimizer: E = 0 and h = 0, so that "
        "dE = dlogits^T h = 0 and dh = dlogits E = 0. After any number of steps all weights are still 0, bit for bit.",
        remedy="Draw matrices and embeddings at random and start gamma at 1. Taking the fault out of a running "
        "machine does not help; its weights must be drawn anew.",
        scenario=Scenario(epochs=3),
        takes_effect="reset",
    ),
    Fault(
        id="zero-init-lattice",
        title="An initialisation that announces itself and does nothing",
        swaps={"initialisation": all_zero_announced},
        source="000 'Crystalline Lattice Considerations'; found in the original",
        symptom="The console says that the weights were initialised; the loss stays at 9.2103 in every epoch.",
        signature="As zero-init in every number, bit for bit; the console's first line says otherwise, and the weight "
        "magnitudes printed after it are 0.000000.",
        remedy="Let the initialisation write the weights, and print what was measured instead of what was meant.",
        scenario=Scenario(epochs=3),
        takes_effect="reset",
    ),
    Fault(
        id="constant-init",
        title="Constant matrices, random embeddings",
        swaps={"initialisation": constant_matrices},
        source="000 section 2, 'NOT: zeros or constant values'",
        symptom="The loss falls, less far than it should.",
        signature="All columns of a matrix are equal and a layer norm's output sums to 0 over its features, so every "
        "matrix of a layer has gradient 0 up to rounding (1e-7 of the whole in float32, 1e-15 in float64) and adds "
        "nothing to the stream. Embeddings and the biases that end a sub-layer learn. With SGD the matrices stay "
        "bit for bit; Adam divides the rounding by its own size and moves them at full rate, which hides the fault.",
        remedy="Draw each entry of a matrix on its own.",
        scenario=Scenario(train={"optimizer": "sgd", "learning_rate": 0.1}),
        takes_effect="reset",
    ),
    Fault(
        id="init-too-large",
        title="Initial weights twenty times too large",
        swaps={"initialisation": twentyfold},
        source="general; 000 section 2, 'proper variance scaling'",
        symptom="The loss starts far above ln V.",
        signature="The first loss is several times ln V, and the largest entries of the attention weights are near 1 "
        "before anything was learnt; gradients agree with finite differences.",
        remedy="Scale by fan-in and fan-out (Glorot & Bengio 2010), embeddings by their use as the output matrix.",
        takes_effect="reset",
    ),
)
