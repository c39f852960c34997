"""The machine: configuration, parameters, parts, transformer, and the proof of its gradients."""
