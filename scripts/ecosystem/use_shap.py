"""Explanations of a model: of its predictions alone, and by its gradients."""

import keras
import numpy as np
import shap

x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.ReLU(), keras.layers.Dense(1)])
model.compile("adam", "mse")
model.fit(x, x.sum(1, keepdims=True), epochs=2, verbose=0)
predicted = model.predict(x, verbose=0)


def check(values, tolerance):
    values = np.asarray(values).reshape(2, 4)
    np.testing.assert_allclose(values.sum(1) + predicted.mean(), predicted[:2, 0], atol=tolerance)


explain = shap.KernelExplainer(lambda rows: model.predict(rows, verbose=0)[:, 0], x)
check(explain.shap_values(x[:2], silent=True), 1e-3)
rows = keras.ops.convert_to_tensor(x)
check(
    shap.DeepExplainer(model, rows).shap_values(rows[:2]), 1e-3
)  # it knows layers such as ReLU, not activation="relu"
assert np.asarray(shap.GradientExplainer(model, rows).shap_values(rows[:2])).size == 8
