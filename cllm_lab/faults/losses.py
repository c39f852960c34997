"""Faults of the loss: the gradient of another loss, a loss of something else, a wrong sign or factor.

B batch, T positions, V vocabulary; E the token embedding, h the final hidden states, z the logits.
"""

from __future__ import annotations

import numpy as np

from cllm_lab import lattice
from cllm_lab.faults.fault import Fault, Scenario
from cllm_lab.model.activations import Site
from cllm_lab.model.parameters import Array
from cllm_lab.model.parts import Part, PartEdit
from cllm_lab.model.transformer import Pass

LOWEST_LIKENESS = 1e-10


def mse_gradient_backward(site: Site) -> tuple[Array | None, Array | None]:
    """dh = 2 (h - E[target]) / (B T); nothing for the logits, nothing for E[target]."""
    targets = site.run.targets
    h = site.run.root.child("final_hidden").saved["output"]
    return None, (h - site.params["token_embedding"][targets]) * h.dtype.type(2.0 / targets.size)


def mse_forward(logits: Array, site: Site) -> float:
    """L = mean over b, t of sum_d (h - E[target])^2; the logits take no part."""
    h = site.run.root.child("final_hidden").saved["output"]
    difference = h - site.params["token_embedding"][site.run.targets]
    site.saved["difference"] = difference
    return float(np.square(difference, dtype=np.float64).sum(axis=-1).mean())


def mse_backward(site: Site) -> tuple[Array | None, Array | None]:
    """dh = 2 (h - E[target]) / (B T);  dE[target] -= dh; nothing for the logits."""
    targets, difference = site.run.targets, site.saved["difference"]
    dh = difference * difference.dtype.type(2.0 / targets.size)
    np.subtract.at(site.gradient_accumulator("token_embedding"), targets, dh)
    return None, dh


def loss_from_ids(loss: float, training_pass: Pass) -> float:
    """Mean over b, t of -ln max(1e-10, 0.7 gcd(a, b) / max(a, b) + 0.3 / (1 + |s(a) - s(b)|)).

    a = token + 1 and b = target + 1; s(n) = (sqrt(n) cos(g n), sqrt(n) sin(g n), ln(n + 1)) with the golden
    angle g = 2 pi / phi^2 is a place on a spiral. No parameter occurs in it.
    """
    a, b = training_pass.run.tokens.astype(np.int64) + 1, training_pass.run.targets.astype(np.int64) + 1
    distance = np.linalg.norm(lattice.spiral_position(a) - lattice.spiral_position(b), axis=-1)
    likeness = 0.7 * lattice.gcd_over_max(a, b) + 0.3 / (1.0 + distance)
    return float(-np.log(np.maximum(LOWEST_LIKENESS, likeness)).mean())


def embedding_similarity_forward(logits: Array, site: Site) -> float:
    """L = mean over b, t of -ln max(1e-10, E[token] . E[target]); the layers take no part."""
    E = site.params["token_embedding"]
    similarity = np.einsum("btc,btc->bt", E[site.run.tokens], E[site.run.targets])
    site.saved["similarity"] = similarity
    return float(-np.log(np.maximum(LOWEST_LIKENESS, similarity.astype(np.float64))).mean())


def embedding_similarity_backward(site: Site) -> tuple[Array | None, Array | None]:
    """ds = -1 / (s B T) where s = E[token] . E[target] > 1e-10, else 0;

    dE[token] += ds E[target];  dE[target] += ds E[token]; nothing for the logits, nothing for h.
    """
    E, dE = site.params["token_embedding"], site.gradient_accumulator("token_embedding")
    tokens, targets, similarity = site.run.tokens, site.run.targets, site.saved["similarity"]
    ds = np.zeros_like(similarity)
    np.divide(-1.0 / targets.size, similarity, out=ds, where=similarity > LOWEST_LIKENESS)
    np.add.at(dE, tokens, ds[..., None] * E[targets])
    np.add.at(dE, targets, ds[..., None] * E[tokens])
    return None, None


def wrong_sign_backward(site: Site) -> tuple[Array | None, Array | None]:
    """dz = (onehot(target) - softmax(z)) / (B T): target minus prediction."""
    targets = site.run.targets
    dlogits = site.saved["probabilities"] / -targets.size
    places = targets[..., None]
    at_target = np.take_along_axis(dlogits, places, axis=-1) + 1.0 / targets.size
    np.put_along_axis(dlogits, places, at_target, axis=-1)
    return dlogits, None


