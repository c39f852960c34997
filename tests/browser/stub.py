"""A notebook of plain widgets: what the driver is tested with."""

VERSION = """
import ipykernel
print(ipykernel.__version__)
"""

CONTROLS = """
import threading
import ipywidgets as widgets
from IPython.display import display

fields = {
    "whole": widgets.IntText(3),
    "decimal": widgets.FloatText(0.5),
    "words": widgets.Text("none"),
    "one": widgets.Dropdown(options=["left", "right"]),
    "several": widgets.SelectMultiple(options=["red", "green", "blue"]),
    "mode": widgets.ToggleButtons(options=["slow", "fast"]),
    "on": widgets.Checkbox(False),
}
button = widgets.Button(description="Press")
said = widgets.HTML("not pressed")
clock = widgets.HTML("0")
for name, widget in {**fields, "button": button, "said": said, "clock": clock}.items():
    widget.add_class(f"stub-{name}")

def say(_):
    said.value = "; ".join(f"{name} {field.value!r}" for name, field in fields.items())

button.on_click(say)
still = display({"text/plain": "before"}, raw=True, display_id=True)

def tick():
    for beat in range(600):
        clock.value = str(beat)
        if beat == 5:
            still.update({"text/plain": "after"}, raw=True)
        if ended.wait(0.1):
            return

ended = threading.Event()
threading.Thread(target=tick, daemon=True).start()
widgets.VBox([*fields.values(), button, said, clock])
"""

BROKEN = "raise ValueError('broken on purpose')"
