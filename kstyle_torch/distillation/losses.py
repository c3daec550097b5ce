"""Losses between what a teacher and what a student computes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kstyle_torch import losses, ops, serialization, tree
from kstyle_torch.models.model import Model

registry = serialization.registry("distillation loss", "keras.distillation")


class DistillationLoss:
    """Base class: override `compute_loss`."""

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Tensor:
        """Returns the loss, one number.

        Args:
            teacher_outputs: Nest of the teacher's tensors.
            student_outputs: That of the student.
            kwargs: For subclasses.
        """
        raise NotImplementedError(f"{type(self).__name__} must define compute_loss(teacher_outputs, student_outputs).")

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        """Checks that the outputs go together.

        Raises: ValueError: if they are nests of different forms.
        """
        tree.assert_same_structure(teacher_outputs, student_outputs)

    def validate_model_compatibility(self, teacher: Model, student: Model) -> None:
        """Checks that the models go together, when the `Distiller` is made; here all do."""


class WeightedByStructure(DistillationLoss):
    """Base of the losses that are a loss for each output.

    Args:
        loss: Nest of losses or None.
    Raises: ValueError: if there is none at all.
    """

    def __init__(self, loss: Any):
        self.loss = tree.map_structure(to_function, loss)
        if all(each is None for each in tree.flatten(self.loss)):
            raise ValueError(f"{type(self).__name__} needs at least one loss that is not None; got {loss!r}.")

    def _sum(self, values: Any) -> Tensor:
        """Returns the sum of the losses of all outputs, a nest in which None is nothing."""
        return ops.sum(ops.stack([value for value in tree.flatten(values) if value is not None]))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Returns a loss of this class from what `get_config` gave."""
        return cls(**{**config, "loss": _revived(config["loss"])})


@registry.register()
class LogitsDistillation(WeightedByStructure):
    """Comparison of the final outputs, divided by a temperature.

    Args:
        temperature: The divisor. High ones make the student learn what the teacher holds for unlikely, too.
        loss: Name, function or object, or a nest of them as the outputs are, where None skips an output. A name means a
            function, which is called on the divided outputs as they are; with a `losses.KLDivergence()` they go through
            softmax first, and the loss is multiplied by the square of the temperature.
    Raises: ValueError: for a temperature that is not a positive number, or without a loss.

    Source: Hinton et al., 2015, Distilling the Knowledge in a Neural Network, https://arxiv.org/abs/1503.02531.

    Example:
        >>> loss = LogitsDistillation(temperature=2.0, loss=KLDivergence())
        >>> loss.compute_loss(torch.tensor([[2.0, 0.0]]), torch.tensor([[2.0, 0.0]]))
        tensor(0.)
    """

    def __init__(self, temperature: float = 3.0, loss: Any = "kl_divergence"):
        super().__init__(loss)
        if not isinstance(temperature, (int, float)) or temperature <= 0.0:
            raise ValueError(f"LogitsDistillation: temperature must be a positive number; got {temperature!r}.")
        self.temperature = temperature

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Tensor:
        def compare(loss: Any, teacher: Any, student: Any) -> Any:
            if loss is None:
                return None
            teacher, student = (ops.divide(logits, self.temperature) for logits in (teacher, student))
            if not isinstance(loss, losses.KLDivergence):
                return ops.mean(loss(teacher, student))
            return ops.mean(loss(ops.softmax(teacher), ops.softmax(student))) * self.temperature**2

        return self._sum(tree.map_structure(compare, self.loss, teacher_outputs, student_outputs))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as plain data."""
        return {"temperature": self.temperature, "loss": serialization.serialize_keras_object(self.loss)}


@registry.register()
class FeatureDistillation(WeightedByStructure):
    """Comparison of the outputs of a layer of the teacher with those of a layer of the student.

    Args:
        loss: Name, function or object, or a nest of them as the outputs are, where None skips an output.
        teacher_layer_name: Name of the layer; the final output if None.
        student_layer_name: Likewise.
    Raises: ValueError: without a loss.

    Example:
        >>> loss = FeatureDistillation("mse")
        >>> loss.compute_loss(torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
        tensor(0.5000)
    """

    def __init__(self, loss: Any = "mse", teacher_layer_name: str | None = None, student_layer_name: str | None = None):
        super().__init__(loss)
        self.teacher_layer_name, self.student_layer_name = teacher_layer_name, student_layer_name

    def validate_model_compatibility(self, teacher: Model, student: Model) -> None:
        """Checks that the models have the layers.

        Raises: ValueError: if one has no graph in which its layers could be found, or no layer of the name.
        """
        names = {"teacher": self.teacher_layer_name, "student": self.student_layer_name}
        if not any(names.values()):
            return
        models = {"teacher": teacher, "student": student}
        if opaque := [role for role, model in models.items() if model.inputs is None]:
            raise ValueError(
                f"FeatureDistillation finds layers by name in Sequential and functional models; the {' and the '.join(opaque)} "
                "is a subclass of Model, or not built. Leave the names out to compare final outputs."
            )
        for role, name in names.items():
            if name is not None:
                try:
                    models[role].get_layer(name=name)
                except ValueError as error:
                    raise ValueError(f"In the {role}: {error}") from error

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        """Checks that the outputs, and the losses, go together.

        Raises: ValueError: if they are nests of different forms.
        """
        super().validate_outputs(teacher_outputs, student_outputs)
        try:
            tree.assert_same_structure(self.loss, teacher_outputs)
        except ValueError as error:
            raise ValueError(f"FeatureDistillation needs a loss for each output; got {self.loss!r}. {error}") from error

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Tensor:
        def compare(loss: Any, teacher: Any, student: Any) -> Any:
            return None if loss is None else ops.mean(loss(teacher, student))

        return self._sum(tree.map_structure(compare, self.loss, teacher_outputs, student_outputs))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as plain data."""
        return {
            "loss": serialization.serialize_keras_object(self.loss),
            "teacher_layer_name": self.teacher_layer_name,
            "student_layer_name": self.student_layer_name,
        }


def to_function(identifier: Any) -> Any:
    """Returns the function of a loss' name; objects, functions and None as they are.

    Raises: ValueError: for an unknown name.
    """
    return losses.get(identifier) if isinstance(identifier, str) else identifier


def _revived(config: Any) -> Any:
    """Returns the losses in a config: names of functions too, in nests too."""
    if isinstance(config, (list, tuple)):
        return type(config)(map(_revived, config))
    if isinstance(config, dict) and "class_name" not in config:
        return {key: _revived(value) for key, value in config.items()}
    return losses.deserialize(config) if isinstance(config, dict) else config
