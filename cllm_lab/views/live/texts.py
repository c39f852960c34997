"""What the bench says in words: its state, its faults, the phases of a step, its console. HTML, escaped."""

from __future__ import annotations

from collections.abc import Sequence

from cllm_lab.clinic.instrument_words import LEVEL_NAMES, instrument_words
from cllm_lab.clinic.update_statistics import FAMILIES
from cllm_lab.training.parts import Fault
from cllm_lab.training.phases import PHASES, Phase
from cllm_lab.views.live.glances import TEMPERATURE
from cllm_lab.views.live.runner import Frame
from cllm_lab.views.live.setup import takes_effect, title
from cllm_lab.views.live.style import escaped

STATE_WORDS = {
    "ready": "Ready",
    "running": "Running",
    "paused": "Paused",
    "stopped": "Stopped",
    "finished": "Finished",
    "failed": "Failed",
}
WHEN = {"step": "at the next step", "reset": "after Reset", "new run": "after Reset or in a new run"}
SHOWN_LINES = 16


def status(frame: Frame) -> str:
    """State, step, epoch, speed, and time: one line."""
    epochs = f"epoch {frame.epoch}" if frame.epochs is None else f"epoch {frame.epoch} of {frame.epochs}"
    pieces = [f"<b>{STATE_WORDS[frame.state]}</b>", f"step {frame.step:,}", epochs]
    if frame.tokens_per_second is not None:
        pieces.append(f"{frame.tokens_per_second:,.0f} tokens/s")
    pieces.append(f"{duration(frame.seconds)} of training")
    if frame.remaining is not None and frame.state == "running":
        pieces.append(f"{duration(frame.remaining)} left")
    return f'<div class="cllm-status cllm-state-{frame.state}">{" · ".join(pieces)}</div>'


def duration(seconds: float) -> str:
    """Seconds as m:ss, or h:mm:ss."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def words(frame: Frame) -> str:
    """The line of words; what went wrong as an alert."""
    said = escaped(line_of_words(frame))
    if frame.error:
        return f'<div class="cllm-words cllm-error" role="alert">{said}</div>'
    # Read aloud when the run halts: several times a second nobody could follow.
    live = "off" if frame.state == "running" else "polite"
    return f'<div class="cllm-words" role="status" aria-live="{live}">{said}</div>'


def line_of_words(frame: Frame) -> str:
    """What the instruments show, or what went wrong; before the first step, what to hold the loss against."""
    if frame.error:
        return frame.error
    if frame.recent:
        return instrument_words(frame.recent, frame.plateaus, family(frame))
    known = frame.plateaus
    return (
        f"Nothing trained yet. A machine that knows nothing has the loss ln V = {known.uniform:.4f} nats; one that "
        f"knows how often each token occurs, H1 = {known.unigram:.4f}; the token before, H2 = {known.bigram:.4f}."
    )


def family(frame: Frame) -> str:
    """The kind of optimizer whose healthy band belongs to the run."""
    return FAMILIES.get(frame.optimizer, "any")


def levels(frame: Frame) -> dict[str, float]:
    """The plateaus of the text by the names that the words use, in nats, from the top."""
    found = ((name, getattr(frame.plateaus, plateau)) for plateau, name in LEVEL_NAMES.items())
    return {name: nats for name, nats in found if nats is not None}


def fault_note(fault: Fault | None) -> str:
    """A fault that could be switched on: what it is, what was reported of it, and when it acts."""
    if fault is None:
        return ""
    symptom = getattr(fault, "symptom", "")
    return (
        f'<div class="cllm-note"><b>{escaped(title(fault))}.</b> {escaped(symptom)} '
        f"<i>Acts {WHEN[takes_effect(fault)]}.</i></div>"
    )


def fault_states(frame: Frame, wanted: Sequence[Fault]) -> list[tuple[Fault, str]]:
    """Every fault that is wanted or still felt, with what it does now."""
    states = []
    for fault in wanted:
        if fault in frame.waiting:
            when = "in a new run" if frame.goes_back else WHEN[takes_effect(fault)]
            said = f"waits: acts {when}"
        elif frame.step == 0:
            said = "acts from the first step on"
        elif fault in frame.faults:
            said = "acts"
        else:
            said = "acts from the next step on"
        states.append((fault, said))
    for fault in frame.lingering:
        left = "weights stay" if takes_effect(fault) == "reset" else "stream of tokens stays"
        until = "a new run" if frame.goes_back else "Reset"
        states.append((fault, f"switched off, but its {left} until {until}"))
    leaving = [each for each in frame.faults if each not in wanted and each not in frame.lingering]
    states += [(fault, "switched off from the next step on") for fault in leaving]
    return states


def phases(frame: Frame) -> str:
    """What each phase of the last step by phases produced."""
    if not frame.phases:
        return (
            '<div class="cllm-note">Press Phase to take a step apart: '
            f"{escaped(', '.join(PHASES))}, one at a time.</div>"
        )
    rows = "".join(_phase_row(phase) for phase in frame.phases)
    following = PHASES[(PHASES.index(frame.phases[-1].name) + 1) % len(PHASES)]
    after = "the step is done" if frame.phases[-1].name == PHASES[-1] else f"next: {following}"
    return f'<table class="cllm-table"><caption>Step {frame.phases[0].step} by phases; {after}</caption>{rows}</table>'


def _phase_row(phase: Phase) -> str:
    produced = " · ".join(f"{escaped(name)} {number:.4g}" for name, number in phase.produced.items())
    return f'<tr><th scope="row">{escaped(phase.name)}</th><td>{produced}</td></tr>'


def sample(frame: Frame) -> str:
    """The text that the machine wrote last."""
    if not frame.glance.text:
        return '<div class="cllm-note">No text yet: one is written every few seconds of training.</div>'
    return (
        f'<div class="cllm-sample">{escaped(frame.glance.text)}</div>'
        f'<div class="cllm-note">begun after step {frame.glance.text_step:,}; first word given, '
        f"temperature {TEMPERATURE}</div>"
    )


def no_attention(frame: Frame) -> str:
    """What stands in the place of the attention maps where there are none."""
    said = "No attention weights in this machine." if frame.glance.looked else "Attention maps: no steps yet."
    return f'<div class="cllm-note">{said}</div>'


def console(frame: Frame) -> str:
    """The latest lines, in the documents' format."""
    if not frame.console:
        return '<div class="cllm-note">No line yet.</div>'
    return f'<pre class="cllm-console">{escaped_lines(frame.console[-SHOWN_LINES:])}</pre>'


def escaped_lines(lines: Sequence[str]) -> str:
    """Lines for HTML."""
    return "\n".join(escaped(line) for line in lines)


def notice(text: str, is_error: bool = False) -> str:
    """What the last press led to."""
    if not text:
        return ""
    kind, role = ("cllm-error", "alert") if is_error else ("cllm-done", "status")
    return f'<div class="{kind}" role="{role}">{escaped(text)}</div>'
