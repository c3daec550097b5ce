"""Keras' estimators: around a model of the user's."""
class SKLearnClassifier: pass
class SKLearnRegressor: pass
class SKLearnTransformer: pass