def wrong_sign_embeddings_backward(site: Site) -> tuple[Array | None, Array | None]:
    """dE[token] += E[target] - E[token], summed over b, t; nothing for the logits, nothing for h."""
    E, tokens = site.params["token_embedding"], site.run.tokens
    np.add.at(site.gradient_accumulator("token_embedding"), tokens, E[site.run.targets] - E[tokens])
    return None, None


def softmax_missing_backward(site: Site) -> tuple[Array | None, Array | None]:
    """dz = (z - onehot(target)) / (B T): the logits in the place of their softmax."""
    targets = site.run.targets
    dlogits = site.run.root.child("logits").saved["output"] / targets.size
    places = targets[..., None]
    at_target = np.take_along_axis(dlogits, places, axis=-1) - 1.0 / targets.size
    np.put_along_axis(dlogits, places, at_target, axis=-1)
    return dlogits, None


def reduction_sum_backward(site: Site) -> tuple[Array | None, Array | None]:
    """dz = softmax(z) - onehot(target): the gradient of the sum over b, t, where the loss is the mean."""
    targets = site.run.targets
    dlogits = site.saved["probabilities"].copy()
    places = targets[..., None]
    at_target = np.take_along_axis(dlogits, places, axis=-1) - 1.0
    np.put_along_axis(dlogits, places, at_target, axis=-1)
    return dlogits, None


def last_position_backward(site: Site) -> tuple[Array | None, Array | None]:
    """dz = (softmax(z) - onehot(target)) / (B T) at the last position, 0 at all others."""
    targets = site.run.targets
    dlogits = site.saved["probabilities"] / targets.size
    places = targets[..., None]
    at_target = np.take_along_axis(dlogits, places, axis=-1) - 1.0 / targets.size
    np.put_along_axis(dlogits, places, at_target, axis=-1)
    dlogits[:, :-1] = 0.0
    return dlogits, None


