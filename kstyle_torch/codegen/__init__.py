"""Generated code: straight-line functions that run a model's graph or a recorded training step."""
