"""The model that trains a student beside its teacher."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from kstyle_torch import metrics as metric_classes
from kstyle_torch import ops, serialization, tree
from kstyle_torch.distillation.losses import registry, to_function
from kstyle_torch.layer.module_walk import set_unnoticed
from kstyle_torch.models.model import Model
from kstyle_torch.models.sequential import Sequential

FINAL = "final_output"


@registry.register()
class Distiller(Model):
    """A student that learns from targets and from a teacher, whose weights stay as they are.

    Args:
        teacher: A trained model. It is frozen.
        student: The model to train; it takes what the teacher takes, and gives what it gives.
        distillation_losses: A `DistillationLoss`, or a list of them.
        distillation_loss_weights: Factor of each; all 1 if None.
        student_loss_weight: Share of the loss against the targets, 0 to 1; the rest is that of the distillation losses.
        name: Of this model.
        kwargs: Of `Model`.
    Raises: ValueError: for models that do not go together, and wrong weights.

    Example:
        >>> teacher, student = (Sequential([Input((4,)), Dense(2)]) for _ in range(2))
        >>> distiller = Distiller(teacher, student, distillation.LogitsDistillation(loss="mse"))
        >>> distiller.compile("adam", "mse")
        >>> sorted(distiller.fit(torch.ones(8, 4), torch.ones(8, 2), verbose=0).history)
        ['distillation_loss', 'loss', 'student_loss', 'total_loss']
    """

    _student_loss: Any = None
    _extractors: dict[str, Model | None]

    def __init__(
        self,
        teacher: Model,
        student: Model,
        distillation_losses: Any,
        distillation_loss_weights: Sequence[float] | None = None,
        student_loss_weight: float = 0.5,
        name: str = "distiller",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        for role, model in (("teacher", teacher), ("student", student)):
            if not isinstance(model, Model):
                raise ValueError(f"Distiller: the {role} must be a Model; got {type(model).__name__}.")
        _check_ends(teacher, student)
        if not isinstance(student_loss_weight, (int, float)) or not 0.0 <= student_loss_weight <= 1.0:
            raise ValueError(
                f"Distiller: student_loss_weight must be a number from 0 to 1; got {student_loss_weight!r}."
            )
        if distillation_losses is None:
            raise ValueError("Distiller needs distillation_losses, such as LogitsDistillation(); got None.")
        is_many = isinstance(distillation_losses, (list, tuple))
        self.distillation_losses = distillation_losses if is_many else [distillation_losses]
        given = distillation_loss_weights if is_many else None
        weights = [1.0] * len(self.distillation_losses) if given is None else given
        if len(weights) != len(self.distillation_losses):
            raise ValueError(
                f"Distiller: distillation_loss_weights has {len(weights)} numbers for {len(self.distillation_losses)} losses."
            )
        self.distillation_loss_weights, self.student_loss_weight = weights, student_loss_weight
        for loss in self.distillation_losses:
            loss.validate_model_compatibility(teacher, student)
        self.teacher, self.student = teacher, student
        set_unnoticed(self, built=teacher.built and student.built)
        self.teacher.trainable = False
        # Not as attributes, which would give the layers inside second names.
        set_unnoticed(self, _extractors={role: self._extractor(role) for role in ("teacher", "student")})
        self.student_loss_tracker = metric_classes.Mean(name="student_loss")
        self.distillation_loss_tracker = metric_classes.Mean(name="distillation_loss")
        self.total_loss_tracker = metric_classes.Mean(name="total_loss")

    def _extractor(self, role: str) -> Model | None:
        """Returns a model that gives the outputs of the layers that losses name, by name; None if they name none."""
        model: Model = getattr(self, role)
        names = [getattr(loss, f"{role}_layer_name", None) for loss in self.distillation_losses]
        layers = {name: model.get_layer(name=name).output for name in filter(None, names)}
        if not layers:
            return None
        final = model.layers[-1].output if isinstance(model, Sequential) else model.output
        return Model(model.inputs, {FINAL: final, **layers}, name=f"{model.name}_multi_feature_extractor")

    def compile(  # type: ignore[override]
        self, optimizer: Any = "adam", loss: Any = None, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Says how the student is trained.

        Args:
            optimizer: See `Model.compile`.
            loss: Of the student against the targets; a nest of losses for several outputs.
            metrics: List of metrics of the student.
            kwargs: Of `Model.compile`.
        Raises: ValueError: without a loss, or for metrics that are not a list.
        """
        if loss is None:
            raise ValueError("Distiller.compile() needs the student's loss; got None.")
        if metrics is not None and not isinstance(metrics, (list, tuple)):
            raise ValueError(f"Distiller.compile() takes a list of metrics; got {type(metrics).__name__}.")
        set_unnoticed(self, _student_loss=tree.map_structure(to_function, loss))  # a list stays one
        super().compile(optimizer=optimizer, loss=None, metrics=metrics, **kwargs)

    def get_compile_config(self) -> dict[str, Any]:
        """Returns what `compile` was given, as plain data."""
        config = super().get_compile_config()
        return config and {**config, "loss": serialization.serialize_keras_object(self._student_loss)}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles the model as `get_compile_config` says; files of Keras do not say the student's loss."""
        if config.get("loss") is None:
            warnings.warn(f"The file does not say the student's loss of {self.name!r}; call compile().", stacklevel=2)
        else:
            super().compile_from_config(config)

    def call(  # type: ignore[override]
        self, inputs: Any, training: bool | None = None, **kwargs: Any
    ) -> Any:
        """Returns what the student gives."""
        return self.student(inputs, training=training, **kwargs)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Returns the student's loss and the distillation losses, each by its weight.

        Args:
            x: Inputs.
            y: Targets; without them, the student's loss is 0.
            y_pred: The student's outputs; computed if None.
            sample_weight: Has no effect.
            training: Whether the student is in training mode.
        Raises: ValueError: for a distillation loss that is not one number.
        """
        if y_pred is None:
            y_pred = self(x, training=training)
        share = self.student_loss_weight
        student_loss = self._loss_of_targets(y, y_pred) if share > 0.0 and y is not None else 0.0
        distillation_loss = self._loss_of_teacher(x, y_pred, training) if share < 1.0 else 0.0
        total = ops.add(ops.multiply(share, student_loss), ops.multiply(1.0 - share, distillation_loss))
        self.student_loss_tracker.update_state(student_loss)
        self.distillation_loss_tracker.update_state(distillation_loss)
        self.total_loss_tracker.update_state(total)
        return total

    def _loss_of_targets(self, y: Any, y_pred: Any) -> Any:
        """Returns the sum of the means of the losses of all outputs."""
        losses = tree.map_structure(lambda loss, *pair: ops.mean(loss(*pair)), self._student_loss, y, y_pred)
        return ops.sum(ops.stack(tree.flatten(losses)))

    def _loss_of_teacher(self, x: Any, y_pred: Any, training: bool) -> Any:
        outputs = {
            "teacher": self._outputs_of("teacher", x, None, training=False),
            "student": self._outputs_of("student", x, y_pred, training=training),
        }
        total: Any = 0.0
        for loss, weight in zip(self.distillation_losses, self.distillation_loss_weights):
            names = {role: getattr(loss, f"{role}_layer_name", None) for role in outputs}
            teacher, student = (found[names[role] or FINAL] for role, found in outputs.items())
            if not any(names.values()):
                student = y_pred
            loss.validate_outputs(teacher, student)
            value = loss.compute_loss(teacher, student)
            if getattr(value, "ndim", 0):
                raise ValueError(
                    f"{type(loss).__name__}.compute_loss() must return one number; got the shape {tuple(value.shape)}."
                )
            total = ops.add(total, ops.multiply(weight, value))
        return total

    def _outputs_of(self, role: str, x: Any, known: Any, training: bool) -> dict[str, Any]:
        """Returns the final output of a model and those of the layers that losses name."""
        extractor = self._extractors[role]
        if extractor is not None:
            return extractor(x, training=training)
        return {FINAL: getattr(self, role)(x, training=training) if known is None else known}

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as plain data."""
        plain = serialization.serialize_keras_object
        return {
            "name": self.name,
            "trainable": self.trainable,
            "teacher": plain(self.teacher),
            "student": plain(self.student),
            "distillation_losses": [plain(loss) for loss in self.distillation_losses],
            "distillation_loss_weights": list(self.distillation_loss_weights),
            "student_loss_weight": self.student_loss_weight,
        }


def _check_ends(teacher: Model, student: Model) -> None:
    """Checks that the models take and give the same, as far as both say.

    Raises: ValueError: for other shapes or dtypes.
    """
    for end in ("inputs", "outputs"):
        pair = getattr(teacher, end), getattr(student, end)
        if any(tensors is None for tensors in pair):
            continue
        for theirs, ours in zip(*map(tree.flatten, pair), strict=True):
            sizes = zip(theirs.shape, ours.shape)
            if len(theirs.shape) != len(ours.shape) or any(a != b for a, b in sizes if None not in (a, b)):
                raise ValueError(
                    f"Distiller: {end} of teacher and student must have one shape; got {theirs.shape} and {ours.shape}."
                )
            if theirs.dtype != ours.dtype:
                raise ValueError(
                    f"Distiller: {end} of teacher and student must have one dtype; got {theirs.dtype} and {ours.dtype}."
                )
