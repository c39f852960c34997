"""Functions as a subject: what they give, what is refused, and that a bigram model reads healthy on every probe."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.clinic.subject import keeps_state, require_subject
from tests.clinic.subjects import WORDS, Bigram, bigram_batch


def made(model, **changes):
    given = {
        "params": model.params,
        "forward": model.forward,
        "gradients": model.gradients,
        "step": model.step,
    }
    return lab.adapt.functions(**(given | changes))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(3))
def test_a_bigram_model_reads_healthy_on_every_probe(seed, dtype):
    model = Bigram(dtype, seed)
    batch = bigram_batch(seed)
    model.step(*batch)
    before = model.bytes()
    subject = model.subject()
    assert lab.gradient_magnitude(subject, *batch).passed
    assert lab.weight_updates(subject, *batch).passed
    assert lab.loss_sensitivity(subject, *batch).passed
    assert lab.recomputed_loss(subject, *batch).agrees
    assert set(lab.gradient_fingerprint(subject, *batch).kinds.values()) == {"agrees"}
    attention = lab.proper_attention(subject, batch[0])
    assert (attention.own, attention.earlier, attention.later) == (5, 0, 0)
    assert model.bytes() == before


def test_it_hands_on_what_the_functions_give():
    model = Bigram()
    subject = made(model)
    require_subject(subject)
    inputs, targets = bigram_batch()
    assert subject.params is model.params
    assert np.array_equal(subject.forward(inputs).logits, model.forward(inputs))
    loss, grads = subject.gradients(inputs, targets)
    expected, gradients = model.gradients(inputs, targets)
    assert loss == subject.loss(inputs, targets) == expected
    assert all(np.array_equal(grads[name], gradients[name]) for name in gradients)
    before = model.params["U"].copy()
    subject.step(inputs, targets)
    assert not np.array_equal(model.params["U"], before)


def test_params_by_a_function_and_logits_in_an_object():
    model = Bigram(rebinds=True)
    subject = made(
        model,
        params=lambda: dict(model.params),
        forward=lambda inputs: SimpleNamespace(logits=model.forward(inputs)),
    )
    batch = bigram_batch()
    subject.step(*batch)
    assert subject.params["E"] is model.params["E"]
    assert subject.forward(batch[0]).logits.shape == (3, 5, WORDS)


def test_gradients_belong_to_the_caller():
    model = Bigram()
    kept = {name: np.zeros_like(array) for name, array in model.params.items()}

    def gradients(inputs, targets):
        loss, grads = model.gradients(inputs, targets)
        for name in kept:
            kept[name][...] = grads[name]
        return loss, kept

    subject = made(model, gradients=gradients)
    _, first = subject.gradients(*bigram_batch(0))
    expected = first["U"].copy()
    subject.gradients(*bigram_batch(1))
    assert np.array_equal(first["U"], expected)


def test_a_state_is_a_copy():
    model = Bigram()
    subject = model.subject()
    assert keeps_state(subject)
    state = subject.state()
    subject.step(*bigram_batch())
    assert not state["E"].any()
    subject.load_state(state)
    subject.step(*bigram_batch())
    assert not state["E"].any()
    assert not keeps_state(made(model))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"params": [1.0]}, TypeError, "params must be a mapping"),
        ({"params": {}}, ValueError, "params is empty"),
        ({"params": lambda: None}, TypeError, "params must be a mapping .* got NoneType"),
        ({"forward": 3}, TypeError, "forward must be a function; got int"),
        ({"gradients": None}, TypeError, "gradients must be a function; got NoneType"),
        ({"step": "step"}, TypeError, "step must be a function; got str"),
        ({"state": 3, "load_state": print}, TypeError, "state must be a function; got int"),
        ({"state": dict}, ValueError, "both state and load_state, or neither; load_state is missing"),
        ({"load_state": print}, ValueError, "or neither; state is missing"),
    ],
)
def test_arguments_that_cannot_work_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        made(Bigram(), **changes)


def test_names_and_shapes_that_differ_are_refused():
    model = Bigram()

    def other(change):
        def gradients(inputs, targets):
            loss, grads = model.gradients(inputs, targets)
            return loss, change(grads)

        return made(model, gradients=gradients)

    batch = bigram_batch()
    for subject in (other(lambda grads: {"E": grads["E"]}),):
        for use in (subject.gradients, subject.loss):
            with pytest.raises(ValueError, match="names of params, E, U; missing: U; unknown: none"):
                use(*batch)
    with pytest.raises(ValueError, match="missing: E; unknown: e"):
        other(lambda grads: {"e": grads["E"], "U": grads["U"]}).gradients(*batch)
    with pytest.raises(ValueError, match=r"gradient of 'U' must have .* \(4, 7\); got \(7, 4\)"):
        other(lambda grads: {**grads, "U": grads["U"].T}).gradients(*batch)
    with pytest.raises(ValueError, match="logits must have shape"):
        made(model, forward=lambda inputs: model.forward(inputs)[:, 0]).forward(batch[0])


PROGRAM = """
import sys
import numpy as np
import cllm_lab as lab
W = np.random.default_rng(0).normal(size=(5, 5))
def gradients(inputs, targets):
    p = np.exp(W[inputs])
    p /= p.sum(axis=-1, keepdims=True)
    dW = np.zeros_like(W)
    np.add.at(dW, inputs, (p - np.eye(5)[targets]) / targets.size)
    return -np.log((p * np.eye(5)[targets]).sum(axis=-1)).mean(), {"W": dW}
def step(inputs, targets):
    W[...] -= gradients(inputs, targets)[1]["W"]
written = lab.adapt.functions({"W": W}, lambda inputs: W[inputs], gradients, step)
corpus = lab.load_corpus("large")
config = lab.ModelConfig(vocab_size=corpus.vocab_size, d_model=4, n_heads=1, n_layers=1, d_ff=4)
model = lab.Transformer(config, parts=lab.parts.reference)
inputs, targets = np.random.default_rng(1).integers(0, 5, (2, 3, 4))
for subject in (written, lab.Trainer(model, corpus)):
    for probe in (lab.gradient_magnitude, lab.weight_updates, lab.loss_sensitivity, lab.recomputed_loss):
        repr(probe(subject, inputs, targets))
    repr(lab.gradient_fingerprint(subject, inputs, targets))
    repr(lab.proper_attention(subject, inputs))
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_the_probes_need_numpy_alone():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.split()) & {"numba", "matplotlib", "pandas", "scipy", "ipywidgets"}
