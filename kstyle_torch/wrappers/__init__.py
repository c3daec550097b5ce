"""Estimators of scikit-learn: around models of your own, and networks that fit themselves to the data."""

import sys

from kstyle_torch import namespaces
from kstyle_torch.wrappers.model_estimators import SKLearnClassifier, SKLearnRegressor, SKLearnTransformer
from kstyle_torch.wrappers.network_estimators import KStyleClassifier, KStyleRegressor

__all__ = ["KStyleClassifier", "KStyleRegressor", "SKLearnClassifier", "SKLearnRegressor", "SKLearnTransformer"]

namespaces.install(sys.modules[__name__])
