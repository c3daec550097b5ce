"""Keras' layers, each a thin holder of its native torch module."""

from kstyle_torch.layer.base import Layer
from kstyle_torch.layer.input_spec import InputSpec
from kstyle_torch.layers.activation import ELU, Activation, LeakyReLU, PReLU, ReLU, Softmax
from kstyle_torch.layers.attention import AdditiveAttention, Attention, GroupQueryAttention, MultiHeadAttention
from kstyle_torch.layers.batch_normalization import BatchNormalization
from kstyle_torch.layers.convolution import Conv1D, Conv2D, Conv3D
from kstyle_torch.layers.convolution import Conv1D as Convolution1D
from kstyle_torch.layers.convolution import Conv2D as Convolution2D
from kstyle_torch.layers.convolution import Conv3D as Convolution3D
from kstyle_torch.layers.cropping_and_padding import (
    Cropping1D,
    Cropping2D,
    Cropping3D,
    ZeroPadding1D,
    ZeroPadding2D,
    ZeroPadding3D,
)
from kstyle_torch.layers.dense import Dense
from kstyle_torch.layers.einsum_dense import EinsumDense
from kstyle_torch.layers.embedding import Embedding, ReversibleEmbedding
from kstyle_torch.layers.identity import Identity
from kstyle_torch.layers.input_layer import Input, InputLayer
from kstyle_torch.layers.lambda_layer import Lambda
from kstyle_torch.layers.lookup import deserialize, serialize
from kstyle_torch.layers.masking import Masking
from kstyle_torch.layers.merge_with_mode import Merge as _Merge  # noqa: F401  # files may name it
from kstyle_torch.layers.merging import (
    Add,
    Average,
    Concatenate,
    Dot,
    Maximum,
    Minimum,
    Multiply,
    Subtract,
    add,
    average,
    concatenate,
    dot,
    maximum,
    minimum,
    multiply,
    subtract,
)
from kstyle_torch.layers.normalization import (
    GroupNormalization,
    LayerNormalization,
    RMSNormalization,
    UnitNormalization,
)
from kstyle_torch.layers.pooling import (
    AdaptiveAveragePooling1D,
    AdaptiveAveragePooling2D,
    AdaptiveAveragePooling3D,
    AdaptiveMaxPooling1D,
    AdaptiveMaxPooling2D,
    AdaptiveMaxPooling3D,
    AveragePooling1D,
    AveragePooling2D,
    AveragePooling3D,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalAveragePooling3D,
    GlobalMaxPooling1D,
    GlobalMaxPooling2D,
    GlobalMaxPooling3D,
    MaxPooling1D,
    MaxPooling2D,
    MaxPooling3D,
)
from kstyle_torch.layers.pooling import AveragePooling1D as AvgPool1D
from kstyle_torch.layers.pooling import AveragePooling2D as AvgPool2D
from kstyle_torch.layers.pooling import AveragePooling3D as AvgPool3D
from kstyle_torch.layers.pooling import GlobalAveragePooling1D as GlobalAvgPool1D
from kstyle_torch.layers.pooling import GlobalAveragePooling2D as GlobalAvgPool2D
from kstyle_torch.layers.pooling import GlobalAveragePooling3D as GlobalAvgPool3D
from kstyle_torch.layers.pooling import GlobalMaxPooling1D as GlobalMaxPool1D
from kstyle_torch.layers.pooling import GlobalMaxPooling2D as GlobalMaxPool2D
from kstyle_torch.layers.pooling import GlobalMaxPooling3D as GlobalMaxPool3D
from kstyle_torch.layers.pooling import MaxPooling1D as MaxPool1D
from kstyle_torch.layers.pooling import MaxPooling2D as MaxPool2D
from kstyle_torch.layers.pooling import MaxPooling3D as MaxPool3D
from kstyle_torch.layers.preprocessing.category_encoding import CategoryEncoding
from kstyle_torch.layers.preprocessing.discretization import Discretization
from kstyle_torch.layers.preprocessing.hashed_crossing import HashedCrossing
from kstyle_torch.layers.preprocessing.hashing import Hashing
from kstyle_torch.layers.preprocessing.image.affine import RandomRotation, RandomShear, RandomTranslation, RandomZoom
from kstyle_torch.layers.preprocessing.image.augment import AugMix, RandAugment
from kstyle_torch.layers.preprocessing.image.color import (
    RandomColorDegeneration,
    RandomColorJitter,
    RandomGrayscale,
    RandomHue,
    RandomInvert,
    RandomPosterization,
    RandomSaturation,
    Solarization,
)
from kstyle_torch.layers.preprocessing.image.flip import RandomFlip
from kstyle_torch.layers.preprocessing.image.max_boxes import MaxNumBoundingBoxes
from kstyle_torch.layers.preprocessing.image.regions import CutMix, MixUp, RandomErasing, RandomGaussianBlur
from kstyle_torch.layers.preprocessing.image.resizing import CenterCrop, RandomCrop, Resizing
from kstyle_torch.layers.preprocessing.image.tone import (
    AutoContrast,
    ContrastLimitedAdaptiveHistogramEqualization,
    Equalization,
    RandomBrightness,
    RandomContrast,
    RandomSharpness,
)
from kstyle_torch.layers.preprocessing.image.warp import RandomElasticTransform, RandomPerspective
from kstyle_torch.layers.preprocessing.integer_lookup import IntegerLookup
from kstyle_torch.layers.preprocessing.mel_spectrogram import MelSpectrogram
from kstyle_torch.layers.preprocessing.normalization import Normalization
from kstyle_torch.layers.preprocessing.pipeline import Pipeline
from kstyle_torch.layers.preprocessing.rescaling import Rescaling
from kstyle_torch.layers.preprocessing.stft_spectrogram import STFTSpectrogram
from kstyle_torch.layers.preprocessing.string_lookup import StringLookup
from kstyle_torch.layers.preprocessing.text_vectorization import TextVectorization
from kstyle_torch.layers.recurrent.bidirectional import Bidirectional
from kstyle_torch.layers.recurrent.conv_lstm import ConvLSTM1D, ConvLSTM2D, ConvLSTM3D
from kstyle_torch.layers.recurrent.gru import GRU, GRUCell
from kstyle_torch.layers.recurrent.lstm import LSTM, LSTMCell
from kstyle_torch.layers.recurrent.rnn import RNN
from kstyle_torch.layers.recurrent.simple_rnn import SimpleRNN, SimpleRNNCell
from kstyle_torch.layers.recurrent.stacked_cells import StackedRNNCells
from kstyle_torch.layers.regularization import (
    ActivityRegularization,
    AlphaDropout,
    Dropout,
    GaussianDropout,
    GaussianNoise,
    SpatialDropout1D,
    SpatialDropout2D,
    SpatialDropout3D,
)
from kstyle_torch.layers.reshaping import Flatten, Permute, RepeatVector, Reshape
from kstyle_torch.layers.separable_convolution import DepthwiseConv1D, DepthwiseConv2D, SeparableConv1D, SeparableConv2D
from kstyle_torch.layers.separable_convolution import SeparableConv1D as SeparableConvolution1D
from kstyle_torch.layers.separable_convolution import SeparableConv2D as SeparableConvolution2D
from kstyle_torch.layers.spectral_normalization import SpectralNormalization
from kstyle_torch.layers.torch_module import TorchModule
from kstyle_torch.layers.torch_module import TorchModule as TorchModuleWrapper
from kstyle_torch.layers.transposed_convolution import Conv1DTranspose, Conv2DTranspose, Conv3DTranspose
from kstyle_torch.layers.transposed_convolution import Conv1DTranspose as Convolution1DTranspose
from kstyle_torch.layers.transposed_convolution import Conv2DTranspose as Convolution2DTranspose
from kstyle_torch.layers.transposed_convolution import Conv3DTranspose as Convolution3DTranspose
from kstyle_torch.layers.upsampling import UpSampling1D, UpSampling2D, UpSampling3D
from kstyle_torch.layers.wrappers import TimeDistributed, Wrapper

