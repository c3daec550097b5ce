"""Transformer layers, a small BERT with a head that is trained and saved, and a sampler."""

import tempfile

import keras
import keras_hub
import numpy as np

backbone = keras_hub.models.BertBackbone(
    vocabulary_size=50, num_layers=2, num_heads=2, hidden_dim=8, intermediate_dim=16, max_sequence_length=12
)
x = {
    "token_ids": np.ones((4, 12), "int32"),
    "segment_ids": np.zeros((4, 12), "int32"),
    "padding_mask": np.ones((4, 12), "int32"),
}
classifier = keras_hub.models.BertTextClassifier(backbone=backbone, num_classes=2, preprocessor=None)
classifier.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
classifier.fit(x, np.array([0, 1, 0, 1]), epochs=1, verbose=0)
path = f"{tempfile.mkdtemp()}/model.keras"
classifier.save(path)
again = keras.models.load_model(path)
np.testing.assert_allclose(again.predict(x, verbose=0), classifier.predict(x, verbose=0), atol=1e-6)
hidden = keras_hub.layers.TransformerEncoder(intermediate_dim=8, num_heads=2)(keras.ops.ones((2, 5, 4)))
assert hidden.shape == (2, 5, 4)
decoder = keras_hub.layers.TransformerDecoder(intermediate_dim=8, num_heads=2)
assert decoder(keras.ops.ones((2, 5, 4)), keras.ops.ones((2, 6, 4))).shape == (2, 5, 4)
