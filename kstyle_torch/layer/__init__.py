"""The layer: building, calling, weights, modes, masks, dtypes. The catalogue of layers is in `layers`."""