__all__ = [
    "ELU",
    "GRU",
    "LSTM",
    "RNN",
    "Activation",
    "ActivityRegularization",
    "AdaptiveAveragePooling1D",
    "AdaptiveAveragePooling2D",
    "AdaptiveAveragePooling3D",
    "AdaptiveMaxPooling1D",
    "AdaptiveMaxPooling2D",
    "AdaptiveMaxPooling3D",
    "Add",
    "AdditiveAttention",
    "AlphaDropout",
    "Attention",
    "AugMix",
    "AutoContrast",
    "Average",
    "AveragePooling1D",
    "AveragePooling2D",
    "AveragePooling3D",
    "AvgPool1D",
    "AvgPool2D",
    "AvgPool3D",
    "BatchNormalization",
    "Bidirectional",
    "CategoryEncoding",
    "CenterCrop",
    "Concatenate",
    "ContrastLimitedAdaptiveHistogramEqualization",
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "ConvLSTM1D",
    "ConvLSTM2D",
    "ConvLSTM3D",
    "Convolution1D",
    "Convolution1DTranspose",
    "Convolution2D",
    "Convolution2DTranspose",
    "Convolution3D",
    "Convolution3DTranspose",
    "Cropping1D",
    "Cropping2D",
    "Cropping3D",
    "CutMix",
    "Dense",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "Discretization",
    "Dot",
    "Dropout",
    "EinsumDense",
    "Embedding",
    "Equalization",
    "Flatten",
    "GRUCell",
    "GaussianDropout",
    "GaussianNoise",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalAveragePooling3D",
    "GlobalAvgPool1D",
    "GlobalAvgPool2D",
    "GlobalAvgPool3D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "GlobalMaxPool3D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GlobalMaxPooling3D",
    "GroupNormalization",
    "GroupQueryAttention",
    "HashedCrossing",
    "Hashing",
    "Identity",
    "Input",
    "InputLayer",
    "InputSpec",
    "IntegerLookup",
    "LSTMCell",
    "Lambda",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "Masking",
    "MaxNumBoundingBoxes",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPool3D",
    "MaxPooling1D",
    "MaxPooling2D",
    "MaxPooling3D",
    "Maximum",
    "MelSpectrogram",
    "Minimum",
    "MixUp",
    "MultiHeadAttention",
    "Multiply",
    "Normalization",
    "PReLU",
    "Permute",
    "Pipeline",
    "RMSNormalization",
    "RandAugment",
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomCrop",
    "RandomElasticTransform",
    "RandomErasing",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "RandomHue",
    "RandomInvert",
    "RandomPerspective",
    "RandomPosterization",
    "RandomRotation",
    "RandomSaturation",
    "RandomSharpness",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
    "ReLU",
    "RepeatVector",
    "Rescaling",
    "Reshape",
    "Resizing",
    "ReversibleEmbedding",
    "STFTSpectrogram",
    "SeparableConv1D",
    "SeparableConv2D",
    "SeparableConvolution1D",
    "SeparableConvolution2D",
    "SimpleRNN",
    "SimpleRNNCell",
    "Softmax",
    "Solarization",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "SpectralNormalization",
    "StackedRNNCells",
    "StringLookup",
    "Subtract",
    "TextVectorization",
    "TimeDistributed",
    "TorchModule",
    "TorchModuleWrapper",
    "UnitNormalization",
    "UpSampling1D",
    "UpSampling2D",
    "UpSampling3D",
    "Wrapper",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "ZeroPadding3D",
    "add",
    "average",
    "concatenate",
    "deserialize",
    "dot",
    "maximum",
    "minimum",
    "multiply",
    "serialize",
    "subtract",
]
