"""Amortised inference: a flow that learns the mean of a normal distribution."""

import bayesflow as bf
import numpy as np


def prior():
    return {"mean": np.random.normal(size=2)}


def likelihood(mean):
    return {"x": np.random.normal(mean, 1.0)}


workflow = bf.BasicWorkflow(
    simulator=bf.make_simulator([prior, likelihood]),
    inference_network=bf.networks.CouplingFlow(depth=2),
    inference_variables="mean",
    inference_conditions="x",
)
workflow.fit_online(epochs=1, num_batches_per_epoch=4, batch_size=16, verbose=0)
assert workflow.sample(num_samples=5, conditions={"x": np.zeros((3, 2))})["mean"].shape == (3, 5, 2)
