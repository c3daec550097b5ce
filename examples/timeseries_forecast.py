"""The next hour of a series with days and weeks in it: Conv1D and GRU against "as it was yesterday"."""

import numpy as np

from kstyle_torch import Input, Sequential
from kstyle_torch.layers import GRU, Conv1D, Dense
from kstyle_torch.utils import set_random_seed

WINDOW, DAY, WEEK = 48, 24, 7 * 24


def make_series(hours: int) -> np.ndarray:
    """Days, weeks, and weather that stays for a while."""
    rng = np.random.default_rng(0)
    time = np.arange(hours)
    weather = np.zeros(hours)
    for hour in range(1, hours):
        weather[hour] = 0.95 * weather[hour - 1] + 0.1 * rng.normal()
    days, weeks = np.sin(2 * np.pi * time / DAY), 0.5 * np.sin(2 * np.pi * time / WEEK)
    return (20 + 5 * (days * (1 + weeks) + weather)).astype("float32")


def main() -> float:
    """Trains and tests the model; returns its mean absolute error on the last part of the series."""
    set_random_seed(42)
    series = make_series(3000)
    mean, deviation = series[:2400].mean(), series[:2400].std()  # of what comes before the test
    scaled = (series - mean) / deviation
    windows = np.lib.stride_tricks.sliding_window_view(scaled, WINDOW)[:-1, :, None]
    X_train, X_test = windows[: 2400 - WINDOW], windows[2400 - WINDOW :]
    y_train = scaled[WINDOW:2400]  # the hour after each window

    model = Sequential(
        [
            Input((WINDOW, 1)),
            Conv1D(16, 5, strides=2, padding="causal", activation="relu"),
            GRU(24),
            Dense(1),
        ]
    )
    model.summary()
    model.compile(optimizer="adam", loss="mse", metrics=["mae"])
    model.fit(X_train, y_train, epochs=15, batch_size=32, verbose=2)

    predicted = mean + deviation * model.predict(X_test, verbose=0)[:, 0]
    truth = series[2400:]
    error, hour_ago, day_ago = (
        np.abs(truth - guess).mean() for guess in (predicted, series[2399:-1], series[2376:-24])
    )
    print(f"The last hour's value as the forecast has an error of {hour_ago:.4f}")
    print(f"Test error: {error:.4f} (yesterday's value: {day_ago:.4f})")
    return float(error)


if __name__ == "__main__":
    main()
