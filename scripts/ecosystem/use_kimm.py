"""Image models: forward, features, and blocks that are merged for inference."""

import keras
import kimm
import numpy as np

x = np.random.default_rng(0).random((1, 64, 64, 3)).astype("float32")
model = kimm.models.MobileNetV3W050Small(input_shape=(64, 64, 3), weights=None, classes=5)
assert model.predict(x, verbose=0).shape == (1, 5)
features = kimm.models.LCNet035(
    input_shape=(64, 64, 3), weights=None, include_top=False, feature_extractor=True, feature_keys=["BLOCK1_S4"]
)
assert features(x)["BLOCK1_S4"].shape[1] == 16
trained = kimm.models.RepVGGA0(input_shape=(64, 64, 3), weights=None, classes=5)
merged = kimm.utils.get_reparameterized_model(trained)
np.testing.assert_allclose(merged.predict(x, verbose=0), trained.predict(x, verbose=0), atol=1e-4)
assert isinstance(model, keras.Model)
