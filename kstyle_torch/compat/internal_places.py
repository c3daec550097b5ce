"""Private names of Keras that libraries import, by module of `keras.src`, and which object of this package each is."""

from __future__ import annotations

INTERNALS = "compat.internals"


def _in(module: str, names: str) -> dict[str, str]:
    """Returns the places of objects of a module, which have Keras' names, or `its=ours`."""
    pairs = [name.partition("=")[::2] for name in names.split()]
    return {name: f"{module}.{ours or name}" for name, ours in pairs}


_ARGUMENTS, _FILES, _OBJECTS, _PROCESS, _TENSORS, _TESTING = (
    f"{INTERNALS}.{name}" for name in ("arguments", "files", "objects", "process", "tensors", "testing")
)
_FORMAT = _in(_ARGUMENTS, "standardize_data_format")
_MASKS = _in(_TENSORS, "get_keras_mask set_keras_mask")
_SCOPES = _in(_PROCESS, "in_stateless_scope get_stateless_scope")
_SYMBOLIC = _in(_TENSORS, "any_symbolic_tensors") | _in("utils", "is_keras_tensor")
_DTYPE = _in("utils", "standardize_dtype")
_VARIABLES = _in(_TENSORS, "standardize_shape") | _in("variables", "Variable") | _DTYPE
_TEST_CASE = _in(
    _TESTING, "TestCase uses_gpu uses_tpu torch_uses_gpu=uses_gpu jax_uses_gpu=uses_tpu jax_uses_tpu=uses_tpu"
)
_RANK = _in("losses.base", "squeeze_or_expand_to_same_rank=same_rank")