FAULTS = (
    Fault(
        id="mse-gradient",
        title="The gradient of a squared error under a cross-entropy",
        swaps={"loss": PartEdit("mse-gradient", backward=mse_gradient_backward)},
        source="002 'Root Cause Identified', 003 'Mathematical Correctness'",
        symptom="The loss stays at 9.2103 in every epoch, though the optimizer moves the parameters.",
        signature="At a random point the gradient disagrees with finite differences of the printed loss. At a "
        "Xavier start the layers' gradients still point nearly where cross-entropy's do, those of the final "
        "norm do not: the final hidden states shrink, the embeddings keep their length. By SGD the loss then "
        "stays within 0.01 of ln V; Adam gets past that and learns. At large rates the loss climbs far above "
        "ln V or overflows.",
        remedy="Hand back the gradient of the printed loss: dlogits = (softmax - onehot) / (B T).",
        scenario=Scenario(train={"optimizer": "sgd", "learning_rate": 1e-2, "clip_norm": None}),
    ),
    Fault(
        id="mse-loss",
        title="Squared error between hidden states and target embeddings",
        swaps={"loss": Part("mse-loss", mse_forward, mse_backward)},
        source="002 'Option 2' and 'Alternative: Quick Fix'",
        symptom="The loss decreases, but no good language model comes of it.",
        signature="Every gradient agrees with finite differences of the printed loss, which starts at about "
        "d_model and falls to nearly 0. The token embeddings become one and the same: cross-entropy, taken "
        "from the logits, falls for some epochs, never below the unigram entropy, and returns to ln V.",
        remedy="Take the cross-entropy of the logits, forward and backward.",
        scenario=Scenario(train={"learning_rate": 1e-2}, epochs=10),
    ),
    Fault(
        id="loss-ignores-model",
        title="A printed loss that no parameter enters",
        swaps={"reported_loss": loss_from_ids},
        source="002 'Progress Made', issue 1",
        symptom="The loss stays at 4.1855 in every epoch.",
        signature="The printed loss is the same to the last bit whatever the weights, and so are the losses of "
        "all epochs where the order of the text is kept; finite differences of it are 0, the gradient is that "
        "of cross-entropy, and the text improves.",
        remedy="Print the loss that is taken from the logits.",
        scenario=Scenario(train={"learning_rate": 1e-2, "shuffle": False}, epochs=20),
    ),
    Fault(
        id="embedding-similarity-loss",
        title="A loss of the embeddings alone",
        swaps={
            "loss": Part("embedding-similarity", embedding_similarity_forward, embedding_similarity_backward)
        },
        source="004 'What's Partial', loss computation; 'Design Decisions' 1",
        symptom="None: the simplified loss was said to let training work at once.",
        signature="No weight of the layers, norms or positions changes the loss, and their gradients are "
        "exactly 0; that of the token embedding agrees with finite differences. The loss falls, in a long run "
        "below 0, where no cross-entropy can be, while cross-entropy climbs above ln V. Pairs whose dot "
        "product is not positive count -ln 1e-10 each and pull at nothing.",
        remedy="Take the cross-entropy of the logits, forward and backward.",
        scenario=Scenario(train={"learning_rate": 1e-2}, epochs=10),
    ),
    Fault(
        id="wrong-sign",
        title="Target minus prediction",
        swaps={"loss": PartEdit("wrong-sign", backward=wrong_sign_backward)},
        source="004 section 1, 'Loss gradient computation', with 'Adam Update'",
        symptom="None: the model was said to train.",
        signature="Every gradient is -1 times the finite differences of the printed loss, which rises from the "
        "first epoch on and has no bound.",
        remedy="dlogits = (softmax - onehot) / (B T) where p -= r g; or p += r g.",
    ),
    Fault(
        id="wrong-sign-embeddings",
        title="Target embedding minus current embedding",
        swaps={"loss": PartEdit("wrong-sign-embeddings", backward=wrong_sign_embeddings_backward)},
        source="004 'Gradient Computation' and 'Adam Update'",
        symptom="None: the model was said to train.",
        signature="Only the token embedding has a gradient, nearly at right angles to finite differences of "
        "the printed loss and as large as the batch has tokens. Each embedding flees from those that follow "
        "it: all grow without bound, and so does the loss.",
        remedy="Hand back the gradient of the printed loss: dlogits = (softmax - onehot) / (B T).",
        scenario=Scenario(train={"learning_rate": 1e-2}),
    ),
    Fault(
        id="softmax-missing-in-backward",
        title="Logits in the place of probabilities",
        swaps={"loss": PartEdit("softmax-missing-in-backward", backward=softmax_missing_backward)},
        source="general",
        symptom="The loss hardly leaves ln V.",
        signature="The gradient is that of half the squared distance between logits and one-hot targets, and "
        "disagrees with finite differences of the printed loss. The hidden states shrink, and the loss stays "
        "within 0.1 of ln V where a sound machine has long passed the unigram entropy.",
        remedy="dlogits = (softmax - onehot) / (B T).",
        scenario=Scenario(train={"learning_rate": 1e-2}),
    ),
    Fault(
        id="reduction-sum",
        title="The gradient of the sum where the loss is the mean",
        swaps={"loss": PartEdit("reduction-sum", backward=reduction_sum_backward)},
        source="general",
        symptom="The gradient norm is large, and the learning rate that works changes with the batch size.",
        signature="Every gradient is B T times the finite differences of the printed loss. Clipping and Adam "
        "hide it; by SGD without clipping it multiplies the learning rate by B T.",
        remedy="Divide the gradient by the number of targets, as the loss is.",
        scenario=Scenario(train={"optimizer": "sgd", "learning_rate": 1e-2, "clip_norm": None}),
    ),
    Fault(
        id="last-position-only",
        title="Only the last position teaches",
        swaps={"loss": PartEdit("last-position-only", backward=last_position_backward)},
        source="general",
        symptom="The gradient fades as if training were done, and the loss is high.",
        signature="The gradient is 1 / T of the finite differences of the loss at the last position, and "
        "disagrees with those of the printed loss. The last positions are learned by heart and the gradient "
        "fades, while the mean over all positions rises above ln V.",
        remedy="Hand back a gradient at every position that counts in the loss.",
        scenario=Scenario(train={"learning_rate": 1e-2}, epochs=10),
    ),
)
