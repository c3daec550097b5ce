"""SwapEMAWeights: the weights that are tested, saved and left in the end are Keras'."""

import numpy as np
import pytest

import kstyle_torch as ks
from tests.models_to_train import logistic_regression, rows_with_signs

X, Y = rows_with_signs(48, 5)


def network(library, **settings):
    return logistic_regression(library, library.optimizers.SGD(0.5, **settings), metrics=())


@pytest.mark.parametrize("swap_on_epoch", [False, True])
@pytest.mark.parametrize("stops", [False, True], ids=["to-the-end", "stopped"])
def test_the_weights_are_those_of_keras(keras, swap_on_epoch, stops):
    results = []
    for library in (keras, ks):
        model, seen = network(library, use_ema=True, ema_momentum=0.8), []

        def note(number=None, logs=None, model=model, seen=seen):
            seen.append(model.get_weights()[0].ravel().copy())
            if stops and len(seen) == 8:
                model.stop_training = True

        watch = library.callbacks.LambdaCallback(
            on_epoch_begin=note, on_epoch_end=note, on_test_begin=note, on_test_batch_end=note, on_predict_end=note
        )
        callbacks = [library.callbacks.SwapEMAWeights(swap_on_epoch), watch]
        history = model.fit(
            X, Y, batch_size=16, epochs=3, validation_data=(X, Y), shuffle=False, verbose=0, callbacks=callbacks
        )
        note()
        seen.append(model.predict(X, verbose=0, callbacks=callbacks).ravel())
        results.append((seen, history.history["val_loss"]))
    for theirs, ours in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(results[1][1], results[0][1], rtol=1e-5)


def test_the_optimizer_must_keep_means():
    with pytest.raises(ValueError, match="use_ema=True; got 'sgd"):
        network(ks).fit(X, Y, verbose=0, validation_split=0.5, callbacks=[ks.callbacks.SwapEMAWeights()])


def test_one_of_several_optimizers_may_keep_means():
    average = ks.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.8)
    model = network(ks)
    optimizers = ks.optimizers.OptimizerMap(ks.optimizers.SGD(0.1), {".*kernel": average})
    model.compile(ks.optimizers.MultiOptimizer(optimizers), "binary_crossentropy")
    seen = []
    watch = ks.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(model.get_weights()),
        on_test_batch_end=lambda batch, logs: seen.append(model.get_weights()),
    )
    model.fit(X, Y, verbose=0, validation_data=(X, Y), callbacks=[ks.callbacks.SwapEMAWeights(), watch])
    tested, trained = seen[0], seen[-1]
    assert np.abs(tested[0] - trained[0]).max() > 1e-3
    np.testing.assert_array_equal(tested[1], trained[1])
