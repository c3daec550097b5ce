"""ResNet50 under the name of an older Keras."""

from kstyle_torch.applications.resnet import ResNet50, decode_predictions, preprocess_input

__all__ = ["ResNet50", "decode_predictions", "preprocess_input"]
