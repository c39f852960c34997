"""Hand-written training code as a subject of the probes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cllm_lab.clinic.subject import (
    Subject,
    require_gradients,
    require_ids,
    require_logits,
    require_parameters,
    require_subject,
)
from cllm_lab.model.parameters import Array

Named = Mapping[str, Array]


@dataclass(frozen=True)
class Logits:
    """What a forward pass gave: ``logits`` (B, T, V)."""

    logits: Array


class FunctionSubject:
    """A `Subject` made of functions; see `functions`."""

    def __init__(
        self,
        params: Named | Callable[[], Named],
        forward: Callable[[Any], Any],
        gradients: Callable[[Any, Any], tuple[float, Named]],
        step: Callable[[Any, Any], Any],
    ) -> None:
        self._params = params
        self._forward = forward
        self._gradients = gradients
        self._step = step

    @property
    def params(self) -> Named:
        """Name -> live array."""
        params = self._params() if callable(self._params) else self._params
        require_parameters(params)
        return params

    def forward(self, inputs: Any) -> Logits:
        """The logits (B, T, V) of token ids (B, T). TypeError or ValueError for others than these."""
        shape = require_ids("inputs", inputs).shape
        found = self._forward(inputs)
        return Logits(require_logits(getattr(found, "logits", found), shape))

    def loss(self, inputs: Any, targets: Any) -> float:
        """The loss in nats, as the function of the gradients gives it."""
        return self.gradients(inputs, targets)[0]

    def gradients(self, inputs: Any, targets: Any) -> tuple[float, dict[str, Array]]:
        """(loss, name -> gradient), copied. TypeError or ValueError where names or shapes are not those of params."""
        loss, grads = require_gradients(self.params, self._gradients(inputs, targets))
        # Code that keeps one buffer for its gradients would change what it returned before.
        return loss, {name: array.copy() for name, array in grads.items()}

    def step(self, inputs: Any, targets: Any) -> Any:
        """One optimizer step, in place."""
        return self._step(inputs, targets)


class StatefulFunctionSubject(FunctionSubject):
    """A `FunctionSubject` whose step changes more than the parameters."""

    def __init__(self, *functions: Any, state: Callable[[], Any], load_state: Callable[[Any], Any]) -> None:
        super().__init__(*functions)
        self._state = state
        self._load_state = load_state

    def state(self) -> Any:
        """What a step changes besides the parameters, in a deep copy."""
        return copy.deepcopy(self._state())

    def load_state(self, state: Any) -> None:
        """Puts a `state` back, in a copy of its own."""
        self._load_state(copy.deepcopy(state))


def functions(
    params: Named | Callable[[], Named],
    forward: Callable[[Any], Any],
    gradients: Callable[[Any, Any], tuple[float, Named]],
    step: Callable[[Any, Any], Any],
    state: Callable[[], Any] | None = None,
    load_state: Callable[[Any], Any] | None = None,
) -> Subject:
    """A subject of the probes made of functions.

    ``params``: name -> array of floats, those that the code computes with, or a function that returns them;
    ``forward`` (inputs) -> logits (B, T, V), or an object that has them as ``.logits``;
    ``gradients`` (inputs, targets) -> (loss in nats, name -> gradient); its loss is the subject's loss;
    ``step`` (inputs, targets): one optimizer step on the parameters. inputs and targets are token ids (B, T).
    ``state`` () and ``load_state`` (state), both or neither: what a step changes besides the parameters, such as
    the moments and the step counter of Adam. The subject copies it, so ``state`` may return live objects.

    Raises TypeError for arguments of another kind, ValueError for params that are empty and for one of ``state``
    and ``load_state`` alone. Names and shapes of the gradients are checked at each call.
    """
    given = {"forward": forward, "gradients": gradients, "step": step}
    optional = {"state": state, "load_state": load_state}
    for name, function in (given | {k: f for k, f in optional.items() if f is not None}).items():
        if not callable(function):
            raise TypeError(f"{name} must be a function; got {type(function).__name__}")
    subject: Subject
    if state is not None and load_state is not None:
        subject = StatefulFunctionSubject(
            params, forward, gradients, step, state=state, load_state=load_state
        )
    elif state is None and load_state is None:
        subject = FunctionSubject(params, forward, gradients, step)
    else:
        missing = next(name for name, function in optional.items() if function is None)
        raise ValueError(f"give both state and load_state, or neither; {missing} is missing")
    require_subject(subject)
    return subject
