"""utils.audio_dataset_from_directory: WAV files of all sizes, resampled, padded and cut."""

import math
import wave

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch.utils.audio import BLOCK, read_wav, resampled

RANDOM = np.random.default_rng(0)


def write(path, samples, rate=8000):
    """Writes integers (steps, channels) of 1, 2, 3 or 4 bytes: `samples` is a pair of bytes and integers."""
    width, values = samples
    little = values.astype("<i8")[..., None] >> (8 * np.arange(width)) & 255
    with wave.open(str(path), "wb") as file:
        file.setnchannels(values.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(little.astype("uint8").tobytes())


@pytest.fixture
def folder(tmp_path):
    """Two classes of three files of 1,000, 1,100, ... steps, and what they hold."""
    held = {}
    for number, name in enumerate(["a/0", "a/1", "a/2", "b/0", "b/1", "b/2"]):
        path = tmp_path / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        held[str(path)] = RANDOM.integers(-(2**15), 2**15, (1000 + 100 * number, 1))
        write(path, (2, held[str(path)]))
    return tmp_path, held


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_samples_of_all_sizes(tmp_path, width, channels):
    half = 2 ** (8 * width - 1)
    values = np.append(
        RANDOM.integers(-half, half, (50, channels)), [[-half] * channels, [half - 1] * channels], axis=0
    )
    write(tmp_path / "x.wav", (width, values + half if width == 1 else values), rate=11025)
    audio, rate = read_wav(tmp_path / "x.wav")
    assert rate == 11025 and audio.dtype is torch.float32
    np.testing.assert_array_equal(audio.numpy(), (values / half).astype("float32"))


def test_batches_are_filled_up_to_the_longest(folder, capsys):
    root, held = folder
    dataset = ks.utils.audio_dataset_from_directory(root, batch_size=4, shuffle=False)
    assert capsys.readouterr().out == "Found 6 files belonging to 2 classes.\n"
    assert dataset.class_names == ["a", "b"] and dataset.file_paths == [*held]
    (audio, labels), (rest, _) = dataset
    assert audio.shape == (4, 1300, 1) and rest.shape == (2, 1500, 1) and labels.tolist() == [0, 0, 0, 1]
    for values, got in zip(held.values(), audio, strict=False):
        np.testing.assert_array_equal(got[: len(values)].numpy(), (values / 2**15).astype("float32"))
        assert not got[len(values) :].any()


@pytest.mark.parametrize("length", [500, 1250, 2000])
def test_a_given_length(folder, length):
    root, held = folder
    dataset = ks.utils.audio_dataset_from_directory(root, labels=None, output_sequence_length=length, shuffle=False)
    expected = [
        np.pad(values[:length] / 2**15, ((0, max(length - len(values), 0)), (0, 0))) for values in held.values()
    ]
    np.testing.assert_array_equal(dataset[0].numpy(), np.stack(expected).astype("float32"))


def test_ragged_single_and_mixed(folder):
    root, held = folder
    ragged, labels = ks.utils.audio_dataset_from_directory(root, ragged=True, shuffle=False, label_mode="binary")[0]
    assert [each.shape for each in ragged] == [values.shape for values in held.values()] and labels.shape == (6, 1)
    single, label = ks.utils.audio_dataset_from_directory(root, batch_size=None, shuffle=False)[3]
    assert single.shape == (1300, 1) and label == 1
    write(root / "a" / "3.wav", (2, np.ones((7, 2), int)))
    assert ks.utils.audio_dataset_from_directory(root, shuffle=False)[0][0].shape == (7, 1500, 2)


def test_parts(folder):
    options = {"validation_split": 0.34, "subset": "both", "seed": 1, "verbose": False}
    train, test = ks.utils.audio_dataset_from_directory(folder[0], **options)
    assert (len(train.file_paths), len(test.file_paths)) == (4, 2)


def sine(rate, frequency, seconds=0.5):
    return torch.sin(torch.arange(int(rate * seconds), dtype=torch.float64) / rate * frequency * 2 * math.pi).float()[
        :, None
    ]


@pytest.mark.parametrize(
    ("rate", "new_rate"), [(8000, 16000), (16000, 8000), (44100, 16000), (8000, 11025), (7, 5), (1, 3)]
)
def test_resampling_keeps_what_both_rates_hold(rate, new_rate):
    seconds, frequency = (0.5, min(rate, new_rate) / 9) if rate > 10 else (200, min(rate, new_rate) / 9)
    new, expected = resampled(sine(rate, frequency, seconds), rate, new_rate), sine(new_rate, frequency, seconds)
    assert abs(len(new) - len(expected)) <= 1
    edge = 40 * max(new_rate // rate, 1)  # where there is no audio on one side
    length = min(len(new), len(expected)) - edge
    torch.testing.assert_close(new[edge:length], expected[edge:length], rtol=0, atol=1e-3)


def test_resampling_drops_what_the_lower_rate_cannot_hold():
    assert float(resampled(sine(16000, 6000), 16000, 8000)[40:-40].abs().max()) < 2e-3


def test_long_audio_is_resampled_in_blocks():
    audio = torch.randn(2 * BLOCK, 2)
    whole = resampled(audio, 2, 3)
    assert len(whole) == 3 * BLOCK
    shifted = resampled(audio[BLOCK - 600 :], 2, 3)[600:]
    torch.testing.assert_close(whole[3 * (BLOCK - 600) // 2 + 600 :][:5000], shifted[:5000], rtol=0, atol=1e-5)


def test_a_sampling_rate(folder):
    root, held = folder
    options = {"sampling_rate": 4000, "shuffle": False, "label_mode": None}
    halves = ks.utils.audio_dataset_from_directory(root, **options)[0]
    assert halves.shape == (6, 750, 1)
    first = torch.from_numpy(next(iter(held.values())) / 2**15).float()
    torch.testing.assert_close(halves[0, :500], resampled(first, 8000, 4000))
    assert ks.utils.audio_dataset_from_directory(root, output_sequence_length=900, **options)[0].shape == (6, 900, 1)


MISTAKES = {
    "rate": ({"sampling_rate": 8000.5}, "sampling_rate must be a positive int; got 8000.5"),
    "zero": ({"sampling_rate": 0}, "sampling_rate must be a positive int"),
    "ragged": ({"ragged": True, "output_sequence_length": 5}, "ragged=True keeps the lengths"),
    "labels": ({"labels": "all"}, "labels must be"),
    "mode": ({"label_mode": "float"}, "label_mode must be"),
}


@pytest.mark.parametrize(("options", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake(keras, folder, options, message):
    with pytest.raises(ValueError, match=message):
        ks.utils.audio_dataset_from_directory(folder[0], **options)
    with pytest.raises(ValueError):
        keras.utils.audio_dataset_from_directory(str(folder[0]), **options)


def test_a_file_that_is_something_else(tmp_path):
    for name, content in (("x", b"RIFF\0\0\0\0OGG "), ("empty", b"")):
        (tmp_path / f"{name}.wav").write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}.wav is not a WAV file with PCM samples"):
            read_wav(tmp_path / f"{name}.wav")