# Module of keras.src -> name -> where it is in this package.
PLACES: dict[str, dict[str, str]] = {
    "": _in(_PROCESS, "__version__=VERSION"),
    "activations": _in(_OBJECTS, "ALL_OBJECTS ALL_OBJECTS_DICT"),
    "api_export": _in(_OBJECTS, "keras_export"),
    "applications.imagenet_utils": _in(_ARGUMENTS, "obtain_input_shape correct_pad validate_activation"),
    "backend": {
        **_FORMAT,
        **_MASKS,
        **_SCOPES,
        **_SYMBOLIC,
        **_VARIABLES,
        **_in(_TENSORS, "compute_output_spec"),
        **_in(_TENSORS, "SUPPORTS_SPARSE_TENSORS=NO SUPPORTS_RAGGED_TENSORS=NO SUPPORTS_COMPLEX_DTYPES=YES"),
        **_in("scopes", "in_symbolic_scope"),
    },
    "backend.common": _DTYPE,
    "backend.common.backend_utils": _in(
        _TENSORS, "canonicalize_axis canonicalize_axes standardize_axis_for_numpy to_tuple_or_list"
    ),
    "backend.common.global_state": _in(_PROCESS, "get_global_attribute set_global_attribute"),
    "backend.common.keras_tensor": _SYMBOLIC,
    "backend.common.masking": _MASKS,
    "backend.common.name_scope": _in("scopes", "name_scope") | _in(_PROCESS, "current_path"),
    "backend.common.stateless_scope": _SCOPES,
    "backend.common.symbolic_scope": _in("scopes", "in_symbolic_scope"),
    "backend.common.tensor_attributes": _in(_TENSORS, "get_tensor_attr set_tensor_attr"),
    "backend.common.variables": _VARIABLES | _in(_TENSORS, "shape_equal"),
    "backend.config": _FORMAT | _in(_PROCESS, "keras_home"),
    "backend.torch.core": {
        **_in("ops", "cast convert_to_numpy convert_to_tensor is_tensor shape vectorized_map"),
        **_in(_TENSORS, "get_device to_torch_dtype compute_output_spec"),
        **_in("variables", "Variable"),
    },
    "constraints": _in(_OBJECTS, "ALL_OBJECTS_DICT=ALL_CONSTRAINTS"),
    "initializers": _in(_OBJECTS, "ALL_OBJECTS_DICT=ALL_INITIALIZERS"),
    "layers.convolutional.base_conv": _in("layers.convolution", "BaseConv=Convolution"),
    "layers.input_spec": _in(_ARGUMENTS, "assert_input_compatibility"),
    "layers.merging.base_merge": _in("layers.merging", "Merge=BaseMerge"),
    "layers.pooling.base_global_pooling": _in("layers.pooling", "BaseGlobalPooling=GlobalPooling"),
    "layers.pooling.base_pooling": _in("layers.pooling", "BasePooling=Pooling"),
    "losses": _in(_OBJECTS, "ALL_OBJECTS_DICT=ALL_LOSSES"),
    "losses.loss": _RANK | _in(_TENSORS, "reduce_weighted_values") | _in(_ARGUMENTS, "standardize_reduction"),
    "losses.losses": {
        **_RANK,
        **_in("losses", "LossFunctionWrapper=FunctionLoss"),
        **_in(_TENSORS, "convert_binary_labels_to_hinge"),
    },
    "metrics": _in(_OBJECTS, "ALL_OBJECTS_DICT=ALL_METRICS"),
    "metrics.reduction_metrics": _in(_TENSORS, "reduce_to_samplewise_values"),
    "models": _in("models", "Functional"),
    "models.functional": _in("models", "Functional"),
    "ops": _in(_TENSORS, "any_symbolic_tensors"),
    "ops.operation_utils": _in(_TENSORS, "broadcast_shapes compute_reshape_output_shape reduce_shape"),
    "optimizers": _in(_OBJECTS, "ALL_OBJECTS_DICT=ALL_OPTIMIZERS"),
    "optimizers.base_optimizer": _in("optimizers", "BaseOptimizer=Optimizer"),
    "random.seed_generator": _in(_TENSORS, "draw_seed make_default_seed"),
    "regularizers": _in(_OBJECTS, "ALL_OBJECTS_DICT=ALL_REGULARIZERS"),
    "saving.keras_saveable": _in(_OBJECTS, "KerasSaveable"),
    "saving.saving_lib": _in(_FILES, "load_model save_model load_weights_only save_weights_only"),
    "saving.serialization_lib": _in(_FILES, "SafeModeScope") | _in("serialization", "in_safe_mode"),
    "testing": _TEST_CASE,
    "testing.test_case": _TEST_CASE,
    "trainers.data_adapters.data_adapter_utils": {
        **_in(_PROCESS, "is_tensorflow_tensor is_torch_tensor is_jax_array list_to_tuple"),
        **_in(_TENSORS, "class_weight_to_sample_weights"),
    },
    "trainers.trainer": _in("models.trainer", "Trainer"),
    "utils": _in(_PROCESS, "default is_default removeprefix removesuffix"),
    "utils.argument_validation": _in(_ARGUMENTS, "standardize_tuple standardize_padding validate_string_arg"),
    "utils.backend_utils": _in(_PROCESS, "in_tf_graph in_grain_data_pipeline convert_tf_tensor"),
    "utils.io_utils": _in(_PROCESS, "print_msg"),
    "utils.module_utils": _in(_PROCESS, "LazyModule tensorflow jax scipy"),
    "utils.naming": _in(_PROCESS, "auto_name get_object_name uniquify") | _in("registry", "to_snake_case=snake_case"),
    "utils.python_utils": _in(
        _PROCESS, "default is_default to_list removeprefix removesuffix remove_by_id pythonify_logs"
    ),
    "utils.traceback_utils": _in(_PROCESS, "filter_traceback inject_argument_info_in_traceback"),
    "utils.tracking": {
        **_in(_PROCESS, "no_automatic_dependency_tracking DotNotTrackScope is_tracking_enabled"),
        **_in("layer.containers", "TrackedList TrackedDict"),
    },
    "version": _in(_PROCESS, "__version__=VERSION"),
}
